// Dot products of planes.
//
// With one tap, no stride and no padding, each gradient element is the dot product of two planes of every image. Both
// are read where they lie, a vector of neighbouring points at a time: nothing is packed, and any filter and any channel
// are as good as neighbours. So a mask costs little: a tile of filters takes those channels alone that one of them
// needs, and scattered elements are computed by themselves, as pairs of a channel and a filter, to the same bits.
//
// Planes are cut into blocks, and these shared out to slices; each slice sums its blocks in order, and the slices are
// summed in order at the end.

#include "convolution/plane_gradient.h"

#include <string.h>

enum {
  block_points = 800,        // at most: a tile's rows then stay in the first-level cache
  least_plane = 512,         // points: shorter rows don't pay for a tile's start
  least_channels = 24,       // whose products hide the time that it takes to read the output gradient
  input_budget = 128 << 10,  // floats of the input that tiles of filters read again and again
  wide = 3,                  // filters for each channel: with fewer, outer products are as fast
  most_slices = 16,
  slice_budget = 1 << 19,    // floats of all slices' sums
  few_pairs = 8,             // of a channel: fewer run over whole blocks
  strip_budget = 8 << 10,    // floats of the input that stay in the first-level cache while more of them run
  least_strip = 8,           // vectors of a plane
  most_pairs = 2048,         // that run together
};

// A pair's time, in that of an element of a tile.
static const double pair_cost = 3.5;

/// Filters with something trainable, and the channels that any of them needs.
typedef struct tile {
  int32_t filters[pf_most_dot_columns];  // of the group
  int32_t filter_count;
  int32_t count;            // of channels
  const int32_t *channels;  // ascending; NULL: all
  bool scattered;           // pairs; channels has a list for each filter, one behind the other, and count is their sum
  int64_t first_pair;       // how many there are in the tiles before
  int64_t sums;             // where a slice's begin: by channel, in each by filter; if scattered, by pair
} tile;

typedef struct layout {
  const pf_kernels *kernels;
  pf_convolution2d problem;
  int64_t channels, filters;  // of a group
  int64_t plane, block;       // points
  int64_t plane_blocks, blocks;
  int64_t slices, slice_blocks, tiles, tile_parts, channel_step;
  int64_t strip;              // vectors
  int64_t pairs;              // the most that there can be
  int32_t parts, finish_parts;
} layout;

typedef struct run_state {
  const layout *layout;
  const float *input, *output_gradient;
  const pf_gradient_mask *mask;  // NULL: nothing is frozen
  const pf_plane_sums *plane_sums;
  bool accumulate;
  float *result;
  tile *tiles;           // by group, layout->tiles each,
  int64_t *tile_counts;  // of which it has so many
  int32_t *lists;        // by filter
  int64_t *pair_inputs, *pair_gradients;  // offsets of their planes
  bool few_pairs;
  int64_t pair_sums;     // where they begin in a slice's sums
  int64_t slice_floats;
  float *sums;           // by slice
  char *scratch;         // scratch_bytes a part
  int64_t scratch_bytes;
} run_state;

static pf_filter_window window_of(const layout *l) {
  return (pf_filter_window){.channels = l->channels, .kernel_height = 1, .kernel_width = 1, .taps_y = 1, .taps_x = 1};
}

bool pf_plane_gradient_applies(const pf_settings *settings, const pf_convolution2d *p,
                               const pf_convolution_shape *shape) {
  const int64_t plane = shape->output_plane;
  // Planes a multiple of a page apart would compete for the same few sets of a cache.
  return p->batch > 0 && shape->taps == 1 && p->stride_height == 1 && p->stride_width == 1 && p->padding_top == 0 &&
         p->padding_left == 0 && shape->input_plane == plane && plane % settings->kernels->lanes == 0 &&
         plane >= least_plane && plane % pf_page_floats != 0 && shape->group_input_channels >= least_channels &&
         shape->group_output_channels >= wide * shape->group_input_channels;
}

