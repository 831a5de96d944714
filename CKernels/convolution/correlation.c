#include "convolution/correlation.h"

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

/// Of the plans that run together.
typedef struct run_states {
  int64_t count;
  run_state state[pf_most_correlations];
} run_states;

/// What one thread holds.
typedef struct scratch {
  float *frame, *sums, *panels;
  pf_segment *segments;
  int64_t *first_segment;  // by column tile, and the end
  int64_t column_tiles;
  pf_block filled;         // what the frame holds, if it holds any channels
  int64_t filled_channels, filled_group;
} scratch;

static scratch scratch_of(const run_state *state, int32_t part) {
  const pf_correlation_plan *plan = state->plan;
  char *end = state->scratch + (part + 1) * plan->scratch_bytes;
  scratch s = {0};
  s.frame = (float *)(state->scratch + part * plan->scratch_bytes);
  s.sums = s.frame + (plan->in_place ? 0 : plan->channel_step * plan->frame.channel_stride);
  s.panels = s.sums + plan->sums_floats;
  s.segments = (pf_segment *)end - plan->most_segments;
  s.first_segment = (int64_t *)s.segments - (plan->most_column_tiles + 1);
  return s;
}

/// Cuts the block's rows into segments at the bounds of column tiles. A tile's columns are grid points of the frame,
/// gaps included, or, packed, the points of the result one after another.
static void find_segments(const pf_correlation_plan *plan, const pf_block *block, scratch *s) {
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns;
  const int64_t image_pitch =
      plan->in_place ? p->groups * p->channels * p->y.source * p->x.source : plan->frame.image_pitch;
  const int64_t pitch = plan->in_place ? p->x.source : plan->frame.pitch;
  int64_t segment = 0, tiles = 0, points = 0;
  for (int64_t i = 0; i < block->images; ++i) {
    for (int64_t y = 0; y < block->rows; ++y) {
      const int64_t grid = i * image_pitch + y * pitch;
      const int64_t result = (block->image + i) * p->result_image + p->result_first +
                             (block->row + y) * p->result_y + block->column * p->result_x;
      int64_t done = 0;
      while (done < block->columns) {
        const int64_t place = plan->packed ? points : grid + done;
        const int64_t length = pf_minimum_of(block->columns - done, tile - place % tile);
        const pf_segment next = {
            .column = (int32_t)(place % tile),
            .length = (int32_t)length,
            .frame = grid + done,
            .result = result + done * p->result_x,
        };
        pf_segment *last = s->segments + segment - 1;
        if (tiles == place / tile + 1 && last->column + last->length == next.column &&
            last->frame + last->length == next.frame && last->result + last->length * p->result_x == next.result) {
          last->length += next.length;
        } else {
          while (tiles <= place / tile) s->first_segment[tiles++] = segment;
          s->segments[segment++] = next;
        }
        points += length;
        done += length;
      }
    }
  }
  s->first_segment[tiles] = segment;
  s->column_tiles = tiles;
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
  const float *next_source;  // where what is read after it begins, in place; NULL: in a frame
} inner_step;

/// What a tile kernel fetches for later.
typedef struct fetch {
  const float *from;
  int64_t step;
} fetch;

/// Whether a column tile is a single run of the frame, as wide as the tile.
static bool is_whole(const pf_segment *segments, int64_t count, int64_t tile) {
  const pf_segment *last = segments + count - 1;
  return last->column + last->length == tile && last->frame - segments->frame == last->column;
}

/// The packed weights of a tile of outputs, from k on.
static const float *weight_of(const run_state *state, int64_t group, int64_t tile, int64_t k) {
  const pf_correlation *p = &state->plan->problem;
  const int64_t output = pf_piece_begin(p->outputs, tile, state->plan->tiles);
  const int64_t rows = pf_piece_begin(p->outputs, tile + 1, state->plan->tiles) - output;
  return state->packed_weight + (group * p->outputs + output) * state->plan->inner + k * rows;
}

