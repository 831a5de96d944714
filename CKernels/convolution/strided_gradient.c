#include "convolution/strided_gradient.h"

#include <string.h>

#include "convolution/column_tiles.h"

/// What all threads share.
typedef struct run_state {
  const pf_strided_plan *plan;
  const float *source, *weight, *weight_end;
  bool accumulate;
  float *result;
  float *packed_weight;  // by group, step, tile of outputs, phase: products of the step x rows of the tile
  int64_t *frame_offsets[2][2], *panel_offsets[2][2];  // of a phase: by channel of a step and tap
  int64_t *shift_offsets;                              // by channel of a step and shift
  pf_tap_place *places;                                // by tap of the kernel
  char *scratch;                                       // scratch_bytes a part
} run_state;

/// What one thread holds.
typedef struct scratch {
  float *frame, *sums, *panels;
  float *zeros;            // of a phase that nothing reaches
  pf_segment *segments;
  pf_column_tile *tiles;
  int64_t tile_count;
  pf_frame_content content;  // of the frame
} scratch;

static scratch scratch_of(const run_state *state, int32_t part) {
  const pf_correlation_plan *plan = &state->plan->shared;
  char *end = state->scratch + (part + 1) * plan->scratch_bytes;
  scratch s = {.frame = (float *)(state->scratch + part * plan->scratch_bytes)};
  s.sums = s.frame + (plan->in_place ? 0 : plan->channel_step * plan->frame.channel_stride);
  s.zeros = s.sums + plan->sums_floats;
  s.panels = s.zeros + plan->kernels->tile_rows * plan->kernels->tile_columns;
  s.segments = (pf_segment *)end - plan->most_segments;
  s.tiles = (pf_column_tile *)s.segments - (plan->most_column_tiles + 1);
  return s;
}

/// Channels first ..< first + channels of a group, and their part of all sums of a block.
typedef struct step {
  int64_t group, first, channels;
  bool last;
} step;

/// Outputs of a group that fill a register tile.
typedef struct tile {
  int64_t first, rows;
} tile;

static tile tile_of(const pf_correlation_plan *plan, int64_t index) {
  const int64_t first = pf_piece_begin(plan->problem.outputs, index, plan->tiles);
  return (tile){.first = first, .rows = pf_piece_begin(plan->problem.outputs, index + 1, plan->tiles) - first};
}

static step step_of(const pf_correlation_plan *plan, int64_t group, int64_t first) {
  const int64_t left = plan->problem.channels - first;
  return (step){.group = group,
                .first = first,
                .channels = pf_minimum_of(plan->channel_step, left),
                .last = left <= plan->channel_step};
}

/// The packed weights of a step's tile; those of its phases follow one another.
static float *weights_of(const run_state *state, const step *step, const tile *tile) {
  const pf_correlation_plan *plan = &state->plan->shared;
  const int64_t outputs = plan->problem.outputs;
  return state->packed_weight + ((step->group * plan->problem.channels + step->first) * outputs +
                                 step->channels * tile->first) * state->plan->taps;
}

/// Items: groups, in each the tiles of outputs, in each the steps: what packs a tile is mostly what runs it.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tiles = item / strided->steps;
    const step step = step_of(plan, tiles / plan->tiles, item % strided->steps * plan->channel_step);
    const tile tile = tile_of(plan, tiles % plan->tiles);
    float *packed[4], *next = weights_of(state, &step, &tile);
    for (int64_t y = 0; y < strided->phases_y; ++y) {
      for (int64_t x = 0; x < strided->phases_x; ++x) {
        packed[y * 2 + x] = next;
        next += step.channels * pf_strided_taps(strided, y, x) * tile.rows;
      }
    }
    plan->kernels->pack_taps(step.channels, tile.rows, strided->kernel_height * strided->kernel_width,
                             state->weight + step.group * p->weight_group + step.first * p->weight_channel +
                                 tile.first * p->weight_output,
                             p->weight_channel, state->weight_end, state->places, packed);
  }
}

