// Winograd's forward pass and input gradient: transformed tiles times transformed weights.
//
// Tiles come in blocks, outputs in blocks of a register tile's width. An output tile is stored as soon as its products
// are done. Two orders of the loops, with the same results:
//   many tiles  The weights are transformed once. A thread takes a block of tiles, transforms it into its own cache,
//               and runs through all weights.
//   few tiles   The weights are the larger matter. All tiles are transformed first; a thread takes a block of outputs,
//               transforms its weights, a few channels at a time, into its own cache, and runs through all tiles.

#include "convolution/winograd.h"

enum {
  // Floats of one thread's transformed tiles that leave room for the rest in a second-level cache of 1 MiB.
  cached_tiles = 150 << 10,
  // Floats of transformed weights up to which they are transformed once for all tiles.
  shared_weights = 5 << 20,
  // Floats of all transformed tiles at a time, when these come first: they are read from a third-level cache.
  shared_tiles = 4 << 20,
  most_block_tiles = 112,
  most_block_points = 40 * most_block_tiles,  // their products of a block of outputs leave room likewise
  kind_tiles = 6,        // of each of several kinds, at least, for a block to be worth its products
  own_tiles = 4,         // the same of a thread's own block
  weight_channels = 64,  // transformed at a time, when tiles come first
};

/// Where along an axis the source's window of a tile begins whose first pixel of the result is x: at (x * scale -
/// before) / divisor.
typedef struct axis {
  int64_t scale, divisor, before;
} axis;

/// Tiles of one kind.
typedef struct tiling {
  const pf_winograd_kernels *kernels;
  pf_winograd_grid grid;
  int64_t block_tiles;                   // of a block
  int64_t input_stride, product_stride;  // between points
  int64_t piece_floats;                  // of a piece of the channels
  int64_t input_place, product_place;    // in a block's floats
} tiling;

/// A pass as a correlation, with tiles of kinds that share the weights.
typedef struct correlation {
  const pf_winograd_kernels *kernels;  // of any kind
  int64_t lanes;
  int64_t images, groups, channels, outputs;  // channels and outputs of one group
  int64_t source_height, source_width;
  axis y, x;
  int64_t height, width;
  int64_t step_y, step_x;
  bool turned;  // the input gradient: weights are stored by channel first, and turned

  tiling tilings[pf_winograd_most_kinds];
  int32_t kinds;
  int64_t tiles;                        // of all kinds
  double products;                      // of a channel and an output: points of all tiles
  int64_t channel_blocks;               // vectors of channels
  int64_t output_width, output_blocks;  // outputs of a block, blocks in a group
  int64_t blocks;                       // of tiles, of each kind some
  int64_t batch_blocks;                 // blocks transformed at a time, when tiles come first
  bool tiles_first;
  bool own_blocks;        // tiles first, and threads have blocks of their own
  int64_t weight_stride;  // between a kernel's transformed weights
  int64_t weight_count;   // channels of a block of transformed weights, and of a piece of the tiles'
  int32_t parts;          // of the main loop
  // Floats of the workspace: tiles, weights, products; of a part, or shared.
  int64_t input_floats, weight_floats, product_floats;
  int64_t workspace_floats;
} correlation;

static double item_operations(const correlation *c, int64_t outputs) {
  return 2.0 * c->products / (double)c->blocks * (double)c->channels * (double)outputs;
}

/// Whether to cut tiles that come first into `more` blocks instead of `blocks`, so that each thread reads only tiles
/// that it transformed itself.
static bool cut_pays(const correlation *c, int64_t blocks, int64_t more) {
  // Vector multiply-adds that it takes to read a vector that another core wrote, at worst, and to transform a weight.
  const double shared_vector = 20, weight = 5;
  if (c->tiles / more < c->kinds * own_tiles) return false;
  const double vectors = c->products * (double)c->channel_blocks / 2;
  const double weights = (double)(c->kernels->weights * c->channels * c->output_blocks) * (double)c->kernels->vectors;
  return (double)(more - blocks) * weights * weight < vectors * shared_vector;
}

