#include "convolution/depthwise_rows.h"

#include <string.h>

enum {
  taps = 9,
  block_rows = 64,       // of the output, that a thread takes at a time
  gradient_groups = 16,  // whose weight gradients are summed together: their planes are neighbours
  gradient_items = 64,   // that slices of the images are to make for the threads
};

/// Times in cycles: of a plane; of a vector of a row of the output.
typedef struct row_costs {
  double plane, vector;
} row_costs;

/// Measured on Zen 5, to the scale of depthwise_plan.c's.
static row_costs costs_of(int64_t lanes, pf_convolution_pass pass, int64_t step) {
  if (lanes == 16) {
    if (pass == pf_pass_weight_gradient) return step == 1 ? (row_costs){200, 8} : (row_costs){200, 8.5};
    return step == 1 ? (row_costs){125, 5.5} : (row_costs){85, 10};
  }
  if (pass == pf_pass_weight_gradient) return (row_costs){90, step == 1 ? 16 : 12};
  return (row_costs){40, step == 1 ? 7.5 : pass == pf_pass_forward ? 15 : 8};
}

double pf_depthwise_rows_time(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass) {
  enum { most_step = 2 };
  const pf_convolution2d *p = problem;
  const int64_t step = p->stride_width;
  pf_convolution_shape shape;
  if (p->groups < 2 || p->input_channels != p->groups || p->output_channels != p->groups || p->kernel_height != 3 ||
      p->kernel_width != 3 || p->dilation_height != 1 || p->dilation_width != 1 || p->padding_top != 1 ||
      p->padding_left != 1 || p->stride_height != step || step > most_step ||
      pf_convolution_check(problem, &shape) != pf_ok ||
      shape.output_height != pf_ceiling_divide(p->input_height, step) ||
      shape.output_width != pf_ceiling_divide(p->input_width, step) ||
      (pass == pf_pass_weight_gradient && kernels->depthwise_rows.products[step - 1] == NULL)) {
    return -1;
  }
  const row_costs costs = costs_of(kernels->lanes, pass, step);
  const int64_t vectors = pf_ceiling_divide(shape.output_width, kernels->lanes);
  return costs.plane + (double)shape.output_height * (double)vectors * costs.vector;
}

static pf_depthwise_plane plane_of(const pf_convolution2d *p) {
  return (pf_depthwise_plane){
      .height = p->input_height,
      .width = p->input_width,
      .output_height = pf_ceiling_divide(p->input_height, p->stride_height),
      .output_width = pf_ceiling_divide(p->input_width, p->stride_width),
  };
}

// MARK: The forward pass and the input gradient

typedef struct correlation_state {
  void (*kernel)(const pf_depthwise_plane *plane);
  pf_depthwise_plane plane;            // of the first one
  int64_t groups, blocks;              // blocks of a plane
  int64_t source_plane, result_plane;  // floats
  bool turned;
  const float *bias;
} correlation_state;

/// Items: planes, in each the blocks of rows.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const correlation_state *state = argument;
  int64_t index = begin / state->blocks, block = begin % state->blocks, group = index % state->groups;
  for (int64_t item = begin; item < end; ++item) {
    pf_depthwise_plane plane = state->plane;
    float turned[taps];
    plane.source += index * state->source_plane;
    plane.result += index * state->result_plane;
    plane.weight += group * taps;
    plane.begin = block * block_rows;
    plane.end = pf_minimum_of(plane.begin + block_rows, plane.output_height);
    if (state->bias != NULL) plane.bias = state->bias[group];
    if (state->turned) {
      for (int64_t k = 0; k < taps; ++k) turned[k] = plane.weight[taps - 1 - k];
      plane.weight = turned;
    }
    state->kernel(&plane);
    block += 1;
    if (block < state->blocks) continue;
    block = 0;
    index += 1;
    group = group + 1 == state->groups ? 0 : group + 1;
  }
}

/// Fills in what follows from the problem and runs it. The state has the kernel, the source, weights and result.
static void run(const pf_settings *settings, const pf_convolution2d *problem, bool to_input, correlation_state *state) {
  const int64_t planes = problem->batch * problem->groups;
  pf_depthwise_plane plane = plane_of(problem);
  const int64_t input = plane.height * plane.width, output = plane.output_height * plane.output_width;
  state->groups = problem->groups;
  state->blocks = pf_ceiling_divide(plane.output_height, block_rows);
  state->source_plane = to_input ? output : input;
  state->result_plane = to_input ? input : output;
  plane.source = state->plane.source;
  plane.source_end = plane.source + planes * state->source_plane;
  plane.weight = state->plane.weight;
  plane.accumulate = state->plane.accumulate;
  plane.activation = state->plane.activation;
  plane.result = state->plane.result;
  state->plane = plane;
  const double operations = 2 * taps * (double)output + 8 * ((double)input + (double)output);
  pf_parallel(settings, planes * state->blocks, operations / (double)state->blocks, run_range, state);
}

void pf_depthwise_rows_forward(const pf_settings *settings, const pf_convolution2d *problem, pf_activation activation,
                               const float *input, const float *weight, const float *bias, float *output) {
  correlation_state state = {
      .kernel = settings->kernels->depthwise_rows.forward[problem->stride_width - 1],
      .plane = {.source = input, .weight = weight, .activation = activation, .result = output},
      .bias = bias,
  };
  run(settings, problem, false, &state);
}

void pf_depthwise_rows_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                      const float *output_gradient, const float *weight, pf_writing writing,
                                      float *input_gradient) {
  const pf_depthwise_rows_kernels *kernels = &settings->kernels->depthwise_rows;
  const bool apart = problem->stride_width == 2;
  correlation_state state = {
      .kernel = apart ? kernels->spread : kernels->forward[0],
      .plane = {.source = output_gradient,
                .weight = weight,
                .accumulate = writing == pf_accumulate,
                .result = input_gradient},
      .turned = !apart,
  };
  run(settings, problem, true, &state);
}

