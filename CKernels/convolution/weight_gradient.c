// The weight gradient: outer products along the points of the output gradient.
//
//   gradient[o, c, i, j] = sum over n, y, x of output_gradient[n, o, y, x] * input[n, g(o) + c, tap (i, j) of (y, x)]
//
// is, in a group, a product of two matrices whose inner dimension are the points (n, y, x): filters, and elements
// (c, i, j). The points are cut into blocks. Of a block the output gradient is packed transposed, filters in the lanes
// of a point's vectors; the input is read one float at a time, so that any tap, stride and dilation is an address:
// where it lies, or, where there is padding, in a copy with zeros around it.
//
// The blocks are shared out to slices; each slice adds up its blocks' sums in order, and the slices are summed in order
// at the end. Blocks and slices follow from the shape and the vector length alone, so an element's bits depend on
// nothing else: not on threads, not on which other elements are computed. Of a masked gradient only what
// gradient_mask.h lists is computed. Groups of few filters run as dot_gradient.h says, and some 1x1 kernels as
// plane_gradient.h says.

#include <string.h>

#include "convolution/chain_gradient.h"
#include "convolution/depthwise.h"
#include "convolution/dot_gradient.h"
#include "convolution/gradient_mask.h"
#include "convolution/passes.h"
#include "convolution/plane_gradient.h"
#include "convolution/plan.h"
#include "convolution/weight_gradient_plan.h"
#include "convolution/winograd.h"

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes) {
  if (pf_dot_gradient_applies(shape)) return pf_dot_gradient_workspace(settings, problem, shape, bytes);
  if (pf_plane_gradient_applies(settings, problem, shape)) {
    *bytes = pf_plane_gradient_workspace(settings, problem, shape);
    return pf_ok;
  }
  pf_gradient_plan plan;
  PF_TRY(pf_gradient_prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes + plan.lists_bytes;
  *bytes = pf_maximum_of(*bytes, pf_chain_gradient_workspace(settings, &plan));
  return pf_ok;
}

typedef struct run_state {
  const pf_gradient_plan *plan;
  const float *input, *output_gradient;
  const pf_gradient_mask *mask;  // NULL: nothing is frozen
  pf_gradient_tiles tiles;
  const pf_plane_sums *plane_sums;
  bool accumulate;
  bool direct;             // a kernel's sums go to the result as they are
  float *result;
  const int64_t *offsets;  // of the elements of plan->channels channels, from the first
  float *sums;             // by slice
  char *scratch, *finish_scratch;
} run_state;

/// What one thread holds.
typedef struct scratch {
  pf_point_run *runs;  // a list of them
  float *panel, *frame;
  pf_block filled;         // the block whose zeros are in the frame
  int64_t filled_channels;  // that have them
} scratch;

// MARK: Points in memory

/// A block's points in planes of an operand: a run a row of an image, or longer where rows are neighbours, but within
/// one chain, and none longer than `most`.
static pf_point_runs runs_of(const pf_block *block, const pf_block *chain, int64_t image_pitch, int64_t pitch,
                             int64_t step, int64_t most, pf_point_run *list) {
  pf_point_runs runs = {.first = list, .step = step};
  int64_t rows = block->rows, length = block->columns, chain_rows = chain->rows, piece = chain->columns;
  if (block->columns == 1) {
    length = rows;
    piece = chain_rows;
    runs.step = pitch;
    rows = chain_rows = 1;
  } else if (step == 1 && pitch == block->columns && piece >= block->columns) {
    length *= rows;
    piece *= chain_rows;
    rows = chain_rows = 1;
  }
  int64_t images_left = 0;
  for (int64_t i = 0; i < block->images; ++i) {
    images_left = (images_left == 0 ? chain->images : images_left) - 1;
    int64_t rows_left = 0;
    for (int64_t y = 0; y < rows; ++y) {
      rows_left = (rows_left == 0 ? chain_rows : rows_left) - 1;
      const bool ends_chain =
          (rows_left == 0 || y + 1 == rows) && (images_left == 0 || i + 1 == block->images);
      for (int64_t k = 0; k < length; k += piece) {
        const int64_t points = pf_minimum_of(piece, length - k), start = i * image_pitch + y * pitch + k * runs.step;
        const int64_t run = points <= most ? points : pf_ceiling_divide(points, pf_ceiling_divide(points, most));
        for (int64_t begin = 0; begin < points; begin += run) {
          list[runs.count++] =
              (pf_point_run){.start = start + begin * runs.step, .length = pf_minimum_of(run, points - begin)};
        }
        list[runs.count - 1].ends_chain = ends_chain;
      }
    }
  }
  return runs;
}

static pf_point_runs gradient_runs(const pf_gradient_plan *plan, const pf_block *block, pf_point_run *list) {
  return runs_of(block, block, plan->problem.output_channels * plan->shape.output_plane, plan->width, 1, INT64_MAX,
                 list);
}

static pf_point_runs input_runs(const pf_gradient_plan *plan, const pf_block *block, pf_point_run *list) {
  const pf_frame *frame = &plan->frame;
  const int64_t step = plan->step_x, most = plan->run_points;
  if (plan->in_place) {
    return runs_of(block, &plan->chain, plan->problem.input_channels * plan->shape.input_plane,
                   plan->step_y * frame->x.source, step, most, list);
  }
  return runs_of(block, &plan->chain, frame->image_pitch, plan->step_y * frame->pitch, step, most, list);
}

/// Where the output gradient's planes of a group have a block's first point.
static const float *gradient_of(const run_state *state, const pf_block *block, int64_t group) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t filter = block->image * plan->problem.output_channels + group * plan->shape.group_output_channels;
  return state->output_gradient + filter * plan->shape.output_plane + block->row * plan->width + block->column;
}

