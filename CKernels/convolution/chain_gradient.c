// The weight gradient of scattered elements, each by itself.
//
// An outer product of filters and elements computes what isn't wanted. A dot product along the points would compute
// single elements, but in another order than an outer product, whose sums are chains of products of consecutive points.
// So each lane of a vector takes a chain: the i-th vector of an operand holds the i-th points of as many consecutive
// chains as there are lanes, and one multiply-add a vector continues all of them. The chains' sums are then added up as
// those of outer products are.
//
// Of a group of chains the input is packed first, as many channels as stay in a cache; then filter after filter the
// output gradient is transposed in registers, a vector's length of points at a time, and multiplied with all of the
// filter's elements. A chain's copy of a channel holds all rows and columns that any tap reads: a tap is an offset.

#include "convolution/chain_gradient.h"

#include <string.h>

enum {
  copy_budget = 160 << 10,  // floats of the input packed at a time: most of a second-level cache
  batch_elements = 64,      // of a filter whose chains' sums are added up together
};

// Times of a vector, in that of a multiply-add of an outer product: a product, and the packing of either operand.
static const double product_cost = 2.2, packing_cost = 9;

typedef struct layout {
  int64_t lanes, points;             // points of a chain
  int64_t rows, columns;             // of the copy of one image's channel, for a chain
  int64_t inside_begin, inside_end;  // columns that are copied: the others are padding in every chain
  int64_t run;                       // of the output gradient: points of one image
  int64_t channel_floats, channels;  // of the copy of a channel; channels copied at a time
  int64_t row_count;                 // of the copies of all images
  int64_t stage_floats;              // of a row of either operand, and a vector behind it
  int64_t most_strips;               // of a chain
  int64_t pieces, channel_parts;     // of the slices and channels, shared out to threads
  int32_t parts, finish_parts;
  int64_t table_bytes, scratch_bytes;
} layout;

static int64_t extent(int64_t points, int64_t step, const pf_axis *taps) {
  return (points - 1) * step + (taps->taps - 1) * taps->tap_step + 1;
}

static void measure(const pf_gradient_plan *plan, layout *l) {
  const pf_block *chain = &plan->chain;
  const pf_axis *x = &plan->frame.x;
  *l = (layout){
      .lanes = plan->kernels->lanes,
      .points = chain->images * chain->rows * chain->columns,
      .rows = extent(chain->rows, plan->step_y, &plan->frame.y),
      .columns = extent(chain->columns, plan->step_x, x),
      .run = chain->rows * chain->columns,
  };
  l->inside_end = l->columns;
  if (plan->chains_x == 1) {
    l->inside_begin = pf_maximum_of(0, -x->first);
    l->inside_end = pf_minimum_of(l->columns, x->source - x->first);
  }
  l->row_count = chain->images * l->rows;
  l->channel_floats = l->row_count * l->columns * l->lanes;
  l->stage_floats = pf_round_up(pf_maximum_of(l->columns, l->run), l->lanes) + l->lanes;
  l->most_strips = chain->images * chain->rows * pf_ceiling_divide(chain->columns, l->lanes) + 1;
}

/// Whether a channel's copy is small enough.
static bool applies(const pf_gradient_plan *plan, const layout *l) {
  return plan->slices > 0 && (double)l->row_count * (double)l->columns * (double)l->lanes <= copy_budget;
}

static int64_t first_chain(const pf_gradient_plan *plan, int64_t slice) {
  if (slice == plan->slices) return plan->chains;
  const pf_block block = pf_gradient_block(plan, slice * plan->slice_blocks);
  const int64_t y = block.image / plan->chain.images * plan->chains_y + block.row / plan->chain.rows;
  return y * plan->chains_x + block.column / plan->chain.columns;
}

/// The longest piece of the chains, in groups of one chain a lane.
static int64_t most_groups(const pf_gradient_plan *plan, int64_t lanes, int64_t pieces) {
  int64_t most = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = first_chain(plan, pf_piece_begin(plan->slices, i, pieces));
    const int64_t end = first_chain(plan, pf_piece_begin(plan->slices, i + 1, pieces));
    most = pf_maximum_of(most, pf_ceiling_divide(end - begin, lanes));
  }
  return most;
}