// MARK: The weight gradient

typedef struct gradient_plan {
  pf_depthwise_plane plane;
  int64_t step, images, groups;
  int64_t blocks, slices;  // of the groups, of the images
  int32_t parts;
  int64_t scratch;  // floats of a part's sums
  int64_t floats;   // of the workspace
} gradient_plan;

typedef struct gradient_state {
  const pf_kernels *kernels;
  gradient_plan plan;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_plane_sums *plane_sums;
  bool accumulate;
  float *result;
  float *sums, *scratch;
} gradient_state;

static gradient_plan plan_gradient(const pf_settings *settings, const pf_convolution2d *problem) {
  gradient_plan plan = {
      .plane = plane_of(problem),
      .step = problem->stride_width,
      .images = problem->batch,
      .groups = problem->groups,
      .blocks = pf_ceiling_divide(problem->groups, gradient_groups),
      .scratch = pf_part_floats(gradient_groups * taps * settings->kernels->lanes),
  };
  plan.slices = pf_minimum_of(plan.images, pf_ceiling_divide(gradient_items, plan.blocks));
  const double input = (double)plan.plane.height * (double)plan.plane.width;
  const double output = (double)plan.plane.output_height * (double)plan.plane.output_width;
  const double planes = (double)plan.images * (double)pf_minimum_of(gradient_groups, plan.groups);
  plan.parts = pf_parallel_parts(settings, plan.blocks * plan.slices,
                                 planes / (double)pf_maximum_of(plan.slices, 1) *
                                     (2 * taps * output + 8 * (input + output)));
  plan.floats = plan.parts * plan.scratch + plan.slices * plan.groups * taps;
  return plan;
}

int64_t pf_depthwise_rows_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    pf_convolution_pass pass) {
  if (pass != pf_pass_weight_gradient) return 0;
  return plan_gradient(settings, problem).floats * (int64_t)sizeof(float);
}

static bool is_frozen(const gradient_state *state, int64_t group) {
  if (state->mask == NULL) return false;
  for (int64_t k = 0; k < taps; ++k) {
    if (state->mask[group * taps + k] != 0) return false;
  }
  return true;
}

/// Sums the slices of neighbouring groups and writes their gradients.
static void finish(const gradient_state *state, int64_t first_group, int64_t groups) {
  const gradient_plan *plan = &state->plan;
  const int64_t first = first_group * taps;
  state->kernels->finish_gradient(groups * taps, plan->slices, state->sums + first, plan->groups * taps,
                                  state->mask == NULL ? NULL : state->mask + first, state->accumulate,
                                  state->result + first);
}

static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  finish(argument, begin, end - begin);
}

/// Items: slices of the images, in each the blocks of groups.
static void gradient_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const gradient_state *state = argument;
  const gradient_plan *plan = &state->plan;
  const pf_depthwise_rows_kernels *kernels = &state->kernels->depthwise_rows;
  const int64_t lanes = state->kernels->lanes, planes = plan->images * plan->groups;
  const int64_t input_plane = plan->plane.height * plan->plane.width;
  const int64_t output_plane = plan->plane.output_height * plan->plane.output_width;
  float *sums = state->scratch + part * plan->scratch;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t slice = item / plan->blocks, first_group = item % plan->blocks * gradient_groups;
    const int64_t groups = pf_minimum_of(gradient_groups, plan->groups - first_group);
    const int64_t first_image = pf_piece_begin(plan->images, slice, plan->slices);
    const int64_t last_image = pf_piece_begin(plan->images, slice + 1, plan->slices);
    bool frozen[gradient_groups];
    for (int64_t g = 0; g < groups; ++g) frozen[g] = is_frozen(state, first_group + g);
    memset(sums, 0, (size_t)(groups * taps * lanes) * sizeof(float));
    for (int64_t i = first_image; i < last_image; ++i) {
      pf_plane_sums_take(state->plane_sums, i, 1, first_group, groups);
      for (int64_t g = 0; g < groups; ++g) {
        if (frozen[g]) continue;
        const int64_t index = i * plan->groups + first_group + g;
        pf_depthwise_plane plane = plan->plane;
        plane.end = plane.output_height;
        plane.source = state->input + index * input_plane;
        plane.source_end = state->input + planes * input_plane;
        plane.gradient = state->output_gradient + index * output_plane;
        plane.gradient_end = state->output_gradient + planes * output_plane;
        plane.result = sums + g * taps * lanes;
        kernels->products[plan->step - 1](&plane);
      }
    }
    kernels->sum_vectors(groups * taps, sums, state->sums + (slice * plan->groups + first_group) * taps);
    if (plan->slices == 1) finish(state, first_group, groups);
  }
}

pf_status pf_depthwise_rows_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                            const float *input, const float *output_gradient,
                                            const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                                            float *weight_gradient) {
  gradient_state state = {
      .kernels = settings->kernels,
      .plan = plan_gradient(settings, problem),
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  const gradient_plan *plan = &state.plan;
  state.scratch = pf_allocate_floats(plan->floats);
  PF_REQUIRE(state.scratch != NULL, pf_error_memory);
  state.sums = state.scratch + plan->parts * plan->scratch;
  pf_parallel_in(plan->parts, plan->slices * plan->blocks, gradient_range, &state);
  if (plan->slices != 1) {
    pf_parallel(settings, plan->groups, 8 * (double)(taps * (plan->slices + 1)), finish_range, &state);
  }
  if (plane_sums != NULL) plane_sums->complete = true;
  pf_memory_release(state.scratch);
  return pf_ok;
}
