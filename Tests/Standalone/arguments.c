#include "arguments.h"

#include <stdio.h>
#include <string.h>

#include "../Reference/guard.h"
#include "../Reference/random.h"
#include "CKernels.h"

typedef __int128 wide;

enum { capacity = 4096, output_pattern = 0x5C };  // floats that a valid problem may use

/// What is wrong with a call, as a set of pf_status bits; empty when nothing is.
typedef uint32_t faults;

static faults fault(pf_status status) { return 1u << status; }

typedef struct call {
  ref_random random;
  faults faults;
  faults tolerated;           // what may be reported as well
  bool missing_a, missing_b, missing_output;  // NULL, which an empty tensor may be
  pf_context context;
  bool has_context;  // else NULL is passed: the defaults
  const float *a, *b, *bias;
  const uint8_t *mask;
  float *output;
  pf_writing writing;
  pf_activation activation;
} call;

static ref_guarded inputs, mask_bytes, outputs;

static int64_t hostile(ref_random *random) {
  static const int64_t values[] = {INT64_MIN, INT64_MIN + 1, -(1ll << 32), -2, -1, 0, 0, 5, 1 << 16, INT32_MAX,
                                   1ll << 32, 1ll << 40, 1ll << 61, 1ll << 62, INT64_MAX / 3, INT64_MAX - 1, INT64_MAX};
  return values[ref_random_between(random, 0, (int64_t)(sizeof values / sizeof values[0]) - 1)];
}

/// Draws what all calls share: context, pointers, writing mode, each seldom wrong.
static call draw_call(uint64_t seed, int64_t index) {
  call c = {.random = ref_random_for(seed, index, 2)};
  ref_random *random = &c.random;
  c.context = (pf_context){.threads = (int32_t)ref_random_between(random, 0, 3),
                           .numerics = ref_random_once_in(random, 2) ? pf_fast : pf_exact};
  if (ref_random_once_in(random, 16)) {
    c.context.threads = (int32_t)-ref_random_between(random, 1, INT32_MAX);
    c.faults |= fault(pf_error_value);
  }
  if (ref_random_once_in(random, 16)) {
    c.context.numerics = (pf_numerics)(ref_random_once_in(random, 2) ? 2 : INT32_MIN);
    c.faults |= fault(pf_error_value);
  }
  if (ref_random_once_in(random, 4)) {
    int32_t isa = (int32_t)ref_random_between(random, -1, 5);
    c.context.isa = (pf_isa)isa;
    if (isa < 0 || isa > pf_isa_neon) c.faults |= fault(pf_error_value);
    else if (!pf_isa_supported((pf_isa)isa)) c.faults |= fault(pf_error_isa);
  }
  c.has_context = !ref_random_once_in(random, 16);
  if (!c.has_context) c.faults = 0;
  c.a = (const float *)(const void *)inputs.data;
  c.b = (const float *)(const void *)inputs.data;
  c.bias = ref_random_once_in(random, 2) ? c.a : NULL;
  c.mask = ref_random_once_in(random, 2) ? mask_bytes.data : NULL;
  c.output = (float *)(void *)outputs.data;
  c.missing_a = ref_random_once_in(random, 12);
  c.missing_b = ref_random_once_in(random, 12);
  c.missing_output = ref_random_once_in(random, 12);
  if (c.missing_a) c.a = NULL;
  if (c.missing_b) c.b = NULL;
  if (c.missing_output) c.output = NULL;
  c.writing = ref_random_once_in(random, 2) ? pf_overwrite : pf_accumulate;
  return c;
}

static void spoil_writing(call *c) {
  if (!ref_random_once_in(&c->random, 12)) return;
  c->writing = (pf_writing)(ref_random_once_in(&c->random, 2) ? 2 : -1);
  c->faults |= fault(pf_error_value);
}

static void spoil_activation(call *c) {
  c->activation = (pf_activation)ref_random_between(&c->random, 0, 2);
  if (!ref_random_once_in(&c->random, 12)) return;
  c->activation = (pf_activation)(ref_random_once_in(&c->random, 2) ? 3 : -1);
  c->faults |= fault(pf_error_value);
}

/// A missing pointer is a fault where its tensor, or the result, has elements; `elements` are those of a, b and the
/// result.
static void judge_pointers(call *c, const wide elements[3]) {
  const bool missing = (c->missing_a && elements[0]) || (c->missing_b && elements[1]) || c->missing_output;
  if (missing && elements[2]) c->faults |= fault(pf_error_null);
}

