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

/// The packed weights of a step's tile; those of its phases follow one another.
static float *weights_of(const run_state *state, int64_t group, const pf_inner_step *step, pf_piece outputs) {
  const pf_correlation *p = &state->plan->shared.problem;
  return state->packed_weight + ((group * p->channels + step->first) * p->outputs +
                                 step->channels * outputs.first) * state->plan->taps;
}

/// Items: groups, in each the tiles of outputs, in each the steps: what packs a tile is mostly what runs it.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tiles = item / strided->steps, group = tiles / plan->tiles;
    const pf_inner_step step = pf_inner_step_from(plan, item % strided->steps * plan->channel_step);
    const pf_piece outputs = pf_tile_outputs(plan, tiles % plan->tiles);
    float *packed[4], *next = weights_of(state, group, &step, outputs);
    for (int64_t y = 0; y < strided->phases_y; ++y) {
      for (int64_t x = 0; x < strided->phases_x; ++x) {
        packed[y * 2 + x] = next;
        next += step.channels * pf_strided_taps(strided, y, x) * outputs.count;
      }
    }
    plan->kernels->pack_taps(step.channels, outputs.count, strided->kernel_height * strided->kernel_width,
                             state->weight + group * p->weight_group + step.first * p->weight_channel +
                                 outputs.first * p->weight_output,
                             p->weight_channel, state->weight_end, state->places, packed);
  }
}

/// What is used next, and comes into the second-level cache evenly while the tiles run: weights, and the source in
/// place, whose lines are each fetched for all channels of a step.
typedef struct ahead {
  const float *weight;
  const float *source;  // where the next block begins; NULL: in a frame
  int64_t image_lines;  // of a channel of an image that the block takes
  pf_piece lines;       // of all images: those to be fetched now
} ahead;

/// What a tile kernel fetches.
typedef struct fetch {
  const float *from;
  int64_t step;
} fetch;

/// Line `index` of a source in place.
static fetch fetch_line(const pf_correlation_plan *plan, const ahead *ahead, int64_t index) {
  const int64_t image = index / ahead->image_lines, line = index % ahead->image_lines;
  return (fetch){.from = ahead->source + image * pf_source_image(&plan->problem) + line * pf_line_floats,
                 .step = pf_source_plane(&plan->problem)};
}

/// The sums of a phase of one register tile, one step of them.
static void run_phase(const run_state *state, const pf_column_tile *columns, const pf_inner_step *step, int64_t rows,
                      int64_t y, int64_t x, const float *weight, const float *frame, fetch next, float *sums) {
  const pf_kernels *kernels = state->plan->shared.kernels;
  const pf_tile_kernel kernel = columns->thin ? kernels->thin_tile[rows] : kernels->tile[rows];
  const bool packed = columns->panel != NULL;
  kernel(step->channels * pf_strided_taps(state->plan, y, x), state->plan->chains[y][x], weight,
         packed ? columns->panel : frame + columns->frame, columns->vector_step,
         packed ? state->panel_offsets[y][x] : state->frame_offsets[y][x], next.from, next.step, NULL, sums,
         kernels->tile_columns, step->first > 0 ? pf_tile_add : pf_tile_store, pf_activation_none);
}

/// The last of the sums: those of a phase that nothing reaches.
static float *zeros_of(const pf_strided_plan *plan, const pf_tile_scratch *s) {
  return s->sums + plan->shared.sums_floats - pf_strided_tile_floats(plan);
}

