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

enum { most_taps = 9 };

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
  const int64_t scan = lists_bytes(p) + p->input_channels / p->groups * taps_of(p) + p->output_channels / p->groups;
  const int64_t tap = p->output_channels * (p->input_channels / p->groups) * ((int64_t)sizeof(float) + 1);
  return pf_aligned_bytes(pf_maximum_of(scan, tap));
}

/// Lists the places of `count` rows of `width` bytes, first those of rows that aren't all 0; returns how many these
/// are.
static int64_t list_first(const uint8_t *bytes, int64_t count, int64_t width, int32_t *list) {
  int64_t first = 0, last = count;
  for (int64_t k = 0; k < count; ++k) {
    uint8_t any = 0;
    for (int64_t i = 0; i < width; ++i) any |= bytes[k * width + i];
    if (any != 0) {
      list[first++] = (int32_t)k;
    } else {
      list[--last] = (int32_t)k;
    }
  }
  return first;
}

/// Reads a mask; `memory` is a block of pf_winograd_mask_bytes, in which the lists stay.
static remainder read_mask(const pf_convolution2d *p, const uint8_t *mask, char *memory) {
  const int64_t channels = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const int64_t taps = taps_of(p), filter = channels * taps;
  int32_t *channel_list = (int32_t *)memory, *output_list = channel_list + p->input_channels;
  uint8_t *elements = (uint8_t *)memory + lists_bytes(p), *filters = elements + filter;
  remainder result = {.selection = {.channel_list = channel_list, .output_list = output_list}, .tap = -1};
  int32_t tap_count = 0;
  uint8_t by_tap[most_taps] = {0};
  for (int64_t group = 0; group < p->groups; ++group) {
    memset(elements, 0, (size_t)filter);
    for (int64_t o = 0; o < outputs; ++o, mask += filter) {
      uint8_t any = 0;
      for (int64_t k = 0; k < filter; ++k) {
        elements[k] |= mask[k];
        any |= mask[k];
      }
      filters[o] = any;
    }
    int64_t needed = 0;
    for (int64_t k = 0; k < filter; ++k) {
      needed += elements[k] != 0;
      by_tap[k % taps] |= elements[k];
    }
    const int64_t group_channels = list_first(elements, channels, taps, channel_list + group * channels);
    const int64_t group_outputs = list_first(filters, outputs, 1, output_list + group * outputs);
    result.selection.channels = pf_maximum_of(result.selection.channels, group_channels);
    result.selection.outputs = pf_maximum_of(result.selection.outputs, group_outputs);
    result.most_work += (double)needed * (double)group_outputs / ((double)filter * (double)outputs * (double)p->groups);
  }
  for (int32_t i = 0; i < taps; ++i) {
    if (by_tap[i] == 0) continue;
    result.tap = i;
    tap_count += 1;
  }
  if (tap_count != 1) result.tap = -1;
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

/// The gradient of one tap of each kernel, which reads the input as it is; the others are frozen.
static pf_status tap_gradient(const pf_context *context, const pf_convolution2d *p, int32_t tap, const float *input,
                              const float *output_gradient, const uint8_t *mask, pf_writing writing,
                              float *weight_gradient, char *memory) {
  const int64_t taps = taps_of(p), kernels = p->output_channels * (p->input_channels / p->groups);
  float *values = (float *)memory;
  uint8_t *tap_mask = (uint8_t *)(values + kernels);
  for (int64_t k = 0; k < kernels; ++k) tap_mask[k] = mask[k * taps + tap];
  const pf_convolution2d pointwise = pf_winograd_tap_problem(p);
  PF_TRY(pf_convolution2d_weight_gradient(context, &pointwise, input, output_gradient, tap_mask, pf_overwrite, values));
  for (int64_t k = 0; k < kernels; ++k, weight_gradient += taps) {
    const float before = writing == pf_accumulate ? weight_gradient[tap] : 0.0f;
    memset(weight_gradient, 0, (size_t)taps * sizeof(float));
    weight_gradient[tap] = tap_mask[k] == 0 ? 0.0f : writing == pf_accumulate ? before + values[k] : values[k];
  }
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
  const remainder left = read_mask(problem, mask->bytes, memory);
  double direct;
  pf_status status = direct_time(settings, problem, shape, &left, mask->trainable, &direct);
  if (status != pf_ok) {
    pf_memory_release(memory);
    return status;
  }
  if (left.tap >= 0 && reads_input(problem, left.tap)) {
    status = tap_gradient(context, problem, left.tap, input, output_gradient, mask->bytes, writing, weight_gradient,
                          memory);
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