/// Adds what is wrong with a dense tensor of these extents; an empty one is judged by its other extents.
static wide judge_tensor(faults *wrong, const wide *extents, int count) {
  const wide limit = (wide)PTRDIFF_MAX / (wide)sizeof(float);
  wide product = 1, elements = 1;
  for (int i = 0; i < count; i++) {
    if (product <= limit) product *= extents[i] > 0 ? extents[i] : 1;
    if (extents[i] == 0) elements = 0;
  }
  if (product > limit) *wrong |= fault(pf_error_overflow);
  return elements ? product : 0;
}

// MARK: Convolution

static faults judge_convolution(const pf_convolution2d *p, wide elements[3]) {
  const int64_t positive[] = {p->input_channels, p->input_height, p->input_width, p->output_channels,
                              p->kernel_height, p->kernel_width, p->stride_height, p->stride_width,
                              p->dilation_height, p->dilation_width, p->groups};
  const int64_t not_negative[] = {p->batch, p->padding_top, p->padding_bottom, p->padding_left, p->padding_right};
  bool in_range = true;
  faults wrong = 0;  // an extent that large may also be refused before another that is out of range
  for (int i = 0; i < 11; i++) {
    in_range = in_range && positive[i] > 0;
    if (positive[i] > INT32_MAX) wrong = fault(pf_error_overflow);
  }
  for (int i = 0; i < 5; i++) {
    in_range = in_range && not_negative[i] >= 0;
    if (not_negative[i] > INT32_MAX) wrong = fault(pf_error_overflow);
  }
  if (!in_range || p->input_channels % p->groups || p->output_channels % p->groups)
    return wrong | fault(pf_error_dimension);

  wrong = 0;
  const wide padded[] = {(wide)p->input_height + p->padding_top + p->padding_bottom,
                         (wide)p->input_width + p->padding_left + p->padding_right};
  const wide reach[] = {(wide)p->dilation_height * (p->kernel_height - 1) + 1,
                        (wide)p->dilation_width * (p->kernel_width - 1) + 1};
  const int64_t stride[] = {p->stride_height, p->stride_width};
  wide output[2];
  for (int axis = 0; axis < 2; axis++) {
    if (padded[axis] > INT64_MAX || reach[axis] > INT64_MAX)
      wrong |= fault(pf_error_dimension) | fault(pf_error_overflow);
    if (padded[axis] < reach[axis]) wrong |= fault(pf_error_dimension);
    output[axis] = padded[axis] < reach[axis] ? 0 : (padded[axis] - reach[axis]) / stride[axis] + 1;
  }
  elements[0] = judge_tensor(&wrong, (wide[]){p->batch, p->input_channels, p->input_height, p->input_width}, 4);
  elements[1] = judge_tensor(
      &wrong, (wide[]){p->output_channels, p->input_channels / p->groups, p->kernel_height, p->kernel_width}, 4);
  elements[2] = judge_tensor(&wrong, (wide[]){p->batch, p->output_channels, output[0], output[1]}, 4);
  const wide pixels = (p->batch ? p->batch : 1) * (output[0] ? output[0] : 1);
  if (!(wrong & fault(pf_error_overflow)) && elements[1] * (pixels * (output[1] ? output[1] : 1)) > INT64_MAX)
    wrong |= fault(pf_error_overflow);
  return wrong;
}

/// Whether what lies between the tensors, such as the padded image or the count of multiplications, is large enough for
/// a workspace that the system refuses, though the tensors needn't be.
static bool is_vast(const pf_convolution2d *p) {
  const int64_t extents[] = {p->batch, p->input_channels, p->input_height, p->input_width, p->output_channels,
                             p->kernel_height, p->kernel_width, p->stride_height, p->stride_width, p->padding_top,
                             p->padding_bottom, p->padding_left, p->padding_right, p->dilation_height,
                             p->dilation_width};
  for (int i = 0; i < 15; i++)
    if (extents[i] >= INT32_MAX) return true;
  return false;
}

