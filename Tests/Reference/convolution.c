// The convolution's passes as a textbook writes them: one loop an axis, double precision, no blocking, no packing.
//
// All three visit the same triples (input element, weight element, output element) and differ in which of the three
// receives the product of the others; `visit_rows` walks the triples, a row of the output at a time.

#include "CReference.h"

static int64_t positions(int64_t padded, int64_t kernel, int64_t stride, int64_t dilation) {
  int64_t reach = dilation * (kernel - 1) + 1;
  return padded < reach ? 0 : (padded - reach) / stride + 1;
}

int64_t ref_output_height(const ref_convolution *p) {
  return positions(p->input_height + p->padding_top + p->padding_bottom, p->kernel_height, p->stride_height,
                   p->dilation_height);
}

int64_t ref_output_width(const ref_convolution *p) {
  return positions(p->input_width + p->padding_left + p->padding_right, p->kernel_width, p->stride_width,
                   p->dilation_width);
}

int64_t ref_input_count(const ref_convolution *p) {
  return p->batch * p->input_channels * p->input_height * p->input_width;
}

int64_t ref_weight_count(const ref_convolution *p) {
  return p->output_channels * (p->input_channels / p->groups) * p->kernel_height * p->kernel_width;
}

int64_t ref_output_count(const ref_convolution *p) {
  return p->batch * p->output_channels * ref_output_height(p) * ref_output_width(p);
}

int64_t ref_multiplications(const ref_convolution *p) {
  return p->batch * ref_weight_count(p) * ref_output_height(p) * ref_output_width(p);
}

int64_t ref_longest_sum(const ref_convolution *p) {
  int64_t taps = p->kernel_height * p->kernel_width;
  int64_t forward = (p->input_channels / p->groups) * taps;
  int64_t input_gradient = (p->output_channels / p->groups) * taps;
  int64_t weight_gradient = p->batch * ref_output_height(p) * ref_output_width(p);
  int64_t longest = forward > input_gradient ? forward : input_gradient;
  return longest > weight_gradient ? longest : weight_gradient;
}

/// One row of triples that share a weight element: output elements first ..< last of the row at `output_row`, where
/// output element x meets input element input_row + x * input_step.
typedef struct row {
  int64_t weight, output_row, input_row, input_step, first, last;
} row;

typedef void row_visitor(void *state, const row *row);

static void visit_rows(const ref_convolution *p, row_visitor *visit, void *state) {
  int64_t height = ref_output_height(p), width = ref_output_width(p);
  int64_t group_inputs = p->input_channels / p->groups, group_outputs = p->output_channels / p->groups;
  for (int64_t n = 0; n < p->batch; n++)
    for (int64_t o = 0; o < p->output_channels; o++)
      for (int64_t c = 0; c < group_inputs; c++)
        for (int64_t i = 0; i < p->kernel_height; i++)
          for (int64_t j = 0; j < p->kernel_width; j++) {
            int64_t channel = o / group_outputs * group_inputs + c;
            int64_t offset = j * p->dilation_width - p->padding_left;
            int64_t first = 0, last = width;
            while (first < last && first * p->stride_width + offset < 0) first++;
            while (last > first && (last - 1) * p->stride_width + offset >= p->input_width) last--;
            for (int64_t y = 0; y < height; y++) {
              int64_t input_y = y * p->stride_height + i * p->dilation_height - p->padding_top;
              if (input_y < 0 || input_y >= p->input_height) continue;
              row r = {
                  .weight = ((o * group_inputs + c) * p->kernel_height + i) * p->kernel_width + j,
                  .output_row = ((n * p->output_channels + o) * height + y) * width,
                  .input_row =
                      ((n * p->input_channels + channel) * p->input_height + input_y) * p->input_width + offset,
                  .input_step = p->stride_width,
                  .first = first,
                  .last = last,
              };
              visit(state, &r);
            }
          }
}

typedef struct operands {
  const float *input, *weight, *output_gradient;
  double *result;
} operands;

static void add_to_output(void *state, const row *r) {
  operands *t = state;
  double weight = t->weight[r->weight];
  for (int64_t x = r->first; x < r->last; x++)
    t->result[r->output_row + x] += weight * (double)t->input[r->input_row + x * r->input_step];
}

void ref_convolution_forward(const ref_convolution *p, const float *input, const float *weight, const float *bias,
                             double *output) {
  int64_t pixels = ref_output_height(p) * ref_output_width(p);
  for (int64_t n = 0, k = 0; n < p->batch; n++)
    for (int64_t o = 0; o < p->output_channels; o++)
      for (int64_t pixel = 0; pixel < pixels; pixel++) output[k++] = bias ? (double)bias[o] : 0;
  visit_rows(p, add_to_output, &(operands){.input = input, .weight = weight, .result = output});
}

static void add_to_input_gradient(void *state, const row *r) {
  operands *t = state;
  double weight = t->weight[r->weight];
  for (int64_t x = r->first; x < r->last; x++)
    t->result[r->input_row + x * r->input_step] += weight * (double)t->output_gradient[r->output_row + x];
}

void ref_convolution_input_gradient(const ref_convolution *p, const float *output_gradient, const float *weight,
                                    double *input_gradient) {
  int64_t count = ref_input_count(p);
  for (int64_t k = 0; k < count; k++) input_gradient[k] = 0;
  visit_rows(p, add_to_input_gradient,
             &(operands){.output_gradient = output_gradient, .weight = weight, .result = input_gradient});
}

static void add_to_weight_gradient(void *state, const row *r) {
  operands *t = state;
  double sum = 0;
  for (int64_t x = r->first; x < r->last; x++)
    sum += (double)t->output_gradient[r->output_row + x] * (double)t->input[r->input_row + x * r->input_step];
  t->result[r->weight] += sum;
}

void ref_convolution_weight_gradient(const ref_convolution *p, const float *input, const float *output_gradient,
                                     double *weight_gradient) {
  int64_t count = ref_weight_count(p);
  for (int64_t k = 0; k < count; k++) weight_gradient[k] = 0;
  visit_rows(p, add_to_weight_gradient,
             &(operands){.input = input, .output_gradient = output_gradient, .result = weight_gradient});
}

void ref_convolution_bias_gradient(const ref_convolution *p, const float *output_gradient, double *bias_gradient) {
  int64_t pixels = ref_output_height(p) * ref_output_width(p);
  for (int64_t o = 0; o < p->output_channels; o++) bias_gradient[o] = 0;
  for (int64_t n = 0, k = 0; n < p->batch; n++)
    for (int64_t o = 0; o < p->output_channels; o++)
      for (int64_t pixel = 0; pixel < pixels; pixel++) bias_gradient[o] += (double)output_gradient[k++];
}
