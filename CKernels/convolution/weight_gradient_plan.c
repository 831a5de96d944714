#include "convolution/weight_gradient_plan.h"

enum {
  block_points = 480,       // most of a block: rows of a tile then stay in the first-level cache
  piece_points = 400,       // the same of a piece of a row, in even pieces
  panel_budget = 64 << 10,  // floats of the output gradient packed at a time
  frame_budget = 48 << 10,  // floats of the input copied at a time
  far_floats = 1 << 20,     // of the output gradient, where it comes from beyond a core's own caches
  cached_floats = 1 << 19,  // of sums that don't stay in the caches until they are added up
  most_slices = 16,
  slice_budget = 1 << 19,   // floats of all slices' sums
  copied_slice_budget = 5 << 18,  // where the input is copied: fewer slices have threads copy the same
};

static pf_axis axis_of(int64_t source, int64_t points, int64_t step, int64_t taps, int64_t padding, int64_t tap_step) {
  return (pf_axis){
      .source = source,
      .grid = (points - 1) * step + 1,
      .step = 1,
      .taps = taps,
      .first = -padding,
      .tap_step = tap_step,
  };
}

static void set_axes(pf_gradient_plan *plan) {
  const pf_convolution2d *p = &plan->problem;
  pf_frame *frame = &plan->frame;
  if (plan->shape.taps == 1 && p->stride_height == 1 && p->stride_width == 1 &&
      plan->shape.input_plane == plan->shape.output_plane) {
    plan->height = 1;
    plan->width = plan->shape.output_plane;
    frame->y = axis_of(1, 1, 1, 1, 0, 1);
    frame->x = axis_of(plan->width, plan->width, 1, 1, 0, 1);
  } else {
    frame->y = axis_of(p->input_height, plan->height, plan->step_y, p->kernel_height, p->padding_top,
                       p->dilation_height);
    frame->x = axis_of(p->input_width, plan->width, plan->step_x, p->kernel_width, p->padding_left,
                       p->dilation_width);
  }
  plan->first_y = pf_axis_trim(&frame->y);
  plan->first_x = pf_axis_trim(&frame->x);
  if (frame->y.taps == 0 || frame->x.taps == 0) frame->y.taps = frame->x.taps = 0;
  plan->taps = frame->y.taps * frame->x.taps;
  plan->inner = plan->shape.group_input_channels * plan->taps;
}

static bool inside(const pf_axis *axis) {
  const int64_t last = axis->first + (axis->taps - 1) * axis->tap_step + axis->grid - 1;
  return axis->first >= 0 && last < axis->source;
}