/// Blocks of at most `most` tiles, such that `blocks` times `others` items fill the threads evenly.
static void cut_tiles(correlation *c, const pf_settings *settings, int64_t most, int64_t others) {
  int64_t blocks = pf_ceiling_divide(c->tiles, pf_maximum_of(most, 1));
  if (blocks * others < 4 * settings->threads) {
    while (blocks * others % settings->threads != 0 && blocks < c->tiles) blocks += 1;
  }
  // With many groups threads have groups of their own.
  const int64_t more = pf_round_up(blocks, settings->threads);
  if (c->tiles_first && more > blocks && c->groups < settings->threads && cut_pays(c, blocks, more)) {
    blocks = more;
    c->own_blocks = true;
  }
  c->blocks = 1;
  for (tiling *k = c->tilings; k < c->tilings + c->kinds; ++k) {
    k->block_tiles = pf_ceiling_divide(k->grid.tiles, blocks);
    c->blocks = pf_maximum_of(c->blocks, pf_ceiling_divide(k->grid.tiles, k->block_tiles));
  }
}

static void plan(const pf_settings *settings, correlation *c) {
  const int64_t rows = c->kernels->rows, weights = c->kernels->weights;
  c->lanes = settings->kernels->lanes;
  c->channel_blocks = pf_ceiling_divide(c->channels, c->lanes);
  c->output_width = pf_minimum_of(c->kernels->vectors * c->lanes, pf_round_up(c->outputs, c->lanes));
  c->output_blocks = pf_ceiling_divide(c->outputs, c->output_width);

  const int64_t points = (int64_t)__builtin_ceil(c->products / (double)c->tiles);  // of a tile, on average
  const int64_t tile_floats = points * c->channel_blocks * c->lanes;
  const int64_t all_weights = weights * c->groups * c->output_blocks * c->output_width * c->channels;
  const int64_t affordable = cached_tiles / tile_floats / rows * rows;
  const int64_t most_tiles = pf_minimum_of(most_block_tiles, most_block_points / points);
  const int64_t least_tiles = c->kinds == 1 ? rows : c->kinds * kind_tiles;
  c->tiles_first = affordable < least_tiles || all_weights > shared_weights || c->tiles < 8 * rows;
  // Pieces of the tiles' channels lie apart, at all points: threads that transform different ones write far from each
  // other.
  const int64_t pieces = c->tiles_first ? pf_ceiling_divide(c->channels, weight_channels) : 1;
  c->weight_count = pf_round_up(pf_ceiling_divide(c->channels, pieces), c->lanes);
  if (c->tiles_first) {
    cut_tiles(c, settings, most_tiles, c->groups * c->output_blocks);
  } else {
    cut_tiles(c, settings, pf_minimum_of(affordable, most_tiles), c->groups);
  }
  for (tiling *k = c->tilings; k < c->tilings + c->kinds; ++k) {
    k->input_place = c->input_floats;
    k->product_place = c->product_floats;
    k->input_stride = pf_winograd_point_stride(c->weight_count * k->block_tiles);
    k->piece_floats = k->grid.points * k->input_stride;
    k->product_stride = pf_winograd_point_stride(k->block_tiles * c->output_width);
    c->input_floats += pieces * k->piece_floats;
    c->product_floats += k->grid.points * k->product_stride;
  }
  c->weight_stride = pf_winograd_point_stride(c->weight_count * c->output_width);
  c->weight_floats = weights * c->weight_stride;
  c->product_floats = pf_part_floats(c->product_floats);

  if (c->tiles_first) {
    const int64_t affordable_blocks = pf_maximum_of(1, shared_tiles / (c->input_floats * c->groups));
    c->batch_blocks = pf_minimum_of(c->blocks, affordable_blocks);
    c->weight_floats = pf_part_floats(c->weight_floats);
    c->parts = pf_parallel_parts(settings, c->groups * c->output_blocks * c->batch_blocks,
                                 item_operations(c, c->output_width));
    c->workspace_floats =
        c->batch_blocks * c->groups * c->input_floats + c->parts * (c->weight_floats + c->product_floats);
  } else {
    c->batch_blocks = c->blocks;
    c->input_floats = pf_part_floats(c->input_floats);
    c->parts = pf_parallel_parts(settings, c->groups * c->blocks, item_operations(c, c->outputs));
    c->workspace_floats =
        c->groups * c->output_blocks * c->weight_floats + c->parts * (c->input_floats + c->product_floats);
  }
}

