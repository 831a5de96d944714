// The weight gradient: dot products along the grid points of a frame.
//
//   gradient[o, c, i, j] = sum over n, y, x of output_gradient[n, o, y, x] * input[n, g(o) + c, tap (i, j) of (y, x)]
//
// The grid is cut into blocks. A block's input channels are copied into a frame, its rows of the output gradient onto
// the same grid with zeros in the gaps, and each gradient element of the block is one dot product of contiguous floats.
// The blocks are shared out to slices; each slice sums its blocks in order, and the slices are summed in order at the
// end. Blocks and slices follow from the shape and the vector length alone, so an element's bits depend on nothing
// else: not on threads, not on which other elements are computed.

#include <string.h>

#include "convolution/gradient_mask.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/winograd.h"

enum {
  block_points = 1024,              // of the grid: some rows of both operands then stay in the first-level cache
  few_filters = 2,                  // in a group, for tap rows to take their place
  few_filters_block_points = 3584,
  frame_budget = 64 << 10,          // floats of the input channels copied at a time
  most_slices = 16,
  slice_budget = 2 << 20,           // floats of all slices' sums
};

typedef struct gradient_plan {
  const pf_kernels *kernels;
  pf_convolution2d problem;
  pf_convolution_shape shape;
  pf_frame frame;
  int64_t first_y, first_x;  // of the taps that read anything
  int64_t inner;             // elements of one filter that aren't always zero: channels * those taps
  int64_t blocks_images, blocks_y, blocks_x, blocks;
  int64_t slices;
  int64_t channels;   // copied at a time
  int64_t row_stride;  // floats of a row of the output gradient on the grid
  int64_t row_tiles, row_parts;  // filters of a group in tiles, and the pieces these are cut into
  int64_t shifts;      // most tap rows that take the place of filters; 0: none does
  int64_t shift;       // floats that the output gradient moves by from one to the next
  int64_t lead;        // zeros in front of a row of the output gradient, for its moves
  int32_t parts, finish_parts;
  int64_t scratch_bytes, workspace_bytes;
  int64_t masked_bytes;  // more workspace, where a mask leaves less to compute
} gradient_plan;

static int64_t balanced(int64_t extent, int64_t most) {
  return pf_ceiling_divide(extent, pf_ceiling_divide(extent, pf_maximum_of(most, 1)));
}

/// `points` of the grid, or somewhat more, make a block.
static void shape_blocks(gradient_plan *plan, int64_t points) {
  pf_frame *frame = &plan->frame;
  const int64_t width = frame->x.grid, height = frame->y.grid, lanes = plan->kernels->lanes;
  const int64_t batch = pf_maximum_of(plan->problem.batch, 1);
  if (width > points) {
    pf_frame_shape(frame, 1, 1, pf_round_up(balanced(width, points), lanes), lanes);
  } else {
    pf_frame_shape(frame, 2, height, width, lanes);
    const int64_t images = points / frame->image_pitch;
    if (images > 1) {
      pf_frame_shape(frame, balanced(batch, images), height, width, lanes);
    } else {
      pf_frame_shape(frame, 1, balanced(height, points / frame->pitch), width, lanes);
    }
  }
  plan->blocks_images = pf_ceiling_divide(plan->problem.batch, frame->most.images);
  plan->blocks_y = pf_ceiling_divide(height, frame->most.rows);
  plan->blocks_x = pf_ceiling_divide(width, frame->most.columns);
  plan->blocks = plan->blocks_images * plan->blocks_y * plan->blocks_x;
}

/// Has tap rows take the place of filters where there are too few of these, and the rows' distance is small.
static void shape_shifts(gradient_plan *plan) {
  const pf_frame *frame = &plan->frame;
  const int64_t period = frame->y_taps.phases;
  if (frame->y.taps <= period) return;
  const int64_t rows = pf_ceiling_divide(frame->y.taps, period);
  const int64_t shifts = balanced(rows, plan->kernels->dot_rows);
  const int64_t shift = frame->y.tap_step * period / frame->y.step * frame->pitch;
  // What the moves add to a dot product's length must not eat up what they save.
  if (2 * shift * (shifts - 1) > pf_frame_span(frame, &frame->most)) return;
  plan->shifts = shifts;
  plan->shift = shift;
  plan->lead = shift * (shifts - 1);
}

