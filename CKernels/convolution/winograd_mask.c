// A masked weight gradient where Winograd's algorithm runs without a mask. What the mask leaves decides:
//   few elements frozen     everything is computed, and what is frozen is cleared;
//   filters, channels gone  Winograd's algorithm for those that are left;
//   one tap left            where that tap reads the input as it is, a 1x1 kernel's gradient;
//   few elements left       the direct algorithm, which computes no others.

#include "convolution/chain_gradient.h"
#include "convolution/dot_gradient.h"
#include "convolution/plan.h"
#include "convolution/winograd.h"

#include <string.h>

// What a byte of a mask that is read, and a float that is written, is worth in floating-point operations.
static const double byte_operations = 8, float_operations = 16;

// The share of frozen elements up to which looking for structure can't pay.
static const double least_frozen = 1.0 / 16;

/// What a mask leaves.
typedef struct remainder {
  pf_winograd_selection selection;
  double most_work;  // of the elements, if each filter that is left needed what any does
  int32_t tap;       // the only one that is left, or -1
} remainder;

static int64_t taps_of(const pf_convolution2d *p) { return p->kernel_height * p->kernel_width; }

static int64_t lists_bytes(const pf_convolution2d *p) {
  return pf_aligned_bytes((p->input_channels + p->output_channels) * (int64_t)sizeof(int32_t));
}

int64_t pf_winograd_mask_bytes(const pf_convolution2d *p) {
  const int64_t scan = lists_bytes(p) + p->input_channels / p->groups * taps_of(p);
  const int64_t tap = p->output_channels * (p->input_channels / p->groups) * ((int64_t)sizeof(float) + 1);
  return pf_aligned_bytes(pf_maximum_of(scan, tap));
}

typedef struct reading {
  const pf_gradient_mask *mask;
  int64_t first_filter, filters;  // of a group
  int64_t taps, elements;         // of a filter
  uint8_t *needed;                // by element, whether any filter needs it
} reading;

/// Items: input channels of a group.
static void read_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const reading *r = argument;
  const int64_t count = (end - begin) * r->taps;
  uint8_t *needed = r->needed + begin * r->taps;
  memset(needed, 0, (size_t)count);
  for (int64_t filter = r->first_filter; filter < r->first_filter + r->filters; ++filter) {
    if (r->mask->counts[filter] == 0) continue;
    const uint8_t *mask = r->mask->bytes + filter * r->elements + begin * r->taps;
    for (int64_t k = 0; k < count; ++k) needed[k] |= mask[k];
  }
}

/// Reads a mask; `memory` is a block of pf_winograd_mask_bytes, in which the lists stay.
static remainder read_mask(const pf_settings *settings, const pf_convolution2d *p, const pf_gradient_mask *mask,
                           char *memory) {
  const int64_t channels = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const int32_t taps = (int32_t)taps_of(p);
  int32_t *channel_list = (int32_t *)memory, *output_list = channel_list + p->input_channels;
  remainder result = {.selection = {.channel_list = channel_list, .output_list = output_list}, .tap = -1};
  reading r = {.mask = mask, .filters = outputs, .taps = taps, .elements = channels * taps};
  r.needed = (uint8_t *)memory + lists_bytes(p);
  uint32_t all_taps = 0;
  for (int64_t group = 0; group < p->groups; ++group) {
    r.first_filter = group * outputs;
    pf_parallel(settings, channels, byte_operations * (double)(outputs * taps), read_range, &r);
    int64_t needed = 0, first_channel = 0, last_channel = channels, first_output = 0, last_output = outputs;
    for (int64_t c = 0; c < channels; ++c) {
      uint32_t channel_taps = 0;
      for (int32_t i = 0; i < taps; ++i) channel_taps |= (uint32_t)(r.needed[c * taps + i] != 0) << i;
      channel_list[channel_taps != 0 ? first_channel++ : --last_channel] = (int32_t)c;
      needed += __builtin_popcount(channel_taps);
      all_taps |= channel_taps;
    }
    for (int64_t o = 0; o < outputs; ++o) {
      output_list[mask->counts[r.first_filter + o] != 0 ? first_output++ : --last_output] = (int32_t)o;
    }
    channel_list += channels;
    output_list += outputs;
    result.selection.channels = pf_maximum_of(result.selection.channels, first_channel);
    result.selection.outputs = pf_maximum_of(result.selection.outputs, first_output);
    result.most_work += (double)needed * (double)first_output / ((double)r.elements * (double)p->output_channels);
  }
  if (__builtin_popcount(all_taps) == 1) result.tap = __builtin_ctz(all_taps);
  return result;
}

