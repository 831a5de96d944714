// Winograd's weight gradient: for every point, transformed input tiles times transformed output gradient tiles, summed
// over the tiles.
//
// Sums are in an order that the shape alone decides: tiles are cut into chunks and these into blocks; the products of a
// block are summed in registers, blocks into the chunk's sums, chunks at the end. (Many partial sums also keep the error
// of long sums small.) Two ways to share out the work:
//   many tiles  A thread takes a chunk, transforms block after block into its own cache and adds to the chunk's own sums.
//               A last step adds up the chunks and transforms back.
//   few tiles   There is one chunk. All tiles are transformed first; a thread takes a block of weights, and transforms its
//               sums back as soon as they are done.

#include "convolution/winograd.h"

enum {
  block_tiles = 56,
  // Tiles that make a chunk, and the most chunks.
  chunk_tiles = 256,
  most_chunks = 8,
  // Floats of a chunk's sums up to which chunks have their own.
  private_sums = 700 << 10,
  // Floats of all transformed tiles at a time, when these come first.
  shared_tiles = 8 << 20,
  item_channels = 32,  // of a block of weights, when tiles come first
};

typedef struct gradient {
  const pf_winograd_kernels *kernels;
  int64_t lanes;
  const pf_convolution2d *problem;
  int64_t channels, outputs;  // of one group
  int64_t height, width;      // of the output gradient

  pf_winograd_grid grid;
  int64_t output_width, output_blocks;
  int64_t channel_items;               // blocks of channels in the step that transforms back
  int64_t channel_step;                // channels of one
  int64_t chunks;                      // 0: tiles come first
  int64_t batch_tiles;                 // transformed at a time
  int64_t input_row, gradient_row;     // floats of one tile's channels
  int64_t input_stride, gradient_stride, sums_stride;  // between points
  int64_t input_floats, gradient_floats, sums_floats;  // of a group's tiles; of a block of sums
  int64_t block_sums;                  // blocks of sums in the workspace
  int32_t parts;
  int64_t workspace_floats;
} gradient;

static void plan(const pf_settings *settings, const pf_convolution2d *p, int32_t tile, gradient *g) {
  *g = (gradient){
      .kernels = pf_winograd_kernels_of(settings, tile),
      .lanes = settings->kernels->lanes,
      .problem = p,
      .channels = p->input_channels / p->groups,
      .outputs = p->output_channels / p->groups,
      .height = p->input_height + p->padding_top + p->padding_bottom - 2,
      .width = p->input_width + p->padding_left + p->padding_right - 2,
  };
  const int64_t points = g->kernels->points;
  g->grid = pf_winograd_tiling(p->batch, g->height, g->width, tile);
  g->output_width = pf_minimum_of(g->kernels->vectors * g->lanes, pf_round_up(g->outputs, g->lanes));
  g->output_blocks = pf_ceiling_divide(g->outputs, g->output_width);
  g->input_row = pf_winograd_point_stride(g->channels);
  g->gradient_row = pf_winograd_point_stride(pf_round_up(g->outputs, g->lanes));
  const double operations = 2.0 * (double)points * (double)g->channels * (double)g->outputs;

  const int64_t all_sums = points * g->output_blocks * g->output_width * g->channels;
  if (all_sums <= private_sums && g->grid.tiles >= 2 * chunk_tiles) {
    g->chunks = pf_minimum_of(most_chunks, g->grid.tiles / chunk_tiles);
    g->batch_tiles = block_tiles;
    g->channel_step = g->lanes;
    g->block_sums = g->chunks * p->groups * g->output_blocks;
    g->parts = pf_parallel_parts(settings, p->groups * g->chunks,
                                 operations * (double)(g->grid.tiles / g->chunks));
  } else {
    const int64_t affordable = shared_tiles / (points * (g->input_row + g->gradient_row) * p->groups);
    g->batch_tiles = pf_minimum_of(pf_maximum_of(affordable / block_tiles, 1) * block_tiles,
                                   pf_maximum_of(g->grid.tiles, 1));
    g->channel_step = pf_minimum_of(item_channels, g->channels);
  }
  g->channel_items = pf_ceiling_divide(g->channels, g->channel_step);
  g->input_stride = pf_winograd_point_stride(g->batch_tiles * g->input_row);
  g->gradient_stride = pf_winograd_point_stride(g->batch_tiles * g->gradient_row);
  g->input_floats = points * g->input_stride;
  g->gradient_floats = points * g->gradient_stride;
  if (g->chunks == 0) {
    const int64_t items = p->groups * g->output_blocks * g->channel_items;
    g->parts = pf_parallel_parts(settings, items, operations * (double)g->batch_tiles / (double)items);
    // Sums live on between batches; a thread's own block is enough when there is one batch.
    g->block_sums = g->batch_tiles < g->grid.tiles ? items : g->parts;
    g->sums_stride = pf_winograd_point_stride(g->channel_step * g->output_width);
  } else {
    g->sums_stride = pf_winograd_point_stride(g->channels * g->output_width);
  }
  g->sums_floats = points * g->sums_stride;
  g->workspace_floats = (g->chunks == 0 ? p->groups : g->parts) * (g->input_floats + g->gradient_floats) +
                        g->block_sums * g->sums_floats;
}