static int64_t affordable_channels(const layout *l) { return pf_maximum_of(1, copy_budget / l->channel_floats); }

/// Chooses how the work is shared out; returns a thread's time, in multiply-adds of a vector.
static double share_out(const pf_settings *settings, const pf_gradient_plan *plan, int64_t trainable, layout *l) {
  const int64_t channels = plan->shape.group_input_channels, groups = plan->problem.groups;
  const int64_t channel_vectors = l->row_count * l->columns;
  const int64_t affordable = affordable_channels(l);
  const double products = (double)trainable * (double)l->points * product_cost;
  const double copies = (double)pf_minimum_of(trainable, plan->problem.input_channels) * (double)channel_vectors;
  const double panels = (double)pf_minimum_of(trainable, plan->problem.output_channels) * (double)l->points;
  double best = 0;
  for (int64_t pieces = 1; pieces <= pf_minimum_of(plan->slices, settings->threads); ++pieces) {
    const int64_t wanted = pf_ceiling_divide(settings->threads, pieces * groups);
    const int64_t channel_parts = pf_minimum_of(wanted, channels);
    const int64_t part = pf_ceiling_divide(channels, channel_parts), chunks = pf_ceiling_divide(part, affordable);
    const double rounds = (double)pf_ceiling_divide(pieces * channel_parts * groups, settings->threads);
    const double share = rounds / ((double)groups * (double)channel_parts);
    // A filter's output gradient is packed for each chunk in which it has elements.
    const double all = (double)(chunks * channel_parts);
    const double packed = (double)trainable < all * (double)plan->problem.output_channels
                              ? (double)trainable * (double)l->points
                              : all * panels;
    const double time = (double)most_groups(plan, l->lanes, pieces) * share *
                        (products + packing_cost * (copies + packed));
    if (best != 0 && time >= best) continue;
    best = time;
    l->pieces = pieces;
    l->channel_parts = channel_parts;
    l->channels = pf_ceiling_divide(part, chunks);
  }
  return best;
}

/// The most elements for which the time may be less than 1.
static int64_t most_trainable(const pf_gradient_plan *plan) {
  return (int64_t)((double)plan->shape.weight_count / product_cost);
}

double pf_chain_gradient_time(const pf_settings *settings, const pf_gradient_plan *plan, int64_t trainable) {
  layout l;
  measure(plan, &l);
  if (!applies(plan, &l) || trainable > most_trainable(plan)) return 1;
  const double points = (double)plan->problem.batch * (double)plan->height * (double)plan->width;
  const double all = points * (double)plan->inner * (double)plan->problem.output_channels / (double)l.lanes;
  return share_out(settings, plan, trainable, &l) * (double)settings->threads / all;
}

// MARK: Run

typedef struct run_state {
  const pf_gradient_plan *plan;
  const layout *layout;
  const float *input, *output_gradient;
  const pf_gradient_mask *mask;
  bool accumulate;
  float *result;
  int64_t trainable;
  int64_t *starts;   // by filter, of its elements in the list
  int32_t *counts;   // by filter, of them
  int32_t *list;     // the trainable elements' indices in their filter's window
  uint8_t *active;   // by input channel: whether any filter needs it
  uint8_t *bytes;    // scratch for reading a mask, by part of the last step
  int64_t *offsets;  // of the elements of layout->channels channels in their copy
  float *totals;     // by slice, in the list's order
  char *scratch;
  float *rows;       // of the result, by part of the last step
  float *zeros;      // a row's
} run_state;

/// Lanes whose chains one slice adds up.
typedef struct segment {
  int64_t slice, begin, end;
  bool accumulate;  // whether the slice has chains before
} segment;

/// At most a vector's length of neighbouring points of a chain.
typedef struct strip {
  int64_t image, first, count;  // where it begins in the chain's points of that image
  int64_t copy;                 // and in the copy of a channel
} strip;

