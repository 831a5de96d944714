#include "convolution/column_tiles.h"
#include "convolution/correlation_filters.h"
#include "convolution/correlation_planes.h"

enum {
  near_budget = 10 << 10,       // floats that a tile reads, most of a core's first-level cache
  cache_budget = 128 << 10,     // floats that the tiles of a step read, a good part of its second-level cache
  frame_budget = 256 << 10,     // floats of a block's frame
  block_budget = 512 << 10,     // and of its panels with it
  panel_budget = 128 << 10,     // floats that the columns of a block take, or two neighbouring blocks in place
  joined_budget = 32 << 10,     // the same of joined images, where the next block's come into the cache meanwhile
  joined_inner_budget = 1024,   // of the inner dimension at a time of joined images, whose blocks are small
  most_block_points = 4096,     // grid points of a block
  usual_threads = 2,            // for which what no result may depend on is chosen
};

/// The costs below count vectors handled in the time of one multiply-add.
static const double filling_cost = 8, plane_cost = 100, packing_cost = 8, direct_cost = 0.5, scattering_cost = 12,
                    weight_cost = 16, waiting_cost = 20, near_cost = 2.5, far_cost = 2, block_cost = 2000;

/// The time of points in the lanes over that of channels in them must be more than this: estimates aren't exact.
static const double filters_margin = 1.02;

/// Of the inner dimension at a time, about: few enough for many columns in the caches, or fewer, and more sums wait.
static const int64_t inner_budgets[] = {512, 256, 192};

/// The same of what joins images. Weights of a block come from the second-level cache or were fetched; once they, or a
/// line of them, come from the thread that packed them, and lines of the source from beyond the caches.
static const double near_weight_cost = 0.5, far_weight_line_cost = 64, source_line_cost = 24,
                    joined_packing_cost = 1.5;

static int64_t taps_of(const pf_correlation_plan *plan) {
  return pf_maximum_of(plan->problem.y.taps * plan->problem.x.taps, 1);
}

/// Runs of neighbouring points that a block consists of at most, beside the bounds of its column tiles.
static int64_t block_runs(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  if (!plan->joined) return block->images * block->rows;
  const int64_t plane = plan->problem.y.grid * plan->problem.x.grid, rest = plane % plan->kernels->tile_columns;
  int64_t runs = 0;
  for (int64_t i = 0; i < 2; ++i) {
    const int64_t span = i == 0 ? plane - rest : rest;
    if (span > 0) runs += pf_minimum_of(plan->problem.images, (block->columns - 1) / span + 2);
  }
  return runs;
}

/// Whether rows are whole vectors, of which a tile takes two from wherever they are.
static bool rows_are_vectors(const pf_correlation_plan *plan) {
  const int64_t lanes = plan->kernels->lanes, tile = plan->kernels->tile_columns;
  return !plan->joined && tile == 2 * lanes && plan->frame.x.grid % lanes == 0 &&
         plan->frame.most.columns % lanes == 0;
}

/// Column tiles of a block that are packed, at most.
static int64_t block_panels(const pf_correlation_plan *plan) {
  const int64_t tile = plan->kernels->tile_columns, tiles = pf_ceiling_divide(pf_most_points(plan), tile);
  if (!plan->packed || rows_are_vectors(plan)) return 0;
  if (!plan->joined) return pf_minimum_of(tiles, plan->frame.most.images * plan->frame.most.rows);
  const int64_t rest = plan->problem.y.grid * plan->problem.x.grid % tile;
  return pf_minimum_of(tiles, pf_ceiling_divide(plan->problem.images * rest, tile));
}

static void shape(pf_correlation_plan *plan, int64_t images, int64_t rows, int64_t columns) {
  pf_frame *frame = &plan->frame;
  pf_frame_shape(frame, images, rows, columns, plan->kernels->tile_columns);
  plan->blocks_images = pf_ceiling_divide(plan->grids, images);
  plan->blocks_y = pf_ceiling_divide(frame->y.grid, rows);
  plan->blocks_x = pf_ceiling_divide(frame->x.grid, columns);
}

/// The column tiles of a block and those among them that hold the end of a run of the source, which cuts them into
/// segments.
typedef struct column_tiles {
  int64_t all, cut, segments;
} column_tiles;

