// Batch normalisation. A channel's batch is cut into chunks by the shape alone; sums are formed in double and added in
// order of the chunks. The variance comes from a second pass over deviations from the mean, which costs little while a
// channel is in cache and doesn't cancel.

#include <math.h>

#include "runtime/runtime.h"

enum {
  chunk_elements = 16384,  // of a chunk, about
  gathered_elements = 1024,
  narrow = 16              // planes smaller than this are gathered before they are summed
};

typedef struct normalization_work {
  const pf_operation_kernels *kernels;
  int64_t batch, channels, spatial;
  double epsilon;
  int64_t chunk_rows, chunks;  // planes of a chunk, chunks of a channel
  const float *x, *y_gradient, *scale, *shift;
  float *y;  // or the gradient with respect to x
  // Of a channel. The exact mean is forward's alone.
  float *mean, *variance;
  const float *given_mean, *given_variance;
  double *exact_mean;
  double (*partials)[2];  // channels x chunks
  // Backward only.
  bool statistics_depend_on_x;
  const uint8_t *scale_mask, *shift_mask;
  float *scale_gradient, *shift_gradient;
} normalization_work;

/// Where an item (a chunk of a channel) lies.
static pf_rows rows_of_item(const normalization_work *work, int64_t item, int64_t *channel, int64_t *offset) {
  *channel = item / work->chunks;
  const int64_t first = item % work->chunks * work->chunk_rows;
  *offset = (first * work->channels + *channel) * work->spatial;
  return (pf_rows){pf_minimum_of(work->chunk_rows, work->batch - first), work->channels * work->spatial, work->spatial};
}

static pf_rows gather(pf_rows shape, const float *x, float *gathered) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t i = 0; i < shape.columns; ++i) *gathered++ = x[row * shape.stride + i];
  }
  return (pf_rows){1, shape.rows * shape.columns, shape.rows * shape.columns};
}

/// Calls `sum_part` on the stretch, or on gathered pieces of it: one call a few elements would cost more than the sum.
static void sum_stretch(const normalization_work *work, pf_rows shape, const float *x, const float *y_gradient,
                        int64_t channel, double sums[2],
                        void (*sum_part)(const normalization_work *work, pf_rows shape, const float *x,
                                         const float *y_gradient, int64_t channel, double sums[2])) {
  sums[0] = sums[1] = 0;
  if (shape.columns >= narrow) {
    sum_part(work, shape, x, y_gradient, channel, sums);
    return;
  }
  const int64_t rows = gathered_elements / shape.columns;
  for (int64_t row = 0; row < shape.rows; row += rows) {
    float gathered_x[gathered_elements], gathered_gradient[gathered_elements];
    pf_rows piece = {pf_minimum_of(rows, shape.rows - row), shape.stride, shape.columns};
    if (y_gradient != NULL) gather(piece, y_gradient + row * shape.stride, gathered_gradient);
    piece = gather(piece, x + row * shape.stride, gathered_x);
    sum_part(work, piece, gathered_x, gathered_gradient, channel, sums);
  }
}

static void add_sum(const normalization_work *work, pf_rows shape, const float *x, const float *y_gradient,
                    int64_t channel, double sums[2]) {
  (void)y_gradient, (void)channel;
  sums[0] += work->kernels->rows_sum(shape, x);
}

static void add_squares(const normalization_work *work, pf_rows shape, const float *x, const float *y_gradient,
                        int64_t channel, double sums[2]) {
  (void)y_gradient;
  sums[0] += work->kernels->rows_squares(shape, work->exact_mean[channel], x);
}

static void add_products(const normalization_work *work, pf_rows shape, const float *x, const float *y_gradient,
                         int64_t channel, double sums[2]) {
  double part[2];
  work->kernels->rows_products(shape, work->given_mean[channel], x, y_gradient, part);
  sums[0] += part[0];
  sums[1] += part[1];
}

// MARK: Passes over items, and over channels in between

static void sum_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_work *work = argument;
  for (int64_t item = begin; item < end; ++item) {
    int64_t channel, offset;
    const pf_rows shape = rows_of_item(work, item, &channel, &offset);
    sum_stretch(work, shape, work->x + offset, NULL, channel, work->partials[item], add_sum);
  }
}

static void square_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_work *work = argument;
  for (int64_t item = begin; item < end; ++item) {
    int64_t channel, offset;
    const pf_rows shape = rows_of_item(work, item, &channel, &offset);
    sum_stretch(work, shape, work->x + offset, NULL, channel, work->partials[item], add_squares);
  }
}

static void product_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_work *work = argument;
  for (int64_t item = begin; item < end; ++item) {
    int64_t channel, offset;
    const pf_rows shape = rows_of_item(work, item, &channel, &offset);
    sum_stretch(work, shape, work->x + offset, work->y_gradient + offset, channel, work->partials[item], add_products);
  }
}

