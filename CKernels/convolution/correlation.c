#include "convolution/correlation.h"

#include "convolution/column_tiles.h"
#include "convolution/correlation_filters.h"
#include "convolution/correlation_planes.h"

/// What all threads share.
typedef struct pf_correlation_run_state {
  const pf_correlation_plan *plan;
  const float *source, *weight, *bias;
  pf_activation activation;
  bool accumulate;
  float *result;
  float *packed_weight;            // by group, tile of outputs: inner x rows of the tile
  const int64_t *weight_offsets;   // by k
  const int64_t *frame_offsets;    // by k, from the first channel of k's step on
  const int64_t *panel_offsets;    // by k of a step
  char *scratch;                   // scratch_bytes a part
} run_state;

/// What one thread holds.
typedef struct scratch {
  float *frame, *sums, *panels;
  pf_segment *segments;
  pf_column_tile *tiles;
  int64_t tile_count;
  pf_frame_content content;  // of the frame
} scratch;

static scratch scratch_of(const run_state *state, int32_t part) {
  const pf_correlation_plan *plan = state->plan;
  char *end = state->scratch + (part + 1) * plan->scratch_bytes;
  scratch s = {0};
  s.frame = (float *)(state->scratch + part * plan->scratch_bytes);
  s.sums = s.frame + (plan->in_place ? 0 : plan->channel_step * plan->frame.channel_stride);
  s.panels = s.sums + plan->sums_floats;
  s.segments = (pf_segment *)end - plan->most_segments;
  s.tiles = (pf_column_tile *)s.segments - (plan->most_column_tiles + 1);
  return s;
}

/// An item of the run: a part of the tiles of a group of a block.
typedef struct item {
  pf_block block;
  int64_t group, tile_part;
} item;

/// A step of the inner dimension: channels first ..< first + channels.
typedef struct inner_step {
  int64_t first, channels;
  int64_t k, inner;  // its part of the inner dimension
  bool last;
  const float *next_weight;  // of the first tile after this step's
} inner_step;

/// Cache lines of a channel of the source that a block in place reads.
typedef struct line_cursor {
  const pf_block *block;
  const float *channel;  // of the first image
  int64_t done;          // points of the block
  const float *next;
  int64_t left;          // floats from there to the end of the run
} line_cursor;

/// The packed weights of a tile of outputs, from k on.
static float *weight_of(const run_state *state, int64_t group, int64_t tile, int64_t k) {
  const pf_correlation *p = &state->plan->problem;
  const int64_t output = pf_piece_begin(p->outputs, tile, state->plan->tiles);
  const int64_t rows = pf_piece_begin(p->outputs, tile + 1, state->plan->tiles) - output;
  return state->packed_weight + (group * p->outputs + output) * state->plan->inner + k * rows;
}

/// Packs a part of the inner dimension of a tile of outputs.
static void pack_weights(const run_state *state, int64_t group, int64_t tile, int64_t k, int64_t inner) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t output = pf_piece_begin(p->outputs, tile, plan->tiles);
  const int64_t rows = pf_piece_begin(p->outputs, tile + 1, plan->tiles) - output;
  plan->kernels->pack_rows(inner, rows, state->weight + group * p->weight_group + output * p->weight_output,
                           p->weight_output, state->weight_offsets + k, weight_of(state, group, tile, k), rows);
}

enum { line_floats = 16 };

/// The next line, or NULL behind the last.
static const float *take_line(const pf_correlation_plan *plan, line_cursor *lines) {
  if (lines->left <= 0) {
    if (lines->block == NULL || lines->done >= pf_block_points(plan, lines->block)) return NULL;
    const pf_source_run run = pf_block_run(plan, lines->block, lines->done);
    const uintptr_t begin = (uintptr_t)(lines->channel + pf_source_place(&plan->problem, &run));
    const uintptr_t before = begin % (line_floats * sizeof(float));
    lines->next = (const float *)(begin - before);
    lines->left = run.length + (int64_t)(before / sizeof(float));
    lines->done += run.length;
  }
  lines->left -= line_floats;
  lines->next += line_floats;
  return lines->next - line_floats;
}

