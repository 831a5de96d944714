#include "convolution/depthwise.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/winograd.h"

static pf_status prepare(const pf_settings *settings, const pf_convolution2d *problem,
                         const pf_convolution_shape *shape, pf_correlation_plan *plan) {
  const pf_convolution2d *p = problem;
  const pf_correlation correlation = {
      .images = p->batch,
      .groups = p->groups,
      .channels = shape->group_input_channels,
      .outputs = shape->group_output_channels,
      .y = {.source = p->input_height,
            .grid = shape->output_height,
            .step = p->stride_height,
            .taps = p->kernel_height,
            .first = -p->padding_top,
            .tap_step = p->dilation_height},
      .x = {.source = p->input_width,
            .grid = shape->output_width,
            .step = p->stride_width,
            .taps = p->kernel_width,
            .first = -p->padding_left,
            .tap_step = p->dilation_width},
      .weight_group = shape->group_output_channels * shape->group_input_channels * shape->taps,
      .weight_output = shape->group_input_channels * shape->taps,
      .weight_channel = shape->taps,
      .weight_y = p->kernel_width,
      .weight_x = 1,
      .result_image = p->output_channels * shape->output_plane,
      .result_plane = shape->output_plane,
      .result_y = shape->output_width,
      .result_x = 1,
  };
  return pf_correlation_prepare(settings, &correlation, plan);
}

pf_status pf_forward_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape, int64_t *bytes) {
  pf_correlation_plan plan;
  PF_TRY(prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes;
  return pf_ok;
}

pf_status pf_convolution2d_forward(const pf_context *context, const pf_convolution2d *problem,
                                   pf_activation activation, const float *input, const float *weight,
                                   const float *bias, float *output) {
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(activation >= 0 && activation < (pf_activation)pf_activation_count, pf_error_value);
  if (shape.output_count == 0) return pf_ok;
  PF_REQUIRE(input != NULL && weight != NULL && output != NULL, pf_error_null);
  const pf_algorithm algorithm = pf_plan_algorithm(&settings, problem, pf_pass_forward);
  if (algorithm == pf_algorithm_depthwise) {
    return pf_depthwise_forward(&settings, problem, activation, input, weight, bias, output);
  }
  if (algorithm != pf_algorithm_direct) {
    return pf_winograd_forward(&settings, problem, algorithm, activation, input, weight, bias, output);
  }
  pf_correlation_plan plan;
  PF_TRY(prepare(&settings, problem, &shape, &plan));
  char *workspace = pf_memory_allocate((size_t)plan.workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  pf_correlation_run(&plan, input, weight, bias, activation, pf_overwrite, output, workspace);
  pf_memory_release(workspace);
  return pf_ok;
}
