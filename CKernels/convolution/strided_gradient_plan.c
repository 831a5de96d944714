#include "convolution/column_tiles.h"
#include "convolution/correlation_planes.h"
#include "convolution/strided_gradient.h"

enum {
  columns_budget = 192 << 10,  // floats of a block's frame and panels: a good part of a core's second-level cache
  sums_budget = 512 << 10,     // floats of sums that wait for the next step, of several images
  least_inner = 256,           // products of a step's channels in all phases
  usual_threads = 2,           // for which what no result may depend on is chosen
};

/// The costs below count vectors handled in the time of one multiply-add.
static const double filling_cost = 2.5, plane_cost = 40, piece_cost = 3, scattering_cost = 8, weight_cost = 4,
                    waiting_cost = 8, call_cost = 40, block_cost = 1000;

/// Fills in what follows from the blocks' extents and the parts of the tiles.
static void lay_out(pf_strided_plan *strided, int64_t images, int64_t rows, int64_t columns) {
  pf_correlation_plan *plan = &strided->shared;
  const int64_t tile = plan->kernels->tile_columns, tile_floats = pf_strided_tile_floats(strided);
  pf_frame_shape(&plan->frame, images, rows, columns, tile);
  plan->blocks_images = pf_ceiling_divide(plan->problem.images, images);
  plan->blocks_y = pf_ceiling_divide(plan->problem.y.grid, rows);
  plan->blocks_x = pf_ceiling_divide(plan->problem.x.grid, columns);
  plan->most_column_tiles = pf_ceiling_divide(pf_most_points(plan), tile);
  plan->most_segments = plan->most_column_tiles + images * rows;
  // Besides its columns a vector is written behind a panel.
  plan->panel_floats = plan->channel_step * strided->shifts * tile + plan->kernels->lanes;
  const int64_t tiles = pf_ceiling_divide(plan->tiles, plan->tile_parts);
  plan->sums_floats = (pf_sums_wait(plan) ? tiles * plan->most_column_tiles : 1) * strided->phases * tile_floats;
}

/// Floats that the columns of a block take, beside those that are packed.
static int64_t column_floats(const pf_correlation_plan *plan) {
  return plan->in_place ? plan->channel_step * pf_most_points(plan) : pf_correlation_frame_floats(plan);
}

/// Column tiles that are packed: those that hold the end of a row of the frame, or of an image in place.
static int64_t most_panels(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  if (!plan->packed) return 0;
  return pf_minimum_of(plan->most_column_tiles, plan->in_place ? block->images : block->images * block->rows);
}

/// Runs of neighbouring points of the result that end with a row of a block or with a tile of its columns.
static int64_t block_segments(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  const int64_t tile = plan->kernels->tile_columns, pitch = plan->packed ? block->columns : plan->frame.pitch;
  const int64_t rows = block->images * block->rows;
  // Tiles begin with a row, or within one.
  if (tile % pitch == 0 || pitch % tile == 0) return rows * pf_ceiling_divide(block->columns, tile);
  return rows + plan->most_column_tiles;
}

/// The time of a plan, were its threads to start together, in vector multiply-adds.
static double cost(const pf_strided_plan *strided, int64_t threads) {
  const pf_correlation_plan *plan = &strided->shared;
  const pf_block *block = &plan->frame.most;
  const int64_t tile = plan->kernels->tile_columns, lanes = plan->kernels->lanes, points = pf_most_points(plan);
  const int64_t rest = points % tile;
  const double vectors = (double)((points - rest) / lanes + (rest == 0 ? 0 : rest <= lanes ? 1 : tile / lanes));
  const double channels = (double)plan->problem.channels, taps = (double)strided->taps;
  const double tiles = (double)plan->tiles / (double)plan->tile_parts;
  const double outputs = (double)plan->problem.outputs / (double)plan->tile_parts;
  const double phases = (double)strided->phases, steps = (double)strided->steps;
  double item = block_cost + vectors * channels * taps * outputs;
  item += phases * tiles * steps * (double)plan->most_column_tiles * call_cost;
  item += channels * taps * outputs / (double)lanes * weight_cost;
  item += (steps - 1) * phases * outputs * vectors * waiting_cost;
  const double segments = (double)block_segments(plan);
  item += (double)strided->phases_y * outputs * segments * scattering_cost;
  if (plan->packed) {
    const double panels = (double)most_panels(plan);
    const double pieces = panels * (double)(tile / lanes) + (block->columns < tile ? segments : 0);
    item += channels * (double)strided->shifts * pieces * piece_cost;
  }
  if (!plan->in_place) {
    const double rows = (double)block->images * (double)(plan->frame.image_pitch / plan->frame.pitch);
    item += channels * (rows * (double)pf_ceiling_divide(plan->frame.pitch, lanes) * filling_cost + plane_cost);
  }
  return item * (double)pf_ceiling_divide(pf_correlation_blocks(plan) * plan->tile_parts, threads);
}

typedef struct choice {
  int64_t threads, tried;
  double least;  // -1: none so far
  pf_strided_plan best;
} choice;

