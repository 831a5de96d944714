// Random numbers: threads share out elements.

#include <math.h>

#include "runtime/runtime.h"

typedef struct random_work {
  const pf_operation_kernels *kernels;
  uint64_t seed, stream, first;
  float a, b;  // the distribution's parameters
  const float *x;
  void *result;
} random_work;

// Of an element: its share of ten rounds, and its memory.
static const double element_cost = 48;

static pf_status check_range(uint64_t first, int64_t *count) {
  PF_TRY(pf_extents(count, *count));
  uint64_t end;
  PF_REQUIRE(!__builtin_add_overflow(first, (uint64_t)*count, &end), pf_error_overflow);
  return pf_ok;
}

static void bits_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const random_work *work = argument;
  work->kernels->random_bits(work->seed, work->stream, work->first + (uint64_t)begin, end - begin,
                             (uint32_t *)work->result + begin);
}

pf_status pf_random_bits(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                         uint32_t *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(check_range(first, &count));
  if (count == 0) return pf_ok;
  PF_REQUIRE(result != NULL, pf_error_null);
  random_work work = {&settings.kernels->operations, seed, stream, first, 0, 0, NULL, result};
  pf_parallel(&settings, count, element_cost, bits_range, &work);
  return pf_ok;
}

static void uniform_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const random_work *work = argument;
  work->kernels->random_uniform(work->seed, work->stream, work->first + (uint64_t)begin, end - begin, work->a, work->b,
                                (float *)work->result + begin);
}

pf_status pf_random_uniform(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                            float low, float high, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(check_range(first, &count));
  PF_REQUIRE(isfinite(low) && isfinite(high) && low <= high, pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(result != NULL, pf_error_null);
  random_work work = {&settings.kernels->operations, seed, stream, first, low, high, NULL, result};
  pf_parallel(&settings, count, element_cost, uniform_range, &work);
  return pf_ok;
}

static void normal_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const random_work *work = argument;
  work->kernels->random_normal(work->seed, work->stream, work->first + (uint64_t)begin, end - begin, work->a, work->b,
                               (float *)work->result + begin);
}

pf_status pf_random_normal(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                           float mean, float standard_deviation, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(check_range(first, &count));
  PF_REQUIRE(isfinite(mean) && isfinite(standard_deviation) && standard_deviation >= 0, pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(result != NULL, pf_error_null);
  random_work work = {&settings.kernels->operations, seed, stream, first, mean, standard_deviation, NULL, result};
  pf_parallel(&settings, count, 2 * element_cost, normal_range, &work);
  return pf_ok;
}

static void dropout_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const random_work *work = argument;
  work->kernels->dropout(work->seed, work->stream, (uint64_t)begin, end - begin, work->a, work->x + begin,
                         (float *)work->result + begin);
}

pf_status pf_dropout(const pf_context *context, uint64_t seed, uint64_t stream, int64_t count, float probability,
                     const float *x, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(probability >= 0 && probability <= 1, pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  random_work work = {&settings.kernels->operations, seed, stream, 0, probability, 0, x, result};
  pf_parallel(&settings, count, element_cost, dropout_range, &work);
  return pf_ok;
}