static double total(const normalization_work *work, int64_t channel, int32_t which) {
  double sum = 0;
  for (int64_t chunk = 0; chunk < work->chunks; ++chunk) sum += work->partials[channel * work->chunks + chunk][which];
  return sum;
}

static double elements_of_channel(const normalization_work *work) {
  return (double)work->batch * (double)work->spatial;
}

static double inverse_deviation(const normalization_work *work, int64_t channel) {
  return 1 / sqrt((double)work->given_variance[channel] + work->epsilon);
}

static double scale_of(const normalization_work *work, int64_t channel) {
  return work->scale == NULL ? 1 : (double)work->scale[channel];
}

static void store_mean(normalization_work *work, int64_t channel) {
  work->exact_mean[channel] = total(work, channel, 0) / elements_of_channel(work);
  work->mean[channel] = (float)work->exact_mean[channel];
}

static void store_variance(normalization_work *work, int64_t channel) {
  work->variance[channel] = (float)(total(work, channel, 0) / elements_of_channel(work));
}

static void normalize_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_work *work = argument;
  for (int64_t item = begin; item < end; ++item) {
    int64_t channel, offset;
    const pf_rows shape = rows_of_item(work, item, &channel, &offset);
    const float factor = (float)(inverse_deviation(work, channel) * scale_of(work, channel));
    double shift = work->shift == NULL ? 0 : (double)work->shift[channel];
    // What the mean lost when it was rounded, far from zero more than the deviations' own error, goes into the shift.
    if (work->exact_mean != NULL) {
      shift += ((double)work->given_mean[channel] - work->exact_mean[channel]) * (double)factor;
    }
    work->kernels->rows_normalize(shape, work->given_mean[channel], factor, (float)shift, work->x + offset,
                                  work->y + offset);
  }
}

static void store_gradients(normalization_work *work, int64_t channel) {
  if (work->scale_gradient != NULL) {
    const bool trainable = work->scale_mask == NULL || work->scale_mask[channel] != 0;
    const double gradient = total(work, channel, 1) * inverse_deviation(work, channel);
    work->scale_gradient[channel] = trainable ? (float)gradient : 0.0f;
  }
  if (work->shift_gradient != NULL) {
    const bool trainable = work->shift_mask == NULL || work->shift_mask[channel] != 0;
    work->shift_gradient[channel] = trainable ? (float)total(work, channel, 0) : 0.0f;
  }
}

static void differentiate_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_work *work = argument;
  for (int64_t item = begin; item < end; ++item) {
    int64_t channel, offset;
    const pf_rows shape = rows_of_item(work, item, &channel, &offset);
    const double inverse = inverse_deviation(work, channel);
    const float factor = (float)(inverse * scale_of(work, channel));
    const float *y_gradient = work->y_gradient + offset;
    float *x_gradient = work->y + offset;
    if (work->statistics_depend_on_x) {
      const double count = elements_of_channel(work);
      const float gradient_mean = (float)(total(work, channel, 0) / count);
      const float slope = (float)(total(work, channel, 1) / count * inverse * inverse);
      work->kernels->rows_normalize_backward(shape, work->given_mean[channel], factor, gradient_mean, slope,
                                             work->x + offset, y_gradient, x_gradient);
    } else {
      for (int64_t row = 0; row < shape.rows; ++row) {
        work->kernels->scale(shape.columns, factor, -0.0f, y_gradient + row * shape.stride,
                             x_gradient + row * shape.stride);
      }
    }
  }
}

// MARK: Order of the passes

typedef struct normalization_passes {
  int32_t count;
  pf_range_function items[3];                                          // NULL: none
  void (*channel[3])(normalization_work *work, int64_t channel);  // after the items; NULL: none
  normalization_work *work;
} normalization_passes;

static void run_channels(void *argument, int64_t begin, int64_t end, int32_t part) {
  const normalization_passes *passes = argument;
  const int64_t chunks = passes->work->chunks;
  for (int64_t channel = begin; channel < end; ++channel) {
    for (int32_t pass = 0; pass < passes->count; ++pass) {
      passes->items[pass](passes->work, channel * chunks, (channel + 1) * chunks, part);
      if (passes->channel[pass] != NULL) passes->channel[pass](passes->work, channel);
    }
  }
}

/// Either shares out channels, each of which stays in a core's cache from pass to pass, or, where there are too few of
/// them, the items of one pass after another. The results are the same.
static void run_passes(const pf_settings *settings, normalization_passes *passes) {
  const normalization_work *work = passes->work;
  const double item_cost = 16.0 * (double)work->chunk_rows * (double)work->spatial;
  const int64_t items = work->channels * work->chunks;
  if (work->channels >= 4 * (int64_t)settings->threads || work->chunks == 1) {
    pf_parallel(settings, work->channels, item_cost * (double)work->chunks * passes->count, run_channels, passes);
    return;
  }
  for (int32_t pass = 0; pass < passes->count; ++pass) {
    pf_parallel(settings, items, item_cost, passes->items[pass], passes->work);
    if (passes->channel[pass] == NULL) continue;
    for (int64_t channel = 0; channel < work->channels; ++channel) passes->channel[pass](passes->work, channel);
  }
}

