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
  int32_t parts;
  int64_t scratch_bytes, workspace_bytes;
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
  return pf_ok;
}

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes) {
  gradient_plan plan;
  PF_TRY(prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes;
  return pf_ok;
}

typedef struct run_state {
  const gradient_plan *plan;
  const float *input, *output_gradient;
  const uint8_t *mask;
  bool accumulate;
  float *result;
  const int64_t *offsets;  // of the elements of a filter in the frame
  float *sums;             // slices x filters x inner
  char *scratch;
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

/// Copies `count` filters' rows of the output gradient onto the block's grid, with zeros in the gaps and behind it.
static void fill_gradient_rows(const gradient_plan *plan, const pf_block *block, const float *output_gradient,
                               int64_t filter, int64_t count, float *rows) {
  const pf_frame *frame = &plan->frame;
  const int64_t width = plan->frame.x.grid, plane = plan->shape.output_plane;
  for (int64_t r = 0; r < count; ++r) {
    float *row = rows + r * plan->row_stride + plan->lead;
    memset(row - plan->lead, 0, (size_t)plan->lead * sizeof(float));
    for (int64_t i = 0; i < block->images; ++i) {
      const float *source = output_gradient +
                            ((block->image + i) * plan->problem.output_channels + filter + r) * plane +
                            block->row * width + block->column;
      float *image = row + i * frame->image_pitch;
      const int64_t rest = plan->row_stride - plan->lead - i * frame->image_pitch;
      const int64_t end = i + 1 < block->images ? frame->image_pitch : rest;
      plan->kernels->copy_rows(block->rows, block->columns, frame->pitch, source, width, 1, image, frame->pitch);
      memset(image + block->rows * frame->pitch, 0, (size_t)(end - block->rows * frame->pitch) * sizeof(float));
    }
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

static bool same_extents(const pf_block *a, const pf_block *b) {
  return a->images == b->images && a->row == b->row && a->rows == b->rows && a->column == b->column &&
         a->columns == b->columns;
}

/// All dot products of one block: a group's tiles of filters from `tile_begin` up to `tile_end`.
static void run_block(const run_state *state, const pf_block *block, int64_t group, int64_t tile_begin,
                      int64_t tile_end, float *sums, bool accumulate, scratch *s) {
  const gradient_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const int64_t taps = plan->frame.y.taps * plan->frame.x.taps;
  const float *input = state->input + group * shape->group_input_channels * shape->input_plane;
  for (int64_t channel = 0; channel < shape->group_input_channels; channel += plan->channels) {
    const int64_t channels = pf_minimum_of(plan->channels, shape->group_input_channels - channel);
    const bool zeroed = channels <= s->filled_channels && same_extents(block, &s->filled);
    pf_frame_fill(&plan->frame, plan->kernels, block, channels, input + channel * shape->input_plane,
                  plan->problem.input_channels * shape->input_plane, zeroed, s->frame);
    if (!zeroed) {
      s->filled = *block;
      s->filled_channels = channels;
    }
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const int64_t filter = pf_piece_begin(shape->group_output_channels, t, plan->row_tiles);
      const int64_t count = pf_piece_begin(shape->group_output_channels, t + 1, plan->row_tiles) - filter;
      fill_gradient_rows(plan, block, state->output_gradient, group * shape->group_output_channels + filter, count,
                         s->rows);
      float *result = sums + (group * shape->group_output_channels + filter) * plan->inner + channel * taps;
      (plan->shifts > 0 ? multiply_shifted : multiply)(state, block, count, channels, s, result, accumulate);
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
      run_block(state, &block, group, pf_piece_begin(plan->row_tiles, row_part, plan->row_parts),
                pf_piece_begin(plan->row_tiles, row_part + 1, plan->row_parts), sums, b > first, &s);
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
  const pf_algorithm algorithm = pf_plan_algorithm(&settings, problem, pf_pass_weight_gradient);
  if (algorithm != pf_algorithm_direct) {
    return pf_winograd_weight_gradient(&settings, problem, algorithm, input, output_gradient, gradient_mask, writing,
                                       weight_gradient);
  }
  gradient_plan plan;
  PF_TRY(prepare(&settings, problem, &shape, &plan));
  char *workspace = pf_memory_allocate((size_t)plan.workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  run_state state = {
      .plan = &plan,
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
      .scratch = workspace,
  };
  const int64_t taps_y = plan.frame.y.taps, taps_x = plan.frame.x.taps;
  int64_t *offsets = (int64_t *)(workspace + plan.parts * plan.scratch_bytes);
  for (int64_t k = 0; k < plan.channels * taps_y * taps_x; ++k) {
    offsets[k] = k / (taps_y * taps_x) * plan.frame.channel_stride +
                 pf_frame_offset(&plan.frame, k / taps_x % taps_y, k % taps_x);
  }
  state.offsets = offsets;
  state.sums = (float *)((char *)offsets +
                         pf_aligned_bytes(plan.channels * taps_y * taps_x * (int64_t)sizeof(int64_t)));
  pf_parallel_in(plan.parts, plan.slices * problem->groups * plan.row_parts, run_range, &state);
  const double cost = 8.0 * (double)(plan.inner * (plan.slices + 1));
  pf_parallel(&settings, problem->output_channels, cost, finish_range, &state);
  pf_memory_release(workspace);
  return pf_ok;
}
