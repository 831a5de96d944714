#include "convolution/depthwise_plan.h"

#include <string.h>

#include "convolution/depthwise.h"
#include "convolution/depthwise_rows.h"
#include "convolution/passes.h"

enum {
  most_columns = 256,        // of a block
  tile_budget = 64 << 10,    // floats of a block's source: a share of a second-level cache
  gradient_budget = 16 << 10,  // the same in the weight gradient, whose passes over a block are several
  staged_pixels = 192,       // of results that wait to be transposed back: a share of a first-level cache
  weight_gradient_items = 64,  // that slices are to make for the threads
};

/// Times in cycles, measured on Zen 4.
typedef struct lane_costs {
  double tap;    // of a vector, in either algorithm
  double moved;  // of a pixel that is transposed
  double sum;    // of a pixel's sum besides its taps
} lane_costs;

static lane_costs costs_of(int64_t lanes) {
  return lanes == 8 ? (lane_costs){0.55, 3.2, 2} : (lane_costs){lanes == 16 ? 1.1 : 1, 5.5, 5};
}

// The direct algorithm's, a channel at a time: of a row, of a lane of its vectors; what strides and dilations multiply
// them by; and the rows that it needs for its sums not to wait for each other.
static const double direct_row = 25, direct_lane = 0.85, direct_spread = 4, direct_rows = 4;

/// The taps of a phase, and which weight tap its first one is; they are `*step` weight taps apart.
static pf_axis phase_of(const pf_depthwise_axis *axis, bool turned, int64_t phase, int64_t *first, int64_t *step) {
  if (turned) {
    return pf_input_gradient_axis(axis->result, axis->source, axis->stride, axis->dilation, axis->padding,
                                  axis->kernel, phase, first, step);
  }
  *first = 0;
  *step = 1;
  return (pf_axis){.source = axis->source,
                   .grid = axis->result,
                   .step = axis->stride,
                   .taps = axis->kernel,
                   .first = -axis->padding,
                   .tap_step = axis->dilation};
}

static pf_depthwise_axis axis_of(bool turned, int64_t input, int64_t output, int64_t kernel, int64_t stride,
                                 int64_t dilation, int64_t padding) {
  pf_depthwise_axis axis = {.source = turned ? output : input,
                            .result = turned ? input : output,
                            .kernel = kernel,
                            .stride = stride,
                            .dilation = dilation,
                            .padding = padding,
                            .phases = turned ? pf_minimum_of(stride, input) : 1,
                            .step = turned ? 1 : stride,
                            .least = INT64_MAX,
                            .most = INT64_MIN};
  axis.grid = pf_ceiling_divide(axis.result, axis.phases);
  for (int64_t phase = 0; phase < axis.phases; ++phase) {
    int64_t first, step;
    pf_axis taps = phase_of(&axis, turned, phase, &first, &step);
    pf_axis_trim(&taps);
    if (taps.taps == 0) continue;
    const int64_t last = taps.first + (taps.taps - 1) * taps.tap_step;
    axis.least = pf_minimum_of(axis.least, pf_minimum_of(taps.first, last));
    axis.most = pf_maximum_of(axis.most, pf_maximum_of(taps.first, last));
  }
  if (axis.least > axis.most) axis.least = axis.most = 0;
  return axis;
}

static int64_t source_rows_of(const pf_depthwise_axis *y, int64_t rows) {
  return pf_minimum_of(y->source, (rows - 1) * y->step + y->most - y->least + 1);
}

