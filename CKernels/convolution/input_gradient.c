// The input gradient is s x s interleaved correlations of the output gradient, one a phase of the stride. Input row
// p + s * g gets weight row i from output row y where y * s + i * dilation - padding = p + s * g, so
// y = g + (p + padding - i * dilation) / s for those i that make it whole: no zeros are inserted, none multiplied.

#include "convolution/depthwise.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/strided_gradient.h"
#include "convolution/winograd.h"

pf_axis pf_input_gradient_axis(int64_t input, int64_t output, int64_t stride, int64_t dilation, int64_t padding,
                               int64_t kernel, int64_t phase, int64_t *first, int64_t *step) {
  pf_axis axis = {.source = output, .grid = pf_ceiling_divide(input - phase, stride), .step = 1, .tap_step = -1};
  *first = 0;
  while (*first < kernel && (phase + padding - *first * dilation) % stride != 0) *first += 1;
  *step = 1;
  // Weight taps of one phase lie stride / gcd(stride, dilation) apart.
  while (*step < kernel && *step * dilation % stride != 0) *step += 1;
  if (*first < kernel) {
    axis.taps = (kernel - 1 - *first) / *step + 1;
    axis.first = (phase + padding - *first * dilation) / stride;
    // Beside a single tap the product with the dilation may be anything.
    if (axis.taps > 1) axis.tap_step = -(*step * dilation / stride);
  }
  return axis;
}

/// Phase (phase_y, phase_x): input rows phase_y, phase_y + stride, ..., columns likewise.
static pf_status prepare_phase(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape, int64_t phase_y, int64_t phase_x,
                               pf_correlation_plan *plan) {
  const pf_convolution2d *p = problem;
  int64_t first_y, first_x, step_y, step_x;
  pf_correlation correlation = {
      .images = p->batch,
      .groups = p->groups,
      .channels = shape->group_output_channels,
      .outputs = shape->group_input_channels,
      .y = pf_input_gradient_axis(p->input_height, shape->output_height, p->stride_height, p->dilation_height,
                                  p->padding_top, p->kernel_height, phase_y, &first_y, &step_y),
      .x = pf_input_gradient_axis(p->input_width, shape->output_width, p->stride_width, p->dilation_width,
                                  p->padding_left, p->kernel_width, phase_x, &first_x, &step_x),
      .weight_group = shape->group_output_channels * shape->group_input_channels * shape->taps,
      .weight_output = shape->taps,
      .weight_channel = shape->group_input_channels * shape->taps,
      .result_image = p->input_channels * shape->input_plane,
      .result_plane = shape->input_plane,
      .result_first = phase_y * p->input_width + phase_x,
      .result_y = pf_minimum_of(p->stride_height, p->input_height) * p->input_width,
      .result_x = pf_minimum_of(p->stride_width, p->input_width),
  };
  correlation.weight_first = first_y * p->kernel_width + first_x;
  correlation.weight_y = step_y * p->kernel_width;
  correlation.weight_x = step_x;
  return pf_correlation_prepare(settings, &correlation, plan);
}

static int64_t phases_of(int64_t stride, int64_t input) { return pf_minimum_of(stride, input); }

pf_status pf_input_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                      const pf_convolution_shape *shape, int64_t *bytes) {
  pf_strided_plan strided;
  if (pf_strided_prepare(settings, problem, shape, &strided)) {
    *bytes = strided.shared.workspace_bytes;
    return pf_ok;
  }
  const int64_t phases_x = phases_of(problem->stride_width, problem->input_width);
  const int64_t phases = phases_of(problem->stride_height, problem->input_height) * phases_x;
  *bytes = 0;
  for (int64_t i = 0; i < phases; ++i) {
    pf_correlation_plan plan;
    PF_TRY(prepare_phase(settings, problem, shape, i / phases_x, i % phases_x, &plan));
    *bytes = pf_maximum_of(*bytes, plan.workspace_bytes);
  }
  return pf_ok;
}

pf_status pf_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                            const pf_convolution_shape *shape, const float *output_gradient, const float *weight,
                            pf_writing writing, float *input_gradient) {
  const pf_algorithm algorithm = pf_plan_algorithm(settings, problem, pf_pass_input_gradient);
  if (algorithm == pf_algorithm_depthwise) {
    return pf_depthwise_input_gradient(settings, problem, output_gradient, weight, writing, input_gradient);
  }
  if (algorithm != pf_algorithm_direct) {
    return pf_winograd_input_gradient(settings, problem, algorithm, output_gradient, weight, writing, input_gradient);
  }
  pf_strided_plan strided;
  if (pf_strided_prepare(settings, problem, shape, &strided)) {
    char *workspace = pf_memory_allocate((size_t)strided.shared.workspace_bytes);
    PF_REQUIRE(workspace != NULL, pf_error_memory);
    pf_strided_run(&strided, output_gradient, weight, writing, input_gradient, workspace);
    pf_memory_release(workspace);
    return pf_ok;
  }
  int64_t workspace_bytes;
  PF_TRY(pf_input_gradient_workspace(settings, problem, shape, &workspace_bytes));
  char *workspace = pf_memory_allocate((size_t)workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  const int64_t phases_x = phases_of(problem->stride_width, problem->input_width);
  const int64_t phases = phases_of(problem->stride_height, problem->input_height) * phases_x;
  for (int64_t i = 0; i < phases; ++i) {
    pf_correlation_plan plan;
    // It succeeded before: the size of the workspace is known.
    (void)prepare_phase(settings, problem, shape, i / phases_x, i % phases_x, &plan);
    pf_correlation_run(&plan, output_gradient, weight, NULL, pf_activation_none, writing, input_gradient, workspace);
  }
  pf_memory_release(workspace);
  return pf_ok;
}

pf_status pf_convolution2d_input_gradient(const pf_context *context, const pf_convolution2d *problem,
                                          const float *output_gradient, const float *weight, pf_writing writing,
                                          float *input_gradient) {
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  if (shape.input_count == 0) return pf_ok;
  PF_REQUIRE(output_gradient != NULL && weight != NULL && input_gradient != NULL, pf_error_null);
  return pf_input_gradient(&settings, problem, &shape, output_gradient, weight, writing, input_gradient);
}