/// A row of each lane's chain. Lanes are bits.
typedef struct lane_row {
  uint32_t outside;  // lanes that have none: it's all zeros
  uint32_t careful;  // lanes that have one that can't be read where it lies, up to a vector behind it, in every plane
  bool is_read;
} lane_row;

/// Rows of an operand, one of each lane's chain at a time.
typedef struct operand {
  const float *tensor;
  int64_t count;                 // of the tensor
  int64_t last;                  // the last plane's offset
  int64_t floats;                // of a row
  int64_t begin[pf_most_lanes];  // of a lane's rows that exists: from here
  int64_t end[pf_most_lanes];    // up to here
  int64_t *places;               // by row and lane: where it begins in the first plane
  lane_row *rows;
} operand;

/// What one thread holds.
typedef struct scratch {
  pf_block chains[pf_most_lanes];
  operand input, output_gradient;
  segment segments[pf_most_lanes];
  int64_t segment_count;
  strip *strips;                      // of a chain: those of the points of the shortest one are in front
  int64_t strip_count, front;
  float *stage;                       // rows that can't be read where they lie, by lane
  float *copy, *sums, *sums_before;
} scratch;

static bool lies_inside(const operand *o, const layout *l, int64_t place, int64_t lane) {
  return o->begin[lane] <= 0 && o->end[lane] >= o->floats && place + l->stage_floats <= o->count;
}

/// Enters where a lane's row begins in the first plane, if there is one.
static void enter_row(operand *o, const layout *l, int64_t row, int64_t lane, bool exists, int64_t place) {
  o->places[row * l->lanes + lane] = exists ? place : 0;
  const uint32_t bit = 1u << lane;
  if (!exists) {
    o->rows[row].outside |= bit;
  } else if (!lies_inside(o, l, place + o->last, lane)) {
    o->rows[row].careful |= bit;
  }
}

/// Has `rows` point to each lane's row in a plane, which may be read up to a vector behind it.
static void find_rows(const run_state *state, const operand *o, int64_t row, int64_t plane, float *stage,
                      const float **rows) {
  const layout *l = state->layout;
  const int64_t *places = o->places + row * l->lanes;
  for (int64_t lane = 0; lane < l->lanes; ++lane) rows[lane] = o->tensor + (places[lane] + plane);
  for (uint32_t left = o->rows[row].outside; left != 0; left &= left - 1) rows[__builtin_ctz(left)] = state->zeros;
  for (uint32_t left = o->rows[row].careful; left != 0; left &= left - 1) {
    const int32_t lane = __builtin_ctz(left);
    const int64_t place = places[lane] + plane;
    if (lies_inside(o, l, place, lane)) continue;
    const int64_t begin = pf_maximum_of(o->begin[lane], 0);
    const int64_t end = pf_minimum_of(pf_minimum_of(o->end[lane], o->floats), o->count - place);
    float *copy = stage + lane * l->stage_floats;
    memset(copy, 0, (size_t)l->stage_floats * sizeof(float));
    if (begin < end) memcpy(copy + begin, o->tensor + place + begin, (size_t)(end - begin) * sizeof(float));
    rows[lane] = copy;
  }
}

/// Whether any tap of a chain's points reads row `row` of the copy.
static bool is_read(const pf_gradient_plan *plan, int64_t row) {
  const pf_axis *y = &plan->frame.y;
  for (int64_t i = 0; i < y->taps && i * y->tap_step <= row; ++i) {
    const int64_t reach = row - i * y->tap_step;
    if (reach % plan->step_y == 0 && reach / plan->step_y < plan->chain.rows) return true;
  }
  return false;
}

