#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_attempts = 32 };

typedef enum block {
  block_input, block_weight, block_bias, block_output_gradient,  // clean operands
  block_masked_input, block_masked_output_gradient,              // for the masked weight gradient, poisoned
  block_masked_bias_output_gradient,                             // for the masked bias gradient, poisoned
  block_weight_mask, block_bias_mask,
  block_count,
} block;

enum { result_forward, result_input_gradient, result_weight_gradient, result_bias_gradient, result_count };

typedef struct task {
  ref_checker *checker;
  ref_convolution problem;
  int64_t output_height, output_width;
  int64_t input_count, weight_count, output_count;
  ref_guarded blocks[block_count];
  bool has_bias;
  double *reference[result_count], *magnitude[result_count];
  float *initial;  // what gradients accumulate onto; as long as the largest
} task;

static float *floats(const task *t, block which) { return (float *)(void *)t->blocks[which].data; }
static uint8_t *mask_bytes(const task *t, block which) { return t->blocks[which].data; }

static int64_t result_elements(const task *t, int result) {
  const int64_t counts[] = {t->output_count, t->input_count, t->weight_count, t->problem.output_channels};
  return counts[result];
}

// MARK: Features

static const char *const feature_names[ref_feature_count] = {
    "pointwise", "strided pointwise", "depthwise", "depth multiplier", "grouped", "strided", "stride over kernel",
    "dilated", "asymmetric padding", "padding over kernel", "kernel over image", "one-dimensional", "same 3x3",
    "few channels", "odd channels", "many channels", "many pixels", "single image", "empty batch",
    "depthwise 3x3 on single rows or columns", "depthwise 3x3 with stride 2 on tall planes",
    "kernel of one column, padding on one side", "kernel of one column, as many columns by steps into padding",
    "mask: scattered", "mask: filters", "mask: channels", "mask: taps", "mask: all frozen", "mask: none frozen",
    "mask: one frozen", "mask: one trainable", "poisoned"};

const char *ref_feature_name(ref_feature feature) {
  return feature >= 0 && feature < ref_feature_count ? feature_names[feature] : "unknown";
}

static void count_features(ref_report *report, const ref_convolution *p) {
  bool pointwise = p->kernel_height == 1 && p->kernel_width == 1;
  bool strided = p->stride_height > 1 || p->stride_width > 1;
  bool dilated = (p->dilation_height > 1 && p->kernel_height > 1) || (p->dilation_width > 1 && p->kernel_width > 1);
  bool depthwise = p->groups > 1 && p->groups == p->input_channels;
  bool around = p->kernel_height == 3 && p->kernel_width == 3 && !dilated && p->padding_top == 1 &&
                p->padding_bottom == 1 && p->padding_left == 1 && p->padding_right == 1;
  bool one_column = p->kernel_width == 1 && p->kernel_height > 1;
  int64_t output_pixels = ref_output_height(p) * ref_output_width(p);
  int64_t *count = report->features;
  count[ref_feature_pointwise] += pointwise;
  count[ref_feature_strided_pointwise] += pointwise && strided;
  count[ref_feature_depthwise] += depthwise;
  count[ref_feature_multiplier] += depthwise && p->output_channels > p->groups;
  count[ref_feature_grouped] += p->groups > 1 && !depthwise;
  count[ref_feature_strided] += strided;
  count[ref_feature_stride_over_kernel] += p->stride_height > p->kernel_height && p->stride_width > p->kernel_width;
  count[ref_feature_dilated] += dilated;
  count[ref_feature_asymmetric_padding] += p->padding_top != p->padding_bottom || p->padding_left != p->padding_right;
  count[ref_feature_padding_over_kernel] += p->padding_top >= p->kernel_height || p->padding_left >= p->kernel_width;
  count[ref_feature_kernel_over_image] += p->kernel_height > p->input_height && p->kernel_width > p->input_width;
  count[ref_feature_one_dimensional] += p->input_height == 1 || p->input_width == 1;
  count[ref_feature_same_3x3] += around && !strided;
  count[ref_feature_few_channels] += p->input_channels <= 4;
  count[ref_feature_odd_channels] += p->input_channels % 2 == 1 && p->output_channels % 2 == 1;
  count[ref_feature_many_channels] += p->input_channels > 64 || p->output_channels > 64;
  count[ref_feature_many_pixels] += p->batch * output_pixels > 1000;
  count[ref_feature_single_image] += p->batch == 1;
  count[ref_feature_empty_batch] += p->batch == 0;
  count[ref_feature_line_depthwise] += depthwise && around && (p->input_height == 1 || p->input_width == 1);
  count[ref_feature_tall_strided_depthwise] +=
      depthwise && around && p->stride_height == 2 && p->stride_width == 2 && ref_output_height(p) > 64;
  count[ref_feature_one_column_one_side] += one_column && (p->padding_left > 0) != (p->padding_right > 0);
  count[ref_feature_one_column_of_zeros] +=
      one_column && p->padding_left == 0 && p->stride_width > 1 && ref_output_width(p) == p->input_width;
}