static layout layout_of(const pf_settings *settings, const pf_convolution2d *problem,
                        const pf_convolution_shape *shape) {
  const pf_kernels *kernels = settings->kernels;
  layout l = {
      .kernels = kernels,
      .problem = *problem,
      .channels = shape->group_input_channels,
      .filters = shape->group_output_channels,
      .plane = shape->output_plane,
  };
  const int64_t most = pf_minimum_of(block_points, pf_most_chain * kernels->lanes);
  l.block = pf_round_up(pf_balanced(l.plane, most), kernels->lanes);
  l.plane_blocks = pf_ceiling_divide(l.plane, l.block);
  l.blocks = problem->batch * l.plane_blocks;
  const int64_t affordable = pf_maximum_of(1, slice_budget / shape->weight_count);
  l.slice_blocks = pf_ceiling_divide(l.blocks, pf_power_of_two_up_to(pf_minimum_of(most_slices, affordable)));
  l.slices = pf_ceiling_divide(l.blocks, l.slice_blocks);
  l.channel_step = pf_balanced(l.channels, input_budget / l.block);
  l.tiles = pf_ceiling_divide(l.filters, kernels->dot_columns);
  const int64_t items = l.slices * problem->groups, threads = settings->threads;
  l.tile_parts = items % threads != 0 && items < 16 * threads ? pf_minimum_of(l.tiles, 4 * threads) : 1;
  const int64_t all = pf_maximum_of(items * l.tile_parts, 1);
  const double operations = 2 * (double)l.blocks * (double)l.block * (double)shape->weight_count;
  l.parts = pf_parallel_parts(settings, all, operations / (double)all);
  l.finish_parts = pf_parallel_parts(settings, problem->groups * l.tiles,
                                     8.0 * (double)(kernels->dot_columns * l.channels * (l.slices + 1)));
  const int64_t affordable_strip = strip_budget / (l.channels * kernels->lanes);
  l.strip = pf_balanced(l.block / kernels->lanes, pf_maximum_of(affordable_strip, least_strip));
  l.pairs = (int64_t)((double)shape->weight_count / pair_cost) + 1;
  return l;
}

/// Bytes of a part's scratch memory: for a tile's sums, and with lists for pairs and for reading a mask.
static int64_t scratch_bytes(const layout *l, bool listed) {
  int64_t floats = (l->kernels->dot_columns + 1) * l->channels;
  if (!listed) return pf_part_bytes(floats * (int64_t)sizeof(float));
  const pf_filter_window window = window_of(l);
  floats = pf_maximum_of(floats, pf_minimum_of(l->pairs + pf_dot_pairs, most_pairs) * (l->kernels->lanes + 1));
  return pf_part_bytes(pf_maximum_of(pf_scan_bytes(&window), floats * (int64_t)sizeof(float)));
}

/// Lays out a state whose workspace is `memory`, or NULL; returns its bytes.
static int64_t place(const pf_settings *settings, const layout *l, bool listed, char *memory, run_state *state) {
  const int64_t weights = l->problem.output_channels * l->channels, pairs = listed ? l->pairs : 0;
  int64_t used = 0;
  state->tiles = pf_reserve(memory, &used, l->problem.groups * l->tiles, sizeof(tile));
  state->tile_counts = pf_reserve(memory, &used, l->problem.groups, sizeof(int64_t));
  state->lists = pf_reserve(memory, &used, listed ? weights : 0, sizeof(int32_t));
  state->pair_inputs = pf_reserve(memory, &used, pairs + pf_dot_pairs, sizeof(int64_t));
  state->pair_gradients = pf_reserve(memory, &used, pairs + pf_dot_pairs, sizeof(int64_t));
  state->scratch_bytes = scratch_bytes(l, listed);
  state->scratch = pf_reserve(memory, &used, settings->threads, (size_t)state->scratch_bytes);
  state->pair_sums = weights;
  state->slice_floats = pf_round_up(weights + pairs, pf_line_floats);
  state->sums = pf_reserve(memory, &used, l->slices * state->slice_floats, sizeof(float));
  return used;
}

