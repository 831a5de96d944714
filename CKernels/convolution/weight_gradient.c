// The weight gradient: dot products along the grid points of a frame.
//
//   gradient[o, c, i, j] = sum over n, y, x of output_gradient[n, o, y, x] * input[n, g(o) + c, tap (i, j) of (y, x)]
//
// The grid is cut into blocks. A block's input channels are copied into a frame, its rows of the output gradient onto
// the same grid with zeros in the gaps, and each gradient element of the block is one dot product of contiguous floats.
// The blocks are shared out to slices; each slice sums its blocks in order, and the slices are summed in order at the
// end. Blocks and slices follow from the shape and the vector length alone, so an element's bits depend on nothing
// else: not on threads, not on which other elements are computed.
//
// A 1x1 kernel of stride 1 without padding needs no frame: dot products read both operands where they are, and only the
// last points of a plane, fewer than a vector, are copied.
//
// Of a masked gradient only what gradient_mask.h lists is computed. Dense or listed, an element's dot products are the
// same, and so are its bits.
//
// Where a group has too few filters for the tiles of dot products, as in depthwise convolutions, tap rows take their
// place: the output gradient moved by t rows against the input's row of the first tap makes the gradient of the t-th. A
// tile of filters' rows is then the same row, read at several places.

#include <string.h>