static pf_status prepare(const pf_settings *settings, const pf_convolution2d *problem,
                         const pf_convolution_shape *shape, gradient_plan *plan) {
  const pf_convolution2d *p = problem;
  *plan = (gradient_plan){.kernels = settings->kernels, .problem = *problem, .shape = *shape};
  pf_frame *frame = &plan->frame;
  frame->y = (pf_axis){.source = p->input_height,
                       .grid = shape->output_height,
                       .step = p->stride_height,
                       .taps = p->kernel_height,
                       .first = -p->padding_top,
                       .tap_step = p->dilation_height};
  frame->x = (pf_axis){.source = p->input_width,
                       .grid = shape->output_width,
                       .step = p->stride_width,
                       .taps = p->kernel_width,
                       .first = -p->padding_left,
                       .tap_step = p->dilation_width};
  plan->first_y = pf_axis_trim(&frame->y);
  plan->first_x = pf_axis_trim(&frame->x);
  if (frame->y.taps == 0 || frame->x.taps == 0) frame->y.taps = frame->x.taps = 0;
  plan->inner = shape->group_input_channels * frame->y.taps * frame->x.taps;
  PF_TRY(pf_frame_analyse(frame, shape->group_input_channels));
  const bool few = shape->group_output_channels <= few_filters;
  shape_blocks(plan, few ? few_filters_block_points : block_points);
  if (few) shape_shifts(plan);

  const int64_t filters = p->output_channels, group_filters = shape->group_output_channels;
  const int64_t affordable = slice_budget / pf_maximum_of(filters * plan->inner, 1);
  plan->slices = pf_minimum_of(plan->blocks, pf_maximum_of(1, pf_minimum_of(most_slices, affordable)));
  if (plan->inner == 0) plan->slices = 0;
  plan->channels =
      balanced(shape->group_input_channels, frame_budget / pf_maximum_of(frame->channel_stride, 1));
  const pf_block *most = &frame->most;
  const int64_t stored = pf_maximum_of(most->images * frame->image_pitch, most->rows * frame->pitch);
  plan->row_stride = pf_round_up(stored + (plan->shifts > 0 ? 2 * plan->lead + plan->kernels->lanes : 0), 16);
  if (plan->row_stride / 16 % 2 == 0) plan->row_stride += 16;

  plan->row_tiles = pf_ceiling_divide(group_filters, plan->kernels->dot_rows);
  plan->row_parts = 1;
  const int64_t items = plan->slices * p->groups;
  if (items < 4 * settings->threads) {
    const int64_t wanted = pf_ceiling_divide(4 * settings->threads, pf_maximum_of(items, 1));
    plan->row_parts = pf_minimum_of(plan->row_tiles, wanted);
  }
  const double points = (double)p->batch * (double)shape->output_plane;
  const double operations = 2 * points * (double)filters * (double)plan->inner;
  const int64_t all = pf_maximum_of(items * plan->row_parts, 1);
  plan->parts = pf_parallel_parts(settings, all, operations / (double)all);

  const int64_t floats = plan->channels * frame->channel_stride + plan->kernels->dot_rows * plan->row_stride;
  plan->scratch_bytes = plan->slices == 0 ? 0 : pf_aligned_bytes(floats * (int64_t)sizeof(float));
  const int64_t offsets = pf_aligned_bytes(plan->channels * frame->y.taps * frame->x.taps * (int64_t)sizeof(int64_t));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + offsets +
                          plan->slices * filters * plan->inner * (int64_t)sizeof(float);
  const double finish_cost = 8.0 * (double)(plan->inner * (plan->slices + 1));
  plan->finish_parts = pf_parallel_parts(settings, filters, finish_cost);
  plan->masked_bytes =
      pf_gradient_lists_bytes(p->groups, group_filters, plan->inner, plan->kernels->dot_rows) +
      plan->finish_parts * pf_aligned_bytes((plan->inner + shape->group_input_channels * shape->taps) *
                                            (int64_t)sizeof(float));
  return pf_ok;
}

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes) {
  gradient_plan plan;
  PF_TRY(prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes + plan.masked_bytes;
  return pf_ok;
}

typedef struct run_state {
  const gradient_plan *plan;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_gradient_lists *lists;  // what the mask leaves to compute; NULL: everything
  bool accumulate;
  float *result;
  const int64_t *offsets;  // of the elements of a filter in the frame
  float *sums;             // slices x filters x inner
  char *scratch, *finish_scratch;
} run_state;

static pf_block block_of(const gradient_plan *plan, int64_t index) {
  const pf_frame *frame = &plan->frame;
  pf_block block;
  block.column = index % plan->blocks_x * frame->most.columns;
  index /= plan->blocks_x;
  block.row = index % plan->blocks_y * frame->most.rows;
  block.image = index / plan->blocks_y * frame->most.images;
  block.columns = pf_minimum_of(frame->most.columns, frame->x.grid - block.column);
  block.rows = pf_minimum_of(frame->most.rows, frame->y.grid - block.row);
  block.images = pf_minimum_of(frame->most.images, plan->problem.batch - block.image);
  return block;
}

/// Copies a filter's rows of the output gradient onto the block's grid, with zeros in the gaps, in front and behind.
static void fill_gradient_row(const gradient_plan *plan, const pf_block *block, const float *output_gradient,
                              int64_t filter, float *row) {
  const pf_frame *frame = &plan->frame;
  const int64_t width = plan->frame.x.grid, plane = plan->shape.output_plane;
  memset(row, 0, (size_t)plan->lead * sizeof(float));
  row += plan->lead;
  for (int64_t i = 0; i < block->images; ++i) {
    const float *source = output_gradient +
                          ((block->image + i) * plan->problem.output_channels + filter) * plane +
                          block->row * width + block->column;
    float *image = row + i * frame->image_pitch;
    const int64_t rest = plan->row_stride - plan->lead - i * frame->image_pitch;
    const int64_t end = i + 1 < block->images ? frame->image_pitch : rest;
    plan->kernels->copy_rows(block->rows, block->columns, frame->pitch, source, width, 1, image, frame->pitch);
    memset(image + block->rows * frame->pitch, 0, (size_t)(end - block->rows * frame->pitch) * sizeof(float));
  }
}

/// What one thread holds.
typedef struct scratch {
  float *frame, *rows;
  pf_block filled;  // the block whose zeros are in the frame
  int64_t filled_channels;
} scratch;

/// The dot products of `count` filters with `channels` input channels.
static void multiply(const run_state *state, const pf_block *block, int64_t count, int64_t channels,
                     const scratch *s, float *result, bool accumulate) {
  const gradient_plan *plan = state->plan;
  const pf_kernels *kernels = plan->kernels;
  const int64_t vectors = pf_ceiling_divide(pf_frame_span(&plan->frame, block), kernels->lanes);
  const int64_t elements = channels * plan->frame.y.taps * plan->frame.x.taps;
  const int64_t column_tiles = pf_ceiling_divide(elements, kernels->dot_columns);
  for (int64_t i = 0; i < column_tiles; ++i) {
    const int64_t k = pf_piece_begin(elements, i, column_tiles);
    const int64_t columns = pf_piece_begin(elements, i + 1, column_tiles) - k;
    kernels->dot[count][columns](vectors, s->rows, plan->row_stride, s->frame, state->offsets + k, result + k,
                                 plan->inner, accumulate);
  }
}

/// The same, with tap rows in the place of filters.
static void multiply_shifted(const run_state *state, const pf_block *block, int64_t count, int64_t channels,
                             const scratch *s, float *result, bool accumulate) {
  const gradient_plan *plan = state->plan;
  const pf_kernels *kernels = plan->kernels;
  const int64_t taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps, period = plan->frame.y_taps.phases;
  const int64_t span = pf_frame_span(&plan->frame, block);
  const int64_t column_tiles = pf_ceiling_divide(taps_x, kernels->dot_columns);
  for (int64_t r = 0; r < count; ++r) {
    const float *row = s->rows + r * plan->row_stride + plan->lead;
    for (int64_t i = 0; i < channels * taps_y; ++i) {
      const int64_t tap = i % taps_y / period, phase = i % taps_y % period;
      if (tap % plan->shifts != 0) continue;
      const int64_t all = (taps_y - phase - 1) / period + 1, rows = pf_minimum_of(plan->shifts, all - tap);
      const int64_t vectors = pf_ceiling_divide(span + (rows - 1) * plan->shift, kernels->lanes);
      for (int64_t t = 0; t < column_tiles; ++t) {
        const int64_t j = pf_piece_begin(taps_x, t, column_tiles);
        const int64_t columns = pf_piece_begin(taps_x, t + 1, column_tiles) - j, k = i * taps_x + j;
        kernels->dot[rows][columns](vectors, row, -plan->shift, s->frame, state->offsets + k,
                                    result + r * plan->inner + k, period * taps_x, accumulate);
      }
    }
  }
}

/// The first of a list's elements that isn't below `element`.
static int64_t lower_bound(const int32_t *list, int64_t length, int64_t element) {
  int64_t low = 0;
  while (low < length) {
    const int64_t middle = low + (length - low) / 2;
    if (list[middle] < element) {
      low = middle + 1;
    } else {
      length = middle;
    }
  }
  return low;
}

/// The dot products of `count` rows, from `row` on, with those of a list's elements that lie in the frame: the ones from
/// `first` up to `last`. `result` belongs to the whole list.
static void multiply_listed(const run_state *state, const pf_block *block, int64_t count, const float *row,
                            const int32_t *list, int64_t length, int64_t first, int64_t last, const scratch *s,
                            float *result, bool accumulate) {
  const gradient_plan *plan = state->plan;
  const pf_kernels *kernels = plan->kernels;
  const int64_t vectors = pf_ceiling_divide(pf_frame_span(&plan->frame, block), kernels->lanes);
  const int64_t begin = lower_bound(list, length, first), elements = lower_bound(list, length, last) - begin;
  const int64_t column_tiles = pf_ceiling_divide(elements, kernels->dot_columns);
  for (int64_t i = 0; i < column_tiles; ++i) {
    const int64_t k = begin + pf_piece_begin(elements, i, column_tiles);
    const int64_t columns = begin + pf_piece_begin(elements, i + 1, column_tiles) - k;
    int64_t offsets[pf_most_dot_columns];
    for (int64_t j = 0; j < columns; ++j) offsets[j] = state->offsets[list[k + j] - first];
    kernels->dot[count][columns](vectors, row, plan->row_stride, s->frame, offsets, result + k, plan->inner,
                                 accumulate);
  }
}

static bool same_extents(const pf_block *a, const pf_block *b) {
  return a->images == b->images && a->row == b->row && a->rows == b->rows && a->column == b->column &&
         a->columns == b->columns;
}

/// Copies input channels `channel` and following of a group into the frame.
static void fill_frame(const run_state *state, const pf_block *block, int64_t group, int64_t channel,
                       int64_t channels, scratch *s) {
  const gradient_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const bool zeroed = channels <= s->filled_channels && same_extents(block, &s->filled);
  const float *input = state->input + (group * shape->group_input_channels + channel) * shape->input_plane;
  pf_frame_fill(&plan->frame, plan->kernels, block, channels, input, plan->problem.input_channels * shape->input_plane,
                zeroed, s->frame);
  if (!zeroed) {
    s->filled = *block;
    s->filled_channels = channels;
  }
}

/// Tile `index` of a group's filters when all is computed.
static pf_gradient_tile whole_tile(const gradient_plan *plan, int64_t index) {
  const int64_t filter = pf_piece_begin(plan->shape.group_output_channels, index, plan->row_tiles);
  const int64_t end = pf_piece_begin(plan->shape.group_output_channels, index + 1, plan->row_tiles);
  pf_gradient_tile tile = {.count = (int32_t)(end - filter), .row = (int32_t)filter, .whole = true};
  for (int32_t r = 0; r < tile.count; ++r) tile.filters[r] = (int32_t)filter + r;
  return tile;
}

/// All dot products of one block: a group's part `row_part` of the filters' tiles.
static void run_block(const run_state *state, const pf_block *block, int64_t group, int64_t row_part, float *sums,
                      bool accumulate, scratch *s) {
  const gradient_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const pf_gradient_lists *lists = state->lists;
  const int64_t taps = plan->frame.y.taps * plan->frame.x.taps, inner = plan->inner;
  const int64_t tiles = lists == NULL ? plan->row_tiles : lists->tile_counts[group];
  const int64_t tile_begin = pf_piece_begin(tiles, row_part, plan->row_parts);
  const int64_t tile_end = pf_piece_begin(tiles, row_part + 1, plan->row_parts);
  if (tile_begin == tile_end) return;
  const int64_t group_filters = shape->group_output_channels;
  for (int64_t channel = 0; channel < shape->group_input_channels; channel += plan->channels) {
    const int64_t channels = pf_minimum_of(plan->channels, shape->group_input_channels - channel);
    const int64_t first = channel * taps, last = (channel + channels) * taps;
    fill_frame(state, block, group, channel, channels, s);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const pf_gradient_tile tile =
          lists == NULL ? whole_tile(plan, t) : lists->tiles[group * lists->most_tiles + t];
      for (int32_t r = 0; r < tile.count; ++r) {
        fill_gradient_row(plan, block, state->output_gradient, group * group_filters + tile.filters[r],
                          s->rows + r * plan->row_stride);
      }
      const int64_t row = group * group_filters + tile.row;
      float *result = sums + row * inner;
      if (plan->shifts > 0) {
        multiply_shifted(state, block, tile.count, channels, s, result + first, accumulate);
      } else if (tile.whole) {
        multiply(state, block, tile.count, channels, s, result + first, accumulate);
      } else if (tile.separate) {
        for (int32_t r = 0; r < tile.count; ++r) {
          multiply_listed(state, block, 1, s->rows + r * plan->row_stride, lists->elements + (row + r) * inner,
                          lists->counts[row + r], first, last, s, result + r * inner, accumulate);
        }
      } else {
        multiply_listed(state, block, tile.count, s->rows, lists->elements + row * inner, lists->counts[row], first,
                        last, s, result, accumulate);
      }
    }
  }
}