/// What is used next, and comes into the second-level cache evenly while the tiles run: weights, and the source in
/// place, whose lines are each fetched for all channels of a step.
typedef struct ahead {
  const float *weight;
  const float *source;      // where the next block begins; NULL: in a frame
  int64_t lines;            // of a channel that the block takes
  int64_t first, end;       // those to be fetched now
} ahead;

/// What a tile kernel fetches.
typedef struct fetch {
  const float *from;
  int64_t step;
} fetch;

/// Line `index` of a source in place.
static fetch fetch_line(const pf_correlation_plan *plan, const ahead *ahead, int64_t index) {
  enum { line = 16 };
  const pf_correlation *p = &plan->problem;
  const int64_t plane = pf_source_plane(p), image_floats = pf_source_image(p);
  return (fetch){.from = ahead->source + index / ahead->lines * image_floats + index % ahead->lines * line,
                 .step = plane};
}

/// The sums of a phase of one register tile, one step of them.
static void run_phase(const run_state *state, const pf_column_tile *columns, const step *step, int64_t rows, int64_t y,
                      int64_t x, const float *weight, const float *frame, fetch next, float *sums) {
  const pf_kernels *kernels = state->plan->shared.kernels;
  const pf_tile_kernel kernel = columns->thin ? kernels->thin_tile[rows] : kernels->tile[rows];
  const bool packed = columns->panel != NULL;
  kernel(step->channels * pf_strided_taps(state->plan, y, x), state->plan->chains[y][x], weight,
         packed ? columns->panel : frame + columns->frame, columns->vector_step,
         packed ? state->panel_offsets[y][x] : state->frame_offsets[y][x], next.from, next.step, NULL, sums,
         kernels->tile_columns, step->first > 0 ? pf_tile_add : pf_tile_store, pf_activation_none);
}

/// All phases of one tile of outputs, one after another for each tile of columns. `sums` has room for one of each, or,
/// if they wait for the next step, for all.
static void run_tile(const run_state *state, const scratch *s, const step *step, const tile *tile, const ahead *ahead,
                     const float *frame, float *sums) {
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  const int64_t tile_columns = plan->kernels->tile_columns, tile_floats = plan->kernels->tile_rows * tile_columns;
  const int64_t weights = step->channels * strided->taps * tile->rows;
  const int64_t busy = pf_minimum_of(pf_ceiling_divide(ahead->end - ahead->first, strided->reached), s->tile_count);
  float *result = state->result + (step->group * p->outputs + tile->first) * p->result_plane;
  for (int64_t t = 0; t < s->tile_count; ++t) {
    const pf_column_tile *columns = s->tiles + t;
    const pf_segment *segments = s->segments + columns->first;
    const int64_t count = columns[1].first - columns->first;
    if (count == 0) continue;
    const float *weight = weights_of(state, step, tile);
    fetch next = {.step = 1};
    int64_t line = ahead->first + t * strided->reached;
    if (t >= busy) {
      const int64_t pieces = s->tile_count - busy;
      next.from = ahead->weight + pf_piece_begin(weights, t - busy, pieces);
      next.step = pf_ceiling_divide(tile->rows, pieces);
    }
    float *tile_sums = plan->channel_step < p->channels ? sums + t * strided->phases * tile_floats : sums;
    for (int64_t y = 0; y < strided->phases_y; ++y) {
      const float *phases[2] = {s->zeros, s->zeros};
      for (int64_t x = 0; x < strided->phases_x; ++x, tile_sums += tile_floats) {
        const int64_t products = step->channels * pf_strided_taps(strided, y, x);
        if (products == 0) continue;
        if (t < busy) next = fetch_line(plan, ahead, line++);
        run_phase(state, columns, step, tile->rows, y, x, weight, frame, next, tile_sums);
        phases[x] = tile_sums;
        weight += products * tile->rows;
        next.from += products * next.step;
      }
      if (!step->last) continue;
      float *rows = result + y * (p->result_y / strided->phases_y);
      if (strided->phases_x == 2) {
        plan->kernels->scatter_pairs(tile->rows, phases[0], phases[1], segments, count, rows,
                                     p->result_plane, state->accumulate);
      } else {
        plan->kernels->scatter_tile(tile->rows, phases[0], segments, count, rows, p->result_plane, 1,
                                    state->accumulate);
      }
    }
  }
}

