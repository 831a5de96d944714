#include "convolution/correlation_filters.h"

enum {
  inner_budget = 384,        // of the inner dimension at a time, about
  strip_budget = 4 << 10,    // floats of a strip's sums: a part of a first-level cache
  frame_budget = 128 << 10,  // floats of a block's frames: a good part of a second-level cache
  sums_budget = 256 << 10,   // floats of its sums: about a second-level cache, where they wait
  weight_budget = 64 << 10,  // floats of a group's weights that stay in the caches from block to block
};

/// The costs below count vectors handled in the time of one multiply-add.
static const double load_cost = 1.25, latency = 8, step_cost = 1, call_cost = 60, sum_cost = 2, transposing_cost = 8,
                    filling_cost = 11, plane_cost = 60, near_weight_cost = 4, far_weight_cost = 16,
                    shared_weight_cost = 32, block_cost = 1000;

/// A lower bound of the time that makes it pointless to plan, over the time of the multiply-adds alone.
static const double most_excess = 1.6;

/// An axis of all places that the points and taps of another read: a frame of it is a copy of the source.
static pf_axis dense_axis(const pf_axis *axis) {
  const int64_t reach = (axis->taps - 1) * axis->tap_step;
  return (pf_axis){
      .source = axis->source,
      .grid = (axis->grid - 1) * axis->step + 1,
      .step = 1,
      .taps = (reach < 0 ? -reach : reach) + 1,
      .first = axis->first + pf_minimum_of(reach, 0),
      .tap_step = 1,
  };
}

/// Whether a dense axis reads nothing but the source.
static bool is_inside(const pf_axis *axis) {
  return axis->first >= 0 && axis->first + axis->grid + axis->taps - 2 < axis->source;
}

static void shape(pf_correlation_plan *plan, int64_t images, int64_t rows) {
  const pf_correlation *p = &plan->problem;
  plan->block_images = images;
  plan->block_rows = rows;
  plan->blocks_images = pf_ceiling_divide(p->images, images);
  plan->blocks_y = pf_ceiling_divide(p->y.grid, rows);
  plan->blocks_x = 1;
  // An even number of rows, for tiles of two.
  const int64_t row = p->x.grid * plan->kernels->lanes * pf_filter_tile_vectors(plan);
  plan->strip_rows = pf_minimum_of(rows, 2 * pf_maximum_of(1, strip_budget / (2 * row)));
  if (!plan->in_place) pf_frame_shape(&plan->frame, 1, (rows - 1) * p->y.step + 1, plan->frame.x.grid, 1);
}

/// The time of a register tile's sums of one product.
static double tile_time(int64_t rows, int64_t vectors, int64_t points) {
  const double sums = (double)(rows * vectors * points), loads = load_cost * (double)(rows * points + vectors);
  return step_cost + __builtin_fmax(latency, __builtin_fmax(sums, loads));
}

/// The time of all tiles of `rows` rows and a tile's vectors, in steps of which each calls the kernels once.
static double rows_time(const pf_correlation_plan *plan, int64_t vectors, int64_t rows, double steps) {
  const int64_t width = plan->problem.x.grid, pieces = pf_filter_pieces(plan), least = width / pieces;
  const double inner = (double)plan->inner;
  double time = 0;
  for (int64_t i = 0; i < 2; ++i) {
    const int64_t points = least + i, count = i == 0 ? pieces - width % pieces : width % pieces;
    if (count == 0) continue;
    const int64_t pairs = plan->kernels->filter_tile[1][vectors][points] == NULL ? 0 : rows / 2;
    const int64_t singles = rows - 2 * pairs;
    time += (double)count * (double)pairs * (inner * tile_time(2, vectors, points) + steps * call_cost);
    time += (double)count * (double)singles * (inner * tile_time(1, vectors, points) + steps * call_cost);
  }
  return time;
}