int64_t pf_plane_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    const pf_convolution_shape *shape) {
  const layout l = layout_of(settings, problem, shape);
  run_state state;
  return place(settings, &l, true, NULL, &state);
}

// MARK: Tiles

static bool is_frozen(const run_state *state, int64_t group, int64_t filter) {
  return state->mask != NULL && state->mask->counts[group * state->layout->filters + filter] == 0;
}

/// Cuts a group's filters into tiles, frozen ones left out.
static void cut(const run_state *state, int64_t group) {
  const layout *l = state->layout;
  int64_t left = 0, sums = group * l->filters * l->channels;
  for (int64_t f = 0; f < l->filters; ++f) left += !is_frozen(state, group, f);
  tile *tile = state->tiles + group * l->tiles;
  int64_t tiles = pf_ceiling_divide(left, l->kernels->dot_columns);
  state->tile_counts[group] = tiles;
  for (int64_t f = 0; tiles > 0; --tiles, ++tile) {
    *tile = (struct tile){.count = (int32_t)l->channels, .sums = sums};
    const int64_t filters = pf_ceiling_divide(left, tiles);
    for (; tile->filter_count < filters; ++f) {
      if (!is_frozen(state, group, f)) tile->filters[tile->filter_count++] = (int32_t)f;
    }
    left -= filters;
    sums += filters * l->channels;
  }
}

/// Items: tiles. Lists the channels of each.
static void list_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const layout *l = state->layout;
  const pf_filter_window window = window_of(l);
  uint8_t *bytes = (uint8_t *)(state->scratch + part * state->scratch_bytes), *all = bytes + pf_scan_bytes(&window) / 2;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / l->tiles;
    if (item % l->tiles >= state->tile_counts[group]) continue;
    tile *tile = state->tiles + item;
    const uint8_t *mask = state->mask->bytes + group * l->filters * l->channels;
    int32_t *list = state->lists + (group * l->filters + tile->filters[0]) * l->channels;
    tile->channels = list;
    memset(all, 0, (size_t)l->channels);
    int64_t trainable = 0;
    for (int32_t i = 0; i < tile->filter_count; ++i) {
      trainable += state->mask->counts[group * l->filters + tile->filters[i]];
      for (int64_t c = 0; c < l->channels; ++c) all[c] |= mask[tile->filters[i] * l->channels + c];
    }
    tile->count = pf_gradient_list(all, &window, bytes, list);
    tile->scattered = pair_cost * (double)trainable < (double)tile->filter_count * (double)tile->count;
    if (!tile->scattered) continue;
    for (int32_t i = 0; i < tile->filter_count; ++i) {
      list += pf_gradient_list(mask + tile->filters[i] * l->channels, &window, bytes, list);
    }
    tile->count = (int32_t)trainable;
  }
}

static void place_pairs(run_state *state) {
  const layout *l = state->layout;
  int64_t pairs = 0;
  for (int64_t item = 0; item < l->problem.groups * l->tiles; ++item) {
    const int64_t group = item / l->tiles;
    if (item % l->tiles >= state->tile_counts[group]) continue;
    tile *tile = state->tiles + item;
    tile->first_pair = pairs;
    if (!tile->scattered) continue;
    tile->sums = state->pair_sums + pairs;
    const int32_t *channels = tile->channels;
    for (int32_t i = 0; i < tile->filter_count; ++i) {
      const int64_t filter = tile->filters[i], count = state->mask->counts[group * l->filters + filter];
      for (int64_t k = 0; k < count; ++k, ++pairs) {
        state->pair_inputs[pairs] = *channels++ * l->plane;
        state->pair_gradients[pairs] = filter * l->plane;
      }
    }
  }
  // A kernel takes so many, and what is behind the last must be planes too.
  for (int64_t k = 0; k < pf_dot_pairs; ++k) state->pair_inputs[pairs + k] = state->pair_gradients[pairs + k] = 0;
  state->few_pairs = pairs < few_pairs * l->problem.input_channels;
}