static pf_convolution2d draw_problem(ref_random *random) {
  pf_convolution2d p = {.batch = ref_random_between(random, 0, 2), .groups = ref_random_between(random, 1, 2)};
  p.input_channels = p.groups * ref_random_between(random, 1, 3);
  p.output_channels = p.groups * ref_random_between(random, 1, 3);
  p.input_height = ref_random_between(random, 1, 7), p.input_width = ref_random_between(random, 1, 7);
  p.kernel_height = ref_random_between(random, 1, 3), p.kernel_width = ref_random_between(random, 1, 3);
  p.stride_height = ref_random_between(random, 1, 2), p.stride_width = ref_random_between(random, 1, 2);
  p.dilation_height = ref_random_between(random, 1, 2), p.dilation_width = ref_random_between(random, 1, 2);
  p.padding_top = ref_random_between(random, 0, 2), p.padding_bottom = ref_random_between(random, 0, 2);
  p.padding_left = ref_random_between(random, 0, 2), p.padding_right = ref_random_between(random, 0, 2);
  int64_t *const fields[] = {
      &p.batch, &p.input_channels, &p.input_height, &p.input_width, &p.output_channels, &p.kernel_height,
      &p.kernel_width, &p.stride_height, &p.stride_width, &p.padding_top, &p.padding_bottom, &p.padding_left,
      &p.padding_right, &p.dilation_height, &p.dilation_width, &p.groups};
  for (int64_t spoiled = ref_random_between(random, 0, 3); spoiled > 0; spoiled--)
    *fields[ref_random_between(random, 0, 15)] = hostile(random);
  return p;
}

/// Draws and makes one call to a pass; false when it wasn't made, being in order but too large for the buffers.
static bool call_convolution(call *c, int pass, pf_status *status) {
  const pf_convolution2d p = draw_problem(&c->random);
  const pf_convolution2d *problem = ref_random_once_in(&c->random, 32) ? NULL : &p;
  wide tensors[3] = {1, 1, 1};
  c->faults |= problem ? judge_convolution(&p, tensors) : fault(pf_error_null);
  if (pass > 0) spoil_writing(c);
  else spoil_activation(c);
  if (is_vast(&p)) c->tolerated |= fault(pf_error_memory) | fault(pf_error_overflow);
  const wide input = tensors[0], weight = tensors[1], output = tensors[2];
  const wide elements[4][3] = {
      {input, weight, output}, {output, weight, input}, {input, output, weight}, {output, 0, p.output_channels}};
  // One call for all gradients takes a missing one for one that isn't wanted.
  const int result = pass < 4 ? pass : (int)ref_random_between(&c->random, 1, 3);
  if (pass < 4 || c->output) judge_pointers(c, elements[result]);
  for (int i = 0; i < 3; i++)
    if (!c->faults && elements[result][i] > capacity) return false;
  const pf_context *context = c->has_context ? &c->context : NULL;
  switch (pass) {
    case 0:
      *status = pf_convolution2d_forward(context, problem, c->activation, c->a, c->b, c->bias, c->output);
      return true;
    case 1:
      *status = pf_convolution2d_input_gradient(context, problem, c->a, c->b, c->writing, c->output);
      return true;
    case 2:
      *status = pf_convolution2d_weight_gradient(context, problem, c->a, c->b, c->mask, c->writing, c->output);
      return true;
    case 3:
      *status = pf_convolution2d_bias_gradient(context, problem, c->a, c->mask, c->writing, c->output);
      return true;
    default:
      *status = pf_convolution2d_backward(context, problem, result == 2 ? c->a : NULL, result == 1 ? c->b : NULL,
                                          result == 2 ? c->b : c->a, c->mask, c->mask, c->writing, c->writing,
                                          result == 1 ? c->output : NULL, result == 2 ? c->output : NULL,
                                          result == 3 ? c->output : NULL);
      return true;
  }
}

// MARK: Matrix product

static faults judge_product(const pf_matrix_product *p, wide elements[3]) {
  if (p->rows < 0 || p->columns <= 0 || p->inner < 0) return fault(pf_error_dimension);
  const wide rows[] = {p->transpose_a ? p->inner : p->rows, p->transpose_b ? p->columns : p->inner, p->rows};
  const wide lengths[] = {p->transpose_a ? p->rows : p->inner, p->transpose_b ? p->inner : p->columns, p->columns};
  const int64_t strides[] = {p->stride_a, p->stride_b, p->stride_result};
  faults wrong = 0;
  for (int i = 0; i < 3; i++) {
    if (strides[i] < 0 || strides[i] < lengths[i]) wrong |= fault(pf_error_dimension);
    elements[i] = judge_tensor(&wrong, (wide[]){rows[i], strides[i]}, 2);
  }
  judge_tensor(&wrong, (wide[]){p->rows, p->columns, p->inner}, 3);
  return wrong;
}

