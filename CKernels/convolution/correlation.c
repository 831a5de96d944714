#include "convolution/correlation.h"

#include "convolution/correlation_planes.h"

// MARK: Plan

enum {
  frame_budget = 80 << 10,   // floats of a block's frame: a good part of a core's second-level cache
  panel_budget = 64 << 10,   // floats of packed columns
  packed_block_columns = 512,  // grid points of a block whose columns are packed: few are lost to a partial tile
};

/// The costs below count vectors handled in the time of one multiply-add.
static const double packing_cost = 4, scattering_cost = 4;

static int64_t balanced(int64_t extent, int64_t most) {
  return pf_ceiling_divide(extent, pf_ceiling_divide(extent, pf_maximum_of(most, 1)));
}

static int64_t frame_floats(const pf_correlation_plan *plan) {
  return plan->problem.channels * plan->frame.channel_stride;
}

static int64_t packed_weight_bytes(const pf_correlation_plan *plan) {
  return pf_aligned_bytes(plan->problem.groups * plan->problem.outputs * plan->inner * (int64_t)sizeof(float));
}

/// Blocks of single images whose frame fits the budget, as many rows as do, columns cut only where one row doesn't.
static void shape_direct(pf_correlation_plan *plan) {
  pf_frame *frame = &plan->frame;
  const int64_t width = frame->x.grid, height = frame->y.grid, tile = plan->kernels->tile_columns;
  int64_t columns = width;
  pf_frame_shape(frame, 1, 1, columns, tile);
  while (frame_floats(plan) > frame_budget && columns > 2 * tile) {
    columns = pf_round_up(pf_ceiling_divide(columns, 2), tile);
    pf_frame_shape(frame, 1, 1, columns, tile);
  }
  const int64_t single = frame_floats(plan);
  int64_t rows = 1;
  if (height > 1) {
    pf_frame_shape(frame, 1, 2, columns, tile);
    const int64_t more = pf_maximum_of(frame_floats(plan) - single, 1);
    rows = 1 + pf_maximum_of(0, (frame_budget - single) / more);
  }
  pf_frame_shape(frame, 1, balanced(height, pf_minimum_of(rows, height)), columns, tile);
}

/// Blocks of about packed_block_columns grid points.
static void shape_packed(pf_correlation_plan *plan) {
  pf_frame *frame = &plan->frame;
  const int64_t width = frame->x.grid, height = frame->y.grid, tile = plan->kernels->tile_columns;
  const int64_t images = pf_maximum_of(1, packed_block_columns / (width * height));
  if (images > 1) {
    pf_frame_shape(frame, balanced(pf_maximum_of(plan->problem.images, 1), images), height, width, tile);
  } else if (width <= packed_block_columns) {
    pf_frame_shape(frame, 1, balanced(height, packed_block_columns / width), width, tile);
  } else {
    pf_frame_shape(frame, 1, 1, packed_block_columns, tile);
  }
}

static void count_blocks(pf_correlation_plan *plan) {
  const pf_frame *frame = &plan->frame;
  plan->blocks_images = pf_ceiling_divide(plan->problem.images, frame->most.images);
  plan->blocks_y = pf_ceiling_divide(frame->y.grid, frame->most.rows);
  plan->blocks_x = pf_ceiling_divide(frame->x.grid, frame->most.columns);
}

static int64_t block_points(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  return plan->packed ? block->images * block->rows * block->columns : pf_frame_span(&plan->frame, block);
}

/// The time of a group's tiles over one image, in vector multiply-adds.
static double cost(const pf_correlation_plan *plan) {
  const double tiles = (double)pf_ceiling_divide(block_points(plan), plan->kernels->tile_columns);
  const double blocks = (double)(plan->blocks_images * plan->blocks_y * plan->blocks_x);
  const double inner = (double)plan->inner, outputs = (double)plan->problem.outputs;
  const double column = plan->packed ? inner * (outputs + packing_cost) : inner * outputs + outputs * scattering_cost;
  return blocks * tiles * column;
}

