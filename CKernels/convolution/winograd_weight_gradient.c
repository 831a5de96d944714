// Winograd's weight gradient: for every point, transformed input tiles times transformed output gradient tiles, summed
// over the tiles.
//
// Sums are in an order that the shape alone decides: tiles are cut into chunks and these into blocks; the products of a
// block are summed in registers, blocks into the chunk's sums, chunks at the end. (Many partial sums also keep the
// error of long sums small.) Three ways to share out the work:
//   by chunk    Many tiles, or many groups, of few weights. A thread takes a chunk, transforms block after block into
//               its own cache and adds to the chunk's own sums. A last step adds up the chunks and transforms back.
//   by point    Many tiles, many weights. There is one chunk. Tiles are transformed first; a thread takes a point, and
//               the sums of some outputs at that point stay in its cache for all tiles. A last step transforms back.
//   by weights  Few tiles. There is one chunk. Tiles are transformed first; a thread takes a block of weights, and
//               transforms its sums back as soon as they are done.
//
// Of a masked gradient only the filters and input channels that have a trainable element are computed, with the same
// sums.

#include <string.h>

#include "convolution/winograd.h"

enum {
  block_tiles = 56,         // by chunk
  most_block_tiles = 112,   // where tiles come first
  // Tiles that make a chunk, and the most chunks.
  chunk_tiles = 256,
  most_chunks = 8,
  // Groups that share out the work well enough when each has but one chunk.
  many_groups = 8,
  // Floats of a chunk's sums up to which chunks have their own.
  private_sums = 700 << 10,
  // Floats of all transformed tiles at a time, when these come first: few, that stay in a third-level cache, if the
  // sums of all weights have room beside them; else many, because each batch reads and writes these sums.
  cached_tiles = 2 << 20,
  cached_sums = 3 << 20,
  shared_tiles = 16 << 20,
  transform_channels = 64,  // transformed at a time
  // By point: from how many tiles on, and floats of the sums that stay in a thread's cache.
  point_tiles = 192,
  point_sums = 64 << 10,
  item_channels = 64,  // by weights: of a block
  item_blocks = 2,     // blocks of outputs, likewise
  most_lanes = 16,
};

typedef enum sharing { by_chunk, by_point, by_weights } sharing;

typedef struct gradient {
  const pf_winograd_kernels *kernels;
  int64_t lanes;
  const pf_convolution2d *problem;
  const pf_winograd_selection *selection;  // NULL: everything is computed
  int64_t all_channels, all_outputs;       // of one group
  int64_t channels, outputs;               // that are computed
  int64_t height, width;                   // of the output gradient
  int64_t top, left;                       // from an input tile's window to its gradient's

  pf_winograd_grid grid;
  sharing sharing;
  int64_t output_width, output_blocks;
  int64_t channel_step, channel_items;  // channels of a block of weights, and these blocks
  int64_t item_blocks, output_items;    // blocks of outputs of an item, and these items
  int64_t chunks;
  int64_t batch_tiles;                 // transformed at a time
  int64_t input_row, gradient_row;     // floats of one tile's channels
  int64_t input_stride, gradient_stride, sums_stride;  // between points
  int64_t input_floats, gradient_floats, sums_floats;  // of a group's tiles; of a block of sums
  int64_t block_sums;                  // blocks of sums in the workspace
  int64_t items;
  int32_t parts;
  int64_t workspace_floats;
} gradient;

