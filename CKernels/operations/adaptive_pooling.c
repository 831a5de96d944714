// Adaptive average pooling: threads share out planes.

#include <string.h>

#include "runtime/runtime.h"

typedef struct adaptive_work {
  const pf_operation_kernels *kernels;
  int64_t input_height, input_width, output_height, output_width;
  const float *from;
  float *to;
} adaptive_work;

/// The input range of output cell `index`.
static int64_t cell_begin(int64_t index, int64_t input, int64_t output) {
  // index * input / output without overflow of the product
  return index * (input / output) + index * (input % output) / output;
}

static int64_t cell_end(int64_t index, int64_t input, int64_t output) {
  return (index + 1) * (input / output) + pf_ceiling_divide((index + 1) * (input % output), output);
}

static void forward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const adaptive_work *work = argument;
  const int64_t width = work->input_width;
  float *to = work->to + begin * work->output_height * work->output_width;
  for (int64_t plane = begin; plane < end; ++plane) {
    const float *input = work->from + plane * work->input_height * width;
    for (int64_t y = 0; y < work->output_height; ++y) {
      const int64_t top = cell_begin(y, work->input_height, work->output_height);
      const int64_t rows = cell_end(y, work->input_height, work->output_height) - top;
      for (int64_t x = 0; x < work->output_width; ++x) {
        const int64_t left = cell_begin(x, width, work->output_width);
        const int64_t columns = cell_end(x, width, work->output_width) - left;
        const float *cell = input + top * width + left;
        const double sum = columns == width ? work->kernels->sum(rows * columns, cell)
                                            : work->kernels->rows_sum((pf_rows){rows, width, columns}, cell);
        *to++ = (float)(sum / ((double)rows * (double)columns));
      }
    }
  }
}

static void backward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const adaptive_work *work = argument;
  const int64_t width = work->input_width;
  const float *from = work->from + begin * work->output_height * work->output_width;
  for (int64_t plane = begin; plane < end; ++plane) {
    float *gradient = work->to + plane * work->input_height * width;
    memset(gradient, 0, (size_t)(work->input_height * width) * sizeof(float));
    for (int64_t y = 0; y < work->output_height; ++y) {
      const int64_t top = cell_begin(y, work->input_height, work->output_height);
      const int64_t bottom = cell_end(y, work->input_height, work->output_height);
      for (int64_t x = 0; x < work->output_width; ++x) {
        const int64_t left = cell_begin(x, width, work->output_width);
        const int64_t right = cell_end(x, width, work->output_width);
        const float share = *from++ / (float)(bottom - top) / (float)(right - left);
        for (int64_t i = top; i < bottom; ++i) {
          for (int64_t j = left; j < right; ++j) gradient[i * width + j] += share;
        }
      }
    }
  }
}

static pf_status adaptive(const pf_context *context, int64_t planes, int64_t input_height, int64_t input_width,
                          int64_t output_height, int64_t output_width, const float *from, float *to,
                          pf_range_function function) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  int64_t input, output;
  PF_TRY(pf_extents(&input, planes, input_height, input_width));
  PF_TRY(pf_extents(&output, planes, output_height, output_width));
  PF_REQUIRE(input_height > 0 && input_width > 0 && output_height > 0 && output_width > 0, pf_error_dimension);
  // products within cell_begin stay below output * output
  PF_REQUIRE(output_height <= INT32_MAX && output_width <= INT32_MAX, pf_error_overflow);
  if (planes == 0) return pf_ok;
  PF_REQUIRE(from != NULL && to != NULL, pf_error_null);
  adaptive_work work = {.kernels = &settings.kernels->operations,
                        .input_height = input_height,
                        .input_width = input_width,
                        .output_height = output_height,
                        .output_width = output_width,
                        .from = from,
                        .to = to};
  pf_parallel(&settings, planes, 8.0 * (double)(input / planes) + 8.0 * (double)(output / planes), function, &work);
  return pf_ok;
}

pf_status pf_adaptive_average_pool2d_forward(const pf_context *context, int64_t planes, int64_t input_height,
                                             int64_t input_width, int64_t output_height, int64_t output_width,
                                             const float *input, float *output) {
  return adaptive(context, planes, input_height, input_width, output_height, output_width, input, output,
                  forward_range);
}

pf_status pf_adaptive_average_pool2d_backward(const pf_context *context, int64_t planes, int64_t input_height,
                                              int64_t input_width, int64_t output_height, int64_t output_width,
                                              const float *output_gradient, float *input_gradient) {
  return adaptive(context, planes, input_height, input_width, output_height, output_width, output_gradient,
                  input_gradient, backward_range);
}
