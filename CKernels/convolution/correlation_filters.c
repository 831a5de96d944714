#include "convolution/correlation_filters.h"

#include <string.h>

/// What all threads share.
typedef struct run_state {
  const pf_correlation_plan *plan;
  const float *source, *weight, *bias;
  pf_activation activation;
  bool accumulate;
  float *result;
  float *packed_weight;           // by group, tile: inner x the tile's vectors
  float *packed_bias;             // by group: vectors
  const int64_t *weight_offsets;  // by k
  const int64_t *source_offsets;  // by k, from the first channel of k's step on
  char *scratch;                  // scratch_bytes a part
} run_state;

/// An item of the run: some tiles of a group of a block.
typedef struct item {
  pf_piece tiles;
  int64_t group, image, images, row, rows;
} item;

/// What of the source is read next: `floats` of each of some images. It comes into the second-level cache evenly while
/// the kernels run.
typedef struct fetch {
  const float *image;
  int64_t images, floats;
  int64_t done;  // floats of the image
  int64_t step;  // floats a product
} fetch;

/// Items: groups, in each the parts of the tiles, in each the images, in each the rows of blocks.
static item item_of(const pf_correlation_plan *plan, int64_t index) {
  item item;
  item.row = index % plan->blocks_y * plan->block_rows;
  item.rows = pf_minimum_of(plan->block_rows, plan->problem.y.grid - item.row);
  index /= plan->blocks_y;
  item.image = index % plan->blocks_images * plan->block_images;
  item.images = pf_minimum_of(plan->block_images, plan->problem.images - item.image);
  index /= plan->blocks_images;
  item.tiles = pf_part_tiles(plan, index % plan->tile_parts);
  item.group = index / plan->tile_parts;
  return item;
}

/// The vectors of a tile, of a group.
static pf_piece tile_vectors(const pf_correlation_plan *plan, int64_t tile) {
  const int64_t most = pf_filter_tile_vectors(plan), first = tile * most;
  return (pf_piece){first, pf_minimum_of(most, plan->vectors - first)};
}

/// The packed weights of a tile's vectors, from k on.
static float *weight_of(const run_state *state, int64_t group, pf_piece vectors, int64_t k) {
  const pf_correlation_plan *plan = state->plan;
  const int64_t lanes = plan->kernels->lanes;
  return state->packed_weight + ((group * plan->vectors + vectors.first) * plan->inner + k * vectors.count) * lanes;
}

static float *bias_of(const run_state *state, int64_t group, pf_piece vectors) {
  const pf_correlation_plan *plan = state->plan;
  return state->packed_bias + (group * plan->vectors + vectors.first) * plan->kernels->lanes;
}

/// What follows a step: the next one, or the first of the next item, if there is one. With blocks of rows nothing: they
/// follow each other.
static fetch fetch_behind(const run_state *state, const pf_inner_step *step, const item *now, const item *next) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  if (plan->blocks_y > 1 || (step->last && next == NULL)) return (fetch){0};
  const item *item = step->last ? next : now;
  const pf_inner_step following = pf_inner_step_from(plan, step->last ? 0 : step->first + step->channels);
  fetch fetch = {
      .image = state->source + pf_source_channel(p, item->image, item->group, following.first),
      .images = item->images,
      .floats = following.channels * pf_source_plane(p),
  };
  const int64_t tiles = pf_ceiling_divide(plan->tiles, plan->tile_parts);
  const int64_t products = step->inner * tiles * now->images * pf_filter_pieces(plan) * pf_ceiling_divide(now->rows, 2);
  fetch.step = pf_minimum_of(pf_line_floats, pf_ceiling_divide(fetch.images * fetch.floats, products));
  return fetch;
}

/// Where the next `products` products fetch from; NULL behind the end.
static const float *take(const pf_correlation *p, fetch *fetch, int64_t products) {
  if (fetch->done >= fetch->floats) {
    if (fetch->images <= 1) return NULL;
    fetch->images -= 1;
    fetch->image += pf_source_image(p);
    fetch->done = 0;
  }
  const float *address = fetch->image + fetch->done;
  fetch->done += products * fetch->step;
  return address;
}