static void plan(const pf_settings *settings, const pf_convolution2d *p, int32_t tile, pf_winograd_grid grid,
                 const pf_winograd_selection *selection, gradient *g) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const bool whole = tile == pf_winograd_whole;
  *g = (gradient){
      .kernels = pf_winograd_kernels_of(settings, p, tile, &grid),
      .lanes = settings->kernels->lanes,
      .problem = p,
      .selection = selection,
      .all_channels = p->input_channels / p->groups,
      .all_outputs = p->output_channels / p->groups,
      .height = output.height,
      .width = output.width,
      .top = whole ? 0 : p->padding_top,
      .left = whole ? 0 : p->padding_left,
      .grid = grid,
      .chunks = 1,
  };
  g->channels = selection == NULL ? g->all_channels : selection->channels;
  g->outputs = selection == NULL ? g->all_outputs : selection->outputs;
  const int64_t points = g->kernels->points, tiles = g->grid.tiles;
  g->output_width = pf_minimum_of(g->kernels->vectors * g->lanes, pf_round_up(g->outputs, g->lanes));
  g->output_blocks = pf_ceiling_divide(g->outputs, g->output_width);
  g->input_row = pf_winograd_point_stride(g->channels);
  g->gradient_row = pf_winograd_point_stride(pf_round_up(g->outputs, g->lanes));
  const double operations = 2.0 * (double)points * (double)g->channels * (double)g->outputs;

  // Chunks decide the order of sums: the mask must not decide them.
  const int64_t all_sums = points * g->all_outputs * g->all_channels;
  g->channel_step = g->lanes;
  g->item_blocks = 1;
  if (all_sums <= private_sums && (tiles >= 2 * chunk_tiles || p->groups >= many_groups)) {
    g->sharing = by_chunk;
    g->chunks = pf_maximum_of(1, pf_minimum_of(most_chunks, tiles / chunk_tiles));
    g->batch_tiles = block_tiles;
  } else {
    const int64_t rows = pf_winograd_point_stride(g->all_channels) +
                         pf_winograd_point_stride(pf_round_up(g->all_outputs, g->lanes));
    const int64_t floats = all_sums * p->groups <= cached_sums ? cached_tiles : shared_tiles;
    const int64_t affordable = pf_maximum_of(floats / (points * rows * p->groups), block_tiles);
    g->batch_tiles = pf_ceiling_divide(tiles, pf_ceiling_divide(tiles, affordable));
    g->sharing = tiles >= point_tiles ? by_point : by_weights;
    if (g->sharing == by_point) {
      g->item_blocks = pf_maximum_of(1, point_sums / (g->channels * g->output_width));
    } else {
      g->channel_step = item_channels;
      g->item_blocks = item_blocks;
    }
  }
  g->channel_step = pf_minimum_of(g->channel_step, g->channels);
  g->channel_items = pf_ceiling_divide(g->channels, g->channel_step);
  g->output_items = pf_ceiling_divide(g->output_blocks, g->item_blocks);
  g->item_blocks = pf_ceiling_divide(g->output_blocks, g->output_items);
  g->output_items = pf_ceiling_divide(g->output_blocks, g->item_blocks);
  g->input_stride = pf_winograd_point_stride(g->batch_tiles * g->input_row);
  g->gradient_stride = pf_winograd_point_stride(g->batch_tiles * g->gradient_row);
  g->input_floats = points * g->input_stride;
  g->gradient_floats = points * g->gradient_stride;
  switch (g->sharing) {
    case by_chunk:
      g->items = p->groups * g->chunks;
      g->gradient_floats = pf_part_floats(g->input_floats + g->gradient_floats) - g->input_floats;
      break;
    case by_point: g->items = p->groups * g->output_items * points; break;
    case by_weights: g->items = p->groups * g->output_items * g->channel_items; break;
  }
  const int64_t share = g->sharing == by_chunk ? tiles : g->batch_tiles;
  g->parts = pf_parallel_parts(settings, g->items,
                               operations * (double)share * (double)p->groups / (double)pf_maximum_of(g->items, 1));
  if (g->sharing == by_weights) {
    // Sums live on between batches; a thread's own block is enough when there is one batch.
    g->block_sums = (g->batch_tiles < tiles ? g->items : g->parts) * g->item_blocks;
    g->sums_stride = pf_winograd_point_stride(g->channel_step * g->output_width);
  } else {
    g->block_sums = p->groups * g->chunks * g->output_blocks;
    g->sums_stride = pf_winograd_point_stride(g->channels * g->output_width);
  }
  g->sums_floats = points * g->sums_stride;
  g->workspace_floats = (g->sharing == by_chunk ? g->parts : p->groups) * (g->input_floats + g->gradient_floats) +
                        g->block_sums * g->sums_floats;
}

// MARK: Run

