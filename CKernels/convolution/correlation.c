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

/// An item of the run: some tiles of outputs of a group of a block.
typedef struct item {
  pf_block block;
  int64_t group;
  pf_piece tiles;
} item;

/// Cache lines of a channel of the source that a block in place reads.
typedef struct line_cursor {
  const pf_block *block;
  const float *channel;  // of the first image
  int64_t done;          // points of the block
  const float *next;
  int64_t left;          // floats from there to the end of the run
} line_cursor;

/// The packed weights of a tile, from k on.
static float *weight_of(const run_state *state, int64_t group, int64_t tile, int64_t k) {
  const pf_correlation_plan *plan = state->plan;
  const pf_piece outputs = pf_tile_outputs(plan, tile);
  return state->packed_weight + (group * plan->problem.outputs + outputs.first) * plan->inner + k * outputs.count;
}

/// Packs a part of the inner dimension of a tile.
static void pack_weights(const run_state *state, int64_t group, int64_t tile, int64_t k, int64_t inner) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const pf_piece outputs = pf_tile_outputs(plan, tile);
  const float *weight = state->weight + group * p->weight_group + outputs.first * p->weight_output;
  plan->kernels->pack_rows(inner, outputs.count, weight, p->weight_output, state->weight_offsets + k,
                           weight_of(state, group, tile, k), outputs.count);
}

/// The next line, or NULL behind the last.
static const float *take_line(const pf_correlation_plan *plan, line_cursor *lines) {
  if (lines->left <= 0) {
    if (lines->block == NULL || lines->done >= pf_block_points(plan, lines->block)) return NULL;
    const pf_source_run run = pf_block_run(plan, lines->block, lines->done);
    const uintptr_t begin = (uintptr_t)(lines->channel + pf_source_place(&plan->problem, &run));
    const uintptr_t before = begin % (pf_line_floats * sizeof(float));
    lines->next = (const float *)(begin - before);
    lines->left = run.length + (int64_t)(before / sizeof(float));
    lines->done += run.length;
  }
  lines->left -= pf_line_floats;
  lines->next += pf_line_floats;
  return lines->next - pf_line_floats;
}

/// A step of an item. `lines` and `following_weight`, of its first tile, are what the next one reads.
static void run_step(const run_state *state, const pf_tile_scratch *s, const item *item, const pf_inner_step *step,
                     const float *frame, line_cursor lines, const float *following_weight) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const pf_kernels *kernels = plan->kernels;
  const pf_column_tiles *columns = &s->columns;
  const int64_t width = kernels->tile_columns, tiles = item->tiles.count;
  // What accumulates is added to the result once, as a whole.
  const bool in_result = p->result_x == 1 && (!state->accumulate || plan->inner <= plan->chain);
  const pf_tile_mode mode = step->k > 0 ? pf_tile_add : pf_tile_store;
  const pf_activation activation = step->last ? state->activation : pf_activation_none;
  // Each segment may begin and end within a line.
  const int64_t most_lines = lines.block == NULL ? 0 : pf_block_points(plan, lines.block) / pf_line_floats +
                                                           columns->tiles[columns->count].first;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t tile = item->tiles.first + i;
    const pf_piece outputs = pf_tile_outputs(plan, tile);
    const int64_t rows = outputs.count, channel = item->group * p->outputs + outputs.first;
    const pf_tile_kernel kernel[] = {kernels->tile[rows], kernels->thin_tile[rows]};
    if (plan->packs_late && item->block.column == 0) pack_weights(state, item->group, tile, step->k, step->inner);
    const float *weight = weight_of(state, item->group, tile, step->k);
    const float *bias = state->bias == NULL || step->k > 0 ? NULL : state->bias + channel;
    float *result = state->result + channel * p->result_plane;
    // What is read next comes into the second-level cache evenly: while each tile of outputs runs, a part of the source
    // and the next tile's weights.
    const int64_t line_count = pf_piece_of(most_lines, i, tiles).count;
    const int64_t pieces = pf_maximum_of(columns->count - line_count, 1), piece = rows * step->inner / pieces;
    const int64_t weight_fetch = pf_ceiling_divide(rows, pieces);
    const float *next_weight = i + 1 < tiles ? weight_of(state, item->group, tile + 1, step->k) : following_weight;
    for (int64_t t = 0; t < columns->count; ++t) {
      const pf_column_tile *points = columns->tiles + t;
      const pf_segment *segments = columns->segments + points->first;
      const int64_t count = points[1].first - points->first;
      if (count == 0) continue;
      const float *fetch = t < line_count ? take_line(plan, &lines) : NULL;
      int64_t fetch_step = pf_source_plane(p);
      if (fetch == NULL) {
        fetch = next_weight;
        fetch_step = weight_fetch;
        next_weight += piece;
      }
      const float *from = points->panel == NULL ? frame + points->frame : points->panel;
      const int64_t *offsets = points->panel == NULL ? state->frame_offsets + step->k : state->panel_offsets;
      if (points->straight && in_result) {
        kernel[points->thin](step->inner, plan->chain, weight, from, points->vector_step, offsets, fetch, fetch_step,
                             bias, result + segments->result, p->result_plane, state->accumulate ? pf_tile_add : mode,
                             activation);
        continue;
      }
      float *sums = pf_sums_wait(plan) ? s->sums + (t * p->outputs + outputs.first) * width : s->sums;
      kernel[points->thin](step->inner, plan->chain, weight, from, points->vector_step, offsets, fetch, fetch_step,
                           bias, sums, width, mode, activation);
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
  item next = {.tiles = pf_part_tiles(plan, plan->joined ? index / all : index % plan->tile_parts)};
  index = plan->joined ? index % all : index / plan->tile_parts;
  next.group = index % plan->problem.groups;
  index /= plan->problem.groups;
  const int64_t block = index % plan->blocks_images * places + index / plan->blocks_images;
  next.block = pf_frame_block(&plan->frame, plan->grids, block);
  return next;
}

static void run_item(const run_state *state, pf_tile_scratch *s, const item *now, const item *next) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  pf_column_tiles_find(plan, &now->block, &s->columns);
  for (int64_t first = 0; first < p->channels; first += plan->channel_step) {
    const pf_inner_step step = pf_inner_step_from(plan, first);
    // What follows: the next step, or the first of the next item.
    const item *following = step.last ? next : now;
    const pf_inner_step following_step = pf_inner_step_from(plan, step.last ? 0 : first + step.channels);
    const float *source = state->source + pf_source_channel(p, 0, now->group, first), *frame = s->frame;
    line_cursor lines = {0};
    if (plan->in_place) {
      const pf_source_run run = pf_block_run(plan, &now->block, 0);
      frame = source + pf_source_place(p, &run);
      lines.block = &following->block;
      lines.channel = state->source + pf_source_channel(p, 0, following->group, following_step.first);
    } else {
      pf_frame_refill(&plan->frame, plan->kernels, &now->block, step.channels, source, pf_source_image(p), &s->content,
                      s->frame);
    }
    if (plan->packed) {
      pf_column_tiles_pack(plan, &s->columns, &step, state->frame_offsets + step.k, state->source, frame);
    }
    const float *weight = weight_of(state, following->group, following->tiles.first, following_step.k);
    run_step(state, s, now, &step, frame, lines, weight);
  }
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  pf_tile_scratch s = pf_tile_scratch_of(plan, state->scratch + part * plan->scratch_bytes);
  item next = item_of(plan, begin);
  for (int64_t index = begin; index < end; ++index) {
    const item now = next;
    if (index + 1 < end) next = item_of(plan, index + 1);
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
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
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
