// Optimizer updates: one pass over a parameter, threads share out elements.

#include <math.h>

#include "runtime/runtime.h"

typedef struct update_work {
  const pf_operation_kernels *kernels;
  pf_sgd_scalars sgd;
  pf_adam_scalars adam;
  pf_rmsprop_scalars rmsprop;
  pf_adagrad_scalars adagrad;
  const float *gradient;
  const uint8_t *mask;
  float *state[3];
  float *value;
} update_work;

static float *advance(float *array, int64_t count) { return array == NULL ? NULL : array + count; }

static const uint8_t *advance_mask(const uint8_t *mask, int64_t count) { return mask == NULL ? NULL : mask + count; }

static void sgd_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const update_work *work = argument;
  work->kernels->sgd(end - begin, &work->sgd, work->gradient + begin, advance_mask(work->mask, begin),
                     advance(work->state[0], begin), work->value + begin);
}

pf_status pf_sgd_update(const pf_context *context, int64_t count, const pf_sgd *settings, const float *gradient,
                        const uint8_t *gradient_mask, float *momentum_buffer, float *value) {
  pf_settings call;
  PF_TRY(pf_read_context(context, &call));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(settings != NULL, pf_error_null);
  PF_REQUIRE(isfinite(settings->learning_rate) && isfinite(settings->momentum) && isfinite(settings->dampening) &&
                 isfinite(settings->weight_decay),
             pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(gradient != NULL && value != NULL, pf_error_null);
  PF_REQUIRE(momentum_buffer != NULL || settings->momentum == 0, pf_error_null);
  update_work work = {
      .kernels = &call.kernels->operations,
      .sgd = {.sign = settings->maximize ? -1.0f : 1.0f,
              .weight_decay = settings->weight_decay,
              .momentum = settings->momentum,
              .gradient_fraction = (float)(1 - (double)settings->dampening),
              .negative_learning_rate = -settings->learning_rate,
              .nesterov = settings->nesterov,
              .first_step = settings->first_step},
      .gradient = gradient,
      .mask = gradient_mask,
      .state = {settings->momentum == 0 ? NULL : momentum_buffer},
      .value = value};
  pf_parallel(&call, count, momentum_buffer == NULL ? 24 : 40, sgd_range, &work);
  return pf_ok;
}

static void adam_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const update_work *work = argument;
  work->kernels->adam(end - begin, &work->adam, work->gradient + begin, advance_mask(work->mask, begin),
                      work->state[0] + begin, work->state[1] + begin, advance(work->state[2], begin),
                      work->value + begin);
}

pf_status pf_adam_update(const pf_context *context, int64_t count, const pf_adam *settings, const float *gradient,
                         const uint8_t *gradient_mask, float *first_moment, float *second_moment,
                         float *largest_second_moment, float *value) {
  pf_settings call;
  PF_TRY(pf_read_context(context, &call));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(settings != NULL, pf_error_null);
  PF_REQUIRE(isfinite(settings->learning_rate) && isfinite(settings->weight_decay), pf_error_value);
  PF_REQUIRE(settings->epsilon >= 0 && isfinite(settings->epsilon), pf_error_value);
  PF_REQUIRE(settings->beta1 >= 0 && settings->beta1 < 1 && settings->beta2 >= 0 && settings->beta2 < 1,
             pf_error_value);
  PF_REQUIRE(settings->step >= 1, pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(gradient != NULL && first_moment != NULL && second_moment != NULL && value != NULL, pf_error_null);
  const double first_correction = 1 - pow(settings->beta1, (double)settings->step);
  const double second_correction = 1 - pow(settings->beta2, (double)settings->step);
  const bool decoupled = settings->decoupled;
  update_work work = {
      .kernels = &call.kernels->operations,
      .adam = {.sign = settings->maximize ? -1.0f : 1.0f,
               .weight_decay = decoupled ? 0.0f : (float)settings->weight_decay,
               .value_fraction = decoupled ? (float)(1 - settings->learning_rate * settings->weight_decay) : 1.0f,
               .first_fraction = (float)(1 - settings->beta1),
               .beta2 = (float)settings->beta2,
               .second_fraction = (float)(1 - settings->beta2),
               .correction = (float)sqrt(second_correction),
               .epsilon = (float)settings->epsilon,
               .negative_step = (float)(-settings->learning_rate / first_correction)},
      .gradient = gradient,
      .mask = gradient_mask,
      .state = {first_moment, second_moment, largest_second_moment},
      .value = value};
  pf_parallel(&call, count, largest_second_moment == NULL ? 64 : 80, adam_range, &work);
  return pf_ok;
}

static void rmsprop_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const update_work *work = argument;
  work->kernels->rmsprop(end - begin, &work->rmsprop, work->gradient + begin, advance_mask(work->mask, begin),
                         work->state[0] + begin, advance(work->state[1], begin), advance(work->state[2], begin),
                         work->value + begin);
}

