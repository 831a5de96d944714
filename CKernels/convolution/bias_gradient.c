// The bias gradient: sums over images and grid points, one plane in float, planes in double, always in the same order.

#include "convolution/passes.h"

typedef struct run_state {
  const pf_kernels *kernels;
  int64_t batch, channels, plane;
  const float *output_gradient;
  const float *plane_sums;  // or NULL
  const uint8_t *mask;
  bool accumulate;
  float *result;
} run_state;

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  for (int64_t channel = begin; channel < end; ++channel) {
    if (state->mask != NULL && state->mask[channel] == 0) {
      state->result[channel] = 0;
      continue;
    }
    double total = 0;
    for (int64_t image = 0; image < state->batch; ++image) {
      const int64_t plane = image * state->channels + channel;
      total += (double)(state->plane_sums != NULL
                            ? state->plane_sums[plane]
                            : state->kernels->sum(state->plane, state->output_gradient + plane * state->plane));
    }
    state->result[channel] = state->accumulate ? state->result[channel] + (float)total : (float)total;
  }
}

void pf_bias_gradient(const pf_settings *settings, const pf_convolution2d *problem, const pf_convolution_shape *shape,
                      const float *output_gradient, const pf_plane_sums *plane_sums, const uint8_t *gradient_mask,
                      pf_writing writing, float *bias_gradient) {
  const float *sums = plane_sums != NULL && plane_sums->complete ? plane_sums->sums : NULL;
  run_state state = {
      .kernels = settings->kernels,
      .batch = problem->batch,
      .channels = problem->output_channels,
      .plane = shape->output_plane,
      .output_gradient = output_gradient,
      .plane_sums = sums,
      .mask = gradient_mask,
      .accumulate = writing == pf_accumulate,
      .result = bias_gradient,
  };
  const double cost = 8.0 * (double)problem->batch * (sums != NULL ? 1 : (double)shape->output_plane);
  pf_parallel(settings, problem->output_channels, cost, run_range, &state);
}

pf_status pf_convolution2d_bias_gradient(const pf_context *context, const pf_convolution2d *problem,
                                         const float *output_gradient, const uint8_t *gradient_mask,
                                         pf_writing writing, float *bias_gradient) {
  pf_settings settings;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_check(problem, &shape));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  PF_REQUIRE(bias_gradient != NULL && (problem->batch == 0 || output_gradient != NULL), pf_error_null);
  pf_bias_gradient(&settings, problem, &shape, output_gradient, NULL, gradient_mask, writing, bias_gradient);
  return pf_ok;
}