/// Takes blocks of these extents, their tiles in as many parts as serve them best, if they beat the best so far.
static void consider(pf_strided_plan *candidate, int64_t images, int64_t rows, int64_t columns, choice *choice) {
  pf_correlation_plan *plan = &candidate->shared;
  for (int64_t parts = 1; parts <= pf_minimum_of(choice->threads, plan->tiles); ++parts) {
    plan->tile_parts = parts;
    lay_out(candidate, images, rows, columns);
    if (choice->least >= 0) {
      // Many blocks need no parts.
      if (parts > 1 && pf_correlation_blocks(plan) >= 4 * choice->threads) break;
      if (column_floats(plan) + most_panels(plan) * plan->panel_floats > columns_budget) break;
      if (images > 1 && pf_sums_wait(plan) && plan->sums_floats > sums_budget) continue;
    }
    const double time = cost(candidate, choice->threads);
    choice->tried += 1;
    if (choice->least >= 0 && time >= choice->least) continue;
    choice->least = time;
    choice->best = *candidate;
  }
}

/// Tries blocks of parts of one row, the smallest of which is always possible, of rows, and of images.
static void choose_blocks(pf_strided_plan *candidate, choice *choice) {
  const pf_correlation *p = &candidate->shared.problem;
  const int64_t tile = candidate->shared.kernels->tile_columns, height = p->y.grid, width = p->x.grid;
  const int64_t images = pf_maximum_of(p->images, 1), tries = 4 * choice->threads;
  const int64_t narrowest = pf_minimum_of(width, 2 * tile);
  if (choice->least < 0) consider(candidate, 1, 1, narrowest, choice);
  if (height == 1) {
    choice->tried = 0;
    int64_t pitch;  // of the blocks
    for (int64_t n = 1; n <= pf_ceiling_divide(width, tile) && choice->tried < tries;
         n = pf_shorter_pieces(width, pitch - tile + 1)) {
      pitch = pf_round_up(pf_ceiling_divide(width, n), tile);
      const int64_t columns = pf_minimum_of(width, pitch);
      if (columns != narrowest) consider(candidate, 1, 1, columns, choice);
    }
  }
  choice->tried = 0;
  int64_t rows;
  for (int64_t n = 1; n < height && choice->tried < tries; n = pf_shorter_pieces(height, rows)) {
    rows = pf_ceiling_divide(height, n);
    if (rows > 1) consider(candidate, 1, rows, width, choice);
  }
  choice->tried = 0;
  int64_t some;
  for (int64_t n = 1; candidate->shared.packed && n < images && choice->tried < tries;
       n = pf_shorter_pieces(images, some)) {
    some = pf_ceiling_divide(images, n);
    if (some > 1) consider(candidate, some, height, width, choice);
  }
}

/// Chooses the blocks of a plan in so many steps.
static double choose(pf_strided_plan *strided, int64_t steps, int64_t threads) {
  pf_correlation_plan *plan = &strided->shared;
  plan->channel_step = pf_ceiling_divide(plan->problem.channels, steps);
  strided->steps = pf_ceiling_divide(plan->problem.channels, plan->channel_step);
  choice choice = {.threads = threads, .least = -1};
  pf_strided_plan candidate = *strided;
  candidate.shared.packed = false;
  // On the frame, with rows as close as they may be, or each in vectors of its own.
  const int64_t units[] = {1, plan->kernels->lanes};
  for (size_t i = 0; !plan->in_place && i < sizeof(units) / sizeof(units[0]); ++i) {
    candidate.shared.frame.pitch_unit = units[i];
    choose_blocks(&candidate, &choice);
  }
  candidate.shared.packed = true;
  candidate.shared.frame.pitch_unit = 1;
  choose_blocks(&candidate, &choice);
  *strided = choice.best;
  return choice.least;
}

/// The phases of an axis, and what they read together; returns their number.
static int64_t axis_phases(int64_t input, int64_t output, int64_t stride, int64_t dilation, int64_t padding,
                           int64_t kernel, pf_phase_axis phases[2], pf_axis *together) {
  int64_t least = INT64_MAX, most = INT64_MIN;
  for (int64_t i = 0; i < stride; ++i) {
    pf_phase_axis *phase = phases + i;
    phase->axis = pf_input_gradient_axis(input, output, stride, dilation, padding, kernel, i, &phase->first,
                                         &phase->step);
    pf_axis *axis = &phase->axis;
    phase->first += pf_axis_trim(axis) * phase->step;
    if (axis->taps == 0) continue;
    const int64_t last = axis->first + (axis->taps - 1) * axis->tap_step;
    least = pf_minimum_of(least, pf_minimum_of(axis->first, last));
    most = pf_maximum_of(most, pf_maximum_of(axis->first, last));
  }
  *together = phases->axis;
  together->taps = most < least ? 0 : most - least + 1;
  together->first = most < least ? 0 : least;
  together->tap_step = 1;
  return stride;
}