/// Items: slices, in each the groups, in each the parts of the filters.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const gradient_plan *plan = state->plan;
  scratch s = {.frame = (float *)(state->scratch + part * plan->scratch_bytes)};
  s.rows = s.frame + plan->channels * plan->frame.channel_stride;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row_part = item % plan->row_parts, group = item / plan->row_parts % plan->problem.groups;
    const int64_t slice = item / plan->row_parts / plan->problem.groups;
    const int64_t first = pf_piece_begin(plan->blocks, slice, plan->slices);
    const int64_t last = pf_piece_begin(plan->blocks, slice + 1, plan->slices);
    float *sums = state->sums + slice * plan->problem.output_channels * plan->inner;
    for (int64_t b = first; b < last; ++b) {
      const pf_block block = block_of(plan, b);
      run_block(state, &block, group, row_part, sums, b > first, &s);
    }
  }
}

/// Sums the slices and writes `count` neighbouring gradient elements; `sums` is NULL where they are always zero.
static void finish(const run_state *state, int64_t element, int64_t count, const float *sums) {
  const gradient_plan *plan = state->plan;
  const uint8_t *mask = state->mask == NULL ? NULL : state->mask + element;
  plan->kernels->finish_gradient(count, sums == NULL ? 0 : plan->slices, sums,
                                 plan->problem.output_channels * plan->inner, mask, state->accumulate,
                                 state->result + element);
}