// MARK: Run

typedef struct run {
  const correlation *c;
  const float *source, *weight, *bias;
  pf_activation activation;
  bool accumulate;
  float *result;
  float *input;     // tiles first: every block of the batch, in each the groups; else one block a part
  float *weights;   // tiles first: one block a part; else every block
  float *products;  // one block a part
  int64_t first_block;  // of the batch
  int64_t batch;        // blocks in it
} run;

static int64_t tiles_of(const tiling *k, int64_t block) {
  return pf_maximum_of(0, pf_minimum_of(k->block_tiles, k->grid.tiles - block * k->block_tiles));
}

static int64_t source_of(const axis *a, int64_t position) { return (position * a->scale - a->before) / a->divisor; }

static int64_t outputs_of(const correlation *c, int64_t output_block) {
  return pf_minimum_of(c->output_width, c->outputs - output_block * c->output_width);
}

/// Where a block's transformed channels from `channel` on lie; `channel` is a multiple of the vector length.
static pf_winograd_tiles input_tiles(const correlation *c, const tiling *k, int64_t channel, float *block) {
  return (pf_winograd_tiles){
      .data = block + k->input_place + channel / c->weight_count * k->piece_floats +
              channel % c->weight_count * k->block_tiles,
      .point_stride = k->input_stride,
      .block_stride = k->block_tiles * c->lanes,
      .tile_stride = c->lanes,
  };
}

/// Transforms channels `channel` ..< `channel` + `channels` of a group's tiles of one kind.
static void transform_kind(const run *r, const tiling *k, int64_t block, int64_t group, int64_t channel,
                           int64_t channels, float *result) {
  const correlation *c = r->c;
  const int64_t plane = c->source_height * c->source_width, image = c->groups * c->channels * plane;
  const int64_t tiles = tiles_of(k, block);
  pf_winograd_planes planes = {
      .tensor = (float *)r->source,
      .count = c->images * image,
      .stride = plane,
      .height = c->source_height,
      .width = c->source_width,
      .channels = channels,
      .step_y = c->step_y,
      .step_x = c->step_x,
  };
  pf_winograd_tiles target = input_tiles(c, k, channel, result);
  for (int64_t done = 0; done < tiles;) {
    const pf_winograd_run tile_run = pf_winograd_next_run(&k->grid, block * k->block_tiles + done, tiles - done);
    planes.first = tile_run.image * image + (group * c->channels + channel) * plane;
    (c->turned ? k->kernels->transform_gradient_window : k->kernels->transform_input)(
        &planes, source_of(&c->y, tile_run.y), source_of(&c->x, k->grid.first_x), tile_run.first, tile_run.count,
        &target);
    target.data += tile_run.count * target.tile_stride;
    done += tile_run.count;
  }
}

static void transform_tiles(const run *r, int64_t block, int64_t group, int64_t channel, int64_t channels,
                            float *result) {
  for (int32_t i = 0; i < r->c->kinds; ++i) {
    transform_kind(r, &r->c->tilings[i], block, group, channel, channels, result);
  }
}

/// Transforms the weights of channels `channel` ..< `channel` + `channels` for one block of outputs.
static void transform_weights(const run *r, int64_t group, int64_t output_block, int64_t channel, int64_t channels,
                              const pf_winograd_block *block) {
  const correlation *c = r->c;
  const int64_t output = output_block * c->output_width;
  const int64_t outputs = outputs_of(c, output_block);
  const int64_t taps = c->kernels->taps;
  const float *weight = r->weight + group * c->outputs * c->channels * taps;
  if (c->turned) {
    c->kernels->transform_turned_weight(weight + (channel * c->outputs + output) * taps, c->outputs * taps, channels,
                                        outputs, block);
  } else {
    c->kernels->transform_weight(weight + (output * c->channels + channel) * taps, c->channels * taps, channels,
                                 outputs, block);
  }
}