bool pf_depthwise_prepare(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass,
                          pf_depthwise_plan *plan) {
  const pf_convolution2d *p = problem;
  pf_convolution_shape shape;
  if (pf_convolution_check(problem, &shape) != pf_ok || shape.group_input_channels > 1) return false;
  const bool turned = pass == pf_pass_input_gradient;
  const int64_t multiplier = shape.group_output_channels, lanes = kernels->lanes;
  *plan = (pf_depthwise_plan){
      .kernels = kernels,
      .pass = pass,
      .y = axis_of(turned, p->input_height, shape.output_height, p->kernel_height, p->stride_height,
                   p->dilation_height, p->padding_top),
      .x = axis_of(turned, p->input_width, shape.output_width, p->kernel_width, p->stride_width, p->dilation_width,
                   p->padding_left),
      .images = p->batch,
      .groups = p->groups,
      .multiplier = multiplier,
      .planes = turned ? multiplier : 1,
      .results = turned ? 1 : multiplier,
      .taps = shape.taps,
      .channel_blocks = pf_ceiling_divide(p->groups, lanes),
  };
  const pf_depthwise_axis *y = &plan->y, *x = &plan->x;
  const double budget = pass == pf_pass_weight_gradient ? gradient_budget : tile_budget;
  const double pixels = budget / (double)(lanes * plan->planes);
  plan->columns = pf_balanced(x->grid, pf_maximum_of(most_columns / x->phases, 1));
  plan->pitch = (plan->columns - 1) * x->step + x->most - x->least + 1;
  const double affordable = pixels / (double)plan->pitch;
  // Blocks of one row may be somewhat larger: there are no others.
  if (affordable < (double)source_rows_of(y, 1) / 4) return false;
  const double rows = (affordable - (double)(y->most - y->least + 1)) / (double)y->step + 1;
  plan->rows = pf_balanced(y->grid, (int64_t)(rows < 1 ? 1 : rows < (double)y->grid ? rows : (double)y->grid));
  plan->blocks_y = pf_ceiling_divide(y->grid, plan->rows);
  plan->blocks_x = pf_ceiling_divide(x->grid, plan->columns);
  plan->source_rows = source_rows_of(y, plan->rows);
  plan->tile = plan->source_rows * plan->pitch * lanes;
  const int64_t columns = pf_minimum_of(plan->columns * x->phases, x->result);
  const int64_t result_rows = pf_minimum_of(plan->rows * y->phases, y->result);
  plan->staged_rows = result_rows;
  if (pass != pf_pass_weight_gradient) {
    plan->staged_rows = pf_balanced(result_rows, pf_maximum_of(staged_pixels / columns, 1));
  }
  // Behind the last pixel a vector's length of them is read.
  plan->staged = (plan->staged_rows * columns + lanes) * lanes;
  return true;
}

/// The time of an image.
static double time_of(const pf_depthwise_plan *plan) {
  const bool turned = plan->pass == pf_pass_input_gradient;
  const pf_depthwise_axis *y = &plan->y, *x = &plan->x;
  const double inputs = (double)(turned ? y->result : y->source) * (double)(turned ? x->result : x->source);
  const double outputs = (double)(turned ? y->source : y->result) * (double)(turned ? x->source : x->result) *
                         (double)plan->multiplier;
  const lane_costs costs = costs_of(plan->kernels->lanes);
  return (double)plan->channel_blocks *
         (costs.moved * (inputs + outputs) + (costs.tap * (double)plan->taps + costs.sum) * outputs);
}

bool pf_depthwise_by_rows(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass) {
  const double time = pf_depthwise_rows_time(kernels, problem, pass);
  pf_depthwise_plan plan;
  return time >= 0 && (!pf_depthwise_prepare(kernels, problem, pass, &plan) ||
                       (double)problem->groups * time <= time_of(&plan));
}

bool pf_depthwise_suits(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass) {
  enum { most_multiplier = 4, most_taps = 1 << 10, most_rows = 1 << 20, most_phases = 1 << 10, most_groups = 1 << 24 };
  if (pf_depthwise_by_rows(kernels, problem, pass)) return true;
  const pf_convolution2d *p = problem;
  if (p->groups < 2 || p->input_channels > p->groups || p->output_channels / p->groups > most_multiplier) return false;
  // Tables by row and phase, and a group's sums, remain small.
  if (p->kernel_height > most_taps || p->kernel_width > most_taps / p->kernel_height) return false;
  if (p->groups > most_groups || p->input_height > most_rows || p->padding_top > most_rows ||
      p->padding_bottom > most_rows || pf_minimum_of(p->stride_height, p->input_height) > most_phases ||
      pf_minimum_of(p->stride_width, p->input_width) > most_phases) {
    return false;
  }
  pf_depthwise_plan plan;
  if (!pf_depthwise_prepare(kernels, problem, pass, &plan)) return false;
  const pf_depthwise_axis *y = &plan.y, *x = &plan.x;
  const bool turned = pass == pf_pass_input_gradient;
  const double height = (double)(turned ? y->source : y->result), width = (double)(turned ? x->source : x->result);
  const double lanes = (double)kernels->lanes, taps = (double)plan.taps, multiplier = (double)plan.multiplier;
  const double tap = costs_of(kernels->lanes).tap;
  const double wait = height < direct_rows ? direct_rows / height : 1;
  const double row = direct_row + __builtin_ceil(width / lanes) * (tap * taps * wait + direct_lane * lanes);
  const bool spread = y->stride > 1 || x->stride > 1 || y->dilation > 1 || x->dilation > 1;
  const double direct = multiplier * height * row * (spread ? direct_spread : 1);
  return time_of(&plan) <= (double)plan.groups * direct;
}