static column_tiles column_tiles_of(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  const int64_t tile = plan->kernels->tile_columns, all = pf_ceiling_divide(pf_most_points(plan), tile);
  const bool joined = plan->in_place || plan->frame.pitch == block->columns;
  const int64_t runs = joined ? block->images : block->images * block->rows;
  const int64_t run = joined ? block->rows * block->columns : block->columns;
  // Packed, some runs end where a tile does.
  const int64_t ends = plan->packed ? runs - runs * pf_greatest_common_divisor(run, tile) / tile : runs;
  const int64_t cut = pf_minimum_of(all, ends);
  return (column_tiles){.all = all, .cut = cut, .segments = ends == 0 ? 0 : cut + ends - 1};
}

/// Segments that don't lie in the result as they do in their tile.
static int64_t scattered_segments(const pf_correlation_plan *plan, const column_tiles *columns) {
  const pf_correlation *p = &plan->problem;
  const pf_block *block = &plan->frame.most;
  if (p->result_x != 1) return columns->all + block->images * block->rows;
  const bool straight = plan->packed && p->result_y == block->columns;
  return straight ? pf_minimum_of(2 * block->images - 1, columns->segments) : columns->segments;
}

/// How much of what is read again and again a cache doesn't hold any more.
static double excess(double floats, double budget) {
  const double over = floats / budget - 1;
  return over < 0 ? 0 : over < 1 ? over : 1;
}

/// The time of a plan, were its threads to start together, in vector multiply-adds.
static double cost(const pf_correlation_plan *plan, int64_t threads) {
  const pf_correlation *p = &plan->problem;
  const pf_block *block = &plan->frame.most;
  const int64_t tile = plan->kernels->tile_columns, lanes = plan->kernels->lanes, points = pf_most_points(plan);
  const int64_t rest = points % tile;
  const double vectors = (double)((points - rest) / lanes + (rest == 0 ? 0 : rest <= lanes ? 1 : tile / lanes));
  const double inner = (double)plan->inner, outputs = (double)p->outputs / (double)plan->tile_parts;
  const column_tiles columns = column_tiles_of(plan);
  const bool packs = plan->packed && !rows_are_vectors(plan);
  const double cut = packs ? (double)columns.cut : 0, segments = (double)columns.segments;
  double item = block_cost + vectors * inner * outputs;
  // Pieces of a vector or less are packed.
  if (packs) item += inner * (cut * (double)(tile / lanes) + 0.5 * segments) * packing_cost;
  item += outputs * (double)scattered_segments(plan, &columns) * scattering_cost;
  if (!plan->in_place) {
    const pf_frame *frame = &plan->frame;
    const double rows = (double)block->images * (double)(frame->image_pitch / frame->pitch);
    const double plane = rows * (double)pf_ceiling_divide(frame->pitch, lanes) * filling_cost + plane_cost;
    item += (double)(p->channels * frame->y_taps.phases * frame->x_taps.phases) * plane;

    // Each tile of outputs reads all columns of a step, each of columns all weights: from the nearest cache that they
    // fit. Rows of a frame hold what several taps read.
    const double steps = (double)pf_ceiling_divide(pf_maximum_of(p->channels, 1), plan->channel_step);
    const double step_inner = (double)(plan->channel_step * taps_of(plan)), step_columns = step_inner * (double)tile;
    const double frame_columns =
        (double)(plan->channel_step * p->y.taps * frame->x_taps.phases) * (double)(tile + 2 * lanes);
    const double near = packs || step_columns < frame_columns ? step_columns : frame_columns;
    const double far = cut * step_columns + (cut < (double)columns.all ? (double)pf_correlation_frame_floats(plan) : 0);
    const double weights = inner * outputs / (double)lanes, tiles = outputs / (double)plan->kernels->tile_rows;
    item += vectors * inner * tiles * ((packs ? 0 : direct_cost) + far_cost * excess(far, cache_budget));
    item += weights * (double)columns.all * near_cost *
            excess(near + step_inner * (double)plan->kernels->tile_rows, near_budget);
    // Each block reads all weights, and each step but the first the sums before it.
    item += weights * weight_cost + (steps - 1) * outputs * vectors * waiting_cost;
  }
  return item * (double)pf_ceiling_divide(pf_correlation_blocks(plan) * plan->tile_parts, threads);
}

