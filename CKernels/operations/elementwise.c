// Elementwise operations on dense arrays.

#include "runtime/runtime.h"

// The cost that pf_parallel counts for a float that comes from or goes to memory.
enum { memory_cost = 8 };

typedef struct elementwise_work {
  const pf_operation_kernels *kernels;
  int32_t operation;
  float scale, shift;
  const float *x;
  const uint8_t *mask;
  float *result;
} elementwise_work;

static void unary_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const elementwise_work *work = argument;
  work->kernels->unary[work->operation](end - begin, work->x + begin, work->result + begin);
}

pf_status pf_elementwise_unary(const pf_context *context, pf_unary operation, int64_t count, const float *x,
                               float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_REQUIRE(operation >= 0 && operation < (pf_unary)pf_unary_count, pf_error_value);
  PF_TRY(pf_extents(&count, count));
  if (count == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  elementwise_work work = {.kernels = &settings.kernels->operations, .operation = operation, .x = x, .result = result};
  const bool transcendental =
      operation == pf_exp || operation == pf_log || operation == pf_sigmoid || operation == pf_tanh;
  pf_parallel(&settings, count, 2 * memory_cost + (transcendental ? 32 : 0), unary_range, &work);
  return pf_ok;
}

static void scale_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const elementwise_work *work = argument;
  work->kernels->scale(end - begin, work->scale, work->shift, work->x + begin, work->result + begin);
}

pf_status pf_scale(const pf_context *context, int64_t count, float scale, float shift, const float *x, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  if (count == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  elementwise_work work = {
      .kernels = &settings.kernels->operations, .scale = scale, .shift = shift, .x = x, .result = result};
  pf_parallel(&settings, count, 2 * memory_cost, scale_range, &work);
  return pf_ok;
}

static void add_scaled_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const elementwise_work *work = argument;
  work->kernels->add_scaled(end - begin, work->scale, work->x + begin, work->result + begin);
}

pf_status pf_add_scaled(const pf_context *context, int64_t count, float scale, const float *x, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  if (count == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  elementwise_work work = {.kernels = &settings.kernels->operations, .scale = scale, .x = x, .result = result};
  pf_parallel(&settings, count, 3 * memory_cost, add_scaled_range, &work);
  return pf_ok;
}

static void fill_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const elementwise_work *work = argument;
  for (int64_t i = begin; i < end; ++i) work->result[i] = work->shift;
}

pf_status pf_fill(const pf_context *context, int64_t count, float value, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  if (count == 0) return pf_ok;
  PF_REQUIRE(result != NULL, pf_error_null);
  elementwise_work work = {.shift = value, .result = result};
  pf_parallel(&settings, count, memory_cost, fill_range, &work);
  return pf_ok;
}

static void mask_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const elementwise_work *work = argument;
  work->kernels->mask_gradient(end - begin, work->mask + begin, work->result + begin);
}

pf_status pf_mask_gradient(const pf_context *context, int64_t count, const uint8_t *gradient_mask, float *gradient) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  if (count == 0 || gradient_mask == NULL) return pf_ok;
  PF_REQUIRE(gradient != NULL, pf_error_null);
  elementwise_work work = {.kernels = &settings.kernels->operations, .mask = gradient_mask, .result = gradient};
  pf_parallel(&settings, count, 2 * memory_cost, mask_range, &work);
  return pf_ok;
}