int64_t pf_depthwise_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                               pf_convolution_pass pass) {
  if (pf_depthwise_by_rows(settings->kernels, problem, pass)) {
    return pf_depthwise_rows_workspace(settings, problem, pass);
  }
  pf_depthwise_plan plan;
  pf_depthwise_prepare(settings->kernels, problem, pass, &plan);
  pf_depthwise_prepare_parts(settings, &plan);
  return plan.workspace_bytes;
}

void pf_depthwise_prepare_parts(const pf_settings *settings, pf_depthwise_plan *plan) {
  const int64_t lanes = plan->kernels->lanes, blocks = plan->images * plan->blocks_y * plan->blocks_x;
  const double source = (double)(plan->tile * plan->planes);
  const double results = (double)(plan->rows * plan->y.phases) * (double)(plan->columns * plan->x.phases * lanes);
  const double products = (double)(plan->rows * plan->columns * lanes * plan->multiplier) * (double)plan->taps;
  double operations = 2 * products + 8 * (source + results * (double)plan->results);
  int64_t items = blocks * plan->channel_blocks, sums = 0;
  if (plan->pass == pf_pass_weight_gradient) {
    const int64_t wanted = pf_ceiling_divide(weight_gradient_items, plan->channel_blocks);
    plan->slices = pf_minimum_of(blocks, wanted);
    const int64_t longest = pf_longest_chain(settings, plan->images * plan->y.result * plan->x.result, pf_single_chain);
    plan->chain_columns = pf_balanced(plan->columns, longest);
    plan->chain_rows = plan->columns > longest ? 1 : pf_balanced(plan->rows, longest / plan->columns);
    items = plan->slices * plan->channel_blocks;
    operations *= (double)blocks / (double)pf_maximum_of(plan->slices, 1);
    sums = pf_round_up(plan->multiplier * plan->taps, lanes) * lanes;  // read by whole squares
    // Even, so that what follows is aligned.
    plan->sums = pf_round_up(plan->slices * plan->groups * plan->multiplier * plan->taps, 2);
  } else {
    plan->weights = plan->channel_blocks * plan->multiplier * (plan->taps + 1) * lanes;
  }
  plan->parts = pf_parallel_parts(settings, items, operations);
  plan->scratch = pf_part_floats(plan->tile * plan->planes + plan->staged + sums);
  const int64_t floats = plan->parts * plan->scratch + plan->weights + plan->sums;
  plan->workspace_bytes = plan->y.result * (int64_t)sizeof(pf_depthwise_row) +
                          plan->x.phases * (int64_t)sizeof(pf_depthwise_window) + floats * (int64_t)sizeof(float);
}

pf_depthwise_tables pf_depthwise_fill_tables(const pf_depthwise_plan *plan, char *workspace) {
  const pf_depthwise_axis *y = &plan->y, *x = &plan->x;
  const bool turned = plan->pass == pf_pass_input_gradient;
  const int64_t lanes = plan->kernels->lanes, kernel_width = x->kernel;
  pf_depthwise_tables tables = {.scratch = (float *)workspace};
  tables.weights = tables.scratch + plan->parts * plan->scratch;
  tables.biases = tables.weights + plan->channel_blocks * plan->multiplier * plan->taps * lanes;
  tables.sums = tables.weights + plan->weights;
  tables.rows = (pf_depthwise_row *)(tables.sums + plan->sums);
  tables.windows = (pf_depthwise_window *)(tables.rows + y->result);
  for (int64_t phase = 0; phase < y->phases; ++phase) {
    int64_t first, step;
    const pf_axis axis = phase_of(y, turned, phase, &first, &step);
    for (int64_t g = 0; g < axis.grid; ++g) {
      pf_axis taps = axis;
      taps.grid = 1;
      taps.first += g * axis.step;
      const int64_t dropped = pf_axis_trim(&taps);
      tables.rows[phase + g * y->phases] = (pf_depthwise_row){
          .rows = taps.taps,
          .first_tap = dropped,
          .source = taps.taps == 0 ? 0 : taps.first * plan->pitch * lanes,
          .row = taps.taps < 2 ? 0 : taps.tap_step * plan->pitch * lanes,
          .weight = (first + dropped * step) * kernel_width * lanes,
          .weight_row = step * kernel_width * lanes,
      };
    }
  }
  for (int64_t phase = 0; phase < x->phases; ++phase) {
    int64_t first, step;
    pf_axis taps = phase_of(x, turned, phase, &first, &step);
    const int64_t dropped = pf_axis_trim(&taps);
    int64_t weight_column = step, weight_first = first + dropped * step;
    if (taps.taps > 1 && taps.tap_step < 0) {
      // From left to right.
      taps.first += (taps.taps - 1) * taps.tap_step;
      taps.tap_step = -taps.tap_step;
      weight_first += (taps.taps - 1) * step;
      weight_column = -step;
    }
    tables.windows[phase] = (pf_depthwise_window){
        .step = x->step * lanes,
        .result_step = x->phases * lanes,
        .columns = taps.taps,
        .column = taps.taps < 2 ? 0 : taps.tap_step * lanes,
        .weight_column = weight_column * lanes,
        .first = taps.taps == 0 ? 0 : (taps.first - x->least) * lanes,
        .weight_first = weight_first * lanes,
        .result_first = phase * lanes,
        .planes = plan->planes,
        .plane = plan->tile,
        .weight_plane = plan->taps * lanes,
    };
  }
  return tables;
}