/// Takes a candidate, its tiles in as many parts as serve it best, if it beats the best so far.
static void consider(pf_correlation_plan *candidate, int64_t threads, double *least, pf_correlation_plan *best) {
  for (int64_t parts = 1; parts <= pf_minimum_of(threads, candidate->tiles); ++parts) {
    // Many blocks need no parts.
    if (parts > 1 && pf_correlation_blocks(candidate) >= 4 * threads) break;
    candidate->tile_parts = parts;
    const double time = cost(candidate, threads);
    if (*least < 0 || time < *least) {
      *least = time;
      *best = *candidate;
    }
  }
}

static bool is_large(const pf_correlation_plan *plan) {
  const int64_t frame = pf_correlation_frame_floats(plan);
  const int64_t panel = plan->channel_step * taps_of(plan) * plan->kernels->tile_columns;
  return frame > frame_budget || (!plan->in_place && plan->packed && frame + block_panels(plan) * panel > block_budget);
}

/// Tries blocks of `most` grid points or fewer: of whole images where several fit, else of rows, else of parts of one
/// row; as large as they fit, and smaller ones that share out more evenly.
static void choose_blocks(pf_correlation_plan candidate, int64_t most, int64_t threads, double *least,
                          pf_correlation_plan *best) {
  const pf_frame *frame = &candidate.frame;
  const int64_t width = frame->x.grid, height = frame->y.grid, tile = candidate.kernels->tile_columns;
  const int64_t images = pf_maximum_of(candidate.problem.images, 1);
  const int64_t tries = 4 * threads;
  int64_t tried = 0;
  if (candidate.packed) {
    const int64_t first = pf_minimum_of(images, most / width / height);
    int64_t some;
    for (int64_t n = first > 1 ? pf_ceiling_divide(images, first) : images; n < images && tried < tries;
         n = pf_shorter_pieces(images, some)) {
      some = pf_ceiling_divide(images, n);
      if (some == 1) break;
      shape(&candidate, some, height, width);
      if (is_large(&candidate)) continue;
      consider(&candidate, threads, least, best);
      tried += 1;
    }
  }
  int64_t rows;
  for (int64_t n = pf_ceiling_divide(height, pf_maximum_of(1, most / width)); n <= height && tried < tries;
       n = pf_shorter_pieces(height, rows)) {
    rows = pf_ceiling_divide(height, n);
    shape(&candidate, 1, rows, width);
    if (is_large(&candidate) && rows > 1) continue;
    if (width > most && tried == 0) break;
    consider(&candidate, threads, least, best);
    tried += 1;
  }
  if (height > 1 && tried > 0) return;
  int64_t pitch;  // of the blocks
  for (int64_t n = pf_ceiling_divide(width, most); n <= pf_ceiling_divide(width, tile) && tried < tries;
       n = pf_shorter_pieces(width, pitch - tile + 1)) {
    pitch = pf_round_up(pf_ceiling_divide(width, n), tile);
    const int64_t columns = pf_minimum_of(width, pitch);
    shape(&candidate, 1, 1, columns);
    if (is_large(&candidate) && columns > 2 * tile) continue;
    consider(&candidate, threads, least, best);
    tried += 1;
  }
}

/// The time of a plan that joins images, of the thread with most to do.
static double joined_time(const pf_correlation_plan *plan, int64_t threads) {
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns, lanes = plan->kernels->lanes, parts = plan->tile_parts;
  const double inner = (double)plan->inner, outputs = (double)p->outputs;
  const double part = outputs * (double)pf_ceiling_divide(plan->tiles, parts) / (double)plan->tiles;
  const double vectors = (double)pf_ceiling_divide(plan->frame.most.columns, lanes);
  const double item = block_cost + inner * part * (vectors + near_weight_cost / (double)lanes) +
                      inner * (double)(block_panels(plan) * (tile / lanes)) * joined_packing_cost;
  const double weights = outputs / (double)parts - outputs / (double)threads;
  const double points = (double)(p->images * p->y.grid * p->x.grid) * (double)parts / (double)threads;
  const double lines = weights * far_weight_line_cost + points * source_line_cost;
  return item * (double)pf_ceiling_divide(pf_correlation_blocks(plan) * parts, threads) +
         (double)p->groups * inner / pf_line_floats * lines;
}