static void describe(const ref_convolution *p, char *text, size_t capacity) {
#define LL(field) (long long)p->field
  snprintf(text, capacity,
           "convolution: batch %lld, input %lldx%lldx%lld, output channels %lld, kernel %lldx%lld, stride %lldx%lld, "
           "padding %lld,%lld,%lld,%lld (top, bottom, left, right), dilation %lldx%lld, groups %lld",
           LL(batch), LL(input_channels), LL(input_height), LL(input_width), LL(output_channels), LL(kernel_height),
           LL(kernel_width), LL(stride_height), LL(stride_width), LL(padding_top), LL(padding_bottom),
           LL(padding_left), LL(padding_right), LL(dilation_height), LL(dilation_width), LL(groups));
#undef LL
}

// MARK: Reach

/// Along one axis: whether output position y, through tap i, meets an input element; it is then y * stride + i *
/// dilation
/// - padding.
typedef struct axis {
  int64_t input, kernel, output, stride, dilation, padding;
} axis;

static axis vertical(const task *t) {
  const ref_convolution *p = &t->problem;
  return (axis){p->input_height, p->kernel_height, t->output_height, p->stride_height, p->dilation_height,
                p->padding_top};
}

static axis horizontal(const task *t) {
  const ref_convolution *p = &t->problem;
  return (axis){p->input_width, p->kernel_width, t->output_width, p->stride_width, p->dilation_width, p->padding_left};
}

/// How many of the axis's output positions, input positions and taps take part in any product.
static void count_reached(const axis *a, int64_t reached[3]) {
  size_t bytes = (size_t)(a->output + a->input + a->kernel);
  bool *output = memset(ref_allocate(bytes), 0, bytes), *input = output + a->output, *tap = input + a->input;
  for (int64_t y = 0; y < a->output; y++)
    for (int64_t i = 0; i < a->kernel; i++) {
      int64_t x = y * a->stride + i * a->dilation - a->padding;
      if (x >= 0 && x < a->input) output[y] = input[x] = tap[i] = true;
    }
  reached[0] = reached[1] = reached[2] = 0;
  for (int64_t k = 0; k < a->output; k++) reached[0] += output[k];
  for (int64_t k = 0; k < a->input; k++) reached[1] += input[k];
  for (int64_t k = 0; k < a->kernel; k++) reached[2] += tap[k];
  free(output);
}

/// Whether most elements that receive any product are 0 all the same.
static bool mostly_zero(const task *t) {
  const ref_convolution *p = &t->problem;
  axis rows = vertical(t), columns = horizontal(t);
  int64_t by_row[3], by_column[3];
  count_reached(&rows, by_row);
  count_reached(&columns, by_column);
  const int64_t planes[] = {p->batch * p->output_channels, p->batch * p->input_channels,
                            p->batch ? p->output_channels * (p->input_channels / p->groups) : 0};
  for (int result = 0; result < result_bias_gradient; result++) {
    int64_t reached = planes[result] * by_row[result] * by_column[result], elements = result_elements(t, result);
    int64_t nonzero = 0;
    for (int64_t k = 0; k < elements; k++) nonzero += t->reference[result][k] != 0;
    if (nonzero * 2 < reached) return true;
  }
  return false;
}

// MARK: Operands

static void compute_reference(const task *t, const float *const operands[4], double *const results[result_count]) {
  const ref_convolution *p = &t->problem;
  const float *input = operands[block_input], *weight = operands[block_weight];
  const float *output_gradient = operands[block_output_gradient];
  ref_convolution_forward(p, input, weight, t->has_bias ? operands[block_bias] : NULL, results[result_forward]);
  ref_convolution_input_gradient(p, output_gradient, weight, results[result_input_gradient]);
  ref_convolution_weight_gradient(p, input, output_gradient, results[result_weight_gradient]);
  ref_convolution_bias_gradient(p, output_gradient, results[result_bias_gradient]);
}