/// Chains `first` up to `last` go into lanes.
static void take_chains(const run_state *state, int64_t first, int64_t last, scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const layout *l = state->layout;
  const pf_convolution2d *p = &plan->problem;
  const pf_block *chain = &plan->chain;
  int64_t least = l->points;
  for (int64_t row = 0; row < l->row_count; ++row) {
    s->input.rows[row] = (lane_row){.is_read = is_read(plan, row % l->rows)};
  }
  for (int64_t image = 0; image < chain->images; ++image) {
    s->output_gradient.rows[image] = (lane_row){.is_read = true};
  }
  for (int64_t lane = 0; lane < l->lanes; ++lane) {
    const int64_t index = first + lane < last ? first + lane : first;
    pf_block *b = s->chains + lane;
    b->column = index % plan->chains_x * chain->columns;
    b->row = index / plan->chains_x % plan->chains_y * chain->rows;
    b->image = index / plan->chains_x / plan->chains_y * chain->images;
    b->columns = pf_minimum_of(chain->columns, plan->width - b->column);
    b->rows = pf_minimum_of(chain->rows, plan->height - b->row);
    b->images = pf_minimum_of(chain->images, p->batch - b->image);
    least = pf_minimum_of(least, b->images * b->rows * b->columns);
    const int64_t x = b->column * plan->step_x + plan->frame.x.first + l->inside_begin;
    s->input.begin[lane] = -x;
    s->input.end[lane] = plan->frame.x.source - x;
    for (int64_t row = 0; row < l->row_count; ++row) {
      const int64_t image = row / l->rows, t = row % l->rows;
      const int64_t y = b->row * plan->step_y + plan->frame.y.first + t;
      const bool inside = image < b->images && y >= 0 && y < plan->frame.y.source;
      const int64_t plane = (b->image + image) * p->input_channels;
      enter_row(&s->input, l, row, lane, inside, plane * plan->shape.input_plane + y * plan->frame.x.source + x);
    }
    s->output_gradient.begin[lane] = 0;
    s->output_gradient.end[lane] = l->run;
    for (int64_t image = 0; image < chain->images; ++image) {
      const int64_t plane = (b->image + image) * p->output_channels;
      enter_row(&s->output_gradient, l, image, lane, image < b->images,
                plane * plan->shape.output_plane + b->row * plan->width + b->column);
    }
  }
  s->segment_count = 0;
  for (int64_t slice = 0; slice < plan->slices; ++slice) {
    const int64_t begin = first_chain(plan, slice), end = first_chain(plan, slice + 1);
    const int64_t from = pf_maximum_of(begin, first), to = pf_minimum_of(end, last);
    if (from >= to) continue;
    s->segments[s->segment_count++] = (segment){slice, from - first, to - first, from > begin};
  }
  s->strip_count = s->front = 0;
  for (int64_t i = 0; i < chain->images * chain->rows; ++i) {
    const int64_t image = i / chain->rows, row = i % chain->rows;
    const int64_t copy = (image * l->rows + row * plan->step_y) * l->columns;
    for (int64_t x = 0, count; x < chain->columns; x += count) {
      const int64_t before = i * chain->columns + x;
      count = pf_minimum_of(l->lanes, chain->columns - x);
      if (before < least) {
        count = pf_minimum_of(count, least - before);
        s->front += 1;
      }
      s->strips[s->strip_count++] =
          (strip){image, row * chain->columns + x, count, (copy + x * plan->step_x) * l->lanes};
    }
  }
}

/// Packs an input channel, and has the one `ahead` planes behind it come closer.
static void copy_channel(const run_state *state, int64_t channel, int64_t ahead, float *copy, const scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const layout *l = state->layout;
  const int64_t count = l->inside_end - l->inside_begin, pitch = l->columns * l->lanes;
  const int64_t offset = channel * plan->shape.input_plane;
  for (int64_t row = 0; row < l->row_count; ++row, copy += pitch) {
    if (!s->input.rows[row].is_read) continue;
    const float *rows[pf_most_lanes];
    find_rows(state, &s->input, row, offset, s->stage, rows);
    memset(copy, 0, (size_t)(l->inside_begin * l->lanes) * sizeof(float));
    plan->kernels->pack_chains(count, rows, ahead * plan->shape.input_plane, copy + l->inside_begin * l->lanes);
    memset(copy + l->inside_end * l->lanes, 0, (size_t)((l->columns - l->inside_end) * l->lanes) * sizeof(float));
  }
}