/// Where the input's planes from a channel of a group on have a block's first point.
static const float *input_of(const run_state *state, const pf_block *block, int64_t group, int64_t channel) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t first = block->image * plan->problem.input_channels + group * plan->shape.group_input_channels;
  return state->input + (first + channel) * plan->shape.input_plane + block->row * plan->step_y * plan->frame.x.source +
         block->column * plan->step_x;
}

/// Has one image's rows of a channel that a block reads come closer.
static void prefetch_channel(const run_state *state, const pf_block *block, int64_t group, int64_t channel) {
  const pf_gradient_plan *plan = state->plan;
  const pf_axis *y = &plan->frame.y;
  const float *plane = state->input + (block->image * plan->problem.input_channels +
                                       group * plan->shape.group_input_channels + channel) * plan->shape.input_plane;
  const int64_t row = block->row * plan->step_y + y->first;
  const int64_t rows = (block->rows - 1) * plan->step_y + 1 + (y->taps - 1) * y->tap_step;
  const int64_t begin = pf_maximum_of(row, 0) * plan->frame.x.source;
  const int64_t end = pf_minimum_of(row + rows, y->source) * plan->frame.x.source;
  for (int64_t i = begin; i < end; i += pf_line_floats) __builtin_prefetch(plane + i);
}

/// Copies one channel of a group into the frame as its channel `place`.
static void fill_channel(const run_state *state, const pf_block *block, int64_t group, int64_t channel, int64_t place,
                         scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t plane = plan->shape.input_plane;
  const pf_block grid = {
      .image = block->image,
      .images = block->images,
      .row = block->row * plan->step_y,
      .rows = (block->rows - 1) * plan->step_y + 1,
      .column = block->column * plan->step_x,
      .columns = (block->columns - 1) * plan->step_x + 1,
  };
  if (!pf_same_extents(block, &s->filled)) {
    s->filled = *block;
    s->filled_channels = 0;
  }
  const float *input = state->input + (group * plan->shape.group_input_channels + channel) * plane;
  pf_frame_fill(&plan->frame, plan->kernels, &grid, 1, input, plan->problem.input_channels * plane,
                place < s->filled_channels, s->frame + place * plan->frame.channel_stride);
  s->filled_channels = pf_maximum_of(s->filled_channels, place + 1);
}

/// Packs the output gradient of neighbouring tiles' filters at a block's points: as many tiles of one width as the
/// widest tile has room for. Returns how many.
static int64_t pack(const run_state *state, const pf_block *block, int64_t group, const pf_gradient_tile *tiles,
                    int64_t most, float *panel, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t plane = plan->shape.output_plane, width = plan->kernels->outer_lanes[tiles->width];
  const pf_point_runs runs = gradient_runs(plan, block, s->runs);
  const float *source = gradient_of(state, block, group);
  int64_t offsets[pf_most_outer_lanes], filters = 0, count = 0;
  for (; count < most && filters + width <= pf_most_outer_lanes && tiles[count].width == tiles->width; ++count) {
    for (int32_t l = 0; l < tiles[count].filters; ++l) {
      offsets[filters++] = pf_gradient_filter(&state->tiles, group, tiles[count].first + l) * plane;
    }
  }
  const int64_t points = block->images * block->rows * block->columns;
  for (const pf_point_run *run = runs.first; run < runs.first + runs.count; ++run) {
    plan->kernels->pack_lanes(run->length, filters, source + run->start, offsets, width, panel, points * width);
    panel += run->length * width;
  }
  return count;
}