static pf_winograd_block weight_block(const correlation *c, int64_t output_block, float *data) {
  return (pf_winograd_block){
      .data = data,
      .point_stride = c->weight_stride,
      .width = pf_round_up(outputs_of(c, output_block), c->lanes),
  };
}

static pf_winograd_block product_block(const correlation *c, const tiling *k, int64_t output_block, float *products) {
  return (pf_winograd_block){
      .data = products + k->product_place,
      .point_stride = k->product_stride,
      .width = pf_round_up(outputs_of(c, output_block), c->lanes),
  };
}

/// Multiplies a block's channels `channel` ..< `channel` + `channels` by their weights.
static void multiply(const correlation *c, int64_t block, int64_t output_block, int64_t channel, int64_t channels,
                     float *input, const pf_winograd_block *weights, float *products) {
  for (const tiling *k = c->tilings; k < c->tilings + c->kinds; ++k) {
    const pf_winograd_tiles tiles = input_tiles(c, k, channel, input);
    const pf_winograd_block result = product_block(c, k, output_block, products);
    k->kernels->multiply(k->kernels->points, k->kernels->weight_of, tiles_of(k, block), channels, &tiles, weights,
                         &result, channel > 0);
  }
}

static void store_kind(const run *r, const tiling *k, int64_t block, int64_t group, int64_t output_block,
                       float *block_products) {
  const correlation *c = r->c;
  const int64_t plane = c->height * c->width, image = c->groups * c->outputs * plane;
  const int64_t tiles = tiles_of(k, block);
  const int64_t output = group * c->outputs + output_block * c->output_width;
  const pf_winograd_finish finish = {
      .bias = r->bias == NULL ? NULL : r->bias + output,
      .accumulate = r->accumulate,
      .activation = r->activation,
  };
  pf_winograd_planes planes = {
      .tensor = r->result,
      .count = c->images * image,
      .stride = plane,
      .height = c->height,
      .width = c->width,
      .channels = outputs_of(c, output_block),
      .step_y = c->step_y,
      .step_x = c->step_x,
  };
  pf_winograd_block products = product_block(c, k, output_block, block_products);
  for (int64_t done = 0; done < tiles;) {
    const pf_winograd_run tile_run = pf_winograd_next_run(&k->grid, block * k->block_tiles + done, tiles - done);
    planes.first = tile_run.image * image + output * plane;
    (c->turned ? k->kernels->transform_input_gradient : k->kernels->transform_output)(
        &products, &planes, tile_run.y, k->grid.first_x, tile_run.first, tile_run.count, &finish);
    products.data += tile_run.count * products.width;
    done += tile_run.count;
  }
}

static void store_tiles(const run *r, int64_t block, int64_t group, int64_t output_block, float *products) {
  for (int32_t i = 0; i < r->c->kinds; ++i) store_kind(r, &r->c->tilings[i], block, group, output_block, products);
}

// MARK: Many tiles

/// Items: vectors of channels, in each block of outputs, in each group.
static void transform_all_weights(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const correlation *c = r->c;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel = item % c->channel_blocks * c->lanes, block = item / c->channel_blocks;
    pf_winograd_block weights = weight_block(c, block % c->output_blocks, r->weights + block * c->weight_floats);
    weights.data += channel * weights.width;
    transform_weights(r, block / c->output_blocks, block % c->output_blocks, channel,
                      pf_minimum_of(c->lanes, c->channels - channel), &weights);
  }
}