/// A step of an item's tiles of outputs, begin ..< end. `next` is the source of what follows, in place.
static void run_step(const run_state *state, const scratch *s, const pf_block *block, const step *step, int64_t begin,
                     int64_t end, const float *frame, const float *next) {
  enum { line = 16 };
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  const bool waits = plan->channel_step < p->channels;
  const int64_t waiting = strided->phases * s->tile_count * plan->kernels->tile_rows * plan->kernels->tile_columns;
  ahead ahead = {.source = next};
  ahead.lines = pf_ceiling_divide((block->rows - 1) * p->x.source + block->columns, line) + 1;
  const int64_t lines = next == NULL ? 0 : block->images * ahead.lines;
  for (int64_t i = begin; i < end; ++i) {
    const tile now = tile_of(plan, i), following = tile_of(plan, i + 1 < end ? i + 1 : begin);
    ahead.weight = weights_of(state, step, &following);
    ahead.first = pf_piece_begin(lines, i - begin, end - begin);
    ahead.end = pf_piece_begin(lines, i - begin + 1, end - begin);
    run_tile(state, s, step, &now, &ahead, frame, s->sums + (waits ? (i - begin) * waiting : 0));
  }
}

/// A block of a group, and its part of the tiles.
typedef struct item {
  pf_block block;
  int64_t group, piece;
} item;

/// Items: blocks, in each the groups, in each the parts of the tiles.
static item item_of(const pf_correlation_plan *plan, int64_t index) {
  const int64_t groups = plan->problem.groups;
  return (item){.block = pf_frame_block(&plan->frame, plan->problem.images, index / plan->tile_parts / groups),
                .group = index / plan->tile_parts % groups,
                .piece = index % plan->tile_parts};
}

/// Where the source of a step of an item begins, in place.
static const float *source_of(const run_state *state, const item *item, int64_t first) {
  const pf_correlation *p = &state->plan->shared.problem;
  const pf_block *block = &item->block;
  const int64_t plane = pf_source_plane(p);
  return state->source + ((block->image * p->groups + item->group) * p->channels + first) * plane +
         block->row * p->x.source + block->column;
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  scratch s = scratch_of(state, part);
  memset(s.zeros, 0, (size_t)(plan->kernels->tile_rows * plan->kernels->tile_columns) * sizeof(float));
  for (int64_t index = begin; index < end; ++index) {
    const item now = item_of(plan, index), next = item_of(plan, pf_minimum_of(index + 1, end - 1));
    s.tile_count = pf_column_tiles_find(plan, &now.block, s.segments, s.tiles, s.panels);
    for (int64_t first = 0; first < p->channels; first += plan->channel_step) {
      const step step = step_of(plan, now.group, first);
      const float *frame = s.frame, *next_source = NULL;
      if (plan->in_place) {
        frame = source_of(state, &now, first);
        next_source = step.last ? source_of(state, &next, 0) : source_of(state, &now, first + step.channels);
      } else {
        pf_frame_refill(&plan->frame, plan->kernels, &now.block, step.channels,
                        state->source + (now.group * p->channels + first) * pf_source_plane(p), pf_source_image(p),
                        &s.content, s.frame);
      }
      if (plan->packed) {
        pf_column_tiles_pack(plan, s.segments, s.tiles, s.tile_count, step.channels, step.channels * strided->shifts,
                             state->shift_offsets, state->source, frame);
      }
      run_step(state, &s, &now.block, &step, pf_piece_begin(plan->tiles, now.piece, plan->tile_parts),
               pf_piece_begin(plan->tiles, now.piece + 1, plan->tile_parts), frame, next_source);
    }
  }
}