pf_depthwise_block pf_depthwise_block_of(const pf_depthwise_plan *plan, const pf_depthwise_tables *tables,
                                         int64_t index) {
  const pf_depthwise_axis *y = &plan->y, *x = &plan->x;
  const int64_t row = index / plan->blocks_x * plan->rows, column = index % plan->blocks_x * plan->columns;
  const int64_t columns = pf_minimum_of(plan->columns, x->grid - column);
  pf_depthwise_block block = {
      .row = row * y->phases,
      .column = column * x->phases,
      .source_column = column * x->step + x->least,
      .source_columns = (columns - 1) * x->step + x->most - x->least + 1,
  };
  block.rows = pf_minimum_of(plan->rows * y->phases, y->result - block.row);
  block.columns = pf_minimum_of(columns * x->phases, x->result - block.column);
  int64_t first = INT64_MAX, last = -1;
  const int64_t source_row = plan->pitch * plan->kernels->lanes;
  for (int64_t r = block.row; r < block.row + block.rows; ++r) {
    const pf_depthwise_row *taps = tables->rows + r;
    if (taps->rows == 0) continue;
    const int64_t front = taps->source, back = taps->source + (taps->rows - 1) * taps->row;
    first = pf_minimum_of(first, pf_minimum_of(front, back));
    last = pf_maximum_of(last, pf_maximum_of(front, back));
  }
  if (last >= 0) {
    block.source_row = first / source_row;
    block.source_rows = last / source_row - block.source_row + 1;
  }
  return block;
}

static void fill_zeros(const pf_depthwise_plan *plan, int64_t column, int64_t columns, float *pixels) {
  const int64_t lanes = plan->kernels->lanes, rows = plan->source_rows * plan->planes;
  if (columns <= 0) return;
  for (int64_t r = 0; r < rows; ++r) {
    memset(pixels + (r * plan->pitch + column) * lanes, 0, (size_t)(columns * lanes) * sizeof(float));
  }
}

void pf_depthwise_fill_tile(const pf_depthwise_plan *plan, const pf_depthwise_block *block, const float *source,
                            int64_t image, int64_t channel_block, pf_depthwise_tile *tile) {
  const int64_t lanes = plan->kernels->lanes, width = plan->x.source, plane = plan->y.source * width;
  const int64_t end_column = block->source_column + block->source_columns;
  const int64_t from = pf_maximum_of(block->source_column, 0);
  const int64_t to = pf_maximum_of(from, pf_minimum_of(end_column, width));
  const int64_t skip = pf_minimum_of(from - block->source_column, plan->pitch);
  if (tile->zeroed_column != block->source_column) {
    fill_zeros(plan, 0, skip, tile->pixels);
    fill_zeros(plan, skip + to - from, plan->pitch - skip - (to - from), tile->pixels);
    tile->zeroed_column = block->source_column;
  }
  if (from == to) return;
  pf_depthwise_planes planes = {
      .end = source + plan->images * plan->groups * plan->planes * plane,
      .stride = plan->planes * plane,
      .count = pf_depthwise_channels(plan, channel_block),
  };
  const int64_t first = (image * plan->groups + channel_block * lanes) * plan->planes * plane;
  const bool whole = to - from == width;
  const int64_t runs = whole ? 1 : block->source_rows, count = whole ? block->source_rows * width : to - from;
  for (int64_t k = 0; k < plan->planes; ++k) {
    for (int64_t r = 0; r < runs; ++r) {
      planes.first = source + first + k * plane + (block->source_row + r) * width + from;
      plan->kernels->depthwise.spread(&planes, count, to - from, plan->pitch,
                                      tile->pixels + k * plan->tile + (r * plan->pitch + skip) * lanes);
    }
  }
}