/// Products that are added up one after another, of a phase with so many taps.
static int64_t chain_of(const pf_settings *settings, const pf_correlation_plan *plan, int64_t taps) {
  const int64_t single = plan->in_place ? pf_most_chain : pf_single_chain;
  return pf_balanced(plan->channel_step * taps, pf_longest_chain(settings, plan->problem.channels * taps, single));
}

/// Fills in the chains, the bytes and the parts.
static void finish(const pf_settings *settings, pf_strided_plan *strided) {
  pf_correlation_plan *plan = &strided->shared;
  const pf_correlation *p = &plan->problem;
  for (int64_t y = 0; y < strided->phases_y; ++y) {
    for (int64_t x = 0; x < strided->phases_x; ++x) {
      strided->chains[y][x] = chain_of(settings, plan, pf_strided_taps(strided, y, x));
    }
  }
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
  const double products = (double)(p->channels * strided->taps) * (double)p->outputs * (double)pf_most_points(plan);
  plan->parts = pf_parallel_parts(settings, items, 2.0 * products / (double)plan->tile_parts);
  plan->sums_floats += pf_strided_tile_floats(strided);  // zeros
  plan->scratch_bytes = pf_tile_scratch_bytes(plan, most_panels(plan));
  const int64_t weights = p->groups * p->outputs * p->channels * strided->taps;
  const int64_t offsets = plan->channel_step * (2 * strided->taps + strided->shifts);
  const int64_t places = strided->kernel_height * strided->kernel_width;
  plan->shared_bytes = pf_aligned_bytes(weights * (int64_t)sizeof(float)) +
                       pf_aligned_bytes(offsets * (int64_t)sizeof(int64_t)) +
                       pf_aligned_bytes(places * (int64_t)sizeof(pf_tap_place));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + plan->shared_bytes;
}

bool pf_strided_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                        const pf_convolution_shape *shape, pf_strided_plan *strided) {
  const pf_convolution2d *p = problem;
  const int64_t stride_y = p->stride_height, stride_x = p->stride_width;
  if (stride_y > 2 || stride_x > 2 || stride_y * stride_x == 1) return false;
  if (p->input_height % stride_y != 0 || p->input_width % stride_x != 0) return false;
  pf_correlation_plan *plan = &strided->shared;
  *strided = (pf_strided_plan){
      .kernel_height = p->kernel_height,
      .kernel_width = p->kernel_width,
      .shared = {.kernels = settings->kernels,
                 .problem = {.images = p->batch,
                             .groups = p->groups,
                             .channels = shape->group_output_channels,
                             .outputs = shape->group_input_channels,
                             .weight_group =
                                 shape->group_output_channels * shape->group_input_channels * shape->taps,
                             .weight_output = shape->taps,
                             .weight_channel = shape->group_input_channels * shape->taps,
                             .result_image = p->input_channels * shape->input_plane,
                             .result_plane = shape->input_plane,
                             .result_y = stride_y * p->input_width,
                             .result_x = stride_x}},
  };
  pf_axis *y = &plan->problem.y, *x = &plan->problem.x;
  strided->phases_y = axis_phases(p->input_height, shape->output_height, stride_y, p->dilation_height, p->padding_top,
                                  p->kernel_height, strided->y, y);
  strided->phases_x = axis_phases(p->input_width, shape->output_width, stride_x, p->dilation_width, p->padding_left,
                                  p->kernel_width, strided->x, x);
  strided->shifts = y->taps * x->taps;
  // Far dilated taps have shifts between them that no phase reads.
  if (strided->shifts == 0 || y->taps > p->kernel_height || x->taps > p->kernel_width) return false;
  strided->phases = strided->phases_y * strided->phases_x;
  for (int64_t i = 0; i < strided->phases; ++i) {
    const int64_t taps = pf_strided_taps(strided, i / strided->phases_x, i % strided->phases_x);
    strided->taps += taps;
    strided->reached += taps > 0;
  }
  plan->in_place = strided->shifts == 1 && y->first == 0 && x->first == 0 && y->source == y->grid &&
                   x->source == x->grid;
  plan->frame.y = *y;
  plan->frame.x = *x;
  plan->inner = plan->problem.channels * strided->shifts;
  if (pf_frame_analyse(&plan->frame, plan->problem.channels) != pf_ok || pf_correlation_planes_suit(plan)) return false;
  plan->tiles = pf_ceiling_divide(plan->problem.outputs, plan->kernels->tile_rows);
  // What is summed at a time must follow from the shape alone.
  int64_t steps = 1;
  double least = -1;
  for (int64_t n = 1; n == 1 || plan->problem.channels / n * strided->taps >= least_inner; n *= 2) {
    if (n == 1 && 2 * least_inner > plan->problem.channels * strided->taps) break;
    pf_strided_plan candidate = *strided;
    const double time = choose(&candidate, n, usual_threads);
    if (least >= 0 && time >= least) continue;
    least = time;
    steps = n;
  }
  choose(strided, steps, settings->threads);
  finish(settings, strided);
  return true;
}