pf_status pf_correlation_prepare(const pf_settings *settings, const pf_correlation *problem,
                                 pf_correlation_plan *plan) {
  *plan = (pf_correlation_plan){.problem = *problem, .kernels = settings->kernels};
  pf_correlation *p = &plan->problem;
  p->weight_first += pf_axis_trim(&p->y) * p->weight_y;
  p->weight_first += pf_axis_trim(&p->x) * p->weight_x;
  if (p->y.taps == 0 || p->x.taps == 0) p->y.taps = p->x.taps = 0;
  plan->inner = p->channels * p->y.taps * p->x.taps;

  plan->in_place = p->y.taps == 1 && p->x.taps == 1 && p->y.step == 1 && p->x.step == 1 && p->y.first == 0 &&
                   p->x.first == 0 && p->y.source == p->y.grid && p->x.source == p->x.grid && p->result_x == 1 &&
                   p->result_y == p->x.grid;
  if (plan->in_place) {
    p->x.source = p->x.grid = p->x.grid * p->y.grid;
    p->y.source = p->y.grid = 1;
  }
  plan->frame.y = p->y;
  plan->frame.x = p->x;
  PF_TRY(pf_frame_analyse(&plan->frame, p->channels));
  plan->planes = pf_correlation_planes_suit(plan);
  if (plan->planes) {
    pf_correlation_planes_prepare(settings, plan);
    return pf_ok;
  }

  shape_direct(plan);
  count_blocks(plan);
  if (plan->inner > 0) {
    const pf_correlation_plan direct = *plan;
    plan->packed = true;
    shape_packed(plan);
    count_blocks(plan);
    if (!plan->in_place && cost(&direct) <= cost(plan)) *plan = direct;
  }

  const int64_t tile = plan->kernels->tile_columns;
  plan->tiles = pf_ceiling_divide(p->outputs, plan->kernels->tile_rows);
  plan->most_column_tiles = pf_ceiling_divide(block_points(plan), tile);
  plan->most_segments = plan->most_column_tiles + plan->frame.most.images * plan->frame.most.rows;
  plan->panel_tiles = 0;
  if (plan->packed) {
    const int64_t affordable = pf_maximum_of(1, panel_budget / (plan->inner * tile));
    plan->panel_tiles = pf_minimum_of(affordable, plan->most_column_tiles);
  }

  const int64_t blocks = plan->blocks_images * plan->blocks_y * plan->blocks_x * p->groups;
  const double operations = 2.0 * (double)plan->inner * (double)p->outputs * (double)block_points(plan);
  // Few blocks: several threads share one, each with tiles of its own.
  plan->tile_parts = 1;
  if (blocks < 2 * settings->threads) {
    plan->tile_parts = pf_minimum_of(plan->tiles, pf_ceiling_divide(2 * settings->threads, pf_maximum_of(blocks, 1)));
  }
  plan->parts = pf_parallel_parts(settings, blocks * plan->tile_parts, operations / (double)plan->tile_parts);

  const int64_t frame_size = plan->in_place ? 0 : frame_floats(plan);
  const int64_t panel_size = plan->panel_tiles * plan->inner * tile;
  const int64_t floats = frame_size + panel_size + plan->kernels->tile_rows * tile;
  const int64_t segments = plan->most_segments * (int64_t)sizeof(pf_segment);
  const int64_t indices = (plan->most_column_tiles + 1) * (int64_t)sizeof(int64_t);
  plan->scratch_bytes = pf_aligned_bytes(floats * (int64_t)sizeof(float) + segments + indices);
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + packed_weight_bytes(plan) +
                          3 * plan->inner * (int64_t)sizeof(int64_t);
  return pf_ok;
}

// MARK: Run

/// What all threads share.
typedef struct pf_correlation_run_state {
  const pf_correlation_plan *plan;
  const float *source, *weight, *bias;
  bool accumulate;
  float *result;
  float *packed_weight;            // by group, tile of outputs: inner x rows of the tile
  const int64_t *weight_offsets;   // by k
  const int64_t *frame_offsets;    // by k
  const int64_t *panel_offsets;    // by k
  char *scratch;                   // scratch_bytes a part
} run_state;