/// Items: filters.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const gradient_plan *plan = state->plan;
  const pf_convolution2d *p = &plan->problem;
  const int64_t row = p->kernel_width, taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps;
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  if (plan->inner == elements) {
    finish(state, begin * elements, (end - begin) * elements, state->sums + begin * plan->inner);
    return;
  }
  for (int64_t filter = begin; filter < end; ++filter) {
    const float *sums = state->sums + filter * plan->inner;
    for (int64_t channel = 0; channel < plan->shape.group_input_channels; ++channel) {
      for (int64_t i = 0; i < p->kernel_height; ++i) {
        const int64_t element = filter * elements + channel * plan->shape.taps + i * row;
        if (i < plan->first_y || i >= plan->first_y + taps_y || taps_x == 0) {
          finish(state, element, row, NULL);
          continue;
        }
        finish(state, element, plan->first_x, NULL);
        finish(state, element + plan->first_x, taps_x, sums);
        finish(state, element + plan->first_x + taps_x, row - plan->first_x - taps_x, NULL);
        sums += taps_x;
      }
    }
  }
}

static pf_filter_window window_of(const gradient_plan *plan) {
  return (pf_filter_window){
      .channels = plan->shape.group_input_channels,
      .kernel_height = plan->problem.kernel_height,
      .kernel_width = plan->problem.kernel_width,
      .first_y = plan->first_y,
      .taps_y = plan->frame.y.taps,
      .first_x = plan->first_x,
      .taps_x = plan->frame.x.taps,
  };
}

