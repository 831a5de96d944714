// The weight gradient of depthwise.h: for each tap a vector of sums, over the pixels of the output gradient and those
// of the input that the tap puts beside them.

#include <string.h>

#include "convolution/depthwise.h"
#include "convolution/depthwise_plan.h"
#include "convolution/depthwise_rows.h"

typedef struct run_state {
  const pf_depthwise_plan *plan;
  pf_depthwise_tables tables;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_plane_sums *plane_sums;
  bool accumulate;
  float *result;
} run_state;

/// Neighbouring tap rows.
typedef struct tap_range {
  int64_t begin, end;
} tap_range;

/// Those of `first` up to `last` that a row of the output gradient has.
static tap_range taps_of(const pf_depthwise_row *row, int64_t first, int64_t last) {
  const int64_t begin = pf_maximum_of(first, row->first_tap), end = pf_minimum_of(last, row->first_tap + row->rows);
  return begin < end ? (tap_range){begin, end} : (tap_range){0, 0};
}

/// Adds the products of one output channel a group in the first `width` columns of a block to the sums of tap rows
/// `first` up to `last`.
static void run_rows(const run_state *state, const pf_depthwise_block *block, int64_t width, int64_t first,
                     int64_t last, const float *pixels, const float *gradient, float *sums) {
  const pf_depthwise_plan *plan = state->plan;
  const pf_depthwise_kernels *kernels = &plan->kernels->depthwise;
  const pf_depthwise_window *window = state->tables.windows;
  const pf_depthwise_row *rows = state->tables.rows + block->row;
  const int64_t lanes = plan->kernels->lanes, origin = block->source_row * plan->pitch * lanes;
  const int64_t pieces = pf_ceiling_divide(window->columns, kernels->patch_columns);
  for (int64_t y = 0; y < block->rows;) {
    // Neighbouring rows with the same taps.
    const tap_range taps = taps_of(rows + y, first, last);
    const int64_t begin = y, end = pf_minimum_of(block->rows, begin + plan->chain_rows);
    do {
      y += 1;
    } while (y < end && taps_of(rows + y, first, last).begin == taps.begin &&
             taps_of(rows + y, first, last).end == taps.end);
    if (taps.begin == taps.end) continue;
    const pf_depthwise_row *row = rows + begin;
    const int64_t source = row->source + (taps.begin - row->first_tap) * row->row + window->first - origin;
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t column = pf_piece_begin(window->columns, i, pieces);
      const pf_depthwise_patch patch = {
          .height = y - begin,
          .width = width,
          .source_row = plan->y.step * plan->pitch * lanes,
          .source_step = window->step,
          .rows = taps.end - taps.begin,
          .row = row->row,
          .columns = pf_piece_begin(window->columns, i + 1, pieces) - column,
          .column = window->column,
          .sum_row = plan->x.kernel * lanes,
      };
      kernels->accumulate(&patch, pixels + source + column * window->column, gradient + begin * block->columns * lanes,
                          sums + taps.begin * patch.sum_row + window->weight_first + column * lanes);
    }
  }
}

/// Transposes the output gradient's channel `k` of each group, in a block.
static void fill_gradient(const run_state *state, const pf_depthwise_block *block, int64_t image,
                          int64_t channel_block, int64_t k, float *gradient) {
  const pf_depthwise_plan *plan = state->plan;
  const int64_t lanes = plan->kernels->lanes, width = plan->x.result, plane = plan->y.result * width;
  const bool whole = block->columns == width;
  const int64_t runs = whole ? 1 : block->rows, count = whole ? block->rows * width : block->columns;
  const int64_t first = ((image * plan->groups + channel_block * lanes) * plan->multiplier + k) * plane;
  pf_depthwise_planes planes = {
      .end = state->output_gradient + plan->images * plan->groups * plan->multiplier * plane,
      .stride = plan->multiplier * plane,
      .count = pf_depthwise_channels(plan, channel_block),
  };
  for (int64_t r = 0; r < runs; ++r) {
    planes.first = state->output_gradient + first + (block->row + r) * width + block->column;
    plan->kernels->depthwise.spread(&planes, count, block->columns, block->columns,
                                    gradient + r * block->columns * lanes);
  }
}

/// Sums the slices of a vector of groups and writes their gradients.
static void finish(const run_state *state, int64_t channel_block) {
  const pf_depthwise_plan *plan = state->plan;
  const int64_t elements = plan->multiplier * plan->taps, first = channel_block * plan->kernels->lanes * elements;
  plan->kernels->finish_gradient(pf_depthwise_channels(plan, channel_block) * elements, plan->slices,
                                 state->tables.sums + first, plan->groups * elements,
                                 state->mask == NULL ? NULL : state->mask + first, state->accumulate,
                                 state->result + first);
}

static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  for (int64_t block = begin; block < end; ++block) finish(argument, block);
}