/// What one thread holds.
typedef struct scratch {
  float *frame, *panel, *tile;
  pf_segment *segments;
  int64_t *first_segment;  // by column tile, and the end
  int64_t column_tiles;
} scratch;

static scratch scratch_of(const run_state *state, int32_t part) {
  const pf_correlation_plan *plan = state->plan;
  const int64_t tile = plan->kernels->tile_columns;
  scratch s = {0};
  s.frame = (float *)(state->scratch + part * plan->scratch_bytes);
  s.panel = s.frame + (plan->in_place ? 0 : frame_floats(plan));
  s.tile = s.panel + plan->panel_tiles * plan->inner * tile;
  s.segments = (pf_segment *)(s.tile + plan->kernels->tile_rows * tile);
  s.first_segment = (int64_t *)(s.segments + plan->most_segments);
  return s;
}

pf_block pf_correlation_block(const pf_correlation_plan *plan, int64_t index) {
  const pf_frame *frame = &plan->frame;
  pf_block block;
  block.column = index % plan->blocks_x * frame->most.columns;
  index /= plan->blocks_x;
  block.row = index % plan->blocks_y * frame->most.rows;
  block.image = index / plan->blocks_y * frame->most.images;
  block.columns = pf_minimum_of(frame->most.columns, frame->x.grid - block.column);
  block.rows = pf_minimum_of(frame->most.rows, frame->y.grid - block.row);
  block.images = pf_minimum_of(frame->most.images, plan->problem.images - block.image);
  return block;
}

/// Cuts the block's rows into segments at the bounds of column tiles. A tile's columns are grid points of the frame,
/// gaps included, or, packed, the points of the result one after another.
static void find_segments(const pf_correlation_plan *plan, const pf_block *block, scratch *s) {
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns;
  const int64_t image_pitch =
      plan->in_place ? p->groups * p->channels * p->x.source : plan->frame.image_pitch;
  int64_t segment = 0, tiles = 0, points = 0;
  for (int64_t i = 0; i < block->images; ++i) {
    for (int64_t y = 0; y < block->rows; ++y) {
      const int64_t grid = i * image_pitch + y * plan->frame.pitch;
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

/// One register tile: `rows` outputs from `output` on, column tile `t`.
static void run_tile(const run_state *state, const scratch *s, int64_t group, int64_t output, int64_t rows,
                     const float *columns, const int64_t *offsets, int64_t t) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns;
  const int64_t channel = group * p->outputs + output;
  const float *weight = state->packed_weight + channel * plan->inner;
  const float *bias = state->bias == NULL ? NULL : state->bias + channel;
  float *result = state->result + channel * p->result_plane;
  const pf_segment *segments = s->segments + s->first_segment[t];
  const int64_t count = s->first_segment[t + 1] - s->first_segment[t];
  const pf_tile_kernel kernel = plan->kernels->tile[rows];
  if (count == 1 && segments->length == tile && p->result_x == 1) {
    kernel(plan->inner, weight, columns, offsets, bias, result + segments->result, p->result_plane,
           state->accumulate ? pf_tile_add : pf_tile_store);
  } else if (count > 0) {
    kernel(plan->inner, weight, columns, offsets, bias, s->tile, tile, pf_tile_store);
    plan->kernels->scatter_tile(rows, s->tile, segments, count, result, p->result_plane, p->result_x,
                                state->accumulate);
  }
}

static void run_block(const run_state *state, const scratch *s, int64_t group, const float *frame, int64_t tile_begin,
                      int64_t tile_end) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns;
  const int64_t step = plan->packed ? plan->panel_tiles : s->column_tiles;
  for (int64_t first = 0; first < s->column_tiles; first += step) {
    const int64_t last = pf_minimum_of(first + step, s->column_tiles);
    if (plan->packed) {
      plan->kernels->pack_columns(plan->inner, state->frame_offsets, frame, s->segments, s->first_segment + first,
                                  last - first, !plan->in_place, s->panel);
    }
    for (int64_t i = tile_begin; i < tile_end; ++i) {
      const int64_t output = pf_piece_begin(p->outputs, i, plan->tiles);
      const int64_t rows = pf_piece_begin(p->outputs, i + 1, plan->tiles) - output;
      for (int64_t t = first; t < last; ++t) {
        if (plan->packed) {
          run_tile(state, s, group, output, rows, s->panel + (t - first) * plan->inner * tile, state->panel_offsets, t);
        } else {
          run_tile(state, s, group, output, rows, frame + t * tile, state->frame_offsets, t);
        }
      }
    }
  }
}

/// Items: blocks, in each the groups, in each the parts of the tiles.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  scratch s = scratch_of(state, part);
  pf_block block = {0};
  int64_t block_index = -1, filled = -1;
  const int64_t source_plane = p->y.source * p->x.source;
  const int64_t source_image = p->groups * p->channels * source_plane;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tile_part = item % plan->tile_parts, block_group = item / plan->tile_parts;
    const int64_t group = block_group % p->groups;
    if (block_group / p->groups != block_index) {
      block_index = block_group / p->groups;
      block = pf_correlation_block(plan, block_index);
      find_segments(plan, &block, &s);
    }
    const float *source = state->source + group * p->channels * source_plane;
    const float *frame = s.frame;
    if (plan->in_place) {
      frame = source + block.image * source_image + block.column;
    } else if (block_group != filled) {
      pf_frame_fill(&plan->frame, plan->kernels, &block, p->channels, source, source_image, false, s.frame);
      filled = block_group;
    }
    run_block(state, &s, group, frame, pf_piece_begin(plan->tiles, tile_part, plan->tile_parts),
              pf_piece_begin(plan->tiles, tile_part + 1, plan->tile_parts));
  }
}

