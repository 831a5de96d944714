#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_failures = 10 };
static const uint32_t untouched = 0x7fc0a5a5;  // a NaN: what an output holds before a kernel overwrites it

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void *ref_allocate(size_t bytes) {
  void *block = malloc(bytes ? bytes : 1);
  if (!block) {
    perror("malloc");
    abort();
  }
  return block;
}

float *ref_absolute_values(const float *values, int64_t count) {
  float *result = ref_allocate((size_t)count * sizeof *result);
  for (int64_t i = 0; i < count; i++) result[i] = fabsf(values[i]);
  return result;
}

// MARK: Values

void ref_draw_values(ref_checker *checker, float *values, int64_t count, int64_t limit) {
  ref_random *random = &checker->random;
  for (int64_t i = 0; i < count; i++) {
    float sign = ref_random_once_in(random, 2) ? -1.0f : 1.0f;
    if (checker->check->data == ref_data_integers) {
      values[i] = ref_random_once_in(random, 12) ? 0.0f : sign * (float)ref_random_between(random, 1, limit);
    } else {
      int exponent = (int)ref_random_between(random, -27, -22);
      values[i] = sign * ldexpf((float)ref_random_between(random, 1, (1 << 24) - 1), exponent);
    }
  }
}

int64_t ref_exact_limit(int64_t terms) {
  const int64_t exact = (1 << 24) - ref_initial_limit;
  int64_t limit = 32;
  while (limit > 1 && limit * limit * terms > exact) limit--;
  if (limit * limit * terms > exact) {
    fprintf(stderr, "CReference: a sum of %lld terms can't be exact in float32\n", (long long)terms);
    abort();
  }
  return limit;
}

void ref_draw_mask(ref_random *random, ref_scatter scatter, uint8_t *mask, int64_t count) {
  static const uint8_t trainable[] = {1, 1, 1, 2, 128, 255};
  bool mostly = scatter == ref_scatter_none || scatter == ref_scatter_one;
  int64_t rarity = scatter == ref_scatter_few ? ref_random_between(random, 4, 50) : 2;
  for (int64_t i = 0; i < count; i++) {
    bool on = scatter == ref_scatter_some || scatter == ref_scatter_few ? ref_random_once_in(random, rarity) : mostly;
    mask[i] = on ? trainable[ref_random_between(random, 0, 5)] : 0;
  }
  if (scatter == ref_scatter_one) mask[ref_random_between(random, 0, count - 1)] = 0;
  if (scatter == ref_scatter_all_but_one) mask[ref_random_between(random, 0, count - 1)] = 1;
}

float ref_draw_poison(ref_random *random) {
  static const uint32_t poisons[] = {0x7fc00000, 0xffc00001, 0x7f800001, 0x7f800000, 0xff800000, 0x7f7fffff};
  return float_of(poisons[ref_random_between(random, 0, 5)]);
}

// MARK: Problems

ref_checker ref_checker_make(const ref_kernels *kernels, const ref_check *check) {
  return (ref_checker){.kernels = kernels, .check = check};
}

ref_report ref_checker_finish(ref_checker *checker) {
  ref_guarded_announce(NULL);
  ref_guarded_free(&checker->output);
  free(checker->first);
  free(checker->dense);
  return checker->report;
}

bool ref_checker_continues(const ref_checker *checker, int64_t done) {
  return done < checker->check->count && checker->report.failures < most_failures;
}

bool ref_checker_includes(const ref_checker *checker, int32_t isa) {
  return checker->kernels->isa_supported(isa) && (checker->check->isa == 0 || checker->check->isa == isa);
}

static int describe(const ref_checker *checker, const char *isa, char *text, size_t capacity) {
  const ref_check *check = checker->check;
  return snprintf(text, capacity,
                  "seed %llu, problem %lld, isa %s\n  %s\n  repeat: %s --data %s --numerics %s --isa %s --seed %llu "
                  "--first %lld --problems 1\n",
                  (unsigned long long)check->seed, (long long)checker->index, isa, checker->shape,
                  check->reproduction ? check->reproduction : "check",
                  check->data == ref_data_integers ? "integers" : "fractions",
                  check->numerics == ref_numerics_exact ? "exact" : "fast", isa, (unsigned long long)check->seed,
                  (long long)checker->index);
}