/// Chooses the blocks of a plan that joins images, and the parts of its tiles, each of which as many threads share.
static void choose_joined(pf_correlation_plan *plan, int64_t threads) {
  pf_correlation_plan candidate = *plan;
  const int64_t tile = plan->kernels->tile_columns, width = pf_maximum_of(plan->frame.x.grid, 1);
  const int64_t budget = joined_budget / pf_maximum_of(plan->channel_step, 1);
  const int64_t most = pf_maximum_of(2 * tile, pf_minimum_of(most_block_points, budget));
  double least = -1;
  candidate.packed = true;
  for (int64_t parts = 1; parts <= pf_minimum_of(threads, plan->problem.outputs); ++parts) {
    if (threads % parts != 0) continue;
    candidate.tile_parts = parts;
    candidate.tiles = pf_minimum_of(pf_round_up(plan->tiles, parts), plan->problem.outputs);
    int64_t tried = 0, columns;
    for (int64_t n = pf_ceiling_divide(width, most); n <= pf_ceiling_divide(width, tile) && tried < 4 * threads;
         n = pf_shorter_pieces(width, columns - tile + 1)) {
      columns = pf_round_up(pf_ceiling_divide(width, n), tile);
      tried += 1;
      shape(&candidate, 1, 1, columns);
      const double time = joined_time(&candidate, threads);
      if (least >= 0 && time >= least) continue;
      least = time;
      *plan = candidate;
    }
  }
}

/// Chooses the blocks of a plan whose step is chosen; returns the cost.
static double choose(pf_correlation_plan *plan, int64_t threads) {
  int64_t most = most_block_points;
  if (plan->in_place) {
    const int64_t tile = plan->kernels->tile_columns, inner_step = pf_maximum_of(plan->channel_step * taps_of(plan), 1);
    most = pf_maximum_of(2 * tile, pf_minimum_of(most_block_points, panel_budget / inner_step));
    if (plan->problem.y.grid * plan->problem.x.grid > most) most = pf_maximum_of(2 * tile, most / 2);
  }
  pf_correlation_plan candidate = *plan;
  double least = -1;
  if (!plan->in_place) choose_blocks(candidate, most, threads, &least, plan);
  candidate.packed = plan->inner > 0;
  if (candidate.packed) choose_blocks(candidate, most, threads, &least, plan);
  return least;
}

/// Chooses the step, for a number of threads that no result depends on: what is summed at a time must follow from the
/// shape alone.
static void choose_step(pf_correlation_plan *plan) {
  int64_t before = pf_correlation_step(plan, inner_budgets[0]);
  double least = -1;
  plan->channel_step = before;
  for (size_t i = 1; !plan->in_place && i < sizeof(inner_budgets) / sizeof(inner_budgets[0]); ++i) {
    const int64_t step = pf_correlation_step(plan, inner_budgets[i]);
    if (step == before) continue;
    pf_correlation_plan trial = *plan;
    if (least < 0) least = choose(&trial, usual_threads);
    trial = *plan;
    trial.channel_step = before = step;
    const double time = choose(&trial, usual_threads);
    if (time >= least) continue;
    least = time;
    plan->channel_step = step;
  }
}

/// Chooses between points and result channels in the lanes, and the blocks.
static pf_status choose_direct(const pf_settings *settings, pf_correlation_plan *plan) {
  pf_correlation_plan filters = *plan;
  choose_step(plan);
  if (pf_correlation_filters_apply(plan)) {
    // The two needn't have the same steps, so which one it is must follow from the shape alone too.
    pf_correlation_plan trial = *plan;
    double time;
    const pf_status status = pf_correlation_filters_prepare(settings, usual_threads, &filters, &time);
    if (status == pf_ok && time * filters_margin < choose(&trial, usual_threads)) {
      *plan = filters;
      return settings->threads == usual_threads
                 ? pf_ok
                 : pf_correlation_filters_prepare(settings, settings->threads, plan, &time);
    }
  }
  choose(plan, settings->threads);
  return pf_ok;
}