/// The sums of `rows` rows of the result and a tile's vectors.
static void run_rows(const run_state *state, const pf_inner_step *step, int64_t vectors, int64_t rows,
                     const float *weight, const float *source, int64_t pitch, const float *bias, float *sums,
                     fetch *fetch) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t width = p->x.grid, pieces = pf_filter_pieces(plan), lanes = plan->kernels->lanes;
  const int64_t row_step = p->y.step * pitch, vector_stride = pf_filter_vector_stride(plan);
  const pf_tile_mode mode = step->k > 0 ? pf_tile_add : pf_tile_store;
  const pf_activation activation = step->last ? state->activation : pf_activation_none;
  const pf_filter_tile_kernel *kernels[] = {plan->kernels->filter_tile[0][vectors],
                                            plan->kernels->filter_tile[1][vectors]};
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = pf_piece_begin(width, i, pieces), points = pf_piece_begin(width, i + 1, pieces) - begin;
    for (int64_t row = 0; row < rows;) {
      const bool paired = row + 1 < rows && kernels[1][points] != NULL;
      const float *ahead = take(p, fetch, step->inner);
      kernels[paired][points](step->inner, plan->chain, weight, source + row * row_step + begin * p->x.step,
                              state->source_offsets + step->k, p->x.step, row_step, ahead == NULL ? weight : ahead,
                              ahead == NULL ? 0 : fetch->step, bias, sums + (row * width + begin) * lanes,
                              vector_stride, width * lanes, mode, activation);
      row += 1 + paired;
    }
  }
}

/// Transposes the sums of `rows` rows from `row` on into the result.
static void collect(const run_state *state, int64_t image, int64_t group, pf_piece vectors, int64_t row, int64_t rows,
                    const float *sums) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t lanes = plan->kernels->lanes, width = p->x.grid;
  for (int64_t i = 0; i < vectors.count; ++i) {
    const int64_t output = (vectors.first + i) * lanes;
    float *result = state->result + image * p->result_image + (group * p->outputs + output) * p->result_plane +
                    p->result_first + row * width;
    plan->kernels->depthwise.collect(pf_minimum_of(lanes, p->outputs - output), rows * width,
                                     sums + i * pf_filter_vector_stride(plan), state->accumulate, result,
                                     p->result_plane);
  }
}

static void fill_frames(const run_state *state, const item *item, const pf_inner_step *step, bool zeroed,
                        float *frames) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const pf_block block = {.images = 1,
                          .row = item->row * p->y.step,
                          .rows = (item->rows - 1) * p->y.step + 1,
                          .columns = plan->frame.x.grid};
  for (int64_t n = 0; n < item->images; ++n) {
    pf_frame_fill(&plan->frame, plan->kernels, &block, step->channels,
                  state->source + pf_source_channel(p, item->image + n, item->group, step->first), 0,
                  zeroed || step->k > 0, frames + n * pf_correlation_frame_floats(plan));
  }
}

/// With `zeroed` the frames are those of another item with the same rows, of as many images or more.
static void run_item(const run_state *state, const item *now, const item *next, bool zeroed, float *scratch) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t row_floats = p->x.grid * plan->kernels->lanes, frame_floats = pf_correlation_frame_floats(plan);
  const int64_t pitch = plan->in_place ? p->x.source : plan->frame.pitch;
  const int64_t image_floats = plan->in_place ? pf_source_image(p) : frame_floats;
  float *all_sums = scratch + plan->block_images * frame_floats;
  const int64_t first_vector = tile_vectors(plan, now->tiles.first).first;
  for (int64_t first = 0; first < p->channels; first += plan->channel_step) {
    const pf_inner_step step = pf_inner_step_from(plan, first);
    const float *source = scratch;
    if (plan->in_place) {
      source = state->source + pf_source_channel(p, now->image, now->group, first) + now->row * p->y.step * pitch;
    } else {
      fill_frames(state, now, &step, zeroed, scratch);
    }
    fetch fetch = fetch_behind(state, &step, now, next);
    for (int64_t i = 0; i < now->tiles.count; ++i) {
      const pf_piece vectors = tile_vectors(plan, now->tiles.first + i);
      const float *weight = weight_of(state, now->group, vectors, step.k);
      const float *bias = step.k > 0 ? NULL : bias_of(state, now->group, vectors);
      for (int64_t n = 0; n < now->images; ++n) {
        for (int64_t row = 0; row < now->rows; row += plan->strip_rows) {
          const int64_t rows = pf_minimum_of(plan->strip_rows, now->rows - row);
          float *sums = all_sums;
          if (pf_sums_wait(plan)) {
            sums += (vectors.first - first_vector) * pf_filter_vector_stride(plan) +
                    (n * plan->block_rows + row) * row_floats;
          }
          run_rows(state, &step, vectors.count, rows, weight, source + n * image_floats + row * p->y.step * pitch,
                   pitch, bias, sums, &fetch);
          if (step.last) collect(state, now->image + n, now->group, vectors, now->row + row, rows, sums);
        }
      }
    }
  }
}

