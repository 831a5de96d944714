#include "convolution/dot_gradient_plan.h"

enum {
  block_points = 1024,              // of the grid: some rows of both operands then stay in the first-level cache
  few_filters = 2,                  // in a group, for tap rows to take their place
  few_filters_block_points = 2048,
  frame_budget = 64 << 10,          // floats of the input channels copied at a time
  most_slices = 16,
  slice_budget = 2 << 20,           // floats of all slices' sums
  far_floats = 4 << 20,             // of both tensors, which then come from memory
};

/// At most `points` of the grid make a block, and no more than a lane adds up in a chain.
static void shape_blocks(pf_dot_plan *plan, int64_t points) {
  pf_frame *frame = &plan->frame;
  const int64_t width = frame->x.grid, height = frame->y.grid, lanes = plan->kernels->lanes;
  points = pf_minimum_of(points, pf_most_chain * lanes);
  const int64_t batch = pf_maximum_of(plan->problem.batch, 1);
  if (width > points) {
    pf_frame_shape(frame, 1, 1, pf_round_up(pf_balanced(width, points), lanes), lanes);
  } else {
    pf_frame_shape(frame, 2, height, width, lanes);
    const int64_t images = points / frame->image_pitch;
    if (images > 1) {
      pf_frame_shape(frame, pf_balanced(batch, images), height, width, lanes);
    } else {
      pf_frame_shape(frame, 1, pf_balanced(height, points / frame->pitch), width, lanes);
    }
  }
  plan->blocks_images = pf_ceiling_divide(plan->problem.batch, frame->most.images);
  plan->blocks_y = pf_ceiling_divide(height, frame->most.rows);
  plan->blocks_x = pf_ceiling_divide(width, frame->most.columns);
  plan->blocks = plan->blocks_images * plan->blocks_y * plan->blocks_x;
}

/// Has tap rows take the place of filters where there are too few of these, and the rows' distance is small.
static void shape_shifts(pf_dot_plan *plan) {
  const pf_frame *frame = &plan->frame;
  const int64_t period = frame->y_taps.phases;
  if (frame->y.taps <= period) return;
  const int64_t rows = pf_ceiling_divide(frame->y.taps, period);
  const int64_t shifts = pf_balanced(rows, plan->kernels->dot_rows);
  const int64_t shift = frame->y.tap_step * period / frame->y.step * frame->pitch;
  // What the moves add to a dot product's length must not eat up what they save.
  if (2 * shift * (shifts - 1) > pf_frame_span(frame, &frame->most)) return;
  plan->shifts = shifts;
  plan->shift = shift;
  plan->lead = shift * (shifts - 1);
}

pf_status pf_dot_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                         const pf_convolution_shape *shape, pf_dot_plan *plan) {
  const pf_convolution2d *p = problem;
  *plan = (pf_dot_plan){.kernels = settings->kernels, .problem = *problem, .shape = *shape};
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
  plan->far = p->groups > 1 && shape->input_count + shape->output_count >= far_floats;
  PF_TRY(pf_frame_analyse(frame, shape->group_input_channels));
  const bool few = shape->group_output_channels <= few_filters;
  shape_blocks(plan, few ? few_filters_block_points : block_points);
  if (few) shape_shifts(plan);

  const int64_t filters = p->output_channels, group_filters = shape->group_output_channels;
  const int64_t affordable = slice_budget / pf_maximum_of(filters * plan->inner, 1);
  plan->slices = pf_minimum_of(plan->blocks, pf_maximum_of(1, pf_minimum_of(most_slices, affordable)));
  if (plan->inner == 0) plan->slices = 0;
  plan->channels =
      pf_balanced(shape->group_input_channels, frame_budget / pf_maximum_of(frame->channel_stride, 1));
  const pf_block *most = &frame->most;
  const int64_t stored = pf_maximum_of(most->images * frame->image_pitch, most->rows * frame->pitch);
  const int64_t around = plan->shifts > 0 ? 2 * plan->lead + plan->kernels->lanes : 0;
  plan->row_stride = pf_round_up(stored + around, pf_line_floats);
  if (plan->row_stride / pf_line_floats % 2 == 0) plan->row_stride += pf_line_floats;

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
  plan->scratch_bytes = plan->slices == 0 ? 0 : pf_part_bytes(floats * (int64_t)sizeof(float));
  const int64_t offset_count = plan->channels * frame->y.taps * frame->x.taps;
  const int64_t offsets = pf_aligned_bytes(offset_count * (int64_t)sizeof(int64_t));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + offsets +
                          plan->slices * filters * plan->inner * (int64_t)sizeof(float);
  const double finish_cost = 8.0 * (double)(plan->inner * (plan->slices + 1));
  plan->finish_parts = pf_parallel_parts(settings, filters, finish_cost);
  return pf_ok;
}