// MARK: Products

/// The first of a tile's elements that isn't below `element`, as an index of its list.
static int64_t lower_bound(const pf_gradient_tile *tile, int64_t element) {
  if (tile->elements == NULL) return pf_minimum_of(element, tile->length);
  int64_t low = 0, length = tile->length;
  while (low < length) {
    const int64_t middle = low + (length - low) / 2;
    if (tile->elements[middle] < element) {
      low = middle + 1;
    } else {
      length = middle;
    }
  }
  return low;
}

/// The output gradient that is packed next, which kernels fetch meanwhile.
typedef struct upcoming {
  const float *source;     // its group's points
  int64_t group;
  int64_t filter, filters;  // of the group, the tiles' next one and those that are left
} upcoming;

static upcoming upcoming_of(const run_state *state, const pf_block *block, int64_t group, int64_t tile, int64_t end) {
  const pf_gradient_plan *plan = state->plan;
  if (!plan->fetches || block == NULL) return (upcoming){0};
  const pf_gradient_tile *tiles = state->tiles.tiles + group * state->tiles.most;
  const int64_t points = block->rows * block->columns, first = tiles[tile].first;
  return (upcoming){
      .source = gradient_of(state, block, group),
      .group = group,
      .filter = first,
      .filters = pf_minimum_of(tiles[end - 1].first + tiles[end - 1].filters - first, plan->panel_floats / points),
  };
}

/// Has the next kernel fetch as many filters' points as it has runs, or again what runs that are left fetched before.
static void fetch_some(const run_state *state, upcoming *next, pf_point_runs *runs) {
  runs->ahead_step = next->filters > 0 ? pf_line_floats : 0;
  for (int64_t r = 0; r < runs->count && next->filters > 0; ++r) {
    const int64_t filter = pf_gradient_filter(&state->tiles, next->group, next->filter);
    runs->first[r].ahead = next->source + filter * state->plan->shape.output_plane;
    next->filter += 1;
    next->filters -= 1;
  }
}

/// Multiplies packed tiles with elements `first` up to `last` of the input. `result` holds the group's gradient.
static void multiply(const run_state *state, pf_point_runs *runs, int64_t points, const pf_gradient_tile *tiles,
                     int64_t count, const float *panel, const float *input, int64_t first, int64_t last, float *sums,
                     bool accumulate, float *result, upcoming *next) {
  const pf_kernels *kernels = state->plan->kernels;
  bool left = true;
  // Elements outside: the few of a register tile stay in the first-level cache while the panels stream by.
  for (int64_t i = 0; left; ++i) {
    left = false;
    const float *packed = panel;
    for (const pf_gradient_tile *tile = tiles; tile < tiles + count; ++tile) {
      const int64_t width = kernels->outer_lanes[tile->width];
      const int64_t from = lower_bound(tile, first), length = lower_bound(tile, last) - from;
      const int64_t row_tiles = pf_ceiling_divide(length, kernels->tile_rows);
      if (i < row_tiles) {
        const int64_t k = from + pf_piece_begin(length, i, row_tiles);
        const int64_t rows = from + pf_piece_begin(length, i + 1, row_tiles) - k;
        const int64_t *offsets = state->offsets + k - first;
        int64_t list[pf_most_tile_rows];
        if (tile->elements != NULL) {
          for (int64_t r = 0; r < rows; ++r) list[r] = state->offsets[tile->elements[k + r] - first];
          offsets = list;
        }
        fetch_some(state, next, runs);
        if (state->direct) {
          float tile_sums[pf_most_tile_rows * pf_most_outer_lanes];
          kernels->outer[tile->width][rows](runs, input, offsets, packed, tile_sums, false);
          kernels->sum_lanes(rows, tile->filters, 1, tile_sums, 0, width,
                             result + tile->first * tile->length + k, tile->length);
        } else {
          kernels->outer[tile->width][rows](runs, input, offsets, packed, sums + tile->sums + k * width, accumulate);
        }
      }
      left |= i + 1 < row_tiles;
      packed += points * width;
    }
  }
}