/// Items: the tiles of outputs of all groups.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / plan->tiles, i = item % plan->tiles;
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
    for (int64_t i = 0; i < p->y.taps; ++i) {
      for (int64_t j = 0; j < p->x.taps; ++j, ++k) {
        weight[k] = p->weight_first + c * p->weight_channel + i * p->weight_y + j * p->weight_x;
        frame[k] = plan->in_place ? c * p->x.source
                                  : c * plan->frame.channel_stride + pf_frame_offset(&plan->frame, i, j);
        panel[k] = k * plan->kernels->tile_columns;
      }
    }
  }
}

void pf_correlation_run(const pf_correlation_plan *plan, const float *source, const float *weight, const float *bias,
                        pf_writing writing, float *result, char *workspace) {
  const pf_correlation *p = &plan->problem;
  const int64_t blocks = plan->blocks_images * plan->blocks_y * plan->blocks_x * p->groups;
  if (blocks == 0) return;
  if (plan->planes) {
    pf_correlation_planes_run(plan, source, weight, bias, writing, result, workspace);
    return;
  }
  run_state state = {
      .plan = plan,
      .source = source,
      .weight = weight,
      .bias = bias,
      .accumulate = writing == pf_accumulate,
      .result = result,
      .scratch = workspace,
  };
  char *next = workspace + plan->parts * plan->scratch_bytes;
  state.packed_weight = (float *)next;
  next += packed_weight_bytes(plan);
  int64_t *weight_offsets = (int64_t *)next;
  int64_t *frame_offsets = weight_offsets + plan->inner, *panel_offsets = frame_offsets + plan->inner;
  fill_offsets(plan, weight_offsets, frame_offsets, panel_offsets);
  state.weight_offsets = weight_offsets;
  state.frame_offsets = frame_offsets;
  state.panel_offsets = panel_offsets;

  const int32_t pack_parts = (int32_t)pf_minimum_of(plan->parts, plan->tiles * p->groups);
  pf_parallel_in(pack_parts, plan->tiles * p->groups, pack_range, &state);
  pf_parallel_in(plan->parts, blocks * plan->tile_parts, run_range, &state);
}
