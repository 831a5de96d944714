// Pooling: threads share out planes.

#include <string.h>

#include "runtime/runtime.h"

// MARK: Problems

/// The output extent along one axis, PyTorch's rule.
static pf_status output_extent(int64_t input, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                               bool ceil_mode, int64_t *output) {
  PF_REQUIRE(input > 0 && kernel > 0 && stride > 0 && dilation > 0, pf_error_dimension);
  PF_REQUIRE(padding >= 0 && padding <= kernel / 2, pf_error_dimension);
  int64_t reach, padded;
  PF_REQUIRE(!__builtin_mul_overflow(dilation, kernel - 1, &reach), pf_error_overflow);
  PF_REQUIRE(!__builtin_add_overflow(input, 2 * padding, &padded), pf_error_overflow);
  int64_t room = padded - 1 - reach;
  if (ceil_mode) PF_REQUIRE(!__builtin_add_overflow(room, stride - 1, &room), pf_error_overflow);
  PF_REQUIRE(room >= 0, pf_error_dimension);
  *output = room / stride + 1;
  if (ceil_mode && *output > 1) {
    // the last window starts inside the input or its left padding
    if ((*output - 1) > (input + padding - 1) / stride) --*output;
  }
  return pf_ok;
}

/// Checks a problem and counts its planes. An element's place in its input plane must fit an int32_t.
static pf_status plan_pooling(const pf_pooling2d *problem, bool averages, pf_pooling_plan *plan, int64_t *planes) {
  PF_REQUIRE(problem != NULL, pf_error_null);
  plan->problem = *problem;
  const pf_pooling2d *p = &plan->problem;
  PF_REQUIRE(p->batch >= 0 && p->channels > 0, pf_error_dimension);
  PF_REQUIRE(!averages || (p->dilation_height == 1 && p->dilation_width == 1), pf_error_dimension);
  PF_TRY(output_extent(p->input_height, p->kernel_height, p->stride_height, p->padding_height, p->dilation_height,
                       p->ceil_mode, &plan->output_height));
  PF_TRY(output_extent(p->input_width, p->kernel_width, p->stride_width, p->padding_width, p->dilation_width,
                       p->ceil_mode, &plan->output_width));
  int64_t elements;
  PF_TRY(pf_extents(&elements, p->batch, p->channels, p->input_height, p->input_width));
  PF_TRY(pf_extents(&elements, p->batch, p->channels, plan->output_height, plan->output_width));
  PF_TRY(pf_extents(&elements, p->kernel_height, p->kernel_width));
  PF_REQUIRE(p->input_height <= INT32_MAX / p->input_width, pf_error_overflow);
  return pf_extents(planes, p->batch, p->channels);
}

pf_status pf_pooling2d_output_size(const pf_pooling2d *problem, int64_t *output_height, int64_t *output_width) {
  pf_pooling_plan plan;
  int64_t planes;
  PF_TRY(plan_pooling(problem, false, &plan, &planes));
  PF_REQUIRE(output_height != NULL && output_width != NULL, pf_error_null);
  *output_height = plan.output_height;
  *output_width = plan.output_width;
  return pf_ok;
}

// MARK: Windows

typedef struct pooling_work {
  const pf_operation_kernels *kernels;
  pf_pooling_plan plan;
  int64_t input_plane, output_plane;
  const float *from;
  float *to;
  int32_t *indices;
  const int32_t *chosen;
  bool index_out_of_range;
  float *scratch;          // of a part: an output row and an input row
  int64_t scratch_floats;  // from one part to the next
} pooling_work;

static pooling_work pooling_work_of(const pf_settings *settings, const pf_pooling_plan *plan) {
  return (pooling_work){.kernels = &settings->kernels->operations,
                        .plan = *plan,
                        .input_plane = plan->problem.input_height * plan->problem.input_width,
                        .output_plane = plan->output_height * plan->output_width};
}

/// The cost of a plane: its memory, and every tap of its windows.
static double plane_cost(const pooling_work *work) {
  const double taps = (double)work->plan.problem.kernel_height * (double)work->plan.problem.kernel_width;
  return 8.0 * (double)(work->input_plane + 2 * work->output_plane) + taps * (double)work->output_plane;
}

static void max_pool_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const pooling_work *work = argument;
  for (int64_t plane = begin; plane < end; ++plane) {
    work->kernels->max_pool(&work->plan, work->from + plane * work->input_plane, work->to + plane * work->output_plane,
                            work->indices + plane * work->output_plane);
  }
}