/// Where the taps of the phases lie in the frame and in the panels, and which they are of the kernel's.
static void fill_offsets(const run_state *state) {
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_axis *shared_y = &plan->problem.y, *shared_x = &plan->problem.x;
  const int64_t plane = pf_source_plane(&plan->problem), tile = plan->kernels->tile_columns;
  for (int64_t c = 0; c < plan->channel_step; ++c) {
    for (int64_t i = 0; i < strided->shifts; ++i) {
      state->shift_offsets[c * strided->shifts + i] =
          plan->in_place ? c * plane
                         : c * plan->frame.channel_stride +
                               pf_frame_offset(&plan->frame, i / shared_x->taps, i % shared_x->taps);
    }
  }
  for (int64_t i = 0; i < strided->kernel_height * strided->kernel_width; ++i) state->places[i].phase = -1;
  for (int64_t y = 0; y < strided->phases_y; ++y) {
    for (int64_t x = 0; x < strided->phases_x; ++x) {
      const pf_phase_axis *phase_y = &strided->y[y], *phase_x = &strided->x[x];
      const int64_t taps = pf_strided_taps(strided, y, x);
      for (int64_t k = 0; k < taps; ++k) {
        const int64_t i = k / phase_x->axis.taps, j = k % phase_x->axis.taps;
        state->places[(phase_y->first + i * phase_y->step) * strided->kernel_width + phase_x->first +
                      j * phase_x->step] = (pf_tap_place){.phase = y * 2 + x, .index = k, .taps = taps};
        const int64_t shift_y = phase_y->axis.first + i * phase_y->axis.tap_step - shared_y->first;
        const int64_t shift_x = phase_x->axis.first + j * phase_x->axis.tap_step - shared_x->first;
        for (int64_t c = 0; c < plan->channel_step; ++c) {
          const int64_t shift = c * strided->shifts + shift_y * shared_x->taps + shift_x;
          state->frame_offsets[y][x][c * taps + k] = state->shift_offsets[shift];
          state->panel_offsets[y][x][c * taps + k] = shift * tile;
        }
      }
    }
  }
}

void pf_strided_run(const pf_strided_plan *strided, const float *output_gradient, const float *weight,
                    pf_writing writing, float *input_gradient, char *workspace) {
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  const int64_t items = plan->blocks_images * plan->blocks_y * plan->blocks_x * p->groups * plan->tile_parts;
  if (items == 0) return;
  run_state state = {
      .plan = strided,
      .source = output_gradient,
      .weight = weight,
      .weight_end = weight + p->groups * p->weight_group,
      .accumulate = writing == pf_accumulate,
      .result = input_gradient,
      .scratch = workspace,
  };
  int64_t *next = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  const int64_t offsets = plan->channel_step * (2 * strided->taps + strided->shifts);
  state.places = (pf_tap_place *)((char *)next + pf_aligned_bytes(offsets * (int64_t)sizeof(int64_t)));
  const int64_t places = strided->kernel_height * strided->kernel_width * (int64_t)sizeof(pf_tap_place);
  state.packed_weight = (float *)((char *)state.places + pf_aligned_bytes(places));
  state.shift_offsets = next;
  next += plan->channel_step * strided->shifts;
  for (int64_t y = 0; y < strided->phases_y; ++y) {
    for (int64_t x = 0; x < strided->phases_x; ++x) {
      const int64_t products = plan->channel_step * pf_strided_taps(strided, y, x);
      state.frame_offsets[y][x] = next;
      state.panel_offsets[y][x] = next + products;
      next += 2 * products;
    }
  }
  fill_offsets(&state);
  const int64_t tiles = p->groups * plan->tiles * strided->steps;
  pf_parallel_in((int32_t)pf_minimum_of(plan->parts, tiles), tiles, pack_range, &state);
  pf_parallel_in(plan->parts, items, run_range, &state);
}