// MARK: Run

typedef struct run {
  const gradient *g;
  const float *input, *output_gradient;
  const uint8_t *mask;
  bool accumulate;
  float *weight_gradient;
  float *tiles;  // of the input, then of the output gradient; tiles first: by group, else by part
  float *sums;
  int64_t first_tile, batch;  // tiles first: the batch
} run;

static pf_winograd_tiles input_tiles(const gradient *g, float *data) {
  return (pf_winograd_tiles){
      .data = data, .point_stride = g->input_stride, .block_stride = g->lanes, .tile_stride = g->input_row};
}

static pf_winograd_tiles gradient_tiles(const gradient *g, float *data) {
  return (pf_winograd_tiles){
      .data = data, .point_stride = g->gradient_stride, .block_stride = g->lanes, .tile_stride = g->gradient_row};
}

/// Transforms tiles first ..< first + count of both operands to places place ..< place + count of `tiles`.
static void transform_tiles(const run *r, int64_t group, int64_t first, int64_t count, float *tiles, int64_t place) {
  const gradient *g = r->g;
  const pf_convolution2d *p = g->problem;
  const int64_t input_plane = p->input_height * p->input_width, input_image = p->input_channels * input_plane;
  const int64_t gradient_plane = g->height * g->width, gradient_image = p->output_channels * gradient_plane;
  pf_winograd_planes input = {
      .tensor = (float *)r->input,
      .count = p->batch * input_image,
      .stride = input_plane,
      .height = p->input_height,
      .width = p->input_width,
      .channels = g->channels,
  };
  pf_winograd_planes output_gradient = {
      .tensor = (float *)r->output_gradient,
      .count = p->batch * gradient_image,
      .stride = gradient_plane,
      .height = g->height,
      .width = g->width,
      .channels = g->outputs,
  };
  const int64_t tile = g->kernels->tile;
  for (int64_t done = 0; done < count;) {
    const pf_winograd_run tile_run = pf_winograd_next_run(&g->grid, first + done, count - done);
    const int64_t y = tile_run.row * tile, x = tile_run.column * tile;
    pf_winograd_tiles target = input_tiles(g, tiles + (place + done) * g->input_row);
    input.first = tile_run.image * input_image + group * g->channels * input_plane;
    g->kernels->transform_input(&input, y - p->padding_top, x - p->padding_left, tile_run.count, &target);
    target = gradient_tiles(g, tiles + g->input_floats + (place + done) * g->gradient_row);
    output_gradient.first = tile_run.image * gradient_image + group * g->outputs * gradient_plane;
    g->kernels->transform_output_gradient(&output_gradient, y, x, tile_run.count, &target);
    done += tile_run.count;
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

/// Adds up `parts` blocks of sums and stores the gradient of channels `channel` ..< `channel` + `channels`.
static void store_gradient(const run *r, int64_t group, int64_t output_block, int64_t channel, int64_t channels,
                           const pf_winograd_block *sums, int64_t parts, int64_t part_stride) {
  const gradient *g = r->g;
  const int64_t output = output_block * g->output_width, outputs = pf_minimum_of(g->output_width, g->outputs - output);
  const int64_t place = ((group * g->outputs + output) * g->channels + channel) * 9;
  g->kernels->transform_weight_gradient(sums, parts, part_stride, channels, outputs,
                                        r->mask == NULL ? NULL : r->mask + place, r->accumulate,
                                        r->weight_gradient + place, g->channels * 9);
}

// MARK: Many tiles

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
      transform_tiles(r, group, tile, count, tiles, 0);
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

// MARK: Few tiles

/// Items: groups, in each block of tiles of the batch.
static void transform_batch(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const gradient *g = r->g;
  const int64_t groups = g->problem->groups;
  const int64_t step = g->grid.columns;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item % groups, tile = item / groups * step;
    transform_tiles(r, group, r->first_tile + tile, pf_minimum_of(step, r->batch - tile),
                    r->tiles + group * (g->input_floats + g->gradient_floats), tile);
  }
}

/// Items: blocks of channels, in each block of outputs, in each group.
static void sum_batch(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run *r = argument;
  const gradient *g = r->g;
  const bool single = g->batch_tiles >= g->grid.tiles;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel = item % g->channel_items * g->channel_step, block = item / g->channel_items;
    const int64_t output_block = block % g->output_blocks, group = block / g->output_blocks;
    const int64_t channels = pf_minimum_of(g->channel_step, g->channels - channel);
    float *tiles = r->tiles + group * (g->input_floats + g->gradient_floats);
    pf_winograd_tiles input = input_tiles(g, tiles + channel);
    pf_winograd_tiles output_gradient =
        gradient_tiles(g, tiles + g->input_floats + output_block * g->output_width);
    const pf_winograd_block sums = sums_block(g, output_block, r->sums + (single ? part : item) * g->sums_floats);
    for (int64_t tile = 0; tile < r->batch; tile += block_tiles) {
      const int64_t count = pf_minimum_of(block_tiles, r->batch - tile);
      g->kernels->multiply_transposed(g->kernels->points, count, channels, &input, &output_gradient, &sums,
                                      r->first_tile + tile > 0);
      input.data += block_tiles * g->input_row;
      output_gradient.data += block_tiles * g->gradient_row;
    }
    if (r->first_tile + r->batch == g->grid.tiles) {
      store_gradient(r, group, output_block, channel, channels, &sums, 1, 0);
    }
  }
}