pf_status pf_max_pool2d_forward(const pf_context *context, const pf_pooling2d *problem, const float *input,
                                float *output, int32_t *indices) {
  pf_settings settings;
  pf_pooling_plan plan;
  int64_t planes;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(plan_pooling(problem, false, &plan, &planes));
  if (planes == 0) return pf_ok;
  PF_REQUIRE(input != NULL && output != NULL && indices != NULL, pf_error_null);
  pooling_work work = pooling_work_of(&settings, &plan);
  work.from = input, work.to = output, work.indices = indices;
  pf_parallel(&settings, planes, plane_cost(&work), max_pool_range, &work);
  return pf_ok;
}

/// Nothing may be written where an index is wrong, so that all are looked at first.
static void check_indices_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  pooling_work *work = argument;
  const int32_t *chosen = work->chosen + begin * work->output_plane;
  if (!work->kernels->indices_fit((end - begin) * work->output_plane, chosen, (int32_t)work->input_plane)) {
    __atomic_store_n(&work->index_out_of_range, true, __ATOMIC_RELAXED);
  }
}

static void max_pool_backward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const pooling_work *work = argument;
  for (int64_t plane = begin; plane < end; ++plane) {
    float *gradient = work->to + plane * work->input_plane;
    const float *from = work->from + plane * work->output_plane;
    const int32_t *chosen = work->chosen + plane * work->output_plane;
    memset(gradient, 0, (size_t)work->input_plane * sizeof(float));
    for (int64_t i = 0; i < work->output_plane; ++i) {
      if (chosen[i] >= 0) gradient[chosen[i]] += from[i];
    }
  }
}

pf_status pf_max_pool2d_backward(const pf_context *context, const pf_pooling2d *problem, const float *output_gradient,
                                 const int32_t *indices, float *input_gradient) {
  pf_settings settings;
  pf_pooling_plan plan;
  int64_t planes;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(plan_pooling(problem, false, &plan, &planes));
  if (planes == 0) return pf_ok;
  PF_REQUIRE(output_gradient != NULL && indices != NULL && input_gradient != NULL, pf_error_null);
  pooling_work work = pooling_work_of(&settings, &plan);
  work.from = output_gradient, work.to = input_gradient, work.chosen = indices;
  pf_parallel(&settings, planes, 8.0 * (double)work.output_plane, check_indices_range, &work);
  PF_REQUIRE(!work.index_out_of_range, pf_error_value);
  pf_parallel(&settings, planes, plane_cost(&work), max_pool_backward_range, &work);
  return pf_ok;
}

static void average_pool_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const pooling_work *work = argument;
  for (int64_t plane = begin; plane < end; ++plane) {
    work->kernels->average_pool(&work->plan, work->from + plane * work->input_plane,
                                work->to + plane * work->output_plane);
  }
}

pf_status pf_average_pool2d_forward(const pf_context *context, const pf_pooling2d *problem, const float *input,
                                    float *output) {
  pf_settings settings;
  pf_pooling_plan plan;
  int64_t planes;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(plan_pooling(problem, true, &plan, &planes));
  if (planes == 0) return pf_ok;
  PF_REQUIRE(input != NULL && output != NULL, pf_error_null);
  pooling_work work = pooling_work_of(&settings, &plan);
  work.from = input, work.to = output;
  pf_parallel(&settings, planes, plane_cost(&work), average_pool_range, &work);
  return pf_ok;
}

static void average_pool_backward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const pooling_work *work = argument;
  float *scratch = work->scratch + part * work->scratch_floats;
  for (int64_t plane = begin; plane < end; ++plane) {
    work->kernels->average_pool_backward(&work->plan, work->from + plane * work->output_plane, scratch,
                                         work->to + plane * work->input_plane);
  }
}

pf_status pf_average_pool2d_backward(const pf_context *context, const pf_pooling2d *problem,
                                     const float *output_gradient, float *input_gradient) {
  pf_settings settings;
  pf_pooling_plan plan;
  int64_t planes;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(plan_pooling(problem, true, &plan, &planes));
  if (planes == 0) return pf_ok;
  PF_REQUIRE(output_gradient != NULL && input_gradient != NULL, pf_error_null);
  pooling_work work = pooling_work_of(&settings, &plan);
  const int32_t parts = pf_parallel_parts(&settings, planes, plane_cost(&work));
  work.scratch_floats = pf_part_floats(plan.output_width + plan.problem.input_width);
  work.scratch = pf_allocate_floats(parts * work.scratch_floats);
  PF_REQUIRE(work.scratch != NULL, pf_error_memory);
  work.from = output_gradient, work.to = input_gradient;
  pf_parallel_in(parts, planes, average_pool_backward_range, &work);
  pf_memory_release(work.scratch);
  return pf_ok;
}