static void draw_operands(task *t) {
  ref_checker *checker = t->checker;
  const int64_t counts[] = {t->input_count, t->weight_count, t->problem.output_channels, t->output_count};
  const int64_t limit = ref_exact_limit(ref_longest_sum(&t->problem));
  const int64_t limits[] = {limit, limit, ref_initial_limit, limit};
  const float *clean[4];
  for (block b = block_input; b <= block_output_gradient; b++)
    clean[b] = ref_guarded_place(&t->blocks[b], (size_t)counts[b] * sizeof(float), checker->side);
  int attempts = 0;
  do {
    for (block b = block_input; b <= block_output_gradient; b++)
      ref_draw_values(checker, floats(t, b), counts[b], limits[b]);
    compute_reference(t, clean, t->reference);
  } while (mostly_zero(t) && ++attempts < most_attempts);
  checker->report.mistrusted += attempts == most_attempts;

  if (checker->check->data == ref_data_fractions) {
    float *absolute[4];
    for (block b = block_input; b <= block_output_gradient; b++) absolute[b] = ref_absolute_values(clean[b], counts[b]);
    compute_reference(t, (const float *const *)absolute, t->magnitude);
    for (block b = block_input; b <= block_output_gradient; b++) free(absolute[b]);
  }
  int64_t longest = 0;
  for (int result = result_input_gradient; result < result_count; result++)
    if (result_elements(t, result) > longest) longest = result_elements(t, result);
  t->initial = ref_allocate((size_t)longest * sizeof *t->initial);
  ref_draw_values(checker, t->initial, longest, ref_initial_limit);
}

// MARK: Masks

/// So many that a few scattered ones are worth computing by themselves.
enum { ref_many_weights = 4000 };

static void draw_weight_mask(task *t) {
  ref_checker *checker = t->checker;
  ref_random *random = &checker->random;
  const ref_convolution *p = &t->problem;
  int64_t filters = p->output_channels, channels = p->input_channels / p->groups;
  int64_t taps = p->kernel_height * p->kernel_width;
  uint8_t *mask = ref_guarded_place(&t->blocks[block_weight_mask], (size_t)t->weight_count, checker->side);
  ref_feature kind = (ref_feature)ref_random_between(random, ref_feature_mask_scattered, ref_feature_mask_all_but_one);
  bool few = t->weight_count >= ref_many_weights && !ref_random_once_in(random, 4);
  if (few) kind = ref_feature_mask_scattered;
  checker->report.features[kind]++;
  switch (kind) {
    case ref_feature_mask_scattered:
      ref_draw_mask(random, few ? ref_scatter_few : ref_scatter_some, mask, t->weight_count);
      if (ref_random_once_in(random, 4)) {
        // Some neighbouring filters are trainable as a whole.
        int64_t first = ref_random_between(random, 0, filters - 1), last = ref_random_between(random, first, filters);
        memset(mask + first * channels * taps, 1, (size_t)((last - first) * channels * taps));
      }
      return;
    case ref_feature_mask_all: ref_draw_mask(random, ref_scatter_all, mask, t->weight_count); return;
    case ref_feature_mask_none: ref_draw_mask(random, ref_scatter_none, mask, t->weight_count); return;
    case ref_feature_mask_one: ref_draw_mask(random, ref_scatter_one, mask, t->weight_count); return;
    case ref_feature_mask_all_but_one: ref_draw_mask(random, ref_scatter_all_but_one, mask, t->weight_count); return;
    default: break;
  }
  // One drawn mask along the filters, the input channels or the taps, the same along the other axes.
  int64_t length = kind == ref_feature_mask_filters ? filters : kind == ref_feature_mask_channels ? channels : taps;
  uint8_t *line = ref_allocate((size_t)length);
  ref_draw_mask(random, ref_scatter_some, line, length);
  for (int64_t o = 0, k = 0; o < filters; o++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t tap = 0; tap < taps; tap++, k++)
        mask[k] = line[kind == ref_feature_mask_filters ? o : kind == ref_feature_mask_channels ? c : tap];
  free(line);
}

static bool all_frozen(const uint8_t *mask, int64_t count) {
  for (int64_t k = 0; k < count; k++)
    if (mask[k]) return false;
  return true;
}