// MARK: Products

/// A block of a group's planes.
typedef struct block {
  const float *input, *output_gradient;  // where the group's first planes have it
  int64_t vectors;
  float *sums;  // of the slice
  bool accumulate;
} block;

/// Adds `count` sums to those of the blocks before.
static void put(const block *b, int64_t place, const float *sums, int64_t count) {
  float *all = b->sums + place;
  if (b->accumulate) {
    for (int64_t i = 0; i < count; ++i) all[i] += sums[i];
  } else {
    memcpy(all, sums, (size_t)count * sizeof(float));
  }
}

/// Rows that are read soon: of planes first ..< last, or those entries of a list of them.
typedef struct rows {
  const float *planes;
  const int32_t *list;
  int64_t first, last;
  int64_t points;  // 0: nothing is
} rows;

/// Has part `part` of `parts` of them come closer.
static void fetch(const layout *l, const rows *rows, int64_t part, int64_t parts) {
  if (rows->points == 0) return;
  const int64_t lines = pf_ceiling_divide(rows->points, pf_line_floats), all = (rows->last - rows->first) * lines;
  const pf_piece piece = pf_piece_of(all, part, parts);
  int64_t row = rows->first + piece.first / lines, line = piece.first % lines;
  for (int64_t left = piece.count; left > 0; ++row, line = 0) {
    const int64_t end = pf_minimum_of(lines, line + left);
    left -= end - line;
    const float *from = rows->planes + (rows->list == NULL ? row : rows->list[row]) * l->plane;
    for (; line < end; ++line) __builtin_prefetch(from + line * pf_line_floats, 0, 2);
  }
}

/// Those of the output gradient for a tile's filters.
static rows rows_of_filters(const layout *l, const block *b, const tile *tile) {
  return (rows){.planes = b->output_gradient,
                .list = tile->filters,
                .last = tile->filter_count,
                .points = b->vectors * l->kernels->lanes};
}

/// Those of the input for a step of a tile's channels.
static rows rows_of_channels(const layout *l, const block *b, const tile *tile, int64_t step) {
  const int64_t first = pf_minimum_of(tile->count, step);
  return (rows){.planes = b->input,
                .list = tile->channels,
                .first = first,
                .last = pf_minimum_of(tile->count, first + l->channel_step),
                .points = b->vectors * l->kernels->lanes};
}

/// Has the output gradient's rows of some pairs come closer. They are in order.
static void fetch_columns(const float *planes, const int64_t *columns, int64_t points) {
  for (int64_t k = 0; k < pf_dot_pairs; ++k) {
    if (k > 0 && columns[k] == columns[k - 1]) continue;
    for (int64_t i = 0; i < points; i += pf_line_floats) __builtin_prefetch(planes + columns[k] + i, 0, 2);
  }
}

/// The sums of pairs first ..< last. Many run over one strip of the block after another, so that those of all channels
/// stay in the first-level cache.
static void run_pairs(const run_state *state, const block *b, const block *following, int64_t first, int64_t last,
                      float *lanes) {
  const layout *l = state->layout;
  const pf_kernels *kernels = l->kernels;
  const int64_t strip = state->few_pairs ? b->vectors : l->strip, points = strip * kernels->lanes;
  for (int64_t done = 0; done < b->vectors; done += strip) {
    const int64_t vectors = pf_minimum_of(strip, b->vectors - done);
    const float *input = b->input + done * kernels->lanes, *gradient = b->output_gradient + done * kernels->lanes;
    const float *ahead = gradient + points;
    if (done + strip >= b->vectors) ahead = following == NULL ? NULL : following->output_gradient;
    for (int64_t p = first; p < last; p += pf_dot_pairs) {
      const int64_t *columns = state->pair_gradients + p;
      if (ahead != NULL && !state->few_pairs) fetch_columns(ahead, columns, points);
      kernels->dot_pairs(vectors, input, state->pair_inputs + p, gradient, columns,
                         lanes + (p - first) * kernels->lanes, done > 0);
    }
  }
  float *sums = lanes + pf_round_up(last - first, pf_dot_pairs) * kernels->lanes;
  kernels->depthwise_rows.sum_vectors(last - first, lanes, sums);
  put(b, state->pair_sums + first, sums, last - first);
}