/// Items: filters, where the sums are those of lists.
static void finish_listed_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const gradient_plan *plan = state->plan;
  const pf_gradient_lists *lists = state->lists;
  const pf_filter_window window = window_of(plan);
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps, inner = plan->inner;
  const int64_t group_filters = plan->shape.group_output_channels, sum_stride = plan->problem.output_channels * inner;
  float *compact = (float *)(state->finish_scratch +
                             part * pf_aligned_bytes((inner + elements) * (int64_t)sizeof(float)));
  float *totals = compact + inner;
  for (int64_t filter = begin; filter < end; ++filter) {
    const uint8_t *mask = state->mask + filter * elements;
    float *result = state->result + filter * elements;
    const int64_t group = filter / group_filters, row = lists->rows[filter];
    if (row < 0) {
      plan->kernels->finish_gradient(elements, 0, NULL, 0, mask, state->accumulate, result);
      continue;
    }
    const pf_gradient_tile *tile = lists->tiles + group * lists->most_tiles;
    while (tile->row + tile->count <= row) tile += 1;
    const int64_t sums_row = group * group_filters + row;
    const int64_t list_row = tile->separate ? sums_row : group * group_filters + tile->row;
    const int32_t *list = lists->elements + list_row * inner;
    const int64_t length = tile->whole ? inner : lists->counts[list_row];
    plan->kernels->finish_gradient(length, plan->slices, state->sums + sums_row * inner, sum_stride, NULL, false,
                                   compact);
    memset(totals, 0, (size_t)elements * sizeof(float));
    for (int64_t i = 0; i < length; ++i) totals[pf_window_place(&window, tile->whole ? i : list[i])] = compact[i];
    plan->kernels->finish_gradient(elements, 1, totals, 0, mask, state->accumulate, result);
  }
}

