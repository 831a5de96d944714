// Dot products along the grid points of a frame.
//
// The grid is cut into blocks. A block's input channels are copied into a frame, its rows of the output gradient onto
// the same grid with zeros in the gaps, and each gradient element of the block is one dot product of contiguous floats.
// The blocks are shared out to slices; each slice sums its blocks in order, and the slices are summed in order at the
// end.
//
// Where a group has too few filters for the tiles of dot products, as in depthwise convolutions, tap rows take their
// place: the output gradient moved by t rows against the input's row of the first tap makes the gradient of the t-th. A
// tile of filters' rows is then the same row, read at several places.

#include "convolution/dot_gradient.h"

#include <string.h>

#include "convolution/dot_gradient_plan.h"

enum { most_filters = 8 };

bool pf_dot_gradient_applies(const pf_convolution_shape *shape) { return shape->group_output_channels <= most_filters; }

pf_status pf_dot_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    const pf_convolution_shape *shape, int64_t *bytes) {
  pf_dot_plan plan;
  PF_TRY(pf_dot_prepare(settings, problem, shape, &plan));
  *bytes = plan.workspace_bytes;
  return pf_ok;
}

typedef struct run_state {
  const pf_dot_plan *plan;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_plane_sums *plane_sums;
  bool accumulate;
  float *result;
  const int64_t *offsets;  // of the elements of a filter in the frame
  float *sums;             // slices x filters x inner
  char *scratch;
} run_state;

/// Copies a filter's rows of the output gradient onto the block's grid, with zeros in the gaps, in front and behind.
static void fill_gradient_row(const pf_dot_plan *plan, const pf_block *block, const float *output_gradient,
                              int64_t filter, float *row) {
  const pf_frame *frame = &plan->frame;
  const int64_t width = plan->frame.x.grid, plane = plan->shape.output_plane;
  const pf_row_copy copy = {
      .images = block->images,
      .rows = block->rows,
      .phase_count = 1,
      .source_image = plan->problem.output_channels * plane,
      .source_row = width,
      .step = 1,
      .result_image = frame->image_pitch,
      .result_row = frame->pitch,
      .phases = {{.count = block->columns}},
  };
  const float *source = output_gradient + (block->image * plan->problem.output_channels + filter) * plane +
                        block->row * width + block->column;
  const int64_t readable =
      (block->images - 1) * copy.source_image + (block->rows - 1) * width + block->columns;
  memset(row, 0, (size_t)plan->row_stride * sizeof(float));
  plan->kernels->copy_rows(&copy, source, readable, row + plan->lead, plan->row_stride - plan->lead);
}

/// What one thread holds.
typedef struct scratch {
  float *frame, *rows;
  pf_frame_content content;  // of the frame
} scratch;

/// A block of a group that comes next, whose planes come closer during `parts` parts of the work before.
typedef struct upcoming {
  pf_block block;
  int64_t group;
  int64_t part, parts;  // from `parts` on nothing comes any more
} upcoming;

/// Has one image's rows of a plane that a block reads come closer.
static void fetch_rows(const float *plane, int64_t row, int64_t rows, int64_t height, int64_t width) {
  const int64_t end = pf_minimum_of(row + rows, height) * width;
  for (int64_t i = pf_maximum_of(row, 0) * width; i < end; i += pf_line_floats) __builtin_prefetch(plane + i, 0, 2);
}

/// The same for the planes of its group's input and output gradient, piece `piece` of `pieces` of a part.
static void fetch_planes(const run_state *state, const upcoming *next, int64_t piece, int64_t pieces) {
  if (next->part >= next->parts) return;
  const pf_dot_plan *plan = state->plan;
  const pf_block *block = &next->block;
  const pf_convolution_shape *shape = &plan->shape;
  const pf_axis *y = &plan->frame.y;
  const int64_t channels = shape->group_input_channels, filters = shape->group_output_channels;
  const int64_t first_channel = block->image * plan->problem.input_channels + next->group * channels;
  const int64_t first_filter = block->image * plan->problem.output_channels + next->group * filters;
  const pf_piece planes = pf_piece_of(channels + filters, next->part * pieces + piece, next->parts * pieces);
  for (int64_t i = planes.first; i < planes.first + planes.count; ++i) {
    if (i < channels) {
      fetch_rows(state->input + (first_channel + i) * shape->input_plane, block->row * y->step + y->first,
                 (block->rows - 1) * y->step + 1 + (y->taps - 1) * y->tap_step, y->source, plan->frame.x.source);
    } else {
      fetch_rows(state->output_gradient + (first_filter + i - channels) * shape->output_plane, block->row, block->rows,
                 y->grid, plan->frame.x.grid);
    }
  }
}