static bool call_product(call *c, pf_status *status) {
  ref_random *random = &c->random;
  pf_matrix_product p = {.rows = ref_random_between(random, 0, 9), .columns = ref_random_between(random, 1, 9),
                         .inner = ref_random_between(random, 0, 9), .transpose_a = ref_random_once_in(random, 2),
                         .transpose_b = ref_random_once_in(random, 2)};
  p.stride_a = 9 + ref_random_between(random, 0, 2), p.stride_b = 9, p.stride_result = 9;
  int64_t *const fields[] = {&p.rows, &p.columns, &p.inner, &p.stride_a, &p.stride_b, &p.stride_result};
  for (int64_t spoiled = ref_random_between(random, 0, 2); spoiled > 0; spoiled--)
    *fields[ref_random_between(random, 0, 5)] = hostile(random);
  const pf_matrix_product *product = ref_random_once_in(random, 32) ? NULL : &p;
  wide elements[3] = {1, 1, 1};
  c->faults |= product ? judge_product(&p, elements) : fault(pf_error_null);
  if (p.inner == 0) elements[0] = elements[1] = 0;
  spoil_writing(c);
  if (c->bias && c->writing == pf_accumulate) c->faults |= fault(pf_error_value);
  judge_pointers(c, elements);
  for (int i = 0; i < 3; i++)
    if (!c->faults && elements[i] > capacity) return false;
  const pf_context *context = c->has_context ? &c->context : NULL;
  *status = pf_matrix_multiply(context, product, c->a, c->b, c->bias, c->mask, c->writing, c->output);
  return true;
}

// MARK: The check

static bool output_untouched(void) {
  for (size_t i = 0; i < outputs.bytes; i++)
    if (outputs.data[i] != output_pattern) return false;
  return true;
}

static void print_faults(faults wrong) {
  printf("  expected");
  if (!wrong) printf(" ok");
  for (int32_t status = 1; status < 32; status++)
    if (wrong >> status & 1) printf(" '%s'", pf_status_message((pf_status)status));
}

bool check_arguments(uint64_t seed, int64_t first, int64_t count) {
  static const char *const names[] = {"forward", "input gradient", "weight gradient", "bias gradient", "backward",
                                      "product"};
  const size_t bytes = capacity * sizeof(float);
  memset(ref_guarded_place(&inputs, bytes, ref_side_end), 0, bytes);
  memset(ref_guarded_place(&mask_bytes, capacity, ref_side_end), 1, capacity);
  ref_guarded_place(&outputs, bytes, ref_side_end);
  ref_guarded_seal(&inputs);
  ref_guarded_seal(&mask_bytes);
  int64_t accepted = 0, rejected = 0, failures = 0;
  for (int64_t index = first; index < first + count; index++) {
    char announcement[160];
    snprintf(announcement, sizeof announcement,
             "Tests/check-kernels.sh arguments --seed %llu --first %lld --problems 1\n", (unsigned long long)seed,
             (long long)index);
    ref_guarded_announce(announcement);
    call c = draw_call(seed, index);
    const int which = (int)ref_random_between(&c.random, 0, 5);
    memset(outputs.data, output_pattern, bytes);
    pf_status status = pf_ok;
    const bool called = which == 5 ? call_product(&c, &status) : call_convolution(&c, which, &status);
    ref_guarded_announce(NULL);
    if (!called) continue;
    const faults reported = (uint32_t)status < 32 ? fault(status) : 0;
    const bool expected = reported & ((c.faults ? c.faults : fault(pf_ok)) | c.tolerated);
    const bool untouched = status == pf_ok || output_untouched();
    accepted += status == pf_ok, rejected += status != pf_ok;
    if (expected && untouched) continue;
    if (failures++ > 0) continue;
    printf("%s: got '%s'%s,\n", names[which], pf_status_message(status), untouched ? "" : " and a changed output");
    print_faults(c.faults);
    printf("\n  repeat: %s", announcement);
  }
  printf("arguments: %lld calls rejected as they should be, %lld accepted, %lld failures, seed %llu\n",
         (long long)rejected, (long long)accepted, (long long)failures, (unsigned long long)seed);
  ref_guarded_free(&inputs), ref_guarded_free(&mask_bytes), ref_guarded_free(&outputs);
  return failures == 0;
}