typedef struct clearing {
  const pf_gradient_mask *mask;
  int64_t elements;  // of a filter
  float *floats;
} clearing;

/// Items: filters.
static void clear_frozen(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const clearing *c = argument;
  for (int64_t filter = begin; filter < end; ++filter) {
    if (c->mask->counts[filter] == c->elements) continue;
    const uint8_t *mask = c->mask->bytes + filter * c->elements;
    float *floats = c->floats + filter * c->elements;
    for (int64_t i = 0; i < c->elements;) {
      const int64_t stop = pf_minimum_of(c->elements, i + 128);
      uint8_t any = 0;
      for (int64_t k = i; k < stop; ++k) any |= mask[k] == 0;
      for (; any != 0 && i < stop; ++i) {
        if (mask[i] == 0) floats[i] = 0;
      }
      i = stop;
    }
  }
}

/// Whether a tap reads just the input's planes, element by element of the output.
static bool reads_input(const pf_convolution2d *p, int32_t tap) {
  const int64_t width = p->kernel_width;
  return p->padding_top == tap / width * p->dilation_height && p->padding_left == tap % width * p->dilation_width &&
         p->padding_top + p->padding_bottom == (p->kernel_height - 1) * p->dilation_height &&
         p->padding_left + p->padding_right == (width - 1) * p->dilation_width;
}

pf_convolution2d pf_winograd_tap_problem(const pf_convolution2d *problem) {
  pf_convolution2d pointwise = *problem;
  pointwise.kernel_height = pointwise.kernel_width = pointwise.dilation_height = pointwise.dilation_width = 1;
  pointwise.padding_top = pointwise.padding_bottom = pointwise.padding_left = pointwise.padding_right = 0;
  return pointwise;
}

typedef struct tap_run {
  int64_t channels, taps;  // of a filter
  int32_t tap;
  const uint8_t *mask;
  uint8_t *tap_mask;
  float *values, *result;
  bool accumulate;
} tap_run;

/// Items: filters.
static void take_tap_mask(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const tap_run *r = argument;
  const int64_t taps = r->taps;
  const uint8_t *mask = r->mask + r->tap;
  uint8_t *tap_mask = r->tap_mask;
  for (int64_t k = begin * r->channels; k < end * r->channels; ++k) tap_mask[k] = mask[k * taps];
}

/// Items: filters.
static void put_tap(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const tap_run *r = argument;
  const int64_t taps = r->taps;
  for (int64_t filter = begin; filter < end; ++filter) {
    float *values = r->values + filter * r->channels, *result = r->result + filter * r->channels * taps;
    float *places = result + r->tap;
    if (r->accumulate) {
      const uint8_t *mask = r->tap_mask + filter * r->channels;
      for (int64_t c = 0; c < r->channels; ++c) values[c] = mask[c] != 0 ? places[c * taps] + values[c] : 0.0f;
    }
    memset(result, 0, (size_t)(r->channels * taps) * sizeof(float));
    for (int64_t c = 0; c < r->channels; ++c) places[c * taps] = values[c];
  }
}