static pf_status read_problem(const pf_settings *settings, const pf_batch_normalization *problem,
                              normalization_work *work) {
  PF_REQUIRE(problem != NULL, pf_error_null);
  PF_REQUIRE(problem->channels > 0 && problem->spatial > 0, pf_error_dimension);
  PF_REQUIRE(problem->epsilon >= 0 && isfinite(problem->epsilon), pf_error_value);
  int64_t elements;
  PF_TRY(pf_extents(&elements, problem->batch, problem->channels, problem->spatial));
  *work = (normalization_work){.kernels = &settings->kernels->operations, .batch = problem->batch,
                               .channels = problem->channels, .spatial = problem->spatial,
                               .epsilon = (double)problem->epsilon};
  work->chunk_rows = pf_maximum_of(1, chunk_elements / problem->spatial);
  work->chunks = pf_ceiling_divide(problem->batch, work->chunk_rows);
  return pf_ok;
}

pf_status pf_batch_normalization_forward(const pf_context *context, const pf_batch_normalization *problem,
                                         const float *x, const float *scale, const float *shift, float *mean,
                                         float *variance, float *y) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  PF_REQUIRE(work.batch > 0, pf_error_dimension);
  PF_REQUIRE(x != NULL && mean != NULL && variance != NULL && y != NULL, pf_error_null);
  const size_t channels = (size_t)work.channels;
  double *workspace = pf_memory_allocate((2 * channels * (size_t)work.chunks + channels) * sizeof(double));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  work.exact_mean = workspace;
  work.partials = (double(*)[2])(workspace + channels);
  work.x = x, work.scale = scale, work.shift = shift, work.y = y;
  work.mean = mean, work.variance = variance;
  work.given_mean = mean, work.given_variance = variance;
  normalization_passes passes = {
      3, {sum_items, square_items, normalize_items}, {store_mean, store_variance, NULL}, &work};
  run_passes(&settings, &passes);
  pf_memory_release(workspace);
  return pf_ok;
}

pf_status pf_batch_normalization_apply(const pf_context *context, const pf_batch_normalization *problem,
                                       const float *x, const float *scale, const float *shift, const float *mean,
                                       const float *variance, float *y) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  if (work.batch == 0) return pf_ok;
  PF_REQUIRE(x != NULL && mean != NULL && variance != NULL && y != NULL, pf_error_null);
  work.x = x, work.scale = scale, work.shift = shift, work.y = y;
  work.given_mean = mean, work.given_variance = variance;
  normalization_passes passes = {1, {normalize_items}, {NULL}, &work};
  run_passes(&settings, &passes);
  return pf_ok;
}

pf_status pf_batch_normalization_backward(const pf_context *context, const pf_batch_normalization *problem,
                                          bool statistics_depend_on_x, const float *x, const float *y_gradient,
                                          const float *scale, const float *mean, const float *variance,
                                          const uint8_t *scale_gradient_mask, const uint8_t *shift_gradient_mask,
                                          float *x_gradient, float *scale_gradient, float *shift_gradient) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  PF_REQUIRE(work.batch > 0 || !statistics_depend_on_x, pf_error_dimension);
  PF_REQUIRE(mean != NULL && variance != NULL, pf_error_null);
  PF_REQUIRE(work.batch == 0 || (x != NULL && y_gradient != NULL), pf_error_null);
  const bool sums = scale_gradient != NULL || shift_gradient != NULL ||
                    (x_gradient != NULL && statistics_depend_on_x);
  if (!sums && (x_gradient == NULL || work.batch == 0)) return pf_ok;
  double *workspace = pf_memory_allocate(2 * (size_t)work.channels * (size_t)work.chunks * sizeof(double));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  work.partials = (double(*)[2])workspace;
  work.x = x, work.y_gradient = y_gradient, work.scale = scale, work.y = x_gradient;
  work.given_mean = mean, work.given_variance = variance;
  work.statistics_depend_on_x = statistics_depend_on_x;
  work.scale_mask = scale_gradient_mask, work.shift_mask = shift_gradient_mask;
  work.scale_gradient = scale_gradient, work.shift_gradient = shift_gradient;
  normalization_passes passes = {.work = &work};
  if (sums) {
    passes.items[passes.count] = product_items;
    passes.channel[passes.count++] = store_gradients;
  }
  if (x_gradient != NULL) passes.items[passes.count++] = differentiate_items;
  run_passes(&settings, &passes);
  pf_memory_release(workspace);
  return pf_ok;
}