/// Whether every weight that input channel `channel` meets is frozen.
static bool channel_frozen(const task *t, int64_t channel) {
  const ref_convolution *p = &t->problem;
  int64_t group_inputs = p->input_channels / p->groups, group_outputs = p->output_channels / p->groups;
  int64_t first = channel / group_inputs * group_outputs, taps = p->kernel_height * p->kernel_width;
  const uint8_t *mask = mask_bytes(t, block_weight_mask);
  for (int64_t o = first; o < first + group_outputs; o++)
    for (int64_t tap = 0; tap < taps; tap++)
      if (mask[(o * group_inputs + channel % group_inputs) * taps + tap]) return false;
  return true;
}

/// Poisons a quarter of channel `channel` of a tensor of batch x channels x pixels.
static void poison_channel(task *t, block which, int64_t channels, int64_t pixels, int64_t channel) {
  ref_random *random = &t->checker->random;
  for (int64_t n = 0; n < t->problem.batch; n++)
    for (int64_t pixel = 0; pixel < pixels; pixel++)
      if (ref_random_once_in(random, 4)) {
        floats(t, which)[(n * channels + channel) * pixels + pixel] = ref_draw_poison(random);
        t->checker->report.poisoned++;
      }
}

/// Poisons what reaches frozen weights alone: input channels and filters that are frozen whole. (An element of a
/// channel counts as reaching all of its taps: a kernel may multiply it by the zeros around the output gradient.)
static void poison_weight_gradient(task *t) {
  const ref_convolution *p = &t->problem;
  const uint8_t *mask = mask_bytes(t, block_weight_mask);
  int64_t filter = t->weight_count / p->output_channels;
  for (int64_t c = 0; c < p->input_channels; c++)
    if (channel_frozen(t, c))
      poison_channel(t, block_masked_input, p->input_channels, p->input_height * p->input_width, c);
  for (int64_t o = 0; o < p->output_channels; o++)
    if (all_frozen(mask + o * filter, filter))
      poison_channel(t, block_masked_output_gradient, p->output_channels, t->output_height * t->output_width, o);
}

static void poison_bias_gradient(task *t) {
  const ref_convolution *p = &t->problem;
  for (int64_t o = 0; o < p->output_channels; o++)
    if (!mask_bytes(t, block_bias_mask)[o])
      poison_channel(t, block_masked_bias_output_gradient, p->output_channels, t->output_height * t->output_width, o);
}

static void copy_block(task *t, block from, block to) {
  size_t bytes = t->blocks[from].bytes;
  memcpy(ref_guarded_place(&t->blocks[to], bytes, t->checker->side), t->blocks[from].data, bytes);
}

static void draw_masks(task *t) {
  ref_checker *checker = t->checker;
  const ref_convolution *p = &t->problem;
  draw_weight_mask(t);
  uint8_t *bias_mask = ref_guarded_place(&t->blocks[block_bias_mask], (size_t)p->output_channels, checker->side);
  ref_scatter scatter = (ref_scatter)ref_random_between(&checker->random, ref_scatter_none, ref_scatter_all_but_one);
  ref_draw_mask(&checker->random, scatter, bias_mask, p->output_channels);

  copy_block(t, block_input, block_masked_input);
  copy_block(t, block_output_gradient, block_masked_output_gradient);
  copy_block(t, block_output_gradient, block_masked_bias_output_gradient);
  int64_t before = checker->report.poisoned;
  poison_weight_gradient(t);
  poison_bias_gradient(t);
  checker->report.features[ref_feature_poisoned] += checker->report.poisoned > before;
}

// MARK: Calls

static int32_t forward(const task *t, const ref_context *context, int32_t activation, float *result) {
  return t->checker->kernels->forward(context, &t->problem, activation, floats(t, block_input), floats(t, block_weight),
                                      t->has_bias ? floats(t, block_bias) : NULL, result);
}

static int32_t invoke_forward(const void *state, const ref_context *context, const uint8_t *mask, bool accumulate,
                              float *result) {
  (void)mask, (void)accumulate;
  const task *t = state;
  return forward(t, context, ref_activation_none, result);
}

static int32_t invoke_input_gradient(const void *state, const ref_context *context, const uint8_t *mask,
                                     bool accumulate, float *result) {
  (void)mask;
  const task *t = state;
  return t->checker->kernels->input_gradient(context, &t->problem, floats(t, block_output_gradient),
                                             floats(t, block_weight), accumulate, result);
}