/// A part of a group's gradient: some tiles, and some channels.
typedef struct group_part {
  int64_t group;
  int64_t first, end;  // tiles
  int64_t first_channel, end_channel;
} group_part;

static group_part part_of(const run_state *state, int64_t group, int64_t index) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t tiles = state->tiles.counts[group], channels = plan->shape.group_input_channels;
  group_part p = {.group = group, .end = tiles, .end_channel = channels};
  if (plan->cut_channels) {
    p.first_channel = pf_piece_begin(channels, index, plan->group_parts);
    p.end_channel = pf_piece_begin(channels, index + 1, plan->group_parts);
  } else {
    p.first = pf_piece_begin(tiles, index, plan->group_parts);
    p.end = pf_piece_begin(tiles, index + 1, plan->group_parts);
  }
  return p;
}

/// All products of one block with a part of a group. `following`: the next block, or NULL.
static void run_block(const run_state *state, const pf_block *block, const pf_block *following, const group_part *p,
                      float *sums, bool accumulate, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const int64_t points = block->images * block->rows * block->columns;
  const int64_t group = p->group;
  float *result = state->result + group * plan->shape.group_output_channels * plan->inner;
  const pf_gradient_tile *tiles = state->tiles.tiles + group * state->tiles.most;
  for (int64_t begin = p->first; begin < p->end;) {
    int64_t count = 0, packed = 0;
    while (begin + count < p->end) {
      const int64_t floats = points * plan->kernels->outer_lanes[tiles[begin + count].width];
      const int64_t most = pf_minimum_of(p->end - begin - count, (plan->panel_floats - packed) / floats);
      if (most == 0) break;
      const int64_t done = pack(state, block, group, tiles + begin + count, most, s->panel + packed, s);
      packed += done * floats;
      count += done;
    }
    pf_point_runs runs = input_runs(plan, block, s->runs);
    for (int64_t r = 0; r < runs.count; ++r) runs.first[r].ahead = s->panel;
    const bool more = begin + count < p->end;
    upcoming next = upcoming_of(state, more ? block : following, group, more ? begin + count : p->first, p->end);
    for (int64_t channel = p->first_channel; channel < p->end_channel; channel += plan->channels) {
      const int64_t channels = pf_minimum_of(plan->channels, p->end_channel - channel);
      for (int64_t c = 0; c < channels && !plan->in_place; ++c) {
        if (channel + c + 1 < p->end_channel) prefetch_channel(state, block, group, channel + c + 1);
        fill_channel(state, block, group, channel + c, c, s);
      }
      const float *input = plan->in_place ? input_of(state, block, group, channel) : s->frame;
      multiply(state, &runs, points, tiles + begin, count, s->panel, input, channel * plan->taps,
               (channel + channels) * plan->taps, sums, accumulate, result, &next);
    }
    begin += count;
  }
}

/// Items: slices, in each the groups, in each their parts.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  char *memory = state->scratch + part * plan->scratch_bytes;
  scratch s = {.runs = (pf_point_run *)memory, .panel = (float *)(memory + plan->runs_bytes)};
  s.frame = s.panel + plan->panel_floats;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / plan->group_parts % plan->problem.groups;
    const int64_t slice = item / plan->group_parts / plan->problem.groups;
    const group_part p = part_of(state, group, item % plan->group_parts);
    const int64_t first = slice * plan->slice_blocks;
    const int64_t last = pf_minimum_of(plan->blocks, first + plan->slice_blocks);
    for (int64_t b = first; b < last; ++b) {
      const pf_block block = pf_gradient_block(plan, b), following = pf_gradient_block(plan, b + 1);
      if (item % plan->group_parts == 0 && block.row == 0 && block.column == 0) {
        const int64_t filters = plan->shape.group_output_channels;
        pf_plane_sums_take(state->plane_sums, block.image, block.images, group * filters, filters);
      }
      run_block(state, &block, b + 1 < last ? &following : NULL, &p, state->sums + slice * plan->sum_floats, b > first,
                &s);
    }
  }
}

// MARK: Sums