pf_status pf_rmsprop_update(const pf_context *context, int64_t count, const pf_rmsprop *settings,
                            const float *gradient, const uint8_t *gradient_mask, float *mean_square,
                            float *mean_gradient, float *momentum_buffer, float *value) {
  pf_settings call;
  PF_TRY(pf_read_context(context, &call));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(settings != NULL, pf_error_null);
  PF_REQUIRE(isfinite(settings->learning_rate) && isfinite(settings->weight_decay) && isfinite(settings->momentum),
             pf_error_value);
  PF_REQUIRE(settings->alpha >= 0 && settings->alpha < 1, pf_error_value);
  PF_REQUIRE(settings->epsilon >= 0 && isfinite(settings->epsilon), pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(gradient != NULL && mean_square != NULL && value != NULL, pf_error_null);
  PF_REQUIRE(momentum_buffer != NULL || settings->momentum == 0, pf_error_null);
  update_work work = {.kernels = &call.kernels->operations,
                      .rmsprop = {.sign = settings->maximize ? -1.0f : 1.0f,
                                  .weight_decay = (float)settings->weight_decay,
                                  .alpha = (float)settings->alpha,
                                  .second_fraction = (float)(1 - settings->alpha),
                                  .epsilon = (float)settings->epsilon,
                                  .momentum = (float)settings->momentum,
                                  .negative_learning_rate = (float)-settings->learning_rate},
                      .gradient = gradient,
                      .mask = gradient_mask,
                      .state = {mean_square, mean_gradient, settings->momentum == 0 ? NULL : momentum_buffer},
                      .value = value};
  pf_parallel(&call, count, 80, rmsprop_range, &work);
  return pf_ok;
}

static void adagrad_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const update_work *work = argument;
  work->kernels->adagrad(end - begin, &work->adagrad, work->gradient + begin, advance_mask(work->mask, begin),
                         work->state[0] + begin, work->value + begin);
}

pf_status pf_adagrad_update(const pf_context *context, int64_t count, const pf_adagrad *settings,
                            const float *gradient, const uint8_t *gradient_mask, float *sum_of_squares,
                            float *value) {
  pf_settings call;
  PF_TRY(pf_read_context(context, &call));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(settings != NULL, pf_error_null);
  PF_REQUIRE(isfinite(settings->learning_rate) && isfinite(settings->weight_decay), pf_error_value);
  PF_REQUIRE(settings->learning_rate_decay >= 0 && isfinite(settings->learning_rate_decay), pf_error_value);
  PF_REQUIRE(settings->epsilon >= 0 && isfinite(settings->epsilon), pf_error_value);
  PF_REQUIRE(settings->step >= 1, pf_error_value);
  if (count == 0) return pf_ok;
  PF_REQUIRE(gradient != NULL && sum_of_squares != NULL && value != NULL, pf_error_null);
  const double decay = 1 + (double)(settings->step - 1) * settings->learning_rate_decay;
  update_work work = {.kernels = &call.kernels->operations,
                      .adagrad = {.sign = settings->maximize ? -1.0f : 1.0f,
                                  .weight_decay = (float)settings->weight_decay,
                                  .epsilon = (float)settings->epsilon,
                                  .negative_step = (float)(-settings->learning_rate / decay)},
                      .gradient = gradient,
                      .mask = gradient_mask,
                      .state = {sum_of_squares},
                      .value = value};
  pf_parallel(&call, count, 48, adagrad_range, &work);
  return pf_ok;
}