#include "convolution/depthwise.h"
#include "convolution/gradient_mask.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/weight_gradient_plan.h"
#include "convolution/winograd.h"

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes) {
  pf_gradient_plan plan;
  PF_TRY(pf_gradient_prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes + plan.masked_bytes;
  return pf_ok;
}

typedef struct run_state {
  const pf_gradient_plan *plan;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_gradient_lists *lists;  // what the mask leaves to compute; NULL: everything
  bool accumulate;
  float *result;
  const int64_t *offsets;  // of the elements of a filter in the frame; in place, those of the ends behind them
  float *sums;             // slices x filters x inner
  char *scratch, *finish_scratch;
} run_state;

static pf_block block_of(const pf_gradient_plan *plan, int64_t index) {
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
static void fill_gradient_row(const pf_gradient_plan *plan, const pf_block *block, const float *output_gradient,
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

/// What dot products are made of: rows of the output gradient, and columns at offsets by filter element.
typedef struct operands {
  int64_t vectors;
  const float *rows;
  int64_t row_stride;
  const float *columns;
  const int64_t *offsets;
} operands;

/// The dot products of `count` rows with all of `elements` elements.
static void multiply(const pf_gradient_plan *plan, const operands *o, int64_t count, int64_t elements, float *result,
                     bool accumulate) {
  const int64_t column_tiles = pf_ceiling_divide(elements, plan->kernels->dot_columns);
  for (int64_t i = 0; i < column_tiles; ++i) {
    const int64_t k = pf_piece_begin(elements, i, column_tiles);
    const int64_t columns = pf_piece_begin(elements, i + 1, column_tiles) - k;
    plan->kernels->dot[count][columns](o->vectors, o->rows, o->row_stride, o->columns, o->offsets + k, result + k,
                                       plan->inner, accumulate);
  }
}

/// The dot products of `count` filters with `channels` input channels, tap rows in the place of filters.
static void multiply_shifted(const run_state *state, const pf_block *block, int64_t count, int64_t channels,
                             const scratch *s, float *result, bool accumulate) {
  const pf_gradient_plan *plan = state->plan;
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

/// The dot products of `count` rows with those of a list's elements that lie in the columns, from `first` up to `last`.
/// `result` belongs to the whole list.
static void multiply_listed(const pf_gradient_plan *plan, const operands *o, int64_t count, const int32_t *list,
                            int64_t length, int64_t first, int64_t last, float *result, bool accumulate) {
  const int64_t begin = lower_bound(list, length, first), elements = lower_bound(list, length, last) - begin;
  const int64_t column_tiles = pf_ceiling_divide(elements, plan->kernels->dot_columns);
  for (int64_t i = 0; i < column_tiles; ++i) {
    const int64_t k = begin + pf_piece_begin(elements, i, column_tiles);
    const int64_t columns = begin + pf_piece_begin(elements, i + 1, column_tiles) - k;
    int64_t offsets[pf_most_dot_columns];
    for (int64_t j = 0; j < columns; ++j) offsets[j] = o->offsets[list[k + j] - first];
    plan->kernels->dot[count][columns](o->vectors, o->rows, o->row_stride, o->columns, offsets, result + k,
                                       plan->inner, accumulate);
  }
}

/// The dot products of a tile with elements `first` up to `last` of its filters. `row` is its first filter's among all.
static void multiply_tile(const run_state *state, const pf_gradient_tile *tile, const operands *o, int64_t row,
                          int64_t first, int64_t last, float *sums, bool accumulate) {
  const pf_gradient_plan *plan = state->plan;
  const pf_gradient_lists *lists = state->lists;
  const int64_t inner = plan->inner;
  float *result = sums + row * inner;
  if (tile->whole) {
    multiply(plan, o, tile->count, last - first, result + first, accumulate);
  } else if (tile->separate) {
    operands single = *o;
    for (int32_t r = 0; r < tile->count; ++r) {
      multiply_listed(plan, &single, 1, lists->elements + (row + r) * inner, lists->counts[row + r], first, last,
                      result + r * inner, accumulate);
      single.rows += o->row_stride;
    }
  } else {
    multiply_listed(plan, o, tile->count, lists->elements + row * inner, lists->counts[row], first, last, result,
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
  const pf_gradient_plan *plan = state->plan;
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
static pf_gradient_tile whole_tile(const pf_gradient_plan *plan, int64_t index) {
  const int64_t filter = pf_piece_begin(plan->shape.group_output_channels, index, plan->row_tiles);
  const int64_t end = pf_piece_begin(plan->shape.group_output_channels, index + 1, plan->row_tiles);
  pf_gradient_tile tile = {.count = (int32_t)(end - filter), .row = (int32_t)filter, .whole = true};
  for (int32_t r = 0; r < tile.count; ++r) tile.filters[r] = (int32_t)filter + r;
  return tile;
}

/// A tile's dot products with operands in a frame.
static void run_framed_tile(const run_state *state, const pf_block *block, int64_t group, const pf_gradient_tile *tile,
                            int64_t channel, int64_t channels, float *sums, bool accumulate, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t taps = plan->frame.y.taps * plan->frame.x.taps;
  const int64_t first_filter = group * plan->shape.group_output_channels, row = first_filter + tile->row;
  for (int32_t r = 0; r < tile->count; ++r) {
    fill_gradient_row(plan, block, state->output_gradient, first_filter + tile->filters[r],
                      s->rows + r * plan->row_stride);
  }
  if (plan->shifts > 0) {
    multiply_shifted(state, block, tile->count, channels, s, sums + row * plan->inner + channel * taps, accumulate);
    return;
  }
  const operands o = {
      .vectors = pf_ceiling_divide(pf_frame_span(&plan->frame, block), plan->kernels->lanes),
      .rows = s->rows,
      .row_stride = plan->row_stride,
      .columns = s->frame,
      .offsets = state->offsets,
  };
  multiply_tile(state, tile, &o, row, channel * taps, (channel + channels) * taps, sums, accumulate);
}

/// Copies the last points of a block, fewer than a vector, of planes that lie `source_stride` apart.
static void fill_ends(const pf_gradient_plan *plan, const pf_block *block, int64_t planes, const float *source,
                      int64_t source_stride, float *ends) {
  const int64_t lanes = plan->kernels->lanes, count = block->columns % lanes;
  plan->kernels->copy_rows(planes, count, lanes, source + block->columns - count, source_stride, 1, ends, lanes);
}

/// A tile's dot products with operands where they are; the ends of the input's planes are in the frame.
static void run_tile_in_place(const run_state *state, const pf_block *block, int64_t group,
                              const pf_gradient_tile *tile, int64_t channel, int64_t channels, float *sums,
                              bool accumulate, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const int64_t plane = shape->output_plane, lanes = plan->kernels->lanes;
  const int64_t first_filter = group * shape->group_output_channels, row = first_filter + tile->row;
  const int64_t distance = tile->count > 1 ? tile->filters[1] - tile->filters[0] : 1;
  bool even = true;
  for (int32_t r = 1; r < tile->count; ++r) even &= tile->filters[r] - tile->filters[r - 1] == distance;
  const int64_t first_row = block->image * plan->problem.output_channels + first_filter + tile->filters[0];
  const int64_t first_channel =
      block->image * plan->problem.input_channels + group * shape->group_input_channels + channel;
  operands o = {
      .vectors = block->columns / lanes,
      .rows = state->output_gradient + first_row * plane + block->column,
      .row_stride = distance * plane,
      .columns = state->input + first_channel * plane + block->column,
      .offsets = state->offsets,
  };
  if (!even) {
    for (int32_t r = 0; r < tile->count; ++r) {
      fill_gradient_row(plan, block, state->output_gradient, first_filter + tile->filters[r],
                        s->rows + r * plan->row_stride);
    }
    o.rows = s->rows;
    o.row_stride = plan->row_stride;
  }
  if (o.vectors > 0) multiply_tile(state, tile, &o, row, channel, channel + channels, sums, accumulate);
  if (block->columns % lanes == 0) return;
  float *ends = s->frame + plan->channels * lanes;
  fill_ends(plan, block, tile->count, o.rows, o.row_stride, ends);
  const operands end = {
      .vectors = 1,
      .rows = ends,
      .row_stride = lanes,
      .columns = s->frame,
      .offsets = state->offsets + plan->channels,
  };
  multiply_tile(state, tile, &end, row, channel, channel + channels, sums, accumulate || o.vectors > 0);
}

/// All dot products of one block: a group's part `row_part` of the filters' tiles.
static void run_block(const run_state *state, const pf_block *block, int64_t group, int64_t row_part, float *sums,
                      bool accumulate, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const pf_gradient_lists *lists = state->lists;
  const int64_t tiles = lists == NULL ? plan->row_tiles : lists->tile_counts[group];
  const int64_t tile_begin = pf_piece_begin(tiles, row_part, plan->row_parts);
  const int64_t tile_end = pf_piece_begin(tiles, row_part + 1, plan->row_parts);
  if (tile_begin == tile_end) return;
  for (int64_t channel = 0; channel < shape->group_input_channels; channel += plan->channels) {
    const int64_t channels = pf_minimum_of(plan->channels, shape->group_input_channels - channel);
    if (plan->in_place) {
      const int64_t first = block->image * plan->problem.input_channels + group * shape->group_input_channels + channel;
      fill_ends(plan, block, channels, state->input + first * shape->input_plane + block->column, shape->input_plane,
                s->frame);
    } else {
      fill_frame(state, block, group, channel, channels, s);
    }
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const pf_gradient_tile tile =
          lists == NULL ? whole_tile(plan, t) : lists->tiles[group * lists->most_tiles + t];
      (plan->in_place ? run_tile_in_place : run_framed_tile)(state, block, group, &tile, channel, channels, sums,
                                                             accumulate, s);
    }
  }
}

/// Items: slices, in each the groups, in each the parts of the filters.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  scratch s = {.frame = (float *)(state->scratch + part * plan->scratch_bytes)};
  s.rows = (float *)(state->scratch + (part + 1) * plan->scratch_bytes) - plan->kernels->dot_rows * plan->row_stride;
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
  const pf_gradient_plan *plan = state->plan;
  const uint8_t *mask = state->mask == NULL ? NULL : state->mask + element;
  plan->kernels->finish_gradient(count, sums == NULL ? 0 : plan->slices, sums,
                                 plan->problem.output_channels * plan->inner, mask, state->accumulate,
                                 state->result + element);
}

/// Items: filters.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
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

static pf_filter_window window_of(const pf_gradient_plan *plan) {
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
  const pf_gradient_plan *plan = state->plan;
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
static void run(const pf_gradient_plan *plan, run_state *state, char *workspace) {
  const int64_t taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps;
  state->plan = plan;
  state->scratch = workspace;
  int64_t *offsets = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  const int64_t elements = plan->channels * taps_y * taps_x, lists = plan->in_place ? 2 : 1;
  for (int64_t k = 0; k < elements; ++k) {
    if (plan->in_place) {
      offsets[k] = k * plan->shape.input_plane;
      offsets[elements + k] = k * plan->kernels->lanes;
    } else {
      offsets[k] = k / (taps_y * taps_x) * plan->frame.channel_stride +
                   pf_frame_offset(&plan->frame, k / taps_x % taps_y, k % taps_x);
    }
  }
  state->offsets = offsets;
  state->sums = (float *)((char *)offsets + pf_aligned_bytes(lists * elements * (int64_t)sizeof(int64_t)));
  pf_parallel_in(plan->parts, plan->slices * plan->problem.groups * plan->row_parts, run_range, state);
  pf_parallel_in(plan->finish_parts, plan->problem.output_channels,
                 state->lists == NULL ? finish_range : finish_listed_range, state);
}

typedef struct clearing {
  float *floats;
  int64_t count;
} clearing;

enum { clear_floats = 16 << 10 };

/// Items: pieces of clear_floats.
static void clear(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const clearing *c = argument;
  const int64_t first = begin * clear_floats, last = pf_minimum_of(end * clear_floats, c->count);
  memset(c->floats + first, 0, (size_t)(last - first) * sizeof(float));
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
  const int64_t frozen = gradient_mask == NULL ? 0 : pf_count_frozen(&settings, gradient_mask, shape.weight_count);
  if (frozen == shape.weight_count) {
    clearing c = {.floats = weight_gradient, .count = shape.weight_count};
    pf_parallel(&settings, pf_ceiling_divide(c.count, clear_floats), clear_floats, clear, &c);
    return pf_ok;
  }
  const uint8_t *mask = frozen == 0 ? NULL : gradient_mask;
  const pf_algorithm algorithm = pf_plan_algorithm(&settings, problem, pf_pass_weight_gradient);
  if (algorithm == pf_algorithm_depthwise) {
    return pf_depthwise_weight_gradient(&settings, problem, input, output_gradient, mask, writing, weight_gradient);
  }
  pf_gradient_plan plan;
  PF_TRY(pf_gradient_prepare(&settings, problem, &shape, &plan));
  if (algorithm != pf_algorithm_direct) {
    bool done;
    PF_TRY(pf_winograd_masked_gradient(context, &settings, problem, algorithm, input, output_gradient, mask, frozen,
                                       writing, weight_gradient, &done));
    if (done) return pf_ok;
  }
  // The share of the work from which on computing everything is as fast, because lists have a cost too. The work is no
  // smaller than the share of trainable elements.
  const double most_work = 0.95;
  const bool listed = frozen > 0 && (double)frozen > (1 - most_work) * (double)shape.weight_count;
  double work = 1;
  pf_gradient_lists lists;
  char *workspace = pf_memory_allocate((size_t)(plan.workspace_bytes + (listed ? plan.masked_bytes : 0)));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  if (listed) {
    const pf_filter_window window = window_of(&plan);
    work = pf_gradient_lists_fill(&lists, mask, problem->groups, shape.group_output_channels, &window,
                                  plan.kernels->dot_rows, plan.shifts > 0, workspace + plan.workspace_bytes);
  }
  run_state state = {
      .input = input,
      .output_gradient = output_gradient,
      .mask = mask,
      .lists = work <= most_work ? &lists : NULL,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  if (state.lists != NULL) {
    state.finish_scratch = workspace + plan.workspace_bytes +
                           pf_gradient_lists_bytes(problem->groups, shape.group_output_channels, plan.inner,
                                                   plan.kernels->dot_rows);
  }
  run(&plan, &state, workspace);
  pf_memory_release(workspace);
  return pf_ok;
}