void ref_checker_begin(ref_checker *checker, int64_t index, const char *shape) {
  checker->index = index;
  checker->random = ref_random_for(checker->check->seed, index, 1);
  checker->side = ref_random_once_in(&checker->random, 4) ? ref_side_start : ref_side_end;
  checker->threads = (int32_t)ref_random_between(&checker->random, 1, 3);
  checker->failed = false;
  snprintf(checker->shape, sizeof checker->shape, "%s", shape);
  checker->report.problems++;
}

void ref_checker_fail(ref_checker *checker, int32_t isa, const char *format, ...) {
  if (checker->failed) return;
  checker->failed = true;
  if (checker->report.failures++ > 0) return;
  char *text = checker->report.failure;
  const size_t capacity = sizeof checker->report.failure;
  int used = describe(checker, isa ? checker->kernels->isa_name(isa) : "auto", text, capacity);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + used, capacity - (size_t)used, format, arguments);
  va_end(arguments);
}

// MARK: One result

typedef struct run {
  const ref_result *result;
  int32_t isa, threads;
  const uint8_t *mask;
  bool accumulate;
  const float *initial;
} run;

static void name_element(const ref_result *result, int64_t element, char *text, size_t capacity) {
  int64_t indices[4] = {0};
  for (int axis = result->axes - 1; axis >= 0; axis--) {
    indices[axis] = element % result->shape[axis];
    element /= result->shape[axis];
  }
  size_t used = 0;
  for (int axis = 0; axis < result->axes && used < capacity; axis++)
    used += (size_t)snprintf(text + used, capacity - used, axis ? ",%lld" : "%lld", (long long)indices[axis]);
}

static void name_run(const run *run, char *text, size_t capacity) {
  snprintf(text, capacity, "%s%s%s%s, threads %d", run->result->name, run->mask ? ", masked" : "",
           run->result->frozen_only ? ", with NaNs all over" : "", run->accumulate ? ", accumulating" : "",
           run->threads);
}

static void fail_element(ref_checker *checker, const run *run, int64_t element, const char *what, float got,
                         double expected) {
  char name[128], position[96];
  name_run(run, name, sizeof name);
  name_element(run->result, element, position, sizeof position);
  ref_checker_fail(checker, run->isa, "  %s: element [%s] %s: got %.9g (0x%08x), expected %.17g", name, position, what,
                   (double)got, bits_of(got), expected);
}

static void fail_run(ref_checker *checker, const run *run, const char *what, const char *detail) {
  char name[128];
  name_run(run, name, sizeof name);
  ref_checker_fail(checker, run->isa, "  %s: %s%s", name, what, detail);
}

static void prepare(const run *run, float *output) {
  const ref_result *result = run->result;
  for (int64_t r = 0; r < result->rows; r++)
    for (int64_t c = 0; c < result->stride; c++) {
      int64_t element = r * result->columns + c;
      bool gap = c >= result->columns;
      if (gap && r + 1 == result->rows) break;  // the last row ends with its last element
      bool keeps = !gap && run->accumulate && !(run->mask && !run->mask[element]);
      output[r * result->stride + c] = keeps ? run->initial[element] : float_of(untouched);
    }
}

