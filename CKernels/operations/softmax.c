// Softmax and cross-entropy: threads share out rows.

#include <math.h>

#include "runtime/runtime.h"

typedef struct softmax_work {
  const pf_operation_kernels *kernels;
  int64_t columns;
  bool logarithm;
  float smoothing;
  const float *x, *gradient;
  const int32_t *targets;
  const float *log_normalizer;
  float *result, *stored;
} softmax_work;

// Of an element: its memory, and an exponential.
static const double element_cost = 48;

static void softmax_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const softmax_work *work = argument;
  const int64_t offset = begin * work->columns;
  work->kernels->softmax(end - begin, work->columns, work->logarithm, work->x + offset, work->result + offset);
}

pf_status pf_softmax(const pf_context *context, int64_t rows, int64_t columns, bool logarithm, const float *x,
                     float *result) {
  pf_settings settings;
  int64_t elements;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&elements, rows, columns));
  PF_REQUIRE(columns > 0, pf_error_dimension);
  if (rows == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  softmax_work work = {.kernels = &settings.kernels->operations, .columns = columns, .logarithm = logarithm, .x = x,
                       .result = result};
  pf_parallel(&settings, rows, element_cost * (double)columns, softmax_range, &work);
  return pf_ok;
}

static void softmax_backward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const softmax_work *work = argument;
  const int64_t offset = begin * work->columns;
  work->kernels->softmax_backward(end - begin, work->columns, work->logarithm, work->x + offset,
                                  work->gradient + offset, work->result + offset);
}

pf_status pf_softmax_backward(const pf_context *context, int64_t rows, int64_t columns, bool logarithm,
                              const float *result, const float *result_gradient, float *x_gradient) {
  pf_settings settings;
  int64_t elements;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&elements, rows, columns));
  PF_REQUIRE(columns > 0, pf_error_dimension);
  if (rows == 0) return pf_ok;
  PF_REQUIRE(result != NULL && result_gradient != NULL && x_gradient != NULL, pf_error_null);
  softmax_work work = {.kernels = &settings.kernels->operations, .columns = columns, .logarithm = logarithm,
                       .x = result, .gradient = result_gradient, .result = x_gradient};
  pf_parallel(&settings, rows, element_cost * (double)columns, softmax_backward_range, &work);
  return pf_ok;
}

static pf_status check_targets(int64_t rows, int64_t classes, const int32_t *targets) {
  for (int64_t row = 0; row < rows; ++row) {
    PF_REQUIRE(targets[row] >= 0 && targets[row] < classes, pf_error_value);
  }
  return pf_ok;
}

static void cross_entropy_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const softmax_work *work = argument;
  work->kernels->cross_entropy(end - begin, work->columns, work->smoothing, work->x + begin * work->columns,
                               work->targets + begin, work->result + begin, work->stored + begin);
}

pf_status pf_cross_entropy_forward(const pf_context *context, int64_t rows, int64_t classes, float smoothing,
                                   const float *logits, const int32_t *targets, float *loss, float *log_normalizer) {
  pf_settings settings;
  int64_t elements;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&elements, rows, classes));
  PF_REQUIRE(classes > 0, pf_error_dimension);
  PF_REQUIRE(smoothing >= 0 && smoothing <= 1, pf_error_value);
  if (rows == 0) return pf_ok;
  PF_REQUIRE(logits != NULL && targets != NULL && loss != NULL && log_normalizer != NULL, pf_error_null);
  PF_TRY(check_targets(rows, classes, targets));
  softmax_work work = {.kernels = &settings.kernels->operations, .columns = classes, .smoothing = smoothing,
                       .x = logits, .targets = targets, .result = loss, .stored = log_normalizer};
  pf_parallel(&settings, rows, element_cost * (double)classes, cross_entropy_range, &work);
  return pf_ok;
}

static void cross_entropy_backward_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const softmax_work *work = argument;
  work->kernels->cross_entropy_backward(end - begin, work->columns, work->smoothing, work->x + begin * work->columns,
                                        work->targets + begin, work->log_normalizer + begin, work->gradient + begin,
                                        work->result + begin * work->columns);
}

pf_status pf_cross_entropy_backward(const pf_context *context, int64_t rows, int64_t classes, float smoothing,
                                    const float *logits, const int32_t *targets, const float *log_normalizer,
                                    const float *loss_gradient, float *logits_gradient) {
  pf_settings settings;
  int64_t elements;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&elements, rows, classes));
  PF_REQUIRE(classes > 0, pf_error_dimension);
  PF_REQUIRE(smoothing >= 0 && smoothing <= 1, pf_error_value);
  if (rows == 0) return pf_ok;
  PF_REQUIRE(logits != NULL && targets != NULL && log_normalizer != NULL, pf_error_null);
  PF_REQUIRE(loss_gradient != NULL && logits_gradient != NULL, pf_error_null);
  PF_TRY(check_targets(rows, classes, targets));
  softmax_work work = {.kernels = &settings.kernels->operations, .columns = classes, .smoothing = smoothing,
                       .x = logits, .targets = targets, .log_normalizer = log_normalizer, .gradient = loss_gradient,
                       .result = logits_gradient};
  pf_parallel(&settings, rows, element_cost * (double)classes, cross_entropy_backward_range, &work);
  return pf_ok;
}