/// One register tile: `rows` outputs from `output` on, column tile `t`, one step of its sum. `panel` holds its columns
/// where they are packed.
static void run_tile(const run_state *state, const scratch *s, int64_t group, int64_t output, int64_t rows,
                     const inner_step *step, const float *frame, const float *panel, int64_t t, fetch next) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns, lanes = plan->kernels->lanes;
  const pf_segment *segments = s->segments + s->first_segment[t];
  const int64_t count = s->first_segment[t + 1] - s->first_segment[t];
  if (count == 0) return;
  const int64_t channel = group * p->outputs + output;
  const float *weight = state->packed_weight + channel * plan->inner + step->k * rows;
  const float *bias = state->bias == NULL || step->k > 0 ? NULL : state->bias + channel;
  float *result = state->result + channel * p->result_plane;
  const bool whole = is_whole(segments, count, tile);
  const bool waits = plan->channel_step < p->channels;
  const int64_t *offsets = state->frame_offsets + step->k;
  const float *columns = frame + t * tile;
  if (plan->packed && whole) {
    columns = frame + segments->frame;
  } else if (plan->packed) {
    offsets = state->panel_offsets;
    columns = panel;
  }
  const int64_t used = segments[count - 1].column + segments[count - 1].length;
  const pf_tile_kernel kernel = used <= lanes ? plan->kernels->thin_tile[rows] : plan->kernels->tile[rows];
  pf_tile_mode mode = step->k > 0 ? pf_tile_add : pf_tile_store;
  const pf_activation activation = step->last ? state->activation : pf_activation_none;
  // What accumulates is added to the result once, as a whole.
  const bool single = plan->inner <= plan->chain;
  if (whole && count == 1 && p->result_x == 1 && (single || !state->accumulate)) {
    if (state->accumulate) mode = pf_tile_add;
    kernel(step->inner, plan->chain, weight, columns, offsets, next.from, next.step, bias, result + segments->result,
           p->result_plane, mode, activation);
    return;
  }
  float *sums = waits ? s->sums + (t * p->outputs + output) * tile : s->sums;
  kernel(step->inner, plan->chain, weight, columns, offsets, next.from, next.step, bias, sums, tile, mode, activation);
  if (step->last) {
    const pf_scatter_mode scatter = state->accumulate ? pf_scatter_add : p->pad ? pf_scatter_pad : pf_scatter_store;
    plan->kernels->scatter_tile(rows, sums, segments, count, result, p->result_plane, p->result_x, scatter);
  }
}

/// Packs the column tiles of a block that aren't whole. `behind` floats follow what the step's last channel reads.
static void pack_tiles(const run_state *state, const scratch *s, const inner_step *step, const float *frame,
                       int64_t behind) {
  const pf_correlation_plan *plan = state->plan;
  const int64_t tile = plan->kernels->tile_columns, missing = plan->kernels->lanes - 1 - behind;
  // The last channels of a source in place end too near to its end for whole vectors.
  const int64_t plane = plan->problem.y.source * plan->problem.x.source;
  const int64_t careful = missing <= 0 ? 0 : pf_minimum_of(step->inner, pf_ceiling_divide(missing, plane));
  const int64_t *offsets = state->frame_offsets + step->k;
  float *panel = s->panels;
  for (int64_t t = 0; t < s->column_tiles; ++t) {
    const pf_segment *segments = s->segments + s->first_segment[t];
    const int64_t count = s->first_segment[t + 1] - s->first_segment[t], most = step->inner - careful;
    if (is_whole(segments, count, tile)) continue;
    plan->kernels->pack_columns(most, offsets, frame, segments, count, true, panel);
    plan->kernels->pack_columns(careful, offsets + most, frame, segments, count, false, panel + most * tile);
    panel += plan->panel_floats;
  }
}

/// Cache lines that a block in place takes of an image's channel.
static int64_t lines_of(const pf_correlation_plan *plan, const pf_block *block) {
  enum { line = 16 };
  return pf_ceiling_divide((block->rows - 1) * plan->problem.x.source + block->columns, line) + 1;
}