static int32_t invoke_weight_gradient(const void *state, const ref_context *context, const uint8_t *mask,
                                      bool accumulate, float *result) {
  const task *t = state;
  return t->checker->kernels->weight_gradient(
      context, &t->problem, floats(t, mask ? block_masked_input : block_input),
      floats(t, mask ? block_masked_output_gradient : block_output_gradient), mask, accumulate, result);
}

static int32_t invoke_bias_gradient(const void *state, const ref_context *context, const uint8_t *mask,
                                    bool accumulate, float *result) {
  const task *t = state;
  return t->checker->kernels->bias_gradient(
      context, &t->problem, floats(t, mask ? block_masked_bias_output_gradient : block_output_gradient), mask,
      accumulate, result);
}

// MARK: Algorithms

static void count_algorithm(ref_report *report, const char *name, int pass) {
  int entry = 0;
  while (entry < ref_algorithm_limit - 1 && report->algorithms[entry].name &&
         strcmp(report->algorithms[entry].name, name) != 0)
    entry++;
  report->algorithms[entry].name = name;
  report->algorithms[entry].passes[pass]++;
}

static double largest(const task *t, block which) {
  const float *values = floats(t, which);
  const int64_t count = (int64_t)(t->blocks[which].bytes / sizeof(float));
  double most = 0;
  for (int64_t k = 0; k < count; k++) most = fmax(most, fabs((double)values[k]));
  return most;
}

/// Sets what error a pass is allowed: a direct algorithm's, unless the kernels name another that has a bound.
static void allow(task *t, int32_t isa, int pass, ref_result *result) {
  ref_checker *checker = t->checker;
  const ref_context context = {checker->threads, checker->check->numerics, isa};
  const char *name = checker->kernels->algorithm(&context, &t->problem, pass);
  count_algorithm(&checker->report, name, pass);
  if (strcmp(name, "direct") == 0 || strcmp(name, "depthwise") == 0) return;
  int32_t rows = 0, columns = 0;
  sscanf(name, "winograd %dx%d", &rows, &columns);
  const ref_fast_bound bound = ref_winograd_bound_of(&t->problem, rows, columns);
  if (bound.roundings == 0) return ref_checker_fail(checker, isa, "  no bound is known for algorithm '%s'", name);
  const double input = largest(t, block_input), weight = largest(t, block_weight);
  const double output_gradient = largest(t, block_output_gradient);
  const double magnitudes[] = {bound.forward * input * weight + (t->has_bias ? largest(t, block_bias) : 0),
                               bound.input_gradient * output_gradient * weight,
                               bound.weight_gradient * input * output_gradient};
  result->exact = false;
  const int64_t terms[] = {bound.forward_terms, bound.input_gradient_terms, bound.weight_gradient_terms};
  result->terms = terms[pass] + bound.roundings;
  result->magnitude = NULL;
  result->largest_magnitude = magnitudes[pass];
}

static ref_result result_of(const task *t, int which) {
  const ref_convolution *p = &t->problem;
  static const char *const names[] = {"forward", "input gradient", "weight gradient", "bias gradient"};
  ref_result r = {.name = names[which], .rows = 1, .columns = result_elements(t, which), .axes = 4,
                  .reference = t->reference[which], .magnitude = t->magnitude[which],
                  .exact = t->checker->check->data == ref_data_integers, .terms = ref_longest_sum(p) + 1,
                  .state = t};
  r.stride = r.columns;
  switch (which) {
    case result_forward:
      r.invoke = invoke_forward;
      memcpy(r.shape, (int64_t[]){p->batch, p->output_channels, t->output_height, t->output_width}, sizeof r.shape);
      break;
    case result_input_gradient:
      r.invoke = invoke_input_gradient;
      memcpy(r.shape, (int64_t[]){p->batch, p->input_channels, p->input_height, p->input_width}, sizeof r.shape);
      break;
    case result_weight_gradient:
      r.invoke = invoke_weight_gradient;
      memcpy(r.shape, (int64_t[]){p->output_channels, p->input_channels / p->groups, p->kernel_height, p->kernel_width},
             sizeof r.shape);
      break;
    default:
      r.invoke = invoke_bias_gradient;
      r.axes = 1;
      r.shape[0] = p->output_channels;
  }
  return r;
}