/// Writes `count` gradient elements from one on, the sum of `parts` parts.
static void finish(const run_state *state, int64_t element, int64_t count, int64_t parts, const float *sums) {
  const pf_gradient_plan *plan = state->plan;
  plan->kernels->finish_gradient(count, parts, sums, plan->sum_floats,
                                 state->mask == NULL ? NULL : state->mask->bytes + element, state->accumulate,
                                 state->result + element);
}

/// Items: tiles of filters.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  const pf_gradient_tiles *tiles = &state->tiles;
  const pf_filter_window window = pf_gradient_window(plan);
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  const int64_t widest = plan->kernels->outer_lanes[plan->kernels->outer_widths - 1];
  float *compact = (float *)(state->finish_scratch + part * plan->finish_bytes);
  float *totals = compact + widest * plan->inner;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / tiles->most, first_filter = group * plan->shape.group_output_channels;
    const pf_gradient_tile *tile = tiles->tiles + item;
    if (item % tiles->most >= tiles->counts[group]) continue;
    const bool all = tile->length == elements;
    const bool direct = all && tiles->filters == NULL && state->mask == NULL && !state->accumulate;
    float *result = state->result + (first_filter + tile->first) * elements;
    plan->kernels->sum_lanes(tile->length, tile->filters, plan->slices, state->sums + tile->sums, plan->sum_floats,
                             plan->kernels->outer_lanes[tile->width], direct ? result : compact,
                             direct ? elements : tile->length);
    for (int32_t l = 0; l < tile->filters && !direct; ++l) {
      const float *row = compact + l * tile->length;
      if (!all) {
        memset(totals, 0, (size_t)elements * sizeof(float));
        for (int32_t r = 0; r < tile->length; ++r) {
          totals[pf_window_place(&window, tile->elements == NULL ? r : tile->elements[r])] = row[r];
        }
        row = totals;
      }
      finish(state, (first_filter + pf_gradient_filter(tiles, group, tile->first + l)) * elements, elements, 1, row);
    }
  }
}

/// Where the planes that are read have each element.
static void fill_offsets(const pf_gradient_plan *plan, int64_t *offsets) {
  const pf_axis *y = &plan->frame.y, *x = &plan->frame.x;
  for (int64_t k = 0; k < plan->channels * plan->taps; ++k) {
    const int64_t channel = k / plan->taps, i = k % plan->taps / x->taps, j = k % x->taps;
    offsets[k] = plan->in_place ? channel * plan->shape.input_plane + (y->first + i * y->tap_step) * x->source +
                                      x->first + j * x->tap_step
                                : channel * plan->frame.channel_stride + pf_frame_offset(&plan->frame, i, j);
  }
}

/// Computes what the tiles say, in a workspace of plan->workspace_bytes.
static void run(run_state *state, char *workspace) {
  const pf_gradient_plan *plan = state->plan;
  state->scratch = workspace;
  workspace += plan->parts * plan->scratch_bytes;
  int64_t *offsets = (int64_t *)workspace;
  workspace += pf_aligned_bytes(plan->channels * plan->taps * (int64_t)sizeof(int64_t));
  state->finish_scratch = workspace;
  state->sums = (float *)(workspace + plan->finish_parts * plan->finish_bytes);
  fill_offsets(plan, offsets);
  state->offsets = offsets;
  pf_parallel_in(plan->parts, plan->slices * plan->problem.groups * plan->group_parts, run_range, state);
  if (state->direct) return;
  pf_parallel_in(plan->finish_parts, plan->problem.groups * state->tiles.most, finish_range, state);
}

/// Computes everything, or what a mask leaves if that is less work.
static pf_status run_direct(const pf_settings *settings, const pf_gradient_plan *plan, run_state *state) {
  // The share of the work from which on computing everything is as fast, because lists have a cost too. The work is no
  // smaller than the share of trainable elements.
  const double most_work = 0.95;
  const int64_t groups = plan->problem.groups, group_filters = plan->shape.group_output_channels;
  const pf_gradient_mask *mask = state->mask;
  bool listed = mask != NULL && (double)mask->trainable < most_work * (double)plan->shape.weight_count;
  char *workspace =
      pf_memory_allocate((size_t)(plan->workspace_bytes + (listed ? plan->lists_bytes : plan->tiles_bytes)));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  char *lists = workspace + plan->workspace_bytes;
  if (listed) {
    const pf_filter_window window = pf_gradient_window(plan);
    const double work =
        pf_gradient_lists_fill(&state->tiles, settings, mask, groups, group_filters, &window, lists);
    if (pf_chain_gradient_time(settings, plan, mask->trainable) < (work < most_work ? work : most_work)) {
      pf_memory_release(workspace);
      return pf_chain_gradient(settings, plan, state->input, state->output_gradient, mask, state->accumulate,
                               state->result);
    }
    listed = work <= most_work;
  }
  if (!listed) pf_gradient_tiles_fill(&state->tiles, plan->kernels, groups, group_filters, plan->inner, lists);
  state->direct = plan->one_block && state->mask == NULL && !state->accumulate;
  run(state, workspace);
  pf_memory_release(workspace);
  return pf_ok;
}