static void run_step(const run_state *state, const scratch *s, const item *item, const inner_step *step,
                     const float *frame, int64_t tile_begin, int64_t tile_end) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns, tiles = tile_end - tile_begin;
  const int64_t plane = p->y.source * p->x.source, image_floats = p->groups * p->channels * plane;
  const int64_t image_lines = lines_of(plan, &item->block);
  const int64_t lines = step->next_source == NULL ? 0 : item->block.images * image_lines;
  for (int64_t i = tile_begin; i < tile_end; ++i) {
    const int64_t output = pf_piece_begin(p->outputs, i, plan->tiles);
    const int64_t rows = pf_piece_begin(p->outputs, i + 1, plan->tiles) - output;
    const float *panel = s->panels;
    // What is read next comes into the second-level cache evenly: while each tile of outputs runs, a part of the source
    // and the next tile's weights.
    const int64_t line_begin = pf_piece_begin(lines, i - tile_begin, tiles);
    const int64_t line_count =
        pf_minimum_of(pf_piece_begin(lines, i - tile_begin + 1, tiles) - line_begin, s->column_tiles);
    const float *next_weight =
        i + 1 < tile_end ? weight_of(state, item->group, i + 1, step->k) : step->next_weight;
    for (int64_t t = 0; t < s->column_tiles; ++t) {
      fetch next;
      if (t < line_count) {
        const int64_t line = line_begin + t;
        next.from = step->next_source + line / image_lines * image_floats + line % image_lines * 16;
        next.step = plane;
      } else {
        const int64_t piece = t - line_count, pieces = s->column_tiles - line_count;
        next.from = next_weight + pf_piece_begin(rows * step->inner, piece, pieces);
        next.step = pf_ceiling_divide(rows, pieces);
      }
      run_tile(state, s, item->group, output, rows, step, frame, panel, t, next);
      const int64_t first = s->first_segment[t];
      if (!is_whole(s->segments + first, s->first_segment[t + 1] - first, tile)) panel += plan->panel_floats;
    }
  }
}

/// Items: rows and columns of blocks, in each the images, in each the groups, in each the parts of the tiles.
static item item_of(const pf_correlation_plan *plan, int64_t index) {
  const int64_t places = plan->blocks_y * plan->blocks_x;
  item next = {.tile_part = index % plan->tile_parts};
  index /= plan->tile_parts;
  next.group = index % plan->problem.groups;
  index /= plan->problem.groups;
  const int64_t block = index % plan->blocks_images * places + index / plan->blocks_images;
  next.block = pf_frame_block(&plan->frame, plan->problem.images, block);
  return next;
}

/// Where an item's source begins.
static const float *source_of(const run_state *state, const item *item) {
  const pf_correlation *p = &state->plan->problem;
  const int64_t plane = p->y.source * p->x.source;
  return state->source + (item->block.image * p->groups + item->group) * p->channels * plane +
         (state->plan->in_place ? item->block.row * p->x.source + item->block.column : 0);
}

static bool is_same_place(const pf_block *a, const pf_block *b) {
  return a->row == b->row && a->rows == b->rows && a->column == b->column && a->columns == b->columns &&
         a->images == b->images;
}

/// Fills the frame with the channels of a step.
static void fill_frame(const run_state *state, scratch *s, const item *item, const inner_step *step) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t plane = p->y.source * p->x.source;
  const bool zeroed = is_same_place(&s->filled, &item->block) && step->channels <= s->filled_channels;
  if (zeroed && s->filled.image == item->block.image && s->filled_group == item->group &&
      plan->channel_step == p->channels) {
    return;
  }
  pf_frame_fill(&plan->frame, plan->kernels, &item->block, step->channels,
                state->source + (item->group * p->channels + step->first) * plane, p->groups * p->channels * plane,
                zeroed, s->frame);
  if (!zeroed) s->filled_channels = step->channels;
  s->filled = item->block;
  s->filled_group = item->group;
}