/// Poisons a quarter of everything that the masked gradients read. What reaches trainable elements spoils them, but a
/// frozen one is +0.0 all the same.
static void drench(task *t) {
  static const block drenched[] = {block_masked_input, block_masked_output_gradient, block_masked_bias_output_gradient};
  ref_random *random = &t->checker->random;
  for (int i = 0; i < 3; i++) {
    ref_guarded_unseal(&t->blocks[drenched[i]]);
    int64_t count = (int64_t)(t->blocks[drenched[i]].bytes / sizeof(float));
    for (int64_t k = 0; k < count; k++)
      if (ref_random_once_in(random, 4)) floats(t, drenched[i])[k] = ref_draw_poison(random);
    ref_guarded_seal(&t->blocks[drenched[i]]);
  }
}

static void check_drenched_on(task *t, int32_t isa) {
  ref_result weight = result_of(t, result_weight_gradient), bias = result_of(t, result_bias_gradient);
  weight.frozen_only = bias.frozen_only = true;
  for (int mode = 0; mode < 2; mode++) {
    ref_check_result(t->checker, &weight, isa, mask_bytes(t, block_weight_mask), mode == 1, t->initial);
    ref_check_result(t->checker, &bias, isa, mask_bytes(t, block_bias_mask), mode == 1, t->initial);
  }
}

static void check_on(task *t, int32_t isa) {
  ref_result results[result_count];
  for (int which = 0; which < result_count; which++) results[which] = result_of(t, which);
  for (int pass = 0; pass < result_bias_gradient; pass++) allow(t, isa, pass, &results[pass]);
  ref_check_result(t->checker, &results[result_forward], isa, NULL, false, NULL);
  for (int mode = 0; mode < 2; mode++) {
    bool accumulate = mode == 1;
    ref_check_result(t->checker, &results[result_input_gradient], isa, NULL, accumulate, t->initial);
    ref_check_result(t->checker, &results[result_weight_gradient], isa, NULL, accumulate, t->initial);
    ref_check_result(t->checker, &results[result_weight_gradient], isa, mask_bytes(t, block_weight_mask), accumulate,
                     t->initial);
    ref_check_result(t->checker, &results[result_bias_gradient], isa, NULL, accumulate, t->initial);
    ref_check_result(t->checker, &results[result_bias_gradient], isa, mask_bytes(t, block_bias_mask), accumulate,
                     t->initial);
  }
}

// MARK: Fused calls

static float activated(int32_t activation, float x) {
  if (x <= 0) return 0;
  return activation == ref_activation_relu6 && x >= 6 ? 6 : x;
}

/// A fused activation has the bits of one that comes after.
static void check_activation_on(task *t, int32_t isa) {
  ref_checker *checker = t->checker;
  const size_t bytes = (size_t)t->output_count * sizeof(float);
  float *expected = ref_allocate(bytes), *output = ref_guarded_place(&checker->output, bytes, checker->side);
  for (int32_t activation = ref_activation_relu; activation <= ref_activation_relu6; activation++) {
    const int32_t threads = (int32_t)ref_random_between(&checker->random, 1, 3);
    const ref_context context = {threads, checker->check->numerics, isa};
    int32_t status = forward(t, &context, ref_activation_none, expected);
    for (int64_t k = 0; k < t->output_count; k++) expected[k] = activated(activation, expected[k]);
    if (status == 0) status = forward(t, &context, activation, output);
    if (status != 0 || !ref_guarded_intact(&checker->output) || memcmp(expected, output, bytes) != 0)
      ref_checker_fail(checker, isa, "  forward with activation %d, threads %d: not that of its result, status %d",
                       activation, threads, status);
  }
  free(expected);
}