/// Chains of one extent but for the last ones of a row, image or batch, as many as make about `block_points` a block.
static void shape_blocks(const pf_settings *settings, pf_gradient_plan *plan) {
  const int64_t width = plan->width, height = plan->height, batch = pf_maximum_of(plan->problem.batch, 1);
  const int64_t longest = pf_longest_chain(settings, batch * plan->shape.output_plane, pf_single_chain);
  const int64_t widest = plan->kernels->outer_lanes[plan->kernels->outer_widths - 1];
  pf_block *chain = &plan->chain, *most = &plan->most;
  *chain = (pf_block){.images = 1, .rows = 1, .columns = width};
  if (width > longest) {
    // Even blocks of even chains, of whole cache lines where these can be even too.
    const int64_t blocks = pf_ceiling_divide(width, piece_points);
    const int64_t pieces = pf_ceiling_divide(pf_ceiling_divide(width, blocks), longest);
    const int64_t even = pf_ceiling_divide(width, blocks * pieces), lines = pf_round_up(even, pf_line_floats);
    chain->columns = width % lines == 0 ? lines : even;
  } else if (width * height > longest) {
    chain->rows = pf_balanced(height, longest / width);
  } else {
    chain->rows = height;
    chain->images = pf_balanced(batch, longest / (width * height));
  }
  plan->chains_x = pf_ceiling_divide(width, chain->columns);
  plan->chains_y = pf_ceiling_divide(height, chain->rows);
  plan->chains = plan->chains_x * plan->chains_y * pf_ceiling_divide(plan->problem.batch, chain->images);
  const int64_t affordable = pf_maximum_of(1, block_points / (chain->images * chain->rows * chain->columns));
  *most = *chain;
  if (plan->chains_x > affordable) {
    most->columns = chain->columns * pf_balanced(plan->chains_x, affordable);
  } else {
    most->columns = width;
    if (plan->chains_x * plan->chains_y > affordable) {
      most->rows = pf_minimum_of(height, chain->rows * pf_balanced(plan->chains_y, affordable / plan->chains_x));
    } else {
      const int64_t images = pf_ceiling_divide(batch, chain->images);
      most->rows = height;
      most->images = pf_minimum_of(
          batch, chain->images * pf_balanced(images, affordable / (plan->chains_x * plan->chains_y)));
    }
  }
  plan->blocks_x = pf_ceiling_divide(width, most->columns);
  plan->blocks_y = pf_ceiling_divide(height, most->rows);
  plan->blocks = plan->blocks_x * plan->blocks_y * pf_ceiling_divide(plan->problem.batch, most->images);
  // The widest kernels fetch.
  plan->fetches = most->images == 1 && plan->shape.group_output_channels >= widest &&
                  batch * plan->problem.output_channels * plan->shape.output_plane >= far_floats;
  const int64_t lines = most->rows * most->columns / pf_line_floats + 1;
  plan->run_points = plan->fetches ? lines : longest;
  if (plan->in_place) return;
  pf_frame_shape(&plan->frame, most->images, (most->rows - 1) * plan->step_y + 1,
                 (most->columns - 1) * plan->step_x + 1, 1);
}

static void share_out(const pf_settings *settings, pf_gradient_plan *plan) {
  const pf_kernels *kernels = plan->kernels;
  const int64_t groups = plan->problem.groups, narrowest = kernels->outer_lanes[0];
  const int64_t widest = kernels->outer_lanes[kernels->outer_widths - 1], threads = settings->threads;
  plan->sum_floats = groups * plan->inner * pf_round_up(plan->shape.group_output_channels, narrowest);
  plan->one_block = plan->blocks == 1 && plan->taps == plan->shape.taps && plan->sum_floats >= cached_floats;
  const int64_t budget = plan->in_place ? slice_budget : copied_slice_budget;
  const int64_t affordable = pf_maximum_of(1, budget / pf_maximum_of(plan->sum_floats, 1));
  if (plan->inner > 0 && plan->blocks > 0) {
    const int64_t slices = pf_power_of_two_up_to(pf_minimum_of(plan->blocks, pf_minimum_of(most_slices, affordable)));
    plan->slice_blocks = pf_ceiling_divide(plan->blocks, slices);
    plan->slices = pf_ceiling_divide(plan->blocks, plan->slice_blocks);
  }
  // Where slices can't be shared out evenly, groups are cut too. Of the longer side, so that the pieces are about
  // equal; each has to pack all of the other one's operand.
  const int64_t items = plan->slices * groups;
  const int64_t filters = plan->shape.group_output_channels, channels = plan->shape.group_input_channels;
  plan->group_parts = 1;
  plan->cut_channels = channels >= filters;
  if (items % threads != 0 && items < 16 * threads) {
    plan->group_parts = pf_minimum_of(plan->cut_channels ? channels : pf_ceiling_divide(filters, widest), threads);
  }
  const double points = (double)plan->problem.batch * (double)plan->shape.output_plane;
  const double operations = 2 * points * (double)plan->problem.output_channels * (double)plan->inner;
  const int64_t all = pf_maximum_of(items * plan->group_parts, 1);
  plan->parts = pf_parallel_parts(settings, all, operations / (double)all);
  const int64_t tiles = groups * pf_gradient_most_tiles(kernels, plan->shape.group_output_channels);
  const double sums = (double)plan->sum_floats * (double)(plan->slices + 1);
  plan->finish_parts = pf_parallel_parts(settings, tiles, 8 * sums / (double)tiles);
}

