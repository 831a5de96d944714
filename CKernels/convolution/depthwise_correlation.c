// The forward pass and the input gradient of depthwise.h.

#include "convolution/depthwise.h"
#include "convolution/depthwise_plan.h"
#include "convolution/depthwise_rows.h"

typedef struct run_state {
  const pf_depthwise_plan *plan;
  pf_depthwise_tables tables;
  const float *source, *weight, *bias;
  pf_activation activation;
  bool accumulate;
  float *result;
} run_state;

/// Items: vectors of groups, whose weights are transposed.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_depthwise_plan *plan = state->plan;
  const int64_t lanes = plan->kernels->lanes, multiplier = plan->multiplier, taps = plan->taps;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t channels = pf_depthwise_channels(plan, block), first = block * lanes * multiplier;
    pf_depthwise_planes planes = {.end = state->weight + plan->groups * multiplier * taps,
                                  .stride = multiplier * taps,
                                  .count = channels};
    for (int64_t k = 0; k < multiplier; ++k) {
      planes.first = state->weight + (first + k) * taps;
      plan->kernels->depthwise.spread(&planes, taps, taps, taps,
                                      state->tables.weights + (block * multiplier + k) * taps * lanes);
      float *bias = state->tables.biases + (block * multiplier + k) * lanes;
      for (int64_t c = 0; c < lanes; ++c) {
        bias[c] = state->bias == NULL || c >= channels ? 0 : state->bias[first + c * multiplier + k];
      }
    }
  }
}

/// Result `k` of a group's, in a block whose source is there.
static void run_block(const run_state *state, const pf_depthwise_block *block, int64_t image, int64_t channel_block,
                      int64_t k, const float *pixels, float *staged) {
  const pf_depthwise_plan *plan = state->plan;
  const pf_depthwise_kernels *kernels = &plan->kernels->depthwise;
  const int64_t lanes = plan->kernels->lanes, width = plan->x.result, plane = plan->y.result * width;
  const int64_t channels = pf_depthwise_channels(plan, channel_block), packed = channel_block * plan->multiplier + k;
  const float *weight = state->tables.weights + packed * plan->taps * lanes;
  const float *bias = state->tables.biases + packed * lanes;
  float *result = state->result + ((image * plan->groups + channel_block * lanes) * plan->results + k) * plane;
  const bool whole = block->columns == width;
  for (int64_t row = 0; row < block->rows; row += plan->staged_rows) {
    const int64_t rows = pf_minimum_of(plan->staged_rows, block->rows - row), first = block->row + row;
    for (int64_t phase = 0; phase < pf_minimum_of(plan->x.phases, block->columns); ++phase) {
      pf_depthwise_window window = state->tables.windows[phase];
      window.pixels = (block->columns - 1 - phase) / plan->x.phases + 1;
      window.activation = state->activation;
      window.first -= block->source_row * plan->pitch * lanes;
      kernels->sum(&window, rows, state->tables.rows + first, pixels, weight, bias, staged, block->columns * lanes);
    }
    const int64_t runs = whole ? 1 : rows, count = whole ? rows * width : block->columns;
    for (int64_t r = 0; r < runs; ++r) {
      kernels->collect(channels, count, staged + r * block->columns * lanes, state->accumulate,
                       result + (first + r) * width + block->column, plan->results * plane);
    }
  }
}

/// Items: images, in each the vectors of groups, in each the blocks: the order of the source's memory.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_depthwise_plan *plan = state->plan;
  const int64_t blocks = plan->blocks_y * plan->blocks_x;
  pf_depthwise_tile tile = {.pixels = state->tables.scratch + part * plan->scratch, .zeroed_column = INT64_MIN};
  float *staged = tile.pixels + plan->planes * plan->tile;
  pf_depthwise_block block;
  for (int64_t item = begin; item < end; ++item) {
    if (item == begin || blocks > 1) block = pf_depthwise_block_of(plan, &state->tables, item % blocks);
    const int64_t channel_block = item / blocks % plan->channel_blocks, image = item / blocks / plan->channel_blocks;
    pf_depthwise_fill_tile(plan, &block, state->source, image, channel_block, &tile);
    for (int64_t k = 0; k < plan->results; ++k) {
      run_block(state, &block, image, channel_block, k, tile.pixels, staged);
    }
  }
}

static pf_status run(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                     run_state *state) {
  pf_depthwise_plan plan;
  pf_depthwise_prepare(settings->kernels, problem, pass, &plan);
  pf_depthwise_prepare_parts(settings, &plan);
  char *workspace = pf_memory_allocate((size_t)plan.workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  state->plan = &plan;
  state->tables = pf_depthwise_fill_tables(&plan, workspace);
  const double packing = 8 * (double)(plan.multiplier * plan.taps * plan.kernels->lanes);
  pf_parallel(settings, plan.channel_blocks, packing, pack_range, state);
  pf_parallel_in(plan.parts, plan.images * plan.channel_blocks * plan.blocks_y * plan.blocks_x, run_range, state);
  pf_memory_release(workspace);
  return pf_ok;
}

pf_status pf_depthwise_forward(const pf_settings *settings, const pf_convolution2d *problem, pf_activation activation,
                               const float *input, const float *weight, const float *bias, float *output) {
  if (pf_depthwise_by_rows(settings->kernels, problem, pf_pass_forward)) {
    pf_depthwise_rows_forward(settings, problem, activation, input, weight, bias, output);
    return pf_ok;
  }
  run_state state = {.source = input, .weight = weight, .bias = bias, .activation = activation, .result = output};
  return run(settings, problem, pf_pass_forward, &state);
}

pf_status pf_depthwise_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                      const float *output_gradient, const float *weight, pf_writing writing,
                                      float *input_gradient) {
  if (pf_depthwise_by_rows(settings->kernels, problem, pf_pass_input_gradient)) {
    pf_depthwise_rows_input_gradient(settings, problem, output_gradient, weight, writing, input_gradient);
    return pf_ok;
  }
  run_state state = {.source = output_gradient,
                     .weight = weight,
                     .accumulate = writing == pf_accumulate,
                     .result = input_gradient};
  return run(settings, problem, pf_pass_input_gradient, &state);
}