pf_status pf_winograd_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                                      const float *input, const float *output_gradient,
                                      const uint8_t *gradient_mask, pf_writing writing, float *weight_gradient) {
  gradient g;
  plan(settings, problem, tile, &g);
  float *workspace = pf_allocate_floats(g.workspace_floats);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  run r = {
      .g = &g,
      .input = input,
      .output_gradient = output_gradient,
      .mask = gradient_mask,
      .accumulate = writing == pf_accumulate,
      .weight_gradient = weight_gradient,
      .sums = workspace,
      .tiles = workspace + g.block_sums * g.sums_floats,
  };
  const int64_t items = problem->groups * g.output_blocks * g.channel_items;
  if (g.chunks > 0) {
    pf_parallel_in(g.parts, problem->groups * g.chunks, sum_chunks, &r);
    pf_parallel(settings, items, 8.0 * (double)((g.chunks + 1) * g.kernels->points * g.channel_step * g.output_width),
                store_chunks, &r);
  } else {
    for (r.first_tile = 0; r.first_tile < g.grid.tiles; r.first_tile += g.batch_tiles) {
      r.batch = pf_minimum_of(g.batch_tiles, g.grid.tiles - r.first_tile);
      const int64_t rows = pf_ceiling_divide(r.batch, g.grid.columns);
      pf_parallel(settings, rows * problem->groups,
                  16.0 * (double)(g.kernels->points * g.grid.columns * (g.channels + g.outputs)), transform_batch, &r);
      pf_parallel_in(g.parts, items, sum_batch, &r);
    }
  }
  pf_memory_release(workspace);
  return pf_ok;
}

int64_t pf_winograd_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                              int32_t tile) {
  gradient g;
  plan(settings, problem, tile, &g);
  return g.workspace_floats * (int64_t)sizeof(float);
}