/// Items: groups, in each block of tiles.
static void run_blocks(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run *r = argument;
  const correlation *c = r->c;
  float *input = r->input + part * c->input_floats, *products = r->products + part * c->product_floats;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item % c->groups, block = item / c->groups;
    transform_tiles(r, block, group, 0, c->channels, input);
    for (int64_t i = 0; i < c->output_blocks; ++i) {
      const pf_winograd_block weights =
          weight_block(c, i, r->weights + (group * c->output_blocks + i) * c->weight_floats);
      multiply(c, block, i, 0, c->channels, input, &weights, products);
      store_tiles(r, block, group, i, products);
    }
  }
}

// MARK: Few tiles

/// Items: vectors of channels, in each group, in each block of the batch.
static void transform_batch(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run *r = argument;
  const correlation *c = r->c;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel = item % c->channel_blocks * c->lanes, block = item / c->channel_blocks;
    transform_tiles(r, r->first_block + block / c->groups, block % c->groups, channel,
                    pf_minimum_of(c->lanes, c->channels - channel), r->input + block * c->input_floats);
  }
}

/// Items: blocks of outputs, in each group, in each block of the batch, where that gives each thread blocks that it
/// transformed itself and that no other reads. Else blocks of the batch, in each block of outputs, in each group: then
/// weights are transformed more seldom.
static void run_outputs(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run *r = argument;
  const correlation *c = r->c;
  const int64_t all_outputs = c->groups * c->output_blocks;
  const bool by_block = r->batch % c->parts == 0 && (c->own_blocks || c->weight_count < c->channels);
  int64_t transformed = -1;  // the block of outputs whose weights, all of them, are at hand
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = by_block ? item / all_outputs : item % r->batch;
    const int64_t outputs = by_block ? item % all_outputs : item / r->batch;
    const int64_t output_block = outputs % c->output_blocks, group = outputs / c->output_blocks;
    const pf_winograd_block weights = weight_block(c, output_block, r->weights + part * c->weight_floats);
    float *input = r->input + (block * c->groups + group) * c->input_floats;
    float *products = r->products + part * c->product_floats;
    for (int64_t channel = 0; channel < c->channels; channel += c->weight_count) {
      const int64_t channels = pf_minimum_of(c->weight_count, c->channels - channel);
      if (channels < c->channels || transformed != outputs) {
        transform_weights(r, group, output_block, channel, channels, &weights);
        transformed = outputs;
      }
      multiply(c, r->first_block + block, output_block, channel, channels, input, &weights, products);
    }
    store_tiles(r, r->first_block + block, group, output_block, products);
  }
}

static pf_status correlate(const pf_settings *settings, const correlation *c, const float *source, const float *weight,
                           const float *bias, pf_activation activation, pf_writing writing, float *result) {
  float *workspace = pf_allocate_floats(c->workspace_floats);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  run r = {
      .c = c,
      .source = source,
      .weight = weight,
      .bias = bias,
      .activation = activation,
      .accumulate = writing == pf_accumulate,
      .result = result,
      .input = workspace,
  };
  const double transform = 16.0 * (double)c->lanes;  // operations of a vector at a point
  if (c->tiles_first) {
    r.weights = r.input + c->batch_blocks * c->groups * c->input_floats;
    r.products = r.weights + c->parts * c->weight_floats;
    for (r.first_block = 0; r.first_block < c->blocks; r.first_block += c->batch_blocks) {
      r.batch = pf_minimum_of(c->batch_blocks, c->blocks - r.first_block);
      pf_parallel(settings, r.batch * c->groups * c->channel_blocks, transform * c->products / (double)c->blocks,
                  transform_batch, &r);
      pf_parallel_in(c->parts, r.batch * c->groups * c->output_blocks, run_outputs, &r);
    }
  } else {
    r.weights = r.input + c->parts * c->input_floats;
    r.products = r.weights + c->groups * c->output_blocks * c->weight_floats;
    pf_parallel(settings, c->groups * c->output_blocks * c->channel_blocks,
                transform * (double)(c->kernels->weights * c->output_width), transform_all_weights, &r);
    pf_parallel_in(c->parts, c->groups * c->blocks, run_blocks, &r);
  }
  pf_memory_release(workspace);
  return pf_ok;
}