/// Multiplies a filter's output gradient with `count` elements from list entry `begin` on, whose channels' copy begins
/// with that of element `first`, and has that of the one `ahead` filters behind it come closer.
static void multiply(const run_state *state, int64_t filter, int64_t ahead, int64_t begin, int64_t count, int64_t first,
                     const scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const layout *l = state->layout;
  const pf_kernels *kernels = plan->kernels;
  int64_t offsets[batch_elements];
  for (int64_t k = 0; k < count; ++k) offsets[k] = state->offsets[state->list[begin + k] - first];
  const float *rows[pf_most_lanes];
  const size_t sum_bytes = (size_t)(count * l->lanes) * sizeof(float);
  for (int64_t i = 0; i < s->strip_count; ++i) {
    const strip *p = s->strips + i;
    if (i == 0 || p->image != p[-1].image) {
      find_rows(state, &s->output_gradient, p->image, filter * plan->shape.output_plane, s->stage, rows);
    }
    if (i == s->front) memcpy(s->sums_before, s->sums, sum_bytes);
    kernels->chains(p->count, rows, p->first, ahead * plan->shape.output_plane, s->copy + p->copy,
                    plan->step_x * l->lanes, count, offsets, i > 0, s->sums);
  }
  for (int64_t lane = 0; lane < l->lanes && s->front < s->strip_count; ++lane) {
    const pf_block *b = s->chains + lane;
    if (b->images * b->rows * b->columns == l->points) continue;
    for (int64_t k = 0; k < count; ++k) s->sums[k * l->lanes + lane] = s->sums_before[k * l->lanes + lane];
  }
  for (const segment *g = s->segments; g < s->segments + s->segment_count; ++g) {
    kernels->add_chains(count, s->sums, g->begin, g->end, g->accumulate,
                        state->totals + g->slice * state->trainable + begin);
  }
}

/// The first of a filter's list entries whose element isn't below `element`.
static int64_t lower_bound(const run_state *state, int64_t filter, int64_t element) {
  int64_t low = state->starts[filter], length = state->counts[filter];
  while (length > 0) {
    const int64_t half = length / 2;
    if (state->list[low + half] < element) {
      low += half + 1;
      length -= half + 1;
    } else {
      length = half;
    }
  }
  return low;
}

/// The elements of a convolution group's channels `begin` up to `end`.
static void run_channels(const run_state *state, int64_t group, int64_t begin, int64_t end, const scratch *s) {
  const pf_gradient_plan *plan = state->plan;
  const layout *l = state->layout;
  const int64_t filters = plan->shape.group_output_channels, first_channel = group * plan->shape.group_input_channels;
  for (int64_t channel = begin; channel < end; channel += l->channels) {
    const int64_t last = pf_minimum_of(end, channel + l->channels);
    for (int64_t c = channel; c < last; ++c) {
      if (state->active[first_channel + c] == 0) continue;
      int64_t next = c + 1;
      while (next < last && state->active[first_channel + next] == 0) next += 1;
      copy_channel(state, first_channel + c, next - c, s->copy + (c - channel) * l->channel_floats, s);
    }
    for (int64_t filter = group * filters; filter < (group + 1) * filters; ++filter) {
      if (state->counts[filter] == 0) continue;
      const int64_t from = lower_bound(state, filter, channel * plan->taps);
      const int64_t to = lower_bound(state, filter, last * plan->taps);
      int64_t next = filter + 1;
      while (next < (group + 1) * filters && state->counts[next] == 0) next += 1;
      for (int64_t k = from; k < to; k += batch_elements) {
        multiply(state, filter, next - filter, k, pf_minimum_of(batch_elements, to - k), channel * plan->taps, s);
      }
    }
  }
}