typedef struct run {
  const gradient *g;
  const float *input, *output_gradient;
  const uint8_t *mask;
  const pf_plane_sums *plane_sums;
  bool accumulate;
  float *weight_gradient;
  float *tiles;  // of the input, then of the output gradient; by chunk: a block a part, else by group
  float *sums;
  int64_t first_tile, batch;  // the batch, where tiles come first
} run;

static pf_winograd_tiles input_tiles(const gradient *g, float *data) {
  return (pf_winograd_tiles){
      .data = data, .point_stride = g->input_stride, .block_stride = g->lanes, .tile_stride = g->input_row};
}

static pf_winograd_tiles gradient_tiles(const gradient *g, float *data) {
  return (pf_winograd_tiles){
      .data = data, .point_stride = g->gradient_stride, .block_stride = g->lanes, .tile_stride = g->gradient_row};
}

/// Some channels of one group of the input, or of the output gradient.
static pf_winograd_planes planes_of(const run *r, bool of_input, int64_t group, int64_t channel, int64_t channels) {
  const gradient *g = r->g;
  const pf_convolution2d *p = g->problem;
  const int64_t height = of_input ? p->input_height : g->height, width = of_input ? p->input_width : g->width;
  const int64_t all = of_input ? g->all_channels : g->all_outputs, first = group * all;
  pf_winograd_planes planes = {
      .tensor = (float *)(of_input ? r->input : r->output_gradient),
      .count = p->batch * p->groups * all * height * width,
      .first = first * height * width,
      .stride = height * width,
      .height = height,
      .width = width,
      .channels = channels,
      .step_y = p->dilation_height,
      .step_x = p->dilation_width,
  };
  if (g->selection == NULL) {
    planes.first += channel * planes.stride;
  } else {
    planes.list = (of_input ? g->selection->channel_list : g->selection->output_list) + first + channel;
  }
  return planes;
}

/// Transforms tiles first ..< first + count of all images; `planes` are those of the first image.
static void transform_tiles(const run *r, bool of_input, pf_winograd_planes planes, int64_t first, int64_t count,
                            pf_winograd_tiles target) {
  const gradient *g = r->g;
  const pf_convolution2d *p = g->problem;
  const int64_t image = (of_input ? p->input_channels : p->output_channels) * planes.stride, place = planes.first;
  while (count > 0) {
    const pf_winograd_run tile_run = pf_winograd_next_run(&g->grid, first, count);
    planes.first = tile_run.image * image + place;
    if (of_input) {
      g->kernels->transform_input(&planes, tile_run.y - g->top, g->grid.first_x - g->left, tile_run.first,
                                  tile_run.count, &target);
    } else {
      if (tile_run.y == 0 && g->grid.first_x == 0 && tile_run.first == 0) {
        pf_plane_sums_take(r->plane_sums, tile_run.image, 1, place / planes.stride, planes.channels);
      }
      g->kernels->transform_output_gradient(&planes, tile_run.y, g->grid.first_x, tile_run.first, tile_run.count,
                                            &target);
    }
    first += tile_run.count;
    count -= tile_run.count;
    target.data += tile_run.count * target.tile_stride;
  }
}

static pf_winograd_block sums_block(const gradient *g, int64_t output_block, float *data) {
  const int64_t outputs = pf_minimum_of(g->output_width, g->outputs - output_block * g->output_width);
  return (pf_winograd_block){
      .data = data,
      .point_stride = g->sums_stride,
      .width = pf_round_up(outputs, g->lanes),
  };
}

/// Puts the gradients of at most a vector of listed outputs and channels in their places.
static void scatter(const run *r, int64_t group, int64_t output, int64_t outputs, int64_t channel, int64_t channels,
                    const float *values) {
  const gradient *g = r->g;
  const int32_t taps = g->kernels->taps;
  const int32_t *output_list = g->selection->output_list + group * g->all_outputs + output;
  const int32_t *channel_list = g->selection->channel_list + group * g->all_channels + channel;
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t filter = (group * g->all_outputs + output_list[o]) * g->all_channels;
    for (int64_t c = 0; c < channels; ++c, values += taps) {
      const int64_t place = (filter + channel_list[c]) * taps;
      float *result = r->weight_gradient + place;
      for (int32_t i = 0; i < taps; ++i) {
        const float value = r->accumulate ? result[i] + values[i] : values[i];
        result[i] = r->mask[place + i] != 0 ? value : 0.0f;
      }
    }
  }
}