// MARK: Passes

static axis window_axis(bool turned, bool whole, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding) {
  if (whole) return (axis){.scale = 1, .divisor = 1};
  if (!turned) return (axis){.scale = stride, .divisor = 1, .before = padding};
  // Of stride 2, a tile's first pixel meets the middle tap, and so do the window's: that is a whole number.
  if (stride == 2) return (axis){.scale = 1, .divisor = 2, .before = 1 - padding};
  return (axis){.scale = 1, .divisor = 1, .before = (kernel - 1) * dilation - padding};
}

/// Takes up the kinds of tiles of one round: those that share weights.
static void take_kinds(const pf_settings *settings, const pf_convolution2d *p, int32_t tile, int32_t round,
                       correlation *c) {
  const bool all = tile == pf_winograd_strided;
  for (int32_t kind = all ? 0 : round; kind < (all ? pf_winograd_most_kinds : round + 1); ++kind) {
    const pf_winograd_grid grid = pf_winograd_tiling(p, c->turned, tile, kind);
    if (grid.tiles == 0) continue;
    c->kernels = pf_winograd_kernels_of(settings, p, tile, &grid);
    c->tilings[c->kinds++] = (tiling){.kernels = c->kernels, .grid = grid};
    c->tiles += grid.tiles;
    c->products += (double)(grid.points * grid.tiles);
  }
}

/// A round of kinds of a pass, planned; without tiles there is nothing to do.
static correlation prepare(const pf_settings *settings, const pf_convolution2d *p, bool turned, int32_t tile,
                           int32_t round) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const bool whole = tile == pf_winograd_whole;
  correlation c = {
      .images = p->batch,
      .groups = p->groups,
      .channels = (turned ? p->output_channels : p->input_channels) / p->groups,
      .outputs = (turned ? p->input_channels : p->output_channels) / p->groups,
      .source_height = turned ? output.height : p->input_height,
      .source_width = turned ? output.width : p->input_width,
      .y = window_axis(turned, whole, p->kernel_height, p->stride_height, p->dilation_height, p->padding_top),
      .x = window_axis(turned, whole, p->kernel_width, p->stride_width, p->dilation_width, p->padding_left),
      .height = turned ? p->input_height : output.height,
      .width = turned ? p->input_width : output.width,
      .step_y = p->dilation_height,
      .step_x = p->dilation_width,
      .turned = turned,
  };
  take_kinds(settings, p, tile, round, &c);
  if (c.tiles > 0) plan(settings, &c);
  return c;
}

static int32_t rounds(int32_t tile) { return tile == pf_winograd_whole ? pf_winograd_most_kinds : 1; }

pf_status pf_winograd_forward(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                              pf_activation activation, const float *input, const float *weight, const float *bias,
                              float *output) {
  for (int32_t round = 0; round < rounds(tile); ++round) {
    const correlation c = prepare(settings, problem, false, tile, round);
    if (c.tiles > 0) PF_TRY(correlate(settings, &c, input, weight, bias, activation, pf_overwrite, output));
  }
  return pf_ok;
}

pf_status pf_winograd_input_gradient(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                                     const float *output_gradient, const float *weight, pf_writing writing,
                                     float *input_gradient) {
  for (int32_t round = 0; round < rounds(tile); ++round) {
    const correlation c = prepare(settings, problem, true, tile, round);
    if (c.tiles == 0) continue;
    PF_TRY(correlate(settings, &c, output_gradient, weight, NULL, pf_activation_none, writing, input_gradient));
  }
  return pf_ok;
}

int64_t pf_winograd_correlation_workspace(const pf_settings *settings, const pf_convolution2d *problem, bool turned,
                                          int32_t tile) {
  int64_t floats = 0;
  for (int32_t round = 0; round < rounds(tile); ++round) {
    floats = pf_maximum_of(floats, prepare(settings, problem, turned, tile, round).workspace_floats);
  }
  return floats * (int64_t)sizeof(float);
}