static void run_step(const run_state *state, const scratch *s, const item *item, const inner_step *step,
                     const float *frame, line_cursor lines, int64_t tile_begin, int64_t tile_end) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const pf_kernels *kernels = plan->kernels;
  const int64_t tile = kernels->tile_columns, tiles = tile_end - tile_begin;
  const bool waits = plan->channel_step < p->channels;
  // What accumulates is added to the result once, as a whole.
  const bool in_result = p->result_x == 1 && (!state->accumulate || plan->inner <= plan->chain);
  const pf_tile_mode mode = step->k > 0 ? pf_tile_add : pf_tile_store;
  const pf_activation activation = step->last ? state->activation : pf_activation_none;
  // Each segment may begin and end within a line.
  const int64_t most_lines =
      lines.block == NULL ? 0 : pf_block_points(plan, lines.block) / line_floats + s->tiles[s->tile_count].first;
  for (int64_t i = tile_begin; i < tile_end; ++i) {
    const int64_t output = pf_piece_begin(p->outputs, i, plan->tiles);
    const int64_t rows = pf_piece_begin(p->outputs, i + 1, plan->tiles) - output;
    const int64_t channel = item->group * p->outputs + output;
    const pf_tile_kernel kernel[] = {kernels->tile[rows], kernels->thin_tile[rows]};
    if (plan->packs_late && item->block.column == 0) pack_weights(state, item->group, i, step->k, step->inner);
    const float *weight = weight_of(state, item->group, i, step->k);
    const float *bias = state->bias == NULL || step->k > 0 ? NULL : state->bias + channel;
    float *result = state->result + channel * p->result_plane;
    // What is read next comes into the second-level cache evenly: while each tile of outputs runs, a part of the source
    // and the next tile's weights.
    const int64_t line_count =
        pf_piece_begin(most_lines, i + 1 - tile_begin, tiles) - pf_piece_begin(most_lines, i - tile_begin, tiles);
    const int64_t pieces = pf_maximum_of(s->tile_count - line_count, 1), piece = rows * step->inner / pieces;
    const int64_t weight_fetch = pf_ceiling_divide(rows, pieces);
    const float *next_weight = i + 1 < tile_end ? weight_of(state, item->group, i + 1, step->k) : step->next_weight;
    for (int64_t t = 0; t < s->tile_count; ++t) {
      const pf_column_tile *columns = s->tiles + t;
      const pf_segment *segments = s->segments + columns->first;
      const int64_t count = columns[1].first - columns->first;
      if (count == 0) continue;
      const float *fetch = t < line_count ? take_line(plan, &lines) : NULL;
      int64_t fetch_step = pf_source_plane(p);
      if (fetch == NULL) {
        fetch = next_weight;
        fetch_step = weight_fetch;
        next_weight += piece;
      }
      const float *from = columns->panel == NULL ? frame + columns->frame : columns->panel;
      const int64_t *offsets = columns->panel == NULL ? state->frame_offsets + step->k : state->panel_offsets;
      if (columns->straight && in_result) {
        kernel[columns->thin](step->inner, plan->chain, weight, from, columns->vector_step, offsets, fetch, fetch_step,
                              bias, result + segments->result, p->result_plane,
                              state->accumulate ? pf_tile_add : mode, activation);
        continue;
      }
      float *sums = waits ? s->sums + (t * p->outputs + output) * tile : s->sums;
      kernel[columns->thin](step->inner, plan->chain, weight, from, columns->vector_step, offsets, fetch, fetch_step,
                            bias, sums, tile, mode, activation);
      if (step->last) {
        kernels->scatter_tile(rows, sums, segments, count, result, p->result_plane, p->result_x, state->accumulate);
      }
    }
  }
}

/// Items: rows and columns of blocks, in each the images, in each the groups, in each the parts of the tiles; where
/// images are joined, the parts of the tiles, in each of which are all blocks.
static item item_of(const pf_correlation_plan *plan, int64_t index) {
  const int64_t places = plan->blocks_y * plan->blocks_x;
  const int64_t all = plan->blocks_images * places * plan->problem.groups;
  item next = {.tile_part = plan->joined ? index / all : index % plan->tile_parts};
  index = plan->joined ? index % all : index / plan->tile_parts;
  next.group = index % plan->problem.groups;
  index /= plan->problem.groups;
  const int64_t block = index % plan->blocks_images * places + index / plan->blocks_images;
  next.block = pf_frame_block(&plan->frame, plan->grids, block);
  return next;
}