static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  float *scratch = (float *)(state->scratch + part * plan->scratch_bytes);
  item now = {0}, next = item_of(plan, begin);
  for (int64_t index = begin; index < end; ++index) {
    const item before = now;
    now = next;
    if (index + 1 < end) next = item_of(plan, index + 1);
    const bool zeroed = before.row == now.row && before.rows == now.rows && before.images >= now.images;
    run_item(state, &now, index + 1 < end ? &next : NULL, zeroed, scratch);
  }
}

/// Items: groups, in each the tiles.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t lanes = plan->kernels->lanes;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t group = index / plan->tiles;
    const pf_piece vectors = tile_vectors(plan, index % plan->tiles);
    const int64_t output = vectors.first * lanes, width = vectors.count * lanes;
    const int64_t outputs = pf_minimum_of(width, p->outputs - output);
    float *packed = weight_of(state, group, vectors, 0), *bias = bias_of(state, group, vectors);
    if (outputs < width) {
      // Lanes of no channel.
      memset(packed, 0, (size_t)(plan->inner * width) * sizeof(float));
      memset(bias, 0, (size_t)width * sizeof(float));
    }
    plan->kernels->pack_rows(plan->inner, outputs, state->weight + group * p->weight_group + output * p->weight_output,
                             p->weight_output, state->weight_offsets, packed, width);
    for (int64_t o = 0; o < outputs; ++o) {
      bias[o] = state->bias == NULL ? 0 : state->bias[group * p->outputs + output + o];
    }
  }
}

/// The place on a dense axis, which begins where the first place read does, of a tap.
static int64_t dense_tap(const pf_axis *axis, int64_t tap) {
  return tap * axis->tap_step - pf_minimum_of((axis->taps - 1) * axis->tap_step, 0);
}

static void fill_offsets(const pf_correlation_plan *plan, int64_t *weight, int64_t *source) {
  const pf_correlation *p = &plan->problem;
  const pf_frame *frame = &plan->frame;
  int64_t k = 0;
  for (int64_t c = 0; c < p->channels; ++c) {
    const int64_t channel = c % plan->channel_step;
    for (int64_t i = 0; i < p->y.taps; ++i) {
      for (int64_t j = 0; j < p->x.taps; ++j, ++k) {
        const int64_t y = dense_tap(&p->y, i), x = dense_tap(&p->x, j);
        weight[k] = p->weight_first + c * p->weight_channel + i * p->weight_y + j * p->weight_x;
        source[k] = plan->in_place ? (channel * p->y.source + frame->y.first + y) * p->x.source + frame->x.first + x
                                   : channel * frame->channel_stride + pf_frame_offset(frame, y, x);
      }
    }
  }
}

void pf_correlation_filters_run(const pf_correlation_plan *plan, const float *source, const float *weight,
                                const float *bias, pf_activation activation, pf_writing writing, float *result,
                                char *workspace) {
  const pf_correlation *p = &plan->problem;
  const int64_t tiles = p->groups * plan->tiles;
  const int64_t items = pf_correlation_blocks(plan) * plan->tile_parts;
  if (items == 0) return;
  int64_t *weight_offsets = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  int64_t *source_offsets = weight_offsets + plan->inner;
  const int64_t offset_bytes = pf_aligned_bytes(2 * plan->inner * (int64_t)sizeof(int64_t));
  fill_offsets(plan, weight_offsets, source_offsets);
  float *packed_weight = (float *)((char *)weight_offsets + offset_bytes);
  run_state state = {
      .plan = plan,
      .source = source,
      .weight = weight,
      .bias = bias,
      .activation = activation,
      .accumulate = writing == pf_accumulate,
      .result = result,
      .packed_weight = packed_weight,
      .packed_bias = packed_weight + p->groups * plan->vectors * plan->kernels->lanes * plan->inner,
      .weight_offsets = weight_offsets,
      .source_offsets = source_offsets,
      .scratch = workspace,
  };
  pf_parallel_in((int32_t)pf_minimum_of(plan->parts, tiles), tiles, pack_range, &state);
  pf_parallel_in(plan->parts, items, run_range, &state);
}