/// Adds up `parts` blocks of sums and stores the gradient of channels `channel` ..< `channel` + `channels`.
static void store_gradient(const run *r, int64_t group, int64_t output_block, int64_t channel, int64_t channels,
                           const pf_winograd_block *sums, int64_t parts, int64_t part_stride) {
  const gradient *g = r->g;
  const int64_t taps = g->kernels->taps;
  const int64_t output = output_block * g->output_width, outputs = pf_minimum_of(g->output_width, g->outputs - output);
  if (g->selection == NULL) {
    const int64_t place = ((group * g->outputs + output) * g->channels + channel) * taps;
    g->kernels->transform_weight_gradient(sums, parts, part_stride, channels, outputs,
                                          r->mask == NULL ? NULL : r->mask + place, r->accumulate,
                                          r->weight_gradient + place, g->channels * taps);
    return;
  }
  float values[most_lanes * most_lanes * pf_most_winograd_taps];
  for (int64_t o = 0; o < outputs; o += g->lanes) {
    const int64_t output_count = pf_minimum_of(g->lanes, outputs - o);
    for (int64_t c = 0; c < channels; c += g->lanes) {
      const int64_t channel_count = pf_minimum_of(g->lanes, channels - c);
      pf_winograd_block part = *sums;
      part.data += c * sums->width + o;
      g->kernels->transform_weight_gradient(&part, parts, part_stride, channel_count, output_count, NULL, false, values,
                                            channel_count * taps);
      scatter(r, group, output + o, output_count, channel + c, channel_count, values);
    }
  }
}

/// Items: filters of all groups, in the selection's order. Clears the frozen channels of those that are computed.
static void clear_channels(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const gradient *g = r->g;
  const int64_t taps = g->kernels->taps;
  const size_t kernel = (size_t)taps * sizeof(float);
  for (int64_t item = begin; item < end; ++item) {
    if (item % g->all_outputs >= g->outputs) continue;
    const int64_t group = item / g->all_outputs, filter = group * g->all_outputs + g->selection->output_list[item];
    float *result = r->weight_gradient + filter * g->all_channels * taps;
    const int32_t *list = g->selection->channel_list + group * g->all_channels;
    for (int64_t c = g->channels; c < g->all_channels; ++c) memset(result + list[c] * taps, 0, kernel);
  }
}

// MARK: By chunk

/// Items: chunks, in each group.
static void sum_chunks(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run *r = argument;
  const gradient *g = r->g;
  float *tiles = r->tiles + part * (g->input_floats + g->gradient_floats);
  const pf_winograd_tiles input = input_tiles(g, tiles);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t chunk = item % g->chunks, group = item / g->chunks;
    const int64_t last = pf_piece_begin(g->grid.tiles, (int32_t)chunk + 1, (int32_t)g->chunks);
    const int64_t first = pf_piece_begin(g->grid.tiles, (int32_t)chunk, (int32_t)g->chunks);
    for (int64_t tile = first; tile < last; tile += block_tiles) {
      const int64_t count = pf_minimum_of(block_tiles, last - tile);
      transform_tiles(r, true, planes_of(r, true, group, 0, g->channels), tile, count, input);
      transform_tiles(r, false, planes_of(r, false, group, 0, g->outputs), tile, count,
                      gradient_tiles(g, tiles + g->input_floats));
      for (int64_t i = 0; i < g->output_blocks; ++i) {
        const pf_winograd_tiles output_gradient =
            gradient_tiles(g, tiles + g->input_floats + i * g->output_width);
        const pf_winograd_block sums =
            sums_block(g, i, r->sums + (item * g->output_blocks + i) * g->sums_floats);
        g->kernels->multiply_transposed(g->kernels->points, count, g->channels, &input, &output_gradient, &sums,
                                        tile > first);
      }
    }
  }
}