/// The gradient of one tap of each kernel, which reads the input as it is; the others are frozen.
static pf_status tap_gradient(const pf_context *context, const pf_settings *settings, const pf_convolution2d *p,
                              int32_t tap, const float *input, const float *output_gradient, const uint8_t *mask,
                              pf_writing writing, float *weight_gradient, char *memory) {
  const int64_t channels = p->input_channels / p->groups, kernels = p->output_channels * channels;
  float *values = (float *)memory;
  tap_run r = {
      .channels = channels,
      .taps = taps_of(p),
      .tap = tap,
      .mask = mask,
      .tap_mask = (uint8_t *)(values + kernels),
      .values = values,
      .accumulate = writing == pf_accumulate,
      .result = weight_gradient,
  };
  const double elements = (double)(channels * r.taps);
  pf_parallel(settings, p->output_channels, byte_operations * elements, take_tap_mask, &r);
  const pf_convolution2d pointwise = pf_winograd_tap_problem(p);
  PF_TRY(
      pf_convolution2d_weight_gradient(context, &pointwise, input, output_gradient, r.tap_mask, pf_overwrite, values));
  pf_parallel(settings, p->output_channels, float_operations * elements, put_tap, &r);
  return pf_ok;
}

/// The direct algorithm's time for what a mask leaves, relative to that for everything: on one thread, since the
/// algorithm, and so the result's bits, may not depend on how many there are.
static pf_status direct_time(const pf_settings *settings, const pf_convolution2d *problem,
                             const pf_convolution_shape *shape, const remainder *left, int64_t trainable,
                             double *time) {
  *time = left->most_work;
  if (pf_dot_gradient_applies(shape)) return pf_ok;
  pf_settings alone = *settings;
  alone.threads = 1;
  pf_gradient_plan plan;
  PF_TRY(pf_gradient_prepare(&alone, problem, shape, &plan));
  const double scattered = pf_chain_gradient_time(&alone, &plan, trainable);
  if (scattered < *time) *time = scattered;
  return pf_ok;
}

pf_status pf_winograd_masked_gradient(const pf_context *context, const pf_settings *settings,
                                      const pf_convolution2d *problem, const pf_convolution_shape *shape, int32_t tile,
                                      const float *input, const float *output_gradient, const pf_gradient_mask *mask,
                                      const pf_plane_sums *plane_sums, pf_writing writing, float *weight_gradient,
                                      bool *done) {
  const int64_t channels = problem->input_channels / problem->groups;
  const int64_t outputs = problem->output_channels / problem->groups, count = shape->weight_count;
  const int64_t frozen = mask == NULL ? 0 : count - mask->trainable;
  *done = true;
  if ((double)frozen <= least_frozen * (double)count) {
    PF_TRY(pf_winograd_weight_gradient(settings, problem, tile, input, output_gradient, NULL, NULL, plane_sums,
                                       writing, weight_gradient));
    if (frozen > 0) {
      clearing c = {.mask = mask, .elements = count / problem->output_channels, .floats = weight_gradient};
      pf_parallel(settings, problem->output_channels, 4.0 * (double)c.elements, clear_frozen, &c);
    }
    return pf_ok;
  }
  char *memory = pf_memory_allocate((size_t)pf_winograd_mask_bytes(problem));
  PF_REQUIRE(memory != NULL, pf_error_memory);
  const remainder left = read_mask(settings, problem, mask, memory);
  double direct;
  pf_status status = direct_time(settings, problem, shape, &left, mask->trainable, &direct);
  if (status != pf_ok) {
    pf_memory_release(memory);
    return status;
  }
  if (left.tap >= 0 && reads_input(problem, left.tap)) {
    status = tap_gradient(context, settings, problem, left.tap, input, output_gradient, mask->bytes, writing,
                          weight_gradient, memory);
  } else if (direct < pf_plan_masked_winograd(settings, problem, (pf_algorithm)tile, left.selection.channels,
                                              left.selection.outputs)) {
    *done = false;
  } else {
    const bool all = left.selection.channels == channels && left.selection.outputs == outputs;
    status = pf_winograd_weight_gradient(settings, problem, tile, input, output_gradient, mask->bytes,
                                         all ? NULL : &left.selection, NULL, writing, weight_gradient);
  }
  pf_memory_release(memory);
  return status;
}