/// What comes closer while a tile runs: the rows of the next tile's filters, and part `part` of `parts` of those of the
/// next step's channels.
typedef struct ahead {
  rows filters, channels;
  int64_t part, parts;
} ahead;

/// A tile's sums with entries first ..< last of its channels.
static void run_tile(const layout *l, const block *b, const tile *tile, int64_t first, int64_t last,
                     const ahead *ahead) {
  int64_t columns[pf_most_dot_columns];
  const int64_t column_count = tile->filter_count;
  for (int64_t j = 0; j < column_count; ++j) columns[j] = tile->filters[j] * l->plane;
  const int64_t row_tiles = pf_ceiling_divide(last - first, l->kernels->dot_rows);
  for (int64_t i = 0; i < row_tiles; ++i) {
    const pf_piece piece = pf_piece_of(last - first, i, row_tiles);
    const int64_t k = first + piece.first, row_count = piece.count;
    int64_t rows[pf_most_dot_rows];
    for (int64_t r = 0; r < row_count; ++r) {
      rows[r] = (tile->channels == NULL ? k + r : tile->channels[k + r]) * l->plane;
    }
    fetch(l, &ahead->filters, i, row_tiles);
    fetch(l, &ahead->channels, ahead->part * row_tiles + i, ahead->parts * row_tiles);
    float sums[pf_most_dot_sums];
    l->kernels->dot[row_count][column_count](b->vectors, b->input, rows, b->output_gradient, columns, sums);
    put(b, tile->sums + k * column_count, sums, row_count * column_count);
  }
}

/// A block's sums of tiles first ..< last. `following` is the next block, or NULL.
static void run_tiles(const run_state *state, const block *b, const block *following, const tile *first,
                      const tile *last) {
  const layout *l = state->layout;
  int64_t longest = 0;
  for (const tile *tile = first; tile < last; ++tile) {
    if (!tile->scattered) longest = pf_maximum_of(longest, tile->count);
  }
  for (int64_t step = 0; step < longest; step += l->channel_step) {
    const bool more = step + l->channel_step < longest;
    const block *next = more ? b : following;
    ahead ahead = {.parts = last - first};
    if (next != NULL) ahead.channels = rows_of_channels(l, next, first, more ? step + l->channel_step : 0);
    for (const tile *tile = first; tile < last; ++tile, ++ahead.part) {
      const int64_t end = pf_minimum_of(step + l->channel_step, tile->count);
      if (tile->scattered || step >= end) continue;
      const block *of = tile + 1 < last ? b : next;
      ahead.filters = of == NULL ? (rows){0} : rows_of_filters(l, of, tile + 1 < last ? tile + 1 : first);
      run_tile(l, b, tile, step, end, &ahead);
    }
  }
}

/// Block `index` of a slice and a group.
static block block_of(const run_state *state, int64_t slice, int64_t group, int64_t index) {
  const layout *l = state->layout;
  const int64_t planes = index / l->plane_blocks * l->problem.groups + group;
  const int64_t point = index % l->plane_blocks * l->block;
  return (block){
      .input = state->input + planes * l->channels * l->plane + point,
      .output_gradient = state->output_gradient + planes * l->filters * l->plane + point,
      .vectors = pf_minimum_of(l->block, l->plane - point) / l->kernels->lanes,
      .sums = state->sums + slice * state->slice_floats,
      .accumulate = index > slice * l->slice_blocks,
  };
}