/// Items: blocks of channels, in each block of outputs, in each group.
static void store_chunks(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const gradient *g = r->g;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel = item % g->channel_items * g->channel_step, block = item / g->channel_items;
    const int64_t output_block = block % g->output_blocks, group = block / g->output_blocks;
    pf_winograd_block sums = sums_block(
        g, output_block, r->sums + (group * g->chunks * g->output_blocks + output_block) * g->sums_floats);
    sums.data += channel * sums.width;
    store_gradient(r, group, output_block, channel, pf_minimum_of(g->channel_step, g->channels - channel), &sums,
                   g->chunks, g->output_blocks * g->sums_floats);
  }
}

// MARK: Tiles first

/// Items: blocks of channels of the input, then of the output gradient, in each group, in each row of tiles.
static void transform_batch(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const gradient *g = r->g;
  const int64_t groups = g->problem->groups, step = g->grid.columns;
  const int64_t input_blocks = pf_ceiling_divide(g->channels, transform_channels);
  const int64_t blocks = input_blocks + pf_ceiling_divide(g->outputs, transform_channels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item % blocks, group = item / blocks % groups, tile = item / blocks / groups * step;
    const bool of_input = block < input_blocks;
    const int64_t channel = (of_input ? block : block - input_blocks) * transform_channels;
    const int64_t channels = pf_minimum_of(transform_channels, (of_input ? g->channels : g->outputs) - channel);
    float *tiles = r->tiles + group * (g->input_floats + g->gradient_floats);
    const pf_winograd_tiles target =
        of_input ? input_tiles(g, tiles + tile * g->input_row + channel)
                 : gradient_tiles(g, tiles + g->input_floats + tile * g->gradient_row + channel);
    transform_tiles(r, of_input, planes_of(r, of_input, group, channel, channels), r->first_tile + tile,
                    pf_minimum_of(step, r->batch - tile), target);
  }
}

/// Adds the batch's products of points `point` ..< `point` + `points` and channels `channel` ..< `channel` + `channels`
/// to an item's blocks of sums, `sums_floats` apart.
static void sum_tiles(const run *r, int64_t group, int64_t output_item, int64_t point, int64_t points, int64_t channel,
                      int64_t channels, float *sums) {
  const gradient *g = r->g;
  const int64_t first_block = output_item * g->item_blocks;
  const int64_t blocks = pf_minimum_of(g->item_blocks, g->output_blocks - first_block);
  float *tiles = r->tiles + group * (g->input_floats + g->gradient_floats);
  const int64_t step = pf_ceiling_divide(r->batch, pf_ceiling_divide(r->batch, most_block_tiles));
  for (int64_t tile = 0; tile < r->batch; tile += step) {
    const int64_t count = pf_minimum_of(step, r->batch - tile);
    const pf_winograd_tiles input =
        input_tiles(g, tiles + point * g->input_stride + tile * g->input_row + channel);
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t place = point * g->gradient_stride + tile * g->gradient_row + (first_block + i) * g->output_width;
      const pf_winograd_tiles output_gradient = gradient_tiles(g, tiles + g->input_floats + place);
      const pf_winograd_block block =
          sums_block(g, first_block + i, sums + i * g->sums_floats + point * g->sums_stride);
      g->kernels->multiply_transposed(points, count, channels, &input, &output_gradient, &block,
                                      r->first_tile + tile > 0);
    }
  }
}

/// Items: points, in each item of outputs, in each group.
static void sum_points(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const gradient *g = r->g;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t point = item % g->kernels->points, outputs = item / g->kernels->points;
    const int64_t output_item = outputs % g->output_items, group = outputs / g->output_items;
    sum_tiles(r, group, output_item, point, 1, 0, g->channels,
              r->sums + (group * g->output_blocks + output_item * g->item_blocks) * g->sums_floats);
  }
}