static void run_item(const run_state *state, scratch *s, const item *now, const item *next) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t plane = pf_source_plane(p), taps = p->y.taps * p->x.taps;
  const int64_t tile_begin = pf_piece_begin(plan->tiles, now->tile_part, plan->tile_parts);
  const int64_t tile_end = pf_piece_begin(plan->tiles, now->tile_part + 1, plan->tile_parts);
  for (int64_t first = 0; first == 0 || first < p->channels; first += plan->channel_step) {
    inner_step step = {.first = first, .channels = pf_minimum_of(plan->channel_step, p->channels - first)};
    step.k = first * taps;
    step.inner = step.channels * taps;
    step.last = first + step.channels == p->channels;
    step.next_weight = weight_of(state, now->group, tile_begin, step.k + step.inner);
    if (step.last) {
      const int64_t next_tile = pf_piece_begin(plan->tiles, next->tile_part, plan->tile_parts);
      step.next_weight = weight_of(state, next->group, next_tile, 0);
    }
    const float *frame = s->frame;
    line_cursor lines = {0};
    if (plan->in_place) {
      const pf_source_run run = pf_block_run(plan, &now->block, 0);
      const float *group = state->source + now->group * p->channels * plane;
      frame = group + first * plane + pf_source_place(p, &run);
      lines.block = &now->block;
      lines.channel = group + (first + step.channels) * plane;
      if (step.last) {
        lines.block = &next->block;
        lines.channel = state->source + next->group * p->channels * plane;
      }
    } else {
      pf_frame_refill(&plan->frame, plan->kernels, &now->block, step.channels,
                      state->source + (now->group * p->channels + first) * plane, pf_source_image(p), &s->content,
                      s->frame);
    }
    if (plan->packed) {
      pf_column_tiles_pack(plan, s->segments, s->tiles, s->tile_count, step.channels, step.inner,
                           state->frame_offsets + step.k, state->source, frame);
    }
    run_step(state, s, now, &step, frame, lines, tile_begin, tile_end);
  }
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  item now = {0}, next = item_of(plan, begin);
  scratch s = scratch_of(state, part);
  for (int64_t index = begin; index < end; ++index) {
    const pf_block before = now.block;
    now = next;
    if (index + 1 < end) next = item_of(plan, index + 1);
    const bool moved = index == begin || before.image != now.block.image || !pf_same_extents(&before, &now.block);
    if (moved) s.tile_count = pf_column_tiles_find(plan, &now.block, s.segments, s.tiles, s.panels);
    run_item(state, &s, &now, &next);
  }
}

/// Items: groups, in each the tiles of outputs.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  for (int64_t item = begin; item < end; ++item) {
    pack_weights(state, item / plan->tiles, item % plan->tiles, 0, plan->inner);
  }
}

static void fill_offsets(const pf_correlation_plan *plan, int64_t *weight, int64_t *frame, int64_t *panel) {
  const pf_correlation *p = &plan->problem;
  int64_t k = 0;
  for (int64_t c = 0; c < p->channels; ++c) {
    const int64_t channel = c % plan->channel_step;
    for (int64_t i = 0; i < p->y.taps; ++i) {
      for (int64_t j = 0; j < p->x.taps; ++j, ++k) {
        weight[k] = p->weight_first + c * p->weight_channel + i * p->weight_y + j * p->weight_x;
        frame[k] = plan->in_place ? channel * pf_source_plane(p)
                                  : channel * plan->frame.channel_stride + pf_frame_offset(&plan->frame, i, j);
        panel[k] = k * plan->kernels->tile_columns;
      }
    }
  }
}

void pf_correlation_run(const pf_correlation_plan *plan, const float *source, const float *weight, const float *bias,
                        pf_activation activation, pf_writing writing, float *result, char *workspace) {
  if (plan->planes) {
    pf_correlation_planes_run(plan, source, weight, bias, activation, writing, result, workspace);
    return;
  }
  if (plan->filters) {
    pf_correlation_filters_run(plan, source, weight, bias, activation, writing, result, workspace);
    return;
  }
  const int64_t groups = plan->problem.groups;
  const int64_t items = plan->blocks_images * plan->blocks_y * plan->blocks_x * groups * plan->tile_parts;
  if (items == 0) return;
  int64_t *weight_offsets = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  int64_t *frame_offsets = weight_offsets + plan->inner, *panel_offsets = frame_offsets + plan->inner;
  const int64_t offset_bytes = pf_aligned_bytes(3 * plan->inner * (int64_t)sizeof(int64_t));
  fill_offsets(plan, weight_offsets, frame_offsets, panel_offsets);
  run_state state = {
      .plan = plan,
      .source = source,
      .weight = weight,
      .bias = bias,
      .activation = activation,
      .accumulate = writing == pf_accumulate,
      .result = result,
      .packed_weight = (float *)((char *)weight_offsets + offset_bytes),
      .weight_offsets = weight_offsets,
      .frame_offsets = frame_offsets,
      .panel_offsets = panel_offsets,
      .scratch = workspace,
  };
  if (!plan->packs_late) {
    const int64_t tiles = plan->tiles * groups;
    pf_parallel_in((int32_t)pf_minimum_of(plan->parts, tiles), tiles, pack_range, &state);
  }
  pf_parallel_in(plan->parts, items, run_range, &state);
}