/// Compares all elements; stops at the first that differs.
static bool compare(ref_checker *checker, const run *run, const float *output) {
  const ref_result *result = run->result;
  for (int64_t r = 0; r < result->rows; r++) {
    const float *row = output + r * result->stride;
    for (int64_t c = 0; c < result->columns; c++) {
      int64_t element = r * result->columns + c;
      if (run->mask && !run->mask[element]) {
        checker->report.frozen++;
        if (bits_of(row[c]) == 0) continue;
        return fail_element(checker, run, element, "is frozen but not +0.0", row[c], 0), false;
      }
      if (result->frozen_only) continue;
      double initial = run->accumulate ? (double)run->initial[element] : 0;
      double expected = result->reference[element] + initial;
      double magnitude = result->magnitude ? result->magnitude[element] : result->largest_magnitude;
      double bound = result->exact ? 0 : ref_error_bound(result->terms + 1, magnitude + fabs(initial));
      if (fabs((double)row[c] - expected) <= bound) continue;
      const char *what = result->exact ? "differs" : "is beyond the error bound";
      return fail_element(checker, run, element, what, row[c], expected), false;
    }
    for (int64_t c = result->columns; c < result->stride && r + 1 < result->rows; c++)
      if (bits_of(row[c]) != untouched)
        return fail_run(checker, run, "wrote between the rows of its result", ""), false;
  }
  checker->report.elements += result->rows * result->columns;
  return true;
}

/// Compares the bits with those of an earlier run, except where `mask` freezes.
static bool same_bits(ref_checker *checker, const run *run, const float *output, const float *earlier,
                      const uint8_t *mask, const char *what) {
  const ref_result *result = run->result;
  for (int64_t r = 0; r < result->rows; r++)
    for (int64_t c = 0; c < result->columns; c++) {
      int64_t element = r * result->columns + c, at = r * result->stride + c;
      if (mask && !mask[element]) continue;
      if (bits_of(output[at]) != bits_of(earlier[at]))
        return fail_element(checker, run, element, what, output[at], (double)earlier[at]), false;
    }
  return true;
}

static bool run_once(ref_checker *checker, const run *run, float *output) {
  const ref_result *result = run->result;
  ref_context context = {run->threads, checker->check->numerics, run->isa};
  prepare(run, output);
  describe(checker, checker->kernels->isa_name(run->isa), checker->announcement, sizeof checker->announcement);
  size_t used = strlen(checker->announcement);
  name_run(run, checker->announcement + used, sizeof checker->announcement - used - 2);
  strcat(checker->announcement, "\n");
  ref_guarded_announce(checker->announcement);
  int32_t status = result->invoke(result->state, &context, run->mask, run->accumulate, output);
  ref_guarded_announce(NULL);
  checker->report.results++;
  checker->report.results_by_isa[run->isa]++;
  if (status != 0) return fail_run(checker, run, "returned ", checker->kernels->status_message(status)), false;
  if (!ref_guarded_intact(&checker->output)) return fail_run(checker, run, "wrote outside of its result", ""), false;
  return compare(checker, run, output);
}

void ref_check_result(ref_checker *checker, const ref_result *result, int32_t isa, const uint8_t *mask,
                      bool accumulate, const float *initial) {
  bool fractions = checker->check->data == ref_data_fractions;
  int64_t elements = result->rows ? (result->rows - 1) * result->stride + result->columns : 0;
  size_t bytes = (size_t)elements * sizeof(float);
  if (checker->copies < elements) {
    free(checker->first);
    free(checker->dense);
    checker->first = ref_allocate(bytes);
    checker->dense = ref_allocate(bytes);
    checker->copies = elements;
  }
  float *output = ref_guarded_place(&checker->output, bytes, checker->side);
  run run = {result, isa, fractions ? 1 : checker->threads, mask, accumulate, initial};
  if (!run_once(checker, &run, output)) return;
  if (!fractions || result->frozen_only) return;
  memcpy(checker->first, output, bytes);
  if (!mask) memcpy(checker->dense, output, bytes);
  if (mask && checker->check->numerics == ref_numerics_exact &&
      !same_bits(checker, &run, output, checker->dense, mask, "depends on the mask"))
    return;
  for (run.threads = 2; run.threads <= 3; run.threads++)
    if (!run_once(checker, &run, output) ||
        !same_bits(checker, &run, output, checker->first, NULL, "depends on the thread count"))
      return;
}