/// The gradients of one call, all or some of them, masked or not, have the bits of separate calls.
static void check_backward_on(task *t, int32_t isa) {
  ref_checker *checker = t->checker;
  ref_random *random = &checker->random;
  const ref_kernels *kernels = checker->kernels;
  ref_context context = {(int32_t)ref_random_between(random, 1, 3), checker->check->numerics, isa};
  const uint8_t *weight_mask = ref_random_once_in(random, 2) ? mask_bytes(t, block_weight_mask) : NULL;
  const uint8_t *bias_mask = ref_random_once_in(random, 2) ? mask_bytes(t, block_bias_mask) : NULL;
  const bool accumulate[] = {ref_random_once_in(random, 2), ref_random_once_in(random, 2)};
  const float *input = floats(t, block_input), *weight = floats(t, block_weight);
  const float *output_gradient = floats(t, block_output_gradient);
  float *expected[result_count] = {0}, *results[result_count] = {0};
  for (int which = result_input_gradient; which < result_count; which++) {
    if (ref_random_once_in(random, 4)) continue;
    const size_t bytes = (size_t)result_elements(t, which) * sizeof(float);
    expected[which] = memcpy(ref_allocate(bytes), t->initial, bytes);
    results[which] = memcpy(ref_allocate(bytes), t->initial, bytes);
  }
  int32_t status = kernels->backward(&context, &t->problem, input, weight, output_gradient, weight_mask, bias_mask,
                                     accumulate[0], accumulate[1], results[result_input_gradient],
                                     results[result_weight_gradient], results[result_bias_gradient]);
  context.threads = (int32_t)ref_random_between(random, 1, 3);
  for (int which = result_input_gradient; which < result_count && status == 0; which++) {
    float *one = expected[which];
    if (!one) continue;
    if (which == result_input_gradient)
      status = kernels->input_gradient(&context, &t->problem, output_gradient, weight, accumulate[0], one);
    if (which == result_weight_gradient)
      status = kernels->weight_gradient(&context, &t->problem, input, output_gradient, weight_mask, accumulate[1], one);
    if (which == result_bias_gradient)
      status = kernels->bias_gradient(&context, &t->problem, output_gradient, bias_mask, accumulate[1], one);
    if (status == 0 && memcmp(one, results[which], (size_t)result_elements(t, which) * sizeof(float)) != 0)
      ref_checker_fail(checker, isa, "  backward: the %s differs from a separate call's", result_of(t, which).name);
  }
  if (status != 0) ref_checker_fail(checker, isa, "  backward: %s", kernels->status_message(status));
  for (int which = 0; which < result_count; which++) free(expected[which]), free(results[which]);
}

static void check_fused_on(task *t, int32_t isa) {
  check_activation_on(t, isa);
  check_backward_on(t, isa);
}

static void check_problem(task *t, int64_t index) {
  ref_checker *checker = t->checker;
  ref_convolution p = ref_random_convolution(checker->check->seed, index);
  t->problem = p;
  t->output_height = ref_output_height(&p), t->output_width = ref_output_width(&p);
  t->input_count = ref_input_count(&p), t->weight_count = ref_weight_count(&p);
  t->output_count = ref_output_count(&p);
  char shape[512];
  describe(&p, shape, sizeof shape);
  ref_checker_begin(checker, index, shape);
  count_features(&checker->report, &p);

  int64_t height = -1, width = -1;
  int32_t status = checker->kernels->output_size(&p, &height, &width);
  if (status != 0 || height != t->output_height || width != t->output_width)
    ref_checker_fail(checker, checker->check->isa, "  output size: status %d, got %lldx%lld, expected %lldx%lld",
                     status, (long long)height, (long long)width, (long long)t->output_height,
                     (long long)t->output_width);

  t->has_bias = ref_random_once_in(&checker->random, 2);
  for (int result = 0; result < result_count; result++) {
    t->reference[result] = ref_allocate((size_t)result_elements(t, result) * sizeof(double));
    t->magnitude[result] = ref_allocate((size_t)result_elements(t, result) * sizeof(double));
  }
  draw_operands(t);
  draw_masks(t);
  for (block b = 0; b < block_count; b++) ref_guarded_seal(&t->blocks[b]);
  for (int32_t isa = 1; isa < ref_isa_limit; isa++)
    if (ref_checker_includes(checker, isa)) check_on(t, isa), check_fused_on(t, isa);
  drench(t);
  for (int32_t isa = 1; isa < ref_isa_limit; isa++)
    if (ref_checker_includes(checker, isa)) check_drenched_on(t, isa);
  for (int result = 0; result < result_count; result++) free(t->reference[result]), free(t->magnitude[result]);
  free(t->initial);
}

ref_report ref_check_convolutions(const ref_kernels *kernels, const ref_check *check) {
  ref_checker checker = ref_checker_make(kernels, check);
  task t = {.checker = &checker};
  for (int64_t done = 0; ref_checker_continues(&checker, done); done++) check_problem(&t, check->first + done);
  for (block b = 0; b < block_count; b++) ref_guarded_free(&t.blocks[b]);
  return ref_checker_finish(&checker);
}