/// The time of a plan, were its threads to start together.
static double time_of(const pf_correlation_plan *plan, int64_t threads) {
  const pf_correlation *p = &plan->problem;
  const int64_t lanes = plan->kernels->lanes, most = pf_filter_tile_vectors(plan), rows = plan->block_rows;
  const double images = (double)plan->block_images, points = images * (double)(rows * p->x.grid);
  const double channels = (double)p->channels, vectors = (double)plan->vectors, parts = (double)plan->tile_parts;
  const double steps = (double)pf_ceiling_divide(p->channels, plan->channel_step);
  const int64_t rest = plan->vectors % most;
  double tiles = (double)(plan->vectors / most) * rows_time(plan, most, rows, steps);
  if (rest > 0) tiles += rows_time(plan, rest, rows, steps);
  // Sums are stored once a chain, then transposed.
  const double chains = steps * (double)pf_ceiling_divide(plan->channel_step * p->y.taps * p->x.taps, plan->chain);
  double item = images * tiles + points * vectors * (chains * sum_cost + transposing_cost);
  const bool far = plan->vectors * lanes * plan->inner > weight_budget;
  const double weights = vectors * (double)plan->inner;
  item += weights * (far ? far_weight_cost : near_weight_cost);
  item *= (double)pf_ceiling_divide(plan->tiles, plan->tile_parts) / (double)plan->tiles;
  item += block_cost;
  if (!plan->in_place) {
    const double frame_rows = (double)((rows - 1) * p->y.step + plan->frame.y.taps);
    const double row = (double)pf_ceiling_divide(plan->frame.pitch, lanes);
    item += images * channels * (frame_rows * row * filling_cost + plane_cost);
  }
  const double items = (double)pf_correlation_blocks(plan) * parts;
  double time = item * __builtin_ceil(items / (double)threads);
  // Of a single group's weights a thread packs those of its tiles, where these are shared out, or reads them from where
  // the others have packed them.
  if (far && p->groups == 1) time += weights / parts * (1 - parts / (double)threads) * shared_weight_cost;
  return time;
}

bool pf_correlation_filters_apply(const pf_correlation_plan *plan) {
  const pf_correlation *p = &plan->problem;
  if (plan->inner == 0 || p->y.grid == 0 || p->result_x != 1 || p->result_y != p->x.grid) return false;
  // Columns that no two taps share are packed in less time than they are read here, lines of them in vain.
  if (p->x.step > 1 && dense_axis(&p->x).taps <= p->x.step) return false;
  // Most lanes must hold channels, and products outweigh the transposing.
  const double points = 2 * (double)p->x.grid, products = points * (double)plan->inner * (double)p->outputs;
  const int64_t most = pf_filter_tile_vectors(plan);
  const double vectors = (double)pf_ceiling_divide(p->outputs, plan->kernels->lanes);
  const double time = vectors / (double)most * rows_time(plan, most, 2, 0) + points * vectors * transposing_cost;
  return time < most_excess * products / (double)plan->kernels->lanes;
}

/// Whether a block's frames or sums are too large for the caches.
static bool is_large(const pf_correlation_plan *plan) {
  const double frames = (double)plan->block_images * (double)pf_correlation_frame_floats(plan);
  const double sums =
      pf_sums_wait(plan) ? (double)pf_filter_part_vectors(plan) * (double)pf_filter_vector_stride(plan) : 0;
  return frames > frame_budget || sums > sums_budget;
}

/// Takes blocks, their tiles in as many parts as serve them best, if they beat the best so far; large ones only where
/// none has been taken and there are no `smaller` ones.
static void consider(pf_correlation_plan *candidate, int64_t threads, bool smaller, double *least,
                     pf_correlation_plan *best) {
  for (int64_t parts = 1; parts <= pf_minimum_of(threads, candidate->tiles); ++parts) {
    candidate->tile_parts = parts;
    if (is_large(candidate) && (smaller || *least >= 0)) continue;
    const double time = time_of(candidate, threads);
    if (*least >= 0 && time >= *least) continue;
    *least = time;
    *best = *candidate;
  }
}

