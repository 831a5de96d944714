// The input gradient is s x s interleaved correlations of the output gradient, one a phase of the stride. Input row
// p + s * g gets weight row i from output row y where y * s + i * dilation - padding = p + s * g, so
// y = g + (p + padding - i * dilation) / s for those i that make it whole: no zeros are inserted, none multiplied.

#include <string.h>

#include "convolution/depthwise.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
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

/// Whether every second column of the input gradient, from the second on, is zero, and each has one before it.
static bool leaves_gaps(const pf_convolution2d *p) {
  // Taps that lie an even distance apart all read one phase of a stride of 2.
  return p->stride_width == 2 && p->input_width % 2 == 0 && p->padding_left % 2 == 0 &&
         (p->kernel_width == 1 || p->dilation_width % 2 == 0);
}

/// Whether the rows of a phase are zero.
static bool is_empty_row(const pf_convolution2d *p, int64_t phase_y) {
  return (p->kernel_height == 1 || p->dilation_height % p->stride_height == 0) &&
         (phase_y + p->padding_top) % p->stride_height != 0;
}

typedef struct zero_range {
  const pf_convolution2d *problem;
  float *input_gradient;
} zero_range;

/// Items: planes. Clears the rows of phases without taps.
static void clear_rows(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const zero_range *range = argument;
  const pf_convolution2d *p = range->problem;
  for (int64_t plane = begin; plane < end; ++plane) {
    for (int64_t y = 0; y < p->input_height; ++y) {
      float *row = range->input_gradient + (plane * p->input_height + y) * p->input_width;
      if (is_empty_row(p, y % p->stride_height)) memset(row, 0, (size_t)p->input_width * sizeof(float));
    }
  }
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
  correlation.pad = phase_x == 0 && leaves_gaps(p);
  return pf_correlation_prepare(settings, &correlation, plan);
}

/// The phases that have anything to do, prepared to run together, if there are few and they can; else none.
static int64_t prepare_together(const pf_settings *settings, const pf_convolution2d *problem,
                                const pf_convolution_shape *shape, pf_correlation_plan plans[pf_most_correlations]) {
  const int64_t phases_y = pf_minimum_of(problem->stride_height, problem->input_height);
  const int64_t phases_x = pf_minimum_of(problem->stride_width, problem->input_width);
  int64_t count = 0;
  if (phases_y * phases_x == 1 || phases_y * phases_x > pf_most_correlations) return 0;
  for (int64_t y = 0; y < phases_y; ++y) {
    if (is_empty_row(problem, y)) continue;
    for (int64_t x = 0; x < (leaves_gaps(problem) ? 1 : phases_x); ++x, ++count) {
      if (prepare_phase(settings, problem, shape, y, x, plans + count) != pf_ok) return 0;
    }
  }
  if (count == 0 || !pf_correlation_align(settings, count, plans)) return 0;
  // What the odd columns are about to overwrite needn't be read to write the even ones.
  const bool paired = problem->stride_width == 2 && problem->input_width % 2 == 0;
  for (int64_t i = 0; paired && i < count; ++i) plans[i].problem.pad = plans[i].problem.result_first % 2 == 0;
  return count;
}

static int64_t together_bytes(int64_t count, const pf_correlation_plan *plans) {
  int64_t bytes = plans->parts * plans->scratch_bytes;
  for (int64_t i = 0; i < count; ++i) bytes += plans[i].shared_bytes;
  return bytes;
}

pf_status pf_input_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                      const pf_convolution_shape *shape, int64_t *bytes) {
  pf_correlation_plan plans[pf_most_correlations];
  const int64_t together = prepare_together(settings, problem, shape, plans);
  *bytes = 0;
  if (together > 0) {
    *bytes = together_bytes(together, plans);
    return pf_ok;
  }
  const int64_t phases_y = pf_minimum_of(problem->stride_height, problem->input_height);
  const int64_t phases_x = pf_minimum_of(problem->stride_width, problem->input_width);
  for (int64_t i = 0; i < phases_y * phases_x; ++i) {
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
  int64_t workspace_bytes;
  PF_TRY(pf_input_gradient_workspace(settings, problem, shape, &workspace_bytes));
  char *workspace = pf_memory_allocate((size_t)workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  const int64_t phases_y = pf_minimum_of(problem->stride_height, problem->input_height);
  const int64_t phases_x = pf_minimum_of(problem->stride_width, problem->input_width);
  bool empty = false;
  for (int64_t i = 0; i < phases_y; ++i) empty = empty || is_empty_row(problem, i);
  if (writing == pf_overwrite && empty) {
    zero_range range = {.problem = problem, .input_gradient = input_gradient};
    const int64_t planes = problem->batch * problem->input_channels;
    pf_parallel(settings, planes, 8.0 * (double)shape->input_plane, clear_rows, &range);
  }
  pf_correlation_plan plans[pf_most_correlations];
  const int64_t together = prepare_together(settings, problem, shape, plans);
  if (together > 0) {
    pf_correlation_run_aligned(together, plans, output_gradient, weight, NULL, pf_activation_none, writing,
                               input_gradient, workspace);
    pf_memory_release(workspace);
    return pf_ok;
  }
  bool padded = false;  // whether the phase before has written this one
  for (int64_t i = 0; i < phases_y * phases_x; ++i) {
    if (padded || is_empty_row(problem, i / phases_x)) {
      padded = false;
      continue;
    }
    pf_correlation_plan plan;
    // It succeeded before: the size of the workspace is known.
    (void)prepare_phase(settings, problem, shape, i / phases_x, i % phases_x, &plan);
    pf_correlation_run(&plan, output_gradient, weight, NULL, pf_activation_none, writing, input_gradient, workspace);
    padded = plan.problem.pad && !plan.planes;
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