/// result[r * result_stride + j] = (or +=) sums[r * columns + j].
static void put_sums(int64_t rows, int64_t columns, const float *sums, float *result, int64_t result_stride,
                     bool accumulate) {
  for (int64_t r = 0; r < rows; ++r, result += result_stride) {
    for (int64_t j = 0; j < columns; ++j, ++sums) result[j] = accumulate ? result[j] + *sums : *sums;
  }
}

/// The dot products of `count` filters with elements `first` up to `last`, whose offsets begin with the first's.
static void multiply(const run_state *state, const pf_block *block, const upcoming *next, int64_t count, int64_t first,
                     int64_t last, const scratch *s, float *result, bool accumulate) {
  const pf_dot_plan *plan = state->plan;
  const int64_t vectors = pf_ceiling_divide(pf_frame_span(&plan->frame, block), plan->kernels->lanes);
  const int64_t elements = last - first, column_tiles = pf_ceiling_divide(elements, plan->kernels->dot_columns);
  int64_t rows[pf_most_dot_rows];
  for (int64_t r = 0; r < count; ++r) rows[r] = r * plan->row_stride;
  for (int64_t i = 0; i < column_tiles; ++i) {
    const int64_t k = pf_piece_begin(elements, i, column_tiles);
    const int64_t columns = pf_piece_begin(elements, i + 1, column_tiles) - k;
    fetch_planes(state, next, i, column_tiles);
    float sums[pf_most_dot_sums];
    plan->kernels->dot[count][columns](vectors, s->rows, rows, s->frame, state->offsets + k, sums);
    put_sums(count, columns, sums, result + k, plan->inner, accumulate);
  }
}

/// The dot products of `count` filters with `channels` input channels, tap rows in the place of filters.
static void multiply_shifted(const run_state *state, const pf_block *block, int64_t count, int64_t channels,
                             const scratch *s, float *result, bool accumulate) {
  const pf_dot_plan *plan = state->plan;
  const pf_kernels *kernels = plan->kernels;
  const int64_t taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps, period = plan->frame.y_taps.phases;
  const int64_t span = pf_frame_span(&plan->frame, block);
  const int64_t column_tiles = pf_ceiling_divide(taps_x, kernels->dot_columns);
  int64_t moves[pf_most_dot_rows];
  for (int64_t r = 0; r < kernels->dot_rows; ++r) moves[r] = -r * plan->shift;
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
        float sums[pf_most_dot_sums];
        kernels->dot[rows][columns](vectors, row, moves, s->frame, state->offsets + k, sums);
        put_sums(rows, columns, sums, result + r * plan->inner + k, period * taps_x, accumulate);
      }
    }
  }
}

/// Whether anything of a filter is trainable.
static bool computes(const run_state *state, int64_t filter) {
  if (state->mask == NULL) return true;
  const int64_t elements = state->plan->shape.group_input_channels * state->plan->shape.taps;
  const uint8_t *mask = state->mask + filter * elements;
  return mask[0] != 0 || memcmp(mask, mask + 1, (size_t)elements - 1) != 0;
}

/// All dot products of one block with some tiles of a group's filters, while the `next` one's planes come closer.
static void run_block(const run_state *state, const pf_block *block, int64_t group, pf_piece tiles, upcoming next,
                      float *sums, bool accumulate, scratch *s) {
  const pf_dot_plan *plan = state->plan;
  const pf_convolution_shape *shape = &plan->shape;
  const int64_t taps = plan->frame.y.taps * plan->frame.x.taps, group_filters = shape->group_output_channels;
  if (next.parts > 0) next.parts = tiles.count;  // of the first channels' tiles
  for (int64_t channel = 0; channel < shape->group_input_channels; channel += plan->channels) {
    const int64_t channels = pf_minimum_of(plan->channels, shape->group_input_channels - channel);
    const float *input = state->input + (group * shape->group_input_channels + channel) * shape->input_plane;
    for (int64_t t = tiles.first; t < tiles.first + tiles.count; ++t, ++next.part) {
      const pf_piece filters = pf_piece_of(group_filters, t, plan->row_tiles);
      int64_t begin = group * group_filters + filters.first, end = begin + filters.count;
      // Frozen filters at either end of a tile are left out; one between others costs less than a tile of its own.
      while (begin < end && !computes(state, begin)) begin += 1;
      while (begin < end && !computes(state, end - 1)) end -= 1;
      const int64_t count = end - begin;
      for (int64_t r = 0; r < count; ++r) {
        fill_gradient_row(plan, block, state->output_gradient, begin + r, s->rows + r * plan->row_stride);
      }
      if (count == 0) continue;
      pf_frame_refill(&plan->frame, plan->kernels, block, channels, input,
                      plan->problem.input_channels * shape->input_plane, &s->content, s->frame);
      float *result = sums + begin * plan->inner + channel * taps;
      if (plan->shifts > 0) {
        multiply_shifted(state, block, count, channels, s, result, accumulate);
      } else {
        multiply(state, block, &next, count, channel * taps, (channel + channels) * taps, s, result, accumulate);
      }
    }
  }
}