static bool is_frozen(const run_state *state, int64_t channel_block) {
  if (state->mask == NULL) return false;
  const pf_depthwise_plan *plan = state->plan;
  const int64_t elements = plan->multiplier * plan->taps, first = channel_block * plan->kernels->lanes * elements;
  const uint8_t *mask = state->mask + first;
  const int64_t count = pf_depthwise_channels(plan, channel_block) * elements;
  return mask[0] == 0 && memcmp(mask, mask + 1, (size_t)(count - 1)) == 0;
}

/// The sums of a slice's blocks, one vector a tap, for each output channel of a group.
static void sum_slice(const run_state *state, int64_t slice, int64_t channel_block, pf_depthwise_tile *tile,
                      float *gradient, float *sums) {
  const pf_depthwise_plan *plan = state->plan;
  const pf_depthwise_kernels *kernels = &plan->kernels->depthwise;
  const int64_t lanes = plan->kernels->lanes, image_blocks = plan->blocks_y * plan->blocks_x;
  const int64_t blocks = plan->images * image_blocks, columns = state->tables.windows->columns;
  const int64_t step = state->tables.windows->step;
  const int64_t patch_columns = pf_ceiling_divide(columns, pf_ceiling_divide(columns, kernels->patch_columns));
  const int64_t most_rows = pf_minimum_of(kernels->patch_rows, kernels->patch_taps / patch_columns);
  const int64_t row_patches = pf_ceiling_divide(plan->y.kernel, most_rows);
  for (int64_t b = pf_piece_begin(blocks, slice, plan->slices); b < pf_piece_begin(blocks, slice + 1, plan->slices);
       ++b) {
    if (b % image_blocks == 0) {
      pf_plane_sums_take(state->plane_sums, b / image_blocks, 1, channel_block * lanes * plan->multiplier,
                         pf_depthwise_channels(plan, channel_block) * plan->multiplier);
    }
    const pf_depthwise_block block = pf_depthwise_block_of(plan, &state->tables, b % image_blocks);
    pf_depthwise_fill_tile(plan, &block, state->input, b / image_blocks, channel_block, tile);
    for (int64_t k = 0; k < plan->multiplier; ++k) {
      fill_gradient(state, &block, b / image_blocks, channel_block, k, gradient);
      for (int64_t x = 0; x < block.columns; x += plan->chain_columns) {
        const int64_t width = pf_minimum_of(plan->chain_columns, block.columns - x);
        for (int64_t i = 0; i < row_patches; ++i) {
          run_rows(state, &block, width, pf_piece_begin(plan->y.kernel, i, row_patches),
                   pf_piece_begin(plan->y.kernel, i + 1, row_patches), tile->pixels + x * step, gradient + x * lanes,
                   sums + k * plan->taps * lanes);
        }
      }
    }
  }
}

/// Items: slices, in each the vectors of groups.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_depthwise_plan *plan = state->plan;
  const int64_t lanes = plan->kernels->lanes, elements = plan->multiplier * plan->taps;
  pf_depthwise_tile tile = {.pixels = state->tables.scratch + part * plan->scratch, .zeroed_column = INT64_MIN};
  float *gradient = tile.pixels + plan->tile, *sums = gradient + plan->staged;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel_block = item % plan->channel_blocks, slice = item / plan->channel_blocks;
    memset(sums, 0, (size_t)(elements * lanes) * sizeof(float));
    if (state->tables.windows->columns > 0 && !is_frozen(state, channel_block)) {
      sum_slice(state, slice, channel_block, &tile, gradient, sums);
    }
    float *slice_sums = state->tables.sums + (slice * plan->groups + channel_block * lanes) * elements;
    plan->kernels->depthwise.collect(pf_depthwise_channels(plan, channel_block), elements, sums, false, slice_sums,
                                     elements);
    if (plan->slices == 1) finish(state, channel_block);
  }
}

pf_status pf_depthwise_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem, const float *input,
                                       const float *output_gradient, const uint8_t *gradient_mask,
                                       pf_plane_sums *plane_sums, pf_writing writing, float *weight_gradient) {
  if (pf_depthwise_by_rows(settings->kernels, problem, pf_pass_weight_gradient)) {
    return pf_depthwise_rows_weight_gradient(settings, problem, input, output_gradient, gradient_mask, plane_sums,
                                             writing, weight_gradient);
  }
  pf_depthwise_plan plan;
  pf_depthwise_prepare(settings->kernels, problem, pf_pass_weight_gradient, &plan);
  pf_depthwise_prepare_parts(settings, &plan);
  char *workspace = pf_memory_allocate((size_t)plan.workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  run_state state = {
      .plan = &plan,
      .tables = pf_depthwise_fill_tables(&plan, workspace),
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  if (plane_sums != NULL) plane_sums->complete = state.tables.windows->columns > 0;
  pf_parallel_in(plan.parts, plan.slices * plan.channel_blocks, run_range, &state);
  if (plan.slices != 1) {
    const double cost = 8 * (double)(plan.multiplier * plan.taps * plan.kernels->lanes * (plan.slices + 1));
    pf_parallel(settings, plan.channel_blocks, cost, finish_range, &state);
  }
  pf_memory_release(workspace);
  return pf_ok;
}