/// Items: blocks of channels, in each item of outputs, in each group.
static void sum_weights(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run *r = argument;
  const gradient *g = r->g;
  const bool single = g->batch_tiles >= g->grid.tiles;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel = item % g->channel_items * g->channel_step, outputs = item / g->channel_items;
    const int64_t output_item = outputs % g->output_items, group = outputs / g->output_items;
    const int64_t channels = pf_minimum_of(g->channel_step, g->channels - channel);
    float *sums = r->sums + (single ? part : item) * g->item_blocks * g->sums_floats;
    sum_tiles(r, group, output_item, 0, g->kernels->points, channel, channels, sums);
    if (r->first_tile + r->batch < g->grid.tiles) continue;
    const int64_t first_block = output_item * g->item_blocks;
    for (int64_t i = 0; i < pf_minimum_of(g->item_blocks, g->output_blocks - first_block); ++i) {
      const pf_winograd_block block = sums_block(g, first_block + i, sums + i * g->sums_floats);
      store_gradient(r, group, first_block + i, channel, channels, &block, 1, 0);
    }
  }
}

/// The gradient from tiles of one kind.
static pf_status run_kind(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                          pf_winograd_grid grid, const float *input, const float *output_gradient,
                          const uint8_t *gradient_mask, const pf_winograd_selection *selection,
                          const pf_plane_sums *plane_sums, pf_writing writing, float *weight_gradient) {
  gradient g;
  plan(settings, problem, tile, grid, selection, &g);
  float *workspace = pf_allocate_floats(g.workspace_floats);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  run r = {
      .g = &g,
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .plane_sums = plane_sums,
      .accumulate = writing == pf_accumulate,
      .weight_gradient = weight_gradient,
      .sums = workspace,
      .tiles = workspace + g.block_sums * g.sums_floats,
  };
  if (selection != NULL && g.channels < g.all_channels) {
    pf_parallel(settings, problem->output_channels, 16.0 * (double)(g.all_channels * g.kernels->taps), clear_channels,
                &r);
  }
  if (g.sharing == by_chunk) pf_parallel_in(g.parts, g.items, sum_chunks, &r);
  for (; g.sharing != by_chunk && r.first_tile < g.grid.tiles; r.first_tile += g.batch_tiles) {
    r.batch = pf_minimum_of(g.batch_tiles, g.grid.tiles - r.first_tile);
    const int64_t blocks = pf_ceiling_divide(g.channels, transform_channels) +
                           pf_ceiling_divide(g.outputs, transform_channels);
    pf_parallel(settings, blocks * problem->groups * pf_ceiling_divide(r.batch, g.grid.columns),
                16.0 * (double)(g.kernels->points * g.grid.columns * (g.channels + g.outputs) / blocks),
                transform_batch, &r);
    pf_parallel_in(g.parts, g.items, g.sharing == by_point ? sum_points : sum_weights, &r);
  }
  if (g.sharing != by_weights) {
    pf_parallel(settings, problem->groups * g.output_blocks * g.channel_items,
                8.0 * (double)((g.chunks + 1) * g.kernels->points * g.channel_step * g.output_width), store_chunks, &r);
  }
  pf_memory_release(workspace);
  return pf_ok;
}

pf_status pf_winograd_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                                      const float *input, const float *output_gradient, const uint8_t *gradient_mask,
                                      const pf_winograd_selection *selection, const pf_plane_sums *plane_sums,
                                      pf_writing writing, float *weight_gradient) {
  for (int32_t kind = 0; kind < pf_winograd_kinds(tile); ++kind) {
    const pf_winograd_grid grid = pf_winograd_tiling(problem, false, tile, kind);
    if (grid.tiles == 0) continue;
    PF_TRY(run_kind(settings, problem, tile, grid, input, output_gradient, gradient_mask, selection, plane_sums,
                    writing, weight_gradient));
    writing = pf_accumulate;
  }
  return pf_ok;
}

int64_t pf_winograd_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                              int32_t tile) {
  int64_t floats = 0;
  for (int32_t kind = 0; kind < pf_winograd_kinds(tile); ++kind) {
    const pf_winograd_grid grid = pf_winograd_tiling(problem, false, tile, kind);
    if (grid.tiles == 0) continue;
    gradient g;
    plan(settings, problem, tile, grid, NULL, &g);
    floats = pf_maximum_of(floats, g.workspace_floats);
  }
  return floats * (int64_t)sizeof(float);
}