/// Items: pieces of the slices, in each the convolution groups, in each the parts of the channels.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  const layout *l = state->layout;
  const pf_convolution_shape *shape = &plan->shape;
  char *memory = state->scratch + part * l->scratch_bytes;
  scratch s = {
      .input =
          {
              .tensor = state->input,
              .count = shape->input_count,
              .last = (plan->problem.input_channels - 1) * shape->input_plane,
              .floats = l->inside_end - l->inside_begin,
              .places = (int64_t *)memory,
          },
      .output_gradient =
          {
              .tensor = state->output_gradient,
              .count = shape->output_count,
              .last = (plan->problem.output_channels - 1) * shape->output_plane,
              .floats = l->run,
          },
  };
  s.output_gradient.places = s.input.places + l->row_count * l->lanes;
  s.strips = (strip *)(s.output_gradient.places + plan->chain.images * l->lanes);
  s.input.rows = (lane_row *)(s.strips + l->most_strips);
  s.output_gradient.rows = s.input.rows + l->row_count;
  s.sums = (float *)(memory + l->table_bytes);
  s.sums_before = s.sums + batch_elements * l->lanes;
  s.stage = s.sums_before + batch_elements * l->lanes;
  s.copy = s.stage + l->lanes * l->stage_floats;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t channel_part = item % l->channel_parts, group = item / l->channel_parts % plan->problem.groups;
    const int64_t piece = item / l->channel_parts / plan->problem.groups;
    const int64_t first = first_chain(plan, pf_piece_begin(plan->slices, piece, l->pieces));
    const int64_t last = first_chain(plan, pf_piece_begin(plan->slices, piece + 1, l->pieces));
    const int64_t channels = plan->shape.group_input_channels;
    for (int64_t chain = first; chain < last; chain += l->lanes) {
      take_chains(state, chain, pf_minimum_of(chain + l->lanes, last), &s);
      run_channels(state, group, pf_piece_begin(channels, channel_part, l->channel_parts),
                   pf_piece_begin(channels, channel_part + 1, l->channel_parts), &s);
    }
  }
}

/// Items: filters. Adds up the slices.
static void finish_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  const pf_filter_window window = pf_gradient_window(plan);
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  float *row = state->rows + part * elements;
  for (int64_t filter = begin; filter < end; ++filter) {
    float *result = state->result + filter * elements, *sums = state->accumulate ? row : result;
    memset(sums, 0, (size_t)elements * sizeof(float));
    for (int64_t k = state->starts[filter]; k < state->starts[filter] + state->counts[filter]; ++k) {
      float total = state->totals[k];
      for (int64_t s = 1; s < plan->slices; ++s) total += state->totals[s * state->trainable + k];
      sums[pf_window_place(&window, state->list[k])] = total;
    }
    if (!state->accumulate) continue;
    plan->kernels->finish_gradient(elements, 1, row, 0, state->mask->bytes + filter * elements, true, result);
  }
}

// MARK: Memory and lists

/// Completes a layout, and a state whose workspace is `memory`, or NULL; returns the workspace's bytes, which grow with
/// `trainable`.
static int64_t prepare(const pf_settings *settings, const pf_gradient_plan *plan, int64_t trainable, layout *l,
                       run_state *state, char *memory) {
  const pf_convolution2d *p = &plan->problem;
  measure(plan, l);
  const double time = share_out(settings, plan, trainable, l);
  const int64_t items = l->pieces * l->channel_parts * p->groups;
  l->parts = pf_parallel_parts(settings, items, 2 * (double)l->lanes * time / (double)items);
  l->finish_parts = pf_parallel_parts(settings, p->output_channels, 8.0 * (double)plan->shape.weight_count /
                                                                        (double)p->output_channels);
  const int64_t rows = l->row_count + plan->chain.images;
  l->table_bytes = pf_aligned_bytes(rows * (l->lanes * (int64_t)sizeof(int64_t) + (int64_t)sizeof(lane_row)) +
                                    l->most_strips * (int64_t)sizeof(strip));
  const int64_t channels = pf_minimum_of(plan->shape.group_input_channels, affordable_channels(l));
  const int64_t floats = l->lanes * (2 * batch_elements + l->stage_floats + l->lanes) + channels * l->channel_floats;
  l->scratch_bytes = pf_part_bytes(l->table_bytes + floats * (int64_t)sizeof(float));
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  int64_t used = 0;
  *state = (run_state){.plan = plan, .layout = l, .trainable = trainable};
  state->scratch = pf_reserve(memory, &used, settings->threads, (size_t)l->scratch_bytes);
  state->zeros = pf_reserve(memory, &used, l->stage_floats, sizeof(float));
  state->offsets = pf_reserve(memory, &used, channels * plan->taps, sizeof(int64_t));
  state->starts = pf_reserve(memory, &used, p->output_channels, sizeof(int64_t));
  state->counts = pf_reserve(memory, &used, p->output_channels, sizeof(int32_t));
  state->list = pf_reserve(memory, &used, trainable, sizeof(int32_t));
  state->active = pf_reserve(memory, &used, p->input_channels, 1);
  const pf_filter_window window = pf_gradient_window(plan);
  state->bytes = pf_reserve(memory, &used, l->finish_parts, (size_t)pf_scan_bytes(&window));
  state->rows = pf_reserve(memory, &used, l->finish_parts * elements, sizeof(float));
  state->totals = pf_reserve(memory, &used, plan->slices * trainable, sizeof(float));
  return used;
}