/// The weight gradient of what a mask, NULL for none, leaves of it: neither nothing nor everything.
static pf_status run_pass(const pf_context *context, const pf_settings *settings, const pf_convolution2d *problem,
                          const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                          const pf_gradient_mask *mask, pf_plane_sums *plane_sums, pf_writing writing,
                          float *weight_gradient) {
  const uint8_t *bytes = mask == NULL ? NULL : mask->bytes;
  // Under a mask planes may be passed over.
  if (mask != NULL) plane_sums = NULL;
  const pf_algorithm algorithm = pf_plan_algorithm(settings, problem, pf_pass_weight_gradient);
  if (algorithm == pf_algorithm_depthwise) {
    return pf_depthwise_weight_gradient(settings, problem, input, output_gradient, bytes, plane_sums, writing,
                                        weight_gradient);
  }
  if (algorithm != pf_algorithm_direct) {
    bool done;
    PF_TRY(pf_winograd_masked_gradient(context, settings, problem, shape, algorithm, input, output_gradient, mask,
                                       plane_sums, writing, weight_gradient, &done));
    if (plane_sums != NULL) plane_sums->complete = true;
    if (done) return pf_ok;
  }
  if (pf_dot_gradient_applies(shape)) {
    return pf_dot_gradient(settings, problem, shape, input, output_gradient, bytes, plane_sums, writing,
                           weight_gradient);
  }
  if (pf_plane_gradient_applies(settings, problem, shape)) {
    if (plane_sums != NULL) plane_sums->complete = true;
    return pf_plane_gradient(settings, problem, shape, input, output_gradient, mask, plane_sums, writing,
                             weight_gradient);
  }
  pf_gradient_plan plan;
  PF_TRY(pf_gradient_prepare(settings, problem, shape, &plan));
  run_state state = {
      .plan = &plan,
      .input = input,
      .output_gradient = output_gradient,
      .mask = mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  if (plan.slices == 0) {
    finish(&state, 0, shape->weight_count, 0, NULL);
    return pf_ok;
  }
  if (plane_sums != NULL) plane_sums->complete = true;
  return run_direct(settings, &plan, &state);
}

pf_status pf_weight_gradient(const pf_context *context, const pf_settings *settings, const pf_convolution2d *problem,
                             const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                             const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                             float *weight_gradient) {
  int64_t *counts = NULL;
  pf_gradient_mask mask = {.trainable = shape->weight_count};
  if (gradient_mask != NULL) {
    counts = pf_memory_allocate((size_t)pf_gradient_mask_bytes(problem));
    PF_REQUIRE(counts != NULL, pf_error_memory);
    const int64_t filters = problem->output_channels;
    mask = pf_gradient_mask_scan(settings, gradient_mask, filters, shape->weight_count / filters, counts,
                                 weight_gradient);
  }
  pf_status status = pf_ok;
  if (mask.trainable > 0) {
    status = run_pass(context, settings, problem, shape, input, output_gradient,
                      mask.trainable == shape->weight_count ? NULL : &mask, plane_sums, writing, weight_gradient);
  }
  pf_memory_release(counts);
  return status;
}

pf_status pf_convolution2d_weight_gradient(const pf_context *context, const pf_convolution2d *problem,
                                           const float *input, const float *output_gradient,
                                           const uint8_t *gradient_mask, pf_writing writing, float *weight_gradient) {
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  PF_REQUIRE(weight_gradient != NULL, pf_error_null);
  PF_REQUIRE(problem->batch == 0 || (input != NULL && output_gradient != NULL), pf_error_null);
  return pf_weight_gradient(context, &settings, problem, &shape, input, output_gradient, gradient_mask, NULL, writing,
                            weight_gradient);
}