pf_status pf_gradient_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                              const pf_convolution_shape *shape, pf_gradient_plan *plan) {
  const pf_kernels *kernels = settings->kernels;
  *plan = (pf_gradient_plan){
      .kernels = kernels,
      .problem = *problem,
      .shape = *shape,
      .height = shape->output_height,
      .width = shape->output_width,
      .step_y = problem->stride_height,
      .step_x = problem->stride_width,
  };
  pf_frame *frame = &plan->frame;
  const int64_t group_channels = shape->group_input_channels, group_filters = shape->group_output_channels;
  set_axes(plan);
  // Planes a multiple of a page apart would compete for the same few sets of a cache.
  plan->in_place = inside(&frame->y) && inside(&frame->x) && shape->input_plane % pf_page_floats != 0;
  PF_TRY(pf_frame_analyse(frame, group_channels));
  shape_blocks(settings, plan);
  share_out(settings, plan);

  const int64_t narrowest = kernels->outer_lanes[0], widest = kernels->outer_lanes[kernels->outer_widths - 1];
  const int64_t affordable = frame_budget / pf_maximum_of(frame->channel_stride, 1);
  plan->channels = plan->in_place ? group_channels : pf_balanced(group_channels, affordable);
  const int64_t points = plan->most.images * plan->most.rows * plan->most.columns;
  const int64_t panel = pf_minimum_of(panel_budget, points * pf_round_up(group_filters, narrowest));
  plan->panel_floats = pf_maximum_of(panel, points * widest);
  const int64_t frame_floats = plan->in_place ? 0 : plan->channels * frame->channel_stride;
  // A run ends with a row or a chain, or after run_points points.
  const int64_t ends = plan->most.images * plan->most.rows * pf_ceiling_divide(plan->most.columns, plan->chain.columns);
  const int64_t runs = ends + points / plan->run_points;
  plan->runs_bytes = pf_aligned_bytes(runs * (int64_t)sizeof(pf_point_run));
  const int64_t scratch = plan->runs_bytes + (plan->panel_floats + frame_floats) * (int64_t)sizeof(float);
  plan->scratch_bytes = plan->slices == 0 ? 0 : pf_part_bytes(scratch);
  plan->finish_bytes = pf_aligned_bytes((widest * plan->inner + group_channels * shape->taps) * (int64_t)sizeof(float));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes +
                          pf_aligned_bytes(plan->channels * plan->taps * (int64_t)sizeof(int64_t)) +
                          plan->finish_parts * plan->finish_bytes +
                          pf_aligned_bytes(plan->slices * plan->sum_floats * (int64_t)sizeof(float));
  plan->tiles_bytes = pf_gradient_tiles_bytes(kernels, problem->groups, group_filters);
  const pf_filter_window window = pf_gradient_window(plan);
  plan->lists_bytes = pf_gradient_lists_bytes(settings, problem->groups, group_filters, &window);
  return pf_ok;
}

pf_block pf_gradient_block(const pf_gradient_plan *plan, int64_t index) {
  pf_block block;
  block.column = index % plan->blocks_x * plan->most.columns;
  index /= plan->blocks_x;
  block.row = index % plan->blocks_y * plan->most.rows;
  block.image = index / plan->blocks_y * plan->most.images;
  block.columns = pf_minimum_of(plan->most.columns, plan->width - block.column);
  block.rows = pf_minimum_of(plan->most.rows, plan->height - block.row);
  block.images = pf_minimum_of(plan->most.images, plan->problem.batch - block.image);
  return block;
}

pf_filter_window pf_gradient_window(const pf_gradient_plan *plan) {
  return (pf_filter_window){
      .channels = plan->shape.group_input_channels,
      .kernel_height = plan->problem.kernel_height,
      .kernel_width = plan->problem.kernel_width,
      .first_y = plan->first_y,
      .taps_y = plan->frame.y.taps,
      .first_x = plan->first_x,
      .taps_x = plan->frame.x.taps,
  };
}