int64_t pf_chain_gradient_workspace(const pf_settings *settings, const pf_gradient_plan *plan) {
  layout l;
  run_state state;
  measure(plan, &l);
  return applies(plan, &l) ? prepare(settings, plan, most_trainable(plan), &l, &state, NULL) : 0;
}

/// Items: filters. Lists their trainable elements.
static void list_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_gradient_plan *plan = state->plan;
  const pf_filter_window window = pf_gradient_window(plan);
  const int64_t elements = plan->shape.group_input_channels * plan->shape.taps;
  for (int64_t filter = begin; filter < end; ++filter) {
    int32_t *list = state->list + state->starts[filter];
    const int32_t count = pf_gradient_list(state->mask->bytes + filter * elements, &window,
                                           state->bytes + part * pf_scan_bytes(&window), list);
    state->counts[filter] = count;
    uint8_t *active = state->active + filter / plan->shape.group_output_channels * plan->shape.group_input_channels;
    for (int64_t i = 0, channel = 0; i < count; ++i) {
      if (i > 0 && list[i] < channel * plan->taps) continue;
      channel = list[i] / plan->taps + 1;
      __atomic_store_n(active + channel - 1, 1, __ATOMIC_RELAXED);
    }
  }
}

pf_status pf_chain_gradient(const pf_settings *settings, const pf_gradient_plan *plan, const float *input,
                            const float *output_gradient, const pf_gradient_mask *mask, bool accumulate,
                            float *weight_gradient) {
  layout l;
  run_state state;
  char *workspace = pf_memory_allocate((size_t)prepare(settings, plan, mask->trainable, &l, &state, NULL));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  prepare(settings, plan, mask->trainable, &l, &state, workspace);
  state.input = input;
  state.output_gradient = output_gradient;
  state.mask = mask;
  state.accumulate = accumulate;
  state.result = weight_gradient;
  memset(state.zeros, 0, (size_t)l.stage_floats * sizeof(float));
  const pf_axis *y = &plan->frame.y, *x = &plan->frame.x;
  for (int64_t k = 0; k < l.channels * plan->taps; ++k) {
    const int64_t i = k % plan->taps / x->taps, j = k % x->taps;
    state.offsets[k] = k / plan->taps * l.channel_floats + (i * y->tap_step * l.columns + j * x->tap_step) * l.lanes;
  }
  memset(state.active, 0, (size_t)plan->problem.input_channels);
  for (int64_t filter = 0, used = 0; filter < plan->problem.output_channels; ++filter) {
    state.starts[filter] = used;
    used += mask->counts[filter];
  }
  pf_parallel_in(l.finish_parts, plan->problem.output_channels, list_range, &state);
  pf_parallel_in(l.parts, l.pieces * l.channel_parts * plan->problem.groups, run_range, &state);
  pf_parallel_in(l.finish_parts, plan->problem.output_channels, finish_range, &state);
  pf_memory_release(workspace);
  return pf_ok;
}