/// The most rows of a block that fits, its tiles in as many parts as there may be; or 1.
static int64_t most_rows(pf_correlation_plan *candidate, int64_t threads) {
  int64_t least = 1, most = candidate->problem.y.grid, rows = most;
  candidate->tile_parts = pf_minimum_of(threads, candidate->tiles);
  for (; least < most; rows = least + (most - least + 1) / 2) {
    shape(candidate, 1, rows);
    if (is_large(candidate)) {
      most = rows - 1;
    } else {
      least = rows;
    }
  }
  return least;
}

/// Tries blocks of whole images and of rows, as large as they fit and smaller ones that share out more evenly.
static double choose_blocks(pf_correlation_plan *plan, int64_t threads) {
  pf_correlation_plan candidate = *plan;
  const int64_t height = plan->problem.y.grid, images = pf_maximum_of(plan->problem.images, 1), tries = 2 * threads;
  double least = -1;
  for (int64_t n = 2; n <= images; n *= 2) {
    shape(&candidate, n, height);
    consider(&candidate, threads, true, &least, plan);
  }
  int64_t rows = most_rows(&candidate, threads);
  for (int64_t tried = 0; tried < tries; ++tried) {
    const int64_t pieces = pf_ceiling_divide(height, rows);
    rows = pf_ceiling_divide(height, pieces);
    shape(&candidate, 1, rows);
    consider(&candidate, threads, rows > 1, &least, plan);
    // So many blocks are shared out evenly.
    if (least >= 0 && pf_correlation_blocks(&candidate) >= 16 * threads) break;
    if (rows == 1) break;
    rows -= 1;
  }
  return least;
}

pf_status pf_correlation_filters_prepare(const pf_settings *settings, int64_t threads, pf_correlation_plan *plan,
                                         double *time) {
  const pf_correlation *p = &plan->problem;
  plan->filters = true;
  plan->frame.y = dense_axis(&p->y);
  plan->frame.x = dense_axis(&p->x);
  // Planes of whole pages would compete for the same sets of a cache.
  plan->in_place =
      is_inside(&plan->frame.y) && is_inside(&plan->frame.x) && pf_source_plane(p) % pf_page_floats != 0;
  PF_TRY(pf_frame_analyse(&plan->frame, p->channels));
  plan->vectors = pf_ceiling_divide(p->outputs, plan->kernels->lanes);
  plan->tiles = pf_ceiling_divide(plan->vectors, pf_filter_tile_vectors(plan));
  plan->channel_step = pf_correlation_step(plan, inner_budget);
  plan->chain = pf_balanced(plan->channel_step * p->y.taps * p->x.taps,
                            pf_longest_chain(settings, plan->inner, pf_single_chain));
  *time = choose_blocks(plan, threads);
  return pf_ok;
}

void pf_correlation_filters_finish(const pf_settings *settings, pf_correlation_plan *plan) {
  const pf_correlation *p = &plan->problem;
  const int64_t lanes = plan->kernels->lanes, points = plan->block_images * plan->block_rows * p->x.grid;
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
  const double operations = 2.0 * (double)plan->inner * (double)p->outputs * (double)points;
  plan->parts = pf_parallel_parts(settings, items, operations / (double)plan->tile_parts);

  const int64_t most = pf_minimum_of(plan->vectors, pf_filter_tile_vectors(plan));
  // Transposing reads up to a square.
  plan->sums_floats = (pf_sums_wait(plan) ? pf_filter_part_vectors(plan) : most) * pf_filter_vector_stride(plan);
  plan->sums_floats += lanes * lanes;
  const int64_t floats = plan->block_images * pf_correlation_frame_floats(plan) + plan->sums_floats;
  plan->scratch_bytes = pf_part_bytes(floats * (int64_t)sizeof(float));
  // Weights and a bias.
  const int64_t packed = p->groups * plan->vectors * lanes * (plan->inner + 1);
  plan->shared_bytes = pf_aligned_bytes(packed * (int64_t)sizeof(float)) +
                       pf_aligned_bytes(2 * plan->inner * (int64_t)sizeof(int64_t));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + plan->shared_bytes;
}