/// Computes what `lists` say, or everything without, in a workspace of plan->workspace_bytes.
static void run(const gradient_plan *plan, run_state *state, char *workspace) {
  const int64_t taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps;
  state->plan = plan;
  state->scratch = workspace;
  int64_t *offsets = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  for (int64_t k = 0; k < plan->channels * taps_y * taps_x; ++k) {
    offsets[k] = k / (taps_y * taps_x) * plan->frame.channel_stride +
                 pf_frame_offset(&plan->frame, k / taps_x % taps_y, k % taps_x);
  }
  state->offsets = offsets;
  state->sums = (float *)((char *)offsets +
                          pf_aligned_bytes(plan->channels * taps_y * taps_x * (int64_t)sizeof(int64_t)));
  pf_parallel_in(plan->parts, plan->slices * plan->problem.groups * plan->row_parts, run_range, state);
  pf_parallel_in(plan->finish_parts, plan->problem.output_channels,
                 state->lists == NULL ? finish_range : finish_listed_range, state);
}

pf_status pf_convolution2d_weight_gradient(const pf_context *context, const pf_convolution2d *problem,
                                           const float *input, const float *output_gradient,
                                           const uint8_t *gradient_mask, pf_writing writing, float *weight_gradient) {
  pf_settings settings;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_check(problem, &shape));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  PF_REQUIRE(weight_gradient != NULL, pf_error_null);
  PF_REQUIRE(problem->batch == 0 || (input != NULL && output_gradient != NULL), pf_error_null);
  const uint8_t *mask = gradient_mask;
  if (mask != NULL && memchr(mask, 0, (size_t)shape.weight_count) == NULL) mask = NULL;
  gradient_plan plan;
  PF_TRY(prepare(&settings, problem, &shape, &plan));
  const int64_t masked_bytes = mask == NULL ? 0 : plan.masked_bytes;
  const pf_algorithm algorithm = pf_plan_algorithm(&settings, problem, pf_pass_weight_gradient);
  char *workspace = NULL;
  pf_gradient_lists lists;
  double work = 1;
  if (algorithm == pf_algorithm_direct || mask != NULL) {
    workspace = pf_memory_allocate((size_t)(plan.workspace_bytes + masked_bytes));
    PF_REQUIRE(workspace != NULL, pf_error_memory);
  }
  if (mask != NULL) {
    const pf_filter_window window = window_of(&plan);
    work = pf_gradient_lists_fill(&lists, mask, problem->groups, shape.group_output_channels, &window,
                                  plan.kernels->dot_rows, plan.shifts > 0, workspace + plan.workspace_bytes);
  }
  // The share of a direct algorithm's work at which it is as fast as Winograd's in full.
  const double winograd_share = 0.3;
  if (algorithm != pf_algorithm_direct && work > winograd_share) {
    pf_memory_release(workspace);
    return pf_winograd_weight_gradient(&settings, problem, algorithm, input, output_gradient, mask, writing,
                                       weight_gradient);
  }
  run_state state = {
      .input = input,
      .output_gradient = output_gradient,
      .mask = mask,
      .lists = work < 1 ? &lists : NULL,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  if (mask != NULL) {
    state.finish_scratch = workspace + plan.workspace_bytes +
                           pf_gradient_lists_bytes(problem->groups, shape.group_output_channels, plan.inner,
                                                   plan.kernels->dot_rows);
  }
  run(&plan, &state, workspace);
  pf_memory_release(workspace);
  return pf_ok;
}