/// Blocks of a slice, for some tiles of a group's filters.
typedef struct item {
  int64_t slice, group;
  pf_piece tiles, blocks;
} item;

/// Items: slices, in each the groups, in each the parts of the filters' tiles.
static item item_of(const pf_dot_plan *plan, int64_t index) {
  const int64_t slice = index / plan->row_parts / plan->problem.groups;
  return (item){.slice = slice,
                .group = index / plan->row_parts % plan->problem.groups,
                .tiles = pf_piece_of(plan->row_tiles, index % plan->row_parts, plan->row_parts),
                .blocks = pf_piece_of(plan->blocks, slice, plan->slices)};
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_dot_plan *plan = state->plan;
  scratch s = {.frame = (float *)(state->scratch + part * plan->scratch_bytes)};
  s.rows = (float *)(state->scratch + (part + 1) * plan->scratch_bytes) - plan->kernels->dot_rows * plan->row_stride;
  for (int64_t index = begin; index < end; ++index) {
    const item now = item_of(plan, index), following = item_of(plan, pf_minimum_of(index + 1, end - 1));
    float *sums = state->sums + now.slice * plan->problem.output_channels * plan->inner;
    for (int64_t i = 0; i < now.blocks.count; ++i) {
      const pf_block block = pf_frame_block(&plan->frame, plan->problem.batch, now.blocks.first + i);
      const bool more = i + 1 < now.blocks.count;
      const int64_t next_block = more ? now.blocks.first + i + 1 : following.blocks.first;
      const upcoming next = {.block = pf_frame_block(&plan->frame, plan->problem.batch, next_block),
                             .group = more ? now.group : following.group,
                             .parts = more || (plan->far && index + 1 < end)};
      if (now.tiles.first == 0 && block.row == 0 && block.column == 0) {
        const int64_t filters = plan->shape.group_output_channels;
        pf_plane_sums_take(state->plane_sums, block.image, block.images, now.group * filters, filters);
      }
      run_block(state, &block, now.group, now.tiles, next, sums, i > 0, &s);
    }
  }
}

/// Sums the slices and writes `count` neighbouring gradient elements; `sums` is NULL where they are always zero.
static void finish(const run_state *state, int64_t element, int64_t count, const float *sums) {
  const pf_dot_plan *plan = state->plan;
  const uint8_t *mask = state->mask == NULL ? NULL : state->mask + element;
  plan->kernels->finish_gradient(count, sums == NULL ? 0 : plan->slices, sums,
                                 plan->problem.output_channels * plan->inner, mask, state->accumulate,
                                 state->result + element);
}

/// Items: filters.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_dot_plan *plan = state->plan;
  const pf_convolution2d *p = &plan->problem;
  const int64_t row = p->kernel_width, taps_y = plan->frame.y.taps, taps_x = plan->frame.x.taps;
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  for (int64_t filter = begin; filter < end; ++filter) {
    const float *sums = state->sums + filter * plan->inner;
    if (plan->inner == elements) {
      finish(state, filter * elements, elements, sums);
      continue;
    }
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

pf_status pf_dot_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                          const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                          const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                          float *weight_gradient) {
  pf_dot_plan plan;
  PF_TRY(pf_dot_prepare(settings, problem, shape, &plan));
  char *workspace = pf_memory_allocate((size_t)plan.workspace_bytes);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  const int64_t taps_y = plan.frame.y.taps, taps_x = plan.frame.x.taps;
  int64_t *offsets = (int64_t *)(workspace + plan.parts * plan.scratch_bytes);
  const int64_t elements = plan.channels * taps_y * taps_x;
  for (int64_t k = 0; k < elements; ++k) {
    offsets[k] = k / (taps_y * taps_x) * plan.frame.channel_stride +
                 pf_frame_offset(&plan.frame, k / taps_x % taps_y, k % taps_x);
  }
  run_state state = {
      .plan = &plan,
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
      .offsets = offsets,
      .sums = (float *)((char *)offsets + pf_aligned_bytes(elements * (int64_t)sizeof(int64_t))),
      .scratch = workspace,
  };
  if (plane_sums != NULL) plane_sums->complete = plan.slices > 0;
  pf_parallel_in(plan.parts, plan.slices * problem->groups * plan.row_parts, run_range, &state);
  pf_parallel_in(plan.finish_parts, problem->output_channels, finish_range, &state);
  pf_memory_release(workspace);
  return pf_ok;
}