/// Items: slices, in each the groups, in each the parts of the tiles.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const layout *l = state->layout;
  float *lanes = (float *)(state->scratch + part * state->scratch_bytes);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tile_part = item % l->tile_parts, group = item / l->tile_parts % l->problem.groups;
    const int64_t slice = item / l->tile_parts / l->problem.groups, first_block = slice * l->slice_blocks;
    const int64_t end_block = pf_minimum_of(first_block + l->slice_blocks, l->blocks);
    const pf_piece tiles = pf_piece_of(state->tile_counts[group], tile_part, l->tile_parts);
    const tile *first = state->tiles + group * l->tiles + tiles.first, *last = first + tiles.count;
    for (int64_t i = first_block; i < end_block && first < last; ++i) {
      if (tile_part == 0 && i % l->plane_blocks == 0) {
        pf_plane_sums_take(state->plane_sums, i / l->plane_blocks, 1, group * l->filters, l->filters);
      }
      const block now = block_of(state, slice, group, i), next = block_of(state, slice, group, i + 1);
      const block *following = i + 1 < end_block ? &next : NULL;
      run_tiles(state, &now, following, first, last);
      const int64_t end_pair = last[-1].first_pair + (last[-1].scattered ? last[-1].count : 0);
      for (int64_t p = first->first_pair; p < end_pair; p += most_pairs) {
        run_pairs(state, &now, following, p, pf_minimum_of(end_pair, p + most_pairs), lanes);
      }
    }
  }
}

/// Items: tiles. Adds up the slices.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const layout *l = state->layout;
  float *row = (float *)(state->scratch + part * state->scratch_bytes), *totals = row + l->channels;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / l->tiles;
    if (item % l->tiles >= state->tile_counts[group]) continue;
    const tile *tile = state->tiles + item;
    const int64_t filters = tile->scattered ? 1 : tile->filter_count, count = tile->count * filters;
    l->kernels->finish_gradient(count, l->slices, state->sums + tile->sums, state->slice_floats, NULL, false, totals);
    const float *from = totals;
    const int32_t *channels = tile->channels;
    for (int32_t j = 0; j < tile->filter_count; ++j) {
      const int64_t filter = group * l->filters + tile->filters[j], place = filter * l->channels;
      const int64_t length = tile->scattered ? state->mask->counts[filter] : tile->count;
      if (channels != NULL) memset(row, 0, (size_t)l->channels * sizeof(float));
      for (int64_t k = 0; k < length; ++k) row[channels == NULL ? k : channels[k]] = from[k * filters];
      from += tile->scattered ? length : 1;
      if (tile->scattered) channels += length;
      l->kernels->finish_gradient(l->channels, 1, row, 0, state->mask == NULL ? NULL : state->mask->bytes + place,
                                  state->accumulate, state->result + place);
    }
  }
}

pf_status pf_plane_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                            const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                            const pf_gradient_mask *mask, const pf_plane_sums *plane_sums, pf_writing writing,
                            float *weight_gradient) {
  // The share of trainable elements from which on computing everything is as fast.
  const double most_listed = 0.95;
  const layout l = layout_of(settings, problem, shape);
  const bool listed = mask != NULL && (double)mask->trainable < most_listed * (double)shape->weight_count;
  run_state state = {
      .layout = &l,
      .input = input,
      .output_gradient = output_gradient,
      .mask = mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  char *workspace = pf_memory_allocate((size_t)place(settings, &l, listed, NULL, &state));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  place(settings, &l, listed, workspace, &state);
  for (int64_t g = 0; g < problem->groups; ++g) cut(&state, g);
  if (listed) {
    pf_parallel(settings, problem->groups * l.tiles, 24.0 * (double)l.channels, list_range, &state);
    place_pairs(&state);
  }
  pf_parallel_in(l.parts, l.slices * problem->groups * l.tile_parts, run_range, &state);
  pf_parallel_in(l.finish_parts, problem->groups * l.tiles, finish_range, &state);
  pf_memory_release(workspace);
  return pf_ok;
}