/// Whether planes in place are better read with result channels in the lanes: where much of each is left over when it
/// is cut into column tiles, or there is but a small one. What has hardly a point to share its weights with, too many
/// weights to read them again for other images, or idle lanes, isn't.
static bool are_ragged(const pf_correlation_plan *plan) {
  enum { least_points = 9, most_weights = 3 << 19 };
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns, plane = p->y.grid * p->x.grid;
  if (8 * (pf_round_up(p->outputs, plan->kernels->lanes) - p->outputs) > p->outputs) return false;
  if (p->outputs * plan->inner > most_weights) return false;
  if (p->images == 1) return plane < 8 * tile;
  return plane >= least_points && 10 * (plane % tile) >= plane;
}

/// Chooses the blocks of planes in place.
static pf_status choose_in_place(const pf_settings *settings, pf_correlation_plan *plan) {
  pf_correlation *p = &plan->problem;
  if (plan->inner == 0 || p->y.grid == 0 || p->x.grid == 0 || !are_ragged(plan)) {
    plan->channel_step = pf_correlation_step(plan, joined_inner_budget);
    choose_joined(plan, settings->threads);
    return pf_ok;
  }
  // A plane is one row.
  p->result_y = p->x.grid = p->x.source = p->y.grid * p->x.grid;
  p->y.grid = p->y.source = 1;
  plan->joined = false;
  double time;
  return pf_correlation_filters_prepare(settings, settings->threads, plan, &time);
}

/// Fills in what follows from the blocks.
static void finish(const pf_settings *settings, pf_correlation_plan *plan) {
  const pf_correlation *p = &plan->problem;
  const int64_t tile = plan->kernels->tile_columns;
  const int64_t inner_step = pf_maximum_of(plan->channel_step * p->y.taps * p->x.taps, 1);
  // What is read in place is summed so fast that another end of a chain, which goes to the result, would show.
  const int64_t single = plan->in_place ? pf_most_chain : pf_single_chain;
  plan->chain = pf_balanced(inner_step, pf_longest_chain(settings, plan->inner, single));
  plan->most_column_tiles = pf_ceiling_divide(pf_most_points(plan), tile);
  plan->most_segments = plan->most_column_tiles + block_runs(plan);
  const double operations = 2.0 * (double)plan->inner * (double)p->outputs * (double)pf_most_points(plan);
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
  plan->parts = pf_parallel_parts(settings, items, operations / (double)plan->tile_parts);
  // Where each part of the tiles belongs to one thread. Packing the weights of a tile, each a short run far from the
  // others, fetches those of the next one, which then arrive while this one runs; long runs, transposed, gain nothing.
  plan->packs_late = plan->joined && plan->tile_parts % plan->parts == 0 && p->weight_output == 1;

  // Each tile that isn't a single run of columns is packed; besides its columns a vector is written.
  plan->panel_floats = inner_step * tile + plan->kernels->lanes;
  // The sums of a block wait for the next step of the inner dimension.
  plan->sums_floats = tile * (pf_sums_wait(plan) ? p->outputs * plan->most_column_tiles : plan->kernels->tile_rows);
  plan->scratch_bytes = pf_tile_scratch_bytes(plan, block_panels(plan));
  plan->shared_bytes = pf_aligned_bytes(p->groups * p->outputs * plan->inner * (int64_t)sizeof(float)) +
                       pf_aligned_bytes(3 * plan->inner * (int64_t)sizeof(int64_t));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + plan->shared_bytes;
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
                   p->x.first == 0 && p->y.source == p->y.grid && p->x.source == p->x.grid;
  plan->joined = plan->in_place && p->result_x == 1 && p->result_y == p->x.grid;
  plan->grids = plan->joined ? 1 : p->images;
  plan->frame.y = p->y;
  plan->frame.x = p->x;
  if (plan->joined) {
    plan->frame.x.source = plan->frame.x.grid = p->images * p->y.grid * p->x.grid;
    plan->frame.y.source = plan->frame.y.grid = 1;
  }
  PF_TRY(pf_frame_analyse(&plan->frame, p->channels));
  plan->planes = pf_correlation_planes_suit(plan);
  if (plan->planes) {
    pf_correlation_planes_prepare(settings, plan);
    return pf_ok;
  }

  plan->tiles = pf_ceiling_divide(p->outputs, plan->kernels->tile_rows);
  if (plan->joined) {
    PF_TRY(choose_in_place(settings, plan));
  } else {
    PF_TRY(choose_direct(settings, plan));
  }
  if (plan->filters) {
    pf_correlation_filters_finish(settings, plan);
  } else {
    finish(settings, plan);
  }
  return pf_ok;
}