static void run_item(const run_state *state, scratch *s, const item *now, const item *next) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t plane = p->y.source * p->x.source, taps = p->y.taps * p->x.taps;
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
    int64_t behind = plan->kernels->lanes;
    if (plan->in_place) {
      frame = source_of(state, now) + first * plane;
      step.next_source = step.last ? source_of(state, next) : frame + step.channels * plane;
      behind = (p->images * p->groups * p->channels - step.channels + 1) * plane - (frame - state->source) -
               (now->block.images - 1) * p->groups * p->channels * plane - (now->block.rows - 1) * p->x.source -
               now->block.columns;
    } else {
      fill_frame(state, s, now, &step);
    }
    if (plan->packed) pack_tiles(state, s, &step, frame, behind);
    run_step(state, s, now, &step, frame, tile_begin, tile_end);
  }
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_states *states = argument;
  const pf_correlation_plan *plan = states->state->plan;
  item now = {0}, next = item_of(plan, begin);
  scratch s = scratch_of(states->state, part);
  for (int64_t index = begin; index < end; ++index) {
    const pf_block before = now.block;
    now = next;
    if (index + 1 < end) next = item_of(plan, index + 1);
    const bool moved = index == begin || before.image != now.block.image || !is_same_place(&before, &now.block);
    for (int64_t i = 0; i < states->count; ++i) {
      // Plans that take turns leave nothing to each other.
      if (states->count > 1) s = scratch_of(states->state + i, part);
      if (moved || states->count > 1) find_segments(states->state[i].plan, &now.block, &s);
      run_item(states->state + i, &s, &now, &next);
    }
  }
}

/// Items: plans, in each the tiles of outputs of all groups.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_states *states = argument;
  for (int64_t item = begin; item < end; ++item) {
    const run_state *state = states->state + item % states->count;
    const pf_correlation_plan *plan = state->plan;
    const pf_correlation *p = &plan->problem;
    const int64_t group = item / states->count / plan->tiles, i = item / states->count % plan->tiles;
    const int64_t output = pf_piece_begin(p->outputs, i, plan->tiles);
    const int64_t rows = pf_piece_begin(p->outputs, i + 1, plan->tiles) - output;
    plan->kernels->pack_rows(plan->inner, rows, state->weight + group * p->weight_group + output * p->weight_output,
                             p->weight_output, state->weight_offsets,
                             state->packed_weight + (group * p->outputs + output) * plan->inner, rows);
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
        frame[k] = plan->in_place ? channel * p->y.source * p->x.source
                                  : channel * plan->frame.channel_stride + pf_frame_offset(&plan->frame, i, j);
        panel[k] = k * plan->kernels->tile_columns;
      }
    }
  }
}

void pf_correlation_run_aligned(int64_t count, const pf_correlation_plan *plans, const float *source,
                                const float *weight, const float *bias, pf_activation activation, pf_writing writing,
                                float *result, char *workspace) {
  const pf_correlation_plan *first = plans;
  const int64_t groups = first->problem.groups;
  const int64_t items = first->blocks_images * first->blocks_y * first->blocks_x * groups * first->tile_parts;
  if (items == 0) return;
  run_states states = {.count = count};
  char *next = workspace + first->parts * first->scratch_bytes;
  for (int64_t i = 0; i < count; ++i) {
    const pf_correlation_plan *plan = plans + i;
    int64_t *weight_offsets = (int64_t *)next;
    int64_t *frame_offsets = weight_offsets + plan->inner, *panel_offsets = frame_offsets + plan->inner;
    fill_offsets(plan, weight_offsets, frame_offsets, panel_offsets);
    states.state[i] = (run_state){
        .plan = plan,
        .source = source,
        .weight = weight,
        .bias = bias,
        .activation = activation,
        .accumulate = writing == pf_accumulate,
        .result = result,
        .packed_weight = (float *)(next + pf_aligned_bytes(3 * plan->inner * (int64_t)sizeof(int64_t))),
        .weight_offsets = weight_offsets,
        .frame_offsets = frame_offsets,
        .panel_offsets = panel_offsets,
        .scratch = workspace,
    };
    next += plan->shared_bytes;
  }
  const int64_t pack_items = count * first->tiles * groups;
  pf_parallel_in((int32_t)pf_minimum_of(first->parts, pack_items), pack_items, pack_range, &states);
  pf_parallel_in(first->parts, items, run_range, &states);
}

void pf_correlation_run(const pf_correlation_plan *plan, const float *source, const float *weight, const float *bias,
                        pf_activation activation, pf_writing writing, float *result, char *workspace) {
  if (plan->planes) {
    pf_correlation_planes_run(plan, source, weight, bias, activation, writing, result, workspace);
  } else {
    pf_correlation_run_aligned(1, plan, source, weight, bias, activation, writing, result, workspace);
  }
}