/// All phases of one tile of outputs, one after another for each tile of columns. `sums` has room for one of each, or,
/// if they wait for the next step, for all.
static void run_tile(const run_state *state, const pf_tile_scratch *s, int64_t group, const pf_inner_step *step,
                     pf_piece outputs, const ahead *ahead, const float *frame, float *sums) {
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  const int64_t rows = outputs.count, weights = step->channels * strided->taps * rows, tiles = s->columns.count;
  const int64_t busy = pf_minimum_of(pf_ceiling_divide(ahead->lines.count, strided->reached), tiles);
  const int64_t tile_floats = pf_strided_tile_floats(strided);
  const float *zeros = zeros_of(strided, s);
  float *result = state->result + (group * p->outputs + outputs.first) * p->result_plane;
  for (int64_t t = 0; t < tiles; ++t) {
    const pf_column_tile *columns = s->columns.tiles + t;
    const pf_segment *segments = s->columns.segments + columns->first;
    const int64_t count = columns[1].first - columns->first;
    if (count == 0) continue;
    const float *weight = weights_of(state, group, step, outputs);
    fetch next = {.step = 1};
    int64_t line = ahead->lines.first + t * strided->reached;
    if (t >= busy) {
      next.from = ahead->weight + pf_piece_begin(weights, t - busy, tiles - busy);
      next.step = pf_ceiling_divide(rows, tiles - busy);
    }
    float *tile_sums = pf_sums_wait(plan) ? sums + t * strided->phases * tile_floats : sums;
    for (int64_t y = 0; y < strided->phases_y; ++y) {
      const float *phases[2] = {zeros, zeros};
      for (int64_t x = 0; x < strided->phases_x; ++x, tile_sums += tile_floats) {
        const int64_t products = step->channels * pf_strided_taps(strided, y, x);
        if (products == 0) continue;
        if (t < busy) next = fetch_line(plan, ahead, line++);
        run_phase(state, columns, step, rows, y, x, weight, frame, next, tile_sums);
        phases[x] = tile_sums;
        weight += products * rows;
        next.from += products * next.step;
      }
      if (!step->last) continue;
      float *place = result + y * (p->result_y / strided->phases_y);
      if (strided->phases_x == 2) {
        plan->kernels->scatter_pairs(rows, phases[0], phases[1], segments, count, place, p->result_plane,
                                     state->accumulate);
      } else {
        plan->kernels->scatter_tile(rows, phases[0], segments, count, place, p->result_plane, 1, state->accumulate);
      }
    }
  }
}

/// An item of the run: some tiles of outputs of a group of a block.
typedef struct item {
  pf_block block;
  int64_t group;
  pf_piece tiles;
} item;

/// A step of an item. `next` is the source of what follows, in place.
static void run_step(const run_state *state, const pf_tile_scratch *s, const item *item, const pf_inner_step *step,
                     const float *frame, const float *next) {
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_block *block = &item->block;
  const int64_t waiting = pf_sums_wait(plan) ? strided->phases * s->columns.count * pf_strided_tile_floats(strided) : 0;
  const int64_t points = (block->rows - 1) * plan->problem.x.source + block->columns, tiles = item->tiles.count;
  ahead ahead = {.source = next, .image_lines = pf_ceiling_divide(points, pf_line_floats) + 1};
  const int64_t lines = next == NULL ? 0 : block->images * ahead.image_lines;
  for (int64_t i = 0; i < tiles; ++i) {
    const pf_piece outputs = pf_tile_outputs(plan, item->tiles.first + i);
    const pf_piece following = pf_tile_outputs(plan, item->tiles.first + (i + 1) % tiles);
    ahead.weight = weights_of(state, item->group, step, following);
    ahead.lines = pf_piece_of(lines, i, tiles);
    run_tile(state, s, item->group, step, outputs, &ahead, frame, s->sums + i * waiting);
  }
}

/// Items: blocks, in each the groups, in each the parts of the tiles.
static item item_of(const pf_correlation_plan *plan, int64_t index) {
  const int64_t groups = plan->problem.groups;
  return (item){.block = pf_frame_block(&plan->frame, plan->problem.images, index / plan->tile_parts / groups),
                .group = index / plan->tile_parts % groups,
                .tiles = pf_part_tiles(plan, index % plan->tile_parts)};
}

/// Where the source of a step of an item begins, in place.
static const float *source_of(const run_state *state, const item *item, int64_t first) {
  const pf_correlation *p = &state->plan->shared.problem;
  const pf_block *block = &item->block;
  return state->source + pf_source_channel(p, block->image, item->group, first) + block->row * p->x.source +
         block->column;
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_strided_plan *strided = state->plan;
  const pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  pf_tile_scratch s = pf_tile_scratch_of(plan, state->scratch + part * plan->scratch_bytes);
  memset(zeros_of(strided, &s), 0, (size_t)pf_strided_tile_floats(strided) * sizeof(float));
  for (int64_t index = begin; index < end; ++index) {
    const item now = item_of(plan, index), next = item_of(plan, pf_minimum_of(index + 1, end - 1));
    pf_column_tiles_find(plan, &now.block, &s.columns);
    for (int64_t first = 0; first < p->channels; first += plan->channel_step) {
      const pf_inner_step step = pf_inner_step_from(plan, first);
      const float *frame = s.frame, *next_source = NULL;
      if (plan->in_place) {
        frame = source_of(state, &now, first);
        next_source = step.last ? source_of(state, &next, 0) : source_of(state, &now, first + step.channels);
      } else {
        pf_frame_refill(&plan->frame, plan->kernels, &now.block, step.channels,
                        state->source + pf_source_channel(p, 0, now.group, first), pf_source_image(p), &s.content,
                        s.frame);
      }
      if (plan->packed) pf_column_tiles_pack(plan, &s.columns, &step, state->shift_offsets, state->source, frame);
      run_step(state, &s, &now, &step, frame, next_source);
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
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
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
