// Batch normalisation. A channel's batch is cut into chunks by the shape alone; sums are formed in double and added in
// order of the chunks. Mean and variance come from one pass, over deviations from the channel's first element: with n
// elements, (mean - first)^2 is at most n times the variance, so that no more than n 2^-53 of it cancels.
//
// A single pass reads memory in its own order, the planes of neighbouring channels of one image after those of another:
// a channel by itself would jump from page to page, where the hardware's prefetch begins anew each time. Two passes
// take as few channels as fill the core's own cache, so that the second finds them there, and begins where the first
// ended. Sums fetch memory ahead of themselves.

#include <math.h>
#include <string.h>

#include "runtime/runtime.h"

enum {
  chunk_elements = 16384,  // of a chunk, about
  gathered_elements = 1024,
  narrow = 16,             // planes smaller than this are gathered before they are summed
  short_plane = 512,       // planes smaller than this are summed channel by channel: a call each would cost too much
  most_channels = 64,      // taken together
  kept_bytes = 512 << 10,  // that a thread may expect to find again in its cache from one pass to the next
  // Elements that a sum fetches ahead: of the channel, where its planes are taken one after another, or of memory.
  channel_ahead = 1024,
  most_rows_ahead = 4,     // more planes would fall into the same sets of the cache and displace each other
  memory_ahead = 2048
};

typedef struct normalization_work {
  const pf_operation_kernels *kernels;
  int64_t batch, channels, spatial;
  double epsilon;
  int64_t chunk_rows, chunks;  // planes of a chunk, chunks of a channel
  pf_activation activation;
  const float *x, *y_gradient, *addend;
  float *y;  // or the gradient with respect to x
  // Of a channel.
  const float *scale, *shift;
  float *mean, *mean_remainder, *variance;
  const float *given_mean, *given_remainder, *given_variance;
  pf_affine *affines;
  double (*partials)[2];  // channels x chunks
  // Backward only.
  bool statistics_depend_on_x;
  const uint8_t *scale_mask, *shift_mask;
  float *scale_gradient, *shift_gradient;
} normalization_work;

static double elements_of_channel(const normalization_work *work) {
  return (double)work->batch * (double)work->spatial;
}

static double total(const normalization_work *work, int64_t channel, int32_t which) {
  double sum = 0;
  for (int64_t chunk = 0; chunk < work->chunks; ++chunk) sum += work->partials[channel * work->chunks + chunk][which];
  return sum;
}

// MARK: Before and after the passes: a channel

static double inverse_deviation(const normalization_work *work, int64_t channel) {
  return 1 / sqrt((double)work->given_variance[channel] + work->epsilon);
}

static void store_affine(normalization_work *work, int64_t channel) {
  const double scale = work->scale == NULL ? 1 : (double)work->scale[channel];
  const float factor = (float)(inverse_deviation(work, channel) * scale);
  double shift = work->shift == NULL ? 0 : (double)work->shift[channel];
  // What the mean lost when it was rounded, far from zero more than the deviations' own error, goes into the shift.
  if (work->given_remainder != NULL) shift -= (double)work->given_remainder[channel] * (double)factor;
  work->affines[channel] = (pf_affine){work->given_mean[channel], factor, (float)shift, 0, 0};
}

static double first_of_channel(const normalization_work *work, int64_t channel) {
  return (double)work->x[channel * work->spatial];
}

static void store_statistics(normalization_work *work, int64_t channel) {
  const double count = elements_of_channel(work);
  const double beyond = total(work, channel, 0) / count;  // the first element
  const double mean = first_of_channel(work, channel) + beyond;
  const double variance = total(work, channel, 1) / count - beyond * beyond;
  work->mean[channel] = (float)mean;
  work->mean_remainder[channel] = (float)(mean - (double)work->mean[channel]);
  work->variance[channel] = (float)(variance < 0 ? 0 : variance);
}

static void store_gradients(normalization_work *work, int64_t channel) {
  const double gradients = total(work, channel, 0), products = total(work, channel, 1);
  const double inverse = inverse_deviation(work, channel);
  if (work->scale_gradient != NULL) {
    const bool trainable = work->scale_mask == NULL || work->scale_mask[channel] != 0;
    work->scale_gradient[channel] = trainable ? (float)(products * inverse) : 0.0f;
  }
  if (work->shift_gradient != NULL) {
    const bool trainable = work->shift_mask == NULL || work->shift_mask[channel] != 0;
    work->shift_gradient[channel] = trainable ? (float)gradients : 0.0f;
  }
  if (work->statistics_depend_on_x) {
    const double count = elements_of_channel(work);
    work->affines[channel].gradient_mean = (float)(gradients / count);
    work->affines[channel].slope = (float)(products / count * inverse * inverse);
  }
}

// MARK: Passes: some rows

/// Where rows begin: `offset` elements into the tensors; of which channel, and whether the next row is of the next one.
typedef struct normalization_rows {
  pf_rows shape;
  int64_t offset, channel, channel_step;
  int64_t ahead;  // elements from what a sum reads to what it fetches into the caches meanwhile, or 0
} normalization_rows;

typedef void (*sum_function)(const normalization_work *work, const normalization_rows *rows, const float *x,
                             const float *y_gradient, pf_lane_sums *sums);

static void add_moments(const normalization_work *work, const normalization_rows *rows, const float *x,
                        const float *y_gradient, pf_lane_sums *sums) {
  (void)y_gradient;
  work->kernels->rows_moments(rows->shape, rows->ahead, first_of_channel(work, rows->channel), x, sums);
}

static void add_products(const normalization_work *work, const normalization_rows *rows, const float *x,
                         const float *y_gradient, pf_lane_sums *sums) {
  work->kernels->rows_products[work->activation](rows->shape, rows->ahead, &work->affines[rows->channel], x,
                                                 y_gradient, sums);
}

static pf_rows gather(pf_rows shape, const float *x, float *gathered) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t i = 0; i < shape.columns; ++i) *gathered++ = x[row * shape.stride + i];
  }
  return (pf_rows){1, shape.rows * shape.columns, shape.rows * shape.columns};
}

/// Calls `add` on rows, or on gathered pieces of them: one call a few elements would cost more than the sum.
static void add_rows_of(sum_function add, const normalization_work *work, const normalization_rows *rows,
                        const float *x, const float *y_gradient, pf_lane_sums *sums) {
  const pf_rows shape = rows->shape;
  if (shape.columns >= narrow) {
    add(work, rows, x, y_gradient, sums);
    return;
  }
  const int64_t most = gathered_elements / shape.columns;
  for (int64_t row = 0; row < shape.rows; row += most) {
    float gathered_x[gathered_elements], gathered_gradient[gathered_elements];
    const pf_rows piece = {pf_minimum_of(most, shape.rows - row), shape.stride, shape.columns};
    if (y_gradient != NULL) gather(piece, y_gradient + row * shape.stride, gathered_gradient);
    const normalization_rows gathered = {.shape = gather(piece, x + row * shape.stride, gathered_x),
                                         .channel = rows->channel};
    add(work, &gathered, gathered_x, gathered_gradient, sums);
  }
}

static void sum_moments(const normalization_work *work, const normalization_rows *rows, pf_lane_sums *sums) {
  add_rows_of(add_moments, work, rows, work->x + rows->offset, NULL, sums);
}

static void sum_products(const normalization_work *work, const normalization_rows *rows, pf_lane_sums *sums) {
  add_rows_of(add_products, work, rows, work->x + rows->offset, work->y_gradient + rows->offset, sums);
}

static void normalize(const normalization_work *work, const normalization_rows *rows) {
  const float *addend = work->addend == NULL ? NULL : work->addend + rows->offset;
  work->kernels->rows_normalize[work->activation](rows->shape, &work->affines[rows->channel], rows->channel_step,
                                                  work->x + rows->offset, addend, work->y + rows->offset);
}

static void differentiate(const normalization_work *work, const normalization_rows *rows) {
  work->kernels->rows_normalize_backward[work->activation](
      rows->shape, &work->affines[rows->channel], rows->channel_step, work->x + rows->offset,
      work->y_gradient + rows->offset, work->y + rows->offset);
}

// MARK: Order of the passes

typedef struct normalization_pass {
  /// One or the other: adds to a channel's sums in a chunk, or computes elements.
  void (*sum)(const normalization_work *work, const normalization_rows *rows, pf_lane_sums *sums);
  void (*compute)(const normalization_work *work, const normalization_rows *rows);
  void (*channel)(normalization_work *work, int64_t channel);  // when all its chunks are summed
} normalization_pass;

typedef struct normalization_passes {
  int32_t count;
  normalization_pass passes[2];
  normalization_work *work;
} normalization_passes;

typedef struct normalization_chunk {
  int64_t first, rows;  // images
} normalization_chunk;

static normalization_chunk chunk_at(const normalization_work *work, int64_t chunk) {
  const int64_t first = chunk * work->chunk_rows;
  return (normalization_chunk){first, pf_minimum_of(work->chunk_rows, work->batch - first)};
}

/// Sums over a chunk of some channels, most_channels at most.
static void sum_chunk(const normalization_work *work, const normalization_pass *pass, int64_t chunk, int64_t begin,
                      int64_t end) {
  pf_lane_sums sums[most_channels];
  memset(sums, 0, (size_t)(end - begin) * sizeof *sums);
  const normalization_chunk images = chunk_at(work, chunk);
  const int64_t stride = work->channels * work->spatial;
  const bool by_channel = work->spatial < short_plane || end - begin == 1;
  const int64_t rows = by_channel ? images.rows : 1;
  const int64_t rows_ahead = pf_maximum_of(1, pf_minimum_of(most_rows_ahead, channel_ahead / work->spatial));
  for (int64_t row = 0; row < images.rows; row += rows) {
    for (int64_t channel = begin; channel < end; ++channel) {
      const normalization_rows of_channel = {.shape = {rows, stride, work->spatial},
                                             .offset = (images.first + row) * stride + channel * work->spatial,
                                             .channel = channel,
                                             .ahead = by_channel ? rows_ahead * stride : memory_ahead};
      pass->sum(work, &of_channel, &sums[channel - begin]);
    }
  }
  for (int64_t channel = begin; channel < end; ++channel) {
    pf_sum_lanes(&sums[channel - begin], work->partials[channel * work->chunks + chunk]);
  }
}

/// Computes the elements of some channels in a chunk, counted from the last: what an earlier pass read last may still
/// be in the caches.
static void compute_chunk(const normalization_work *work, const normalization_pass *pass, int64_t chunk,
                          int64_t begin, int64_t end) {
  const normalization_chunk images = chunk_at(work, work->chunks - 1 - chunk);
  const int64_t stride = work->channels * work->spatial;
  const int64_t last = (images.first + images.rows - 1) * stride + begin * work->spatial;
  if (end - begin == 1) {
    pass->compute(work, &(normalization_rows){
                            .shape = {images.rows, -stride, work->spatial}, .offset = last, .channel = begin});
    return;
  }
  for (int64_t row = 0; row < images.rows; ++row) {
    pass->compute(work, &(normalization_rows){.shape = {end - begin, work->spatial, work->spatial},
                                              .offset = last - row * stride, .channel = begin, .channel_step = 1});
  }
}

static void run_chunk(const normalization_work *work, const normalization_pass *pass, int64_t chunk, int64_t begin,
                      int64_t end) {
  (pass->sum != NULL ? sum_chunk : compute_chunk)(work, pass, chunk, begin, end);
}

/// All passes over some channels, a group at a time: small enough to be found in the caches by the second pass.
static void run_channels(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const normalization_passes *passes = argument;
  normalization_work *work = passes->work;
  const double bytes = 2.0 * sizeof(float) * elements_of_channel(work);  // x and a gradient
  int64_t group = most_channels;
  if (passes->count > 1 && bytes * (double)group > kept_bytes) group = pf_maximum_of(1, (int64_t)(kept_bytes / bytes));
  for (; begin < end; begin += group) {
    const int64_t last = pf_minimum_of(begin + group, end);
    for (const normalization_pass *pass = passes->passes; pass < passes->passes + passes->count; ++pass) {
      for (int64_t chunk = 0; chunk < work->chunks; ++chunk) run_chunk(work, pass, chunk, begin, last);
      for (int64_t channel = begin; channel < last && pass->channel != NULL; ++channel) pass->channel(work, channel);
    }
  }
}

typedef struct items_of_pass {
  const normalization_work *work;
  const normalization_pass *pass;
} items_of_pass;

static void run_items(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const items_of_pass *items = argument;
  const int64_t channels = items->work->channels;
  for (int64_t item = begin; item < end; ++item) {
    run_chunk(items->work, items->pass, item / channels, item % channels, item % channels + 1);
  }
}

/// Either shares out channels or, where there are too few of them, the chunks of one pass after another. The results
/// are the same.
static void run_passes(const pf_settings *settings, normalization_passes *passes) {
  normalization_work *work = passes->work;
  const double item_cost = 16.0 * (double)work->chunk_rows * (double)work->spatial;
  if (work->channels >= 4 * (int64_t)settings->threads || work->chunks <= 1) {
    pf_parallel(settings, work->channels, item_cost * (double)work->chunks * passes->count, run_channels, passes);
    return;
  }
  for (int32_t i = 0; i < passes->count; ++i) {
    const normalization_pass *pass = &passes->passes[i];
    items_of_pass items = {work, pass};
    pf_parallel(settings, work->channels * work->chunks, item_cost, run_items, &items);
    for (int64_t channel = 0; channel < work->channels && pass->channel != NULL; ++channel) {
      pass->channel(work, channel);
    }
  }
}

/// Runs the passes with memory for what they keep of each channel.
static pf_status run(const pf_settings *settings, normalization_passes *passes) {
  normalization_work *work = passes->work;
  const size_t channels = (size_t)work->channels;
  const size_t partials = channels * (size_t)work->chunks * sizeof *work->partials;
  char *workspace = pf_memory_allocate(partials + channels * sizeof *work->affines);
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  work->partials = (double(*)[2])workspace;
  work->affines = (pf_affine *)(workspace + partials);
  for (int64_t channel = 0; channel < work->channels && work->given_variance != NULL; ++channel) {
    store_affine(work, channel);
  }
  run_passes(settings, passes);
  pf_memory_release(workspace);
  return pf_ok;
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

pf_status pf_batch_normalization_statistics(const pf_context *context, const pf_batch_normalization *problem,
                                            const float *x, float *mean, float *mean_remainder, float *variance) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  PF_REQUIRE(work.batch > 0, pf_error_dimension);
  PF_REQUIRE(x != NULL && mean != NULL && mean_remainder != NULL && variance != NULL, pf_error_null);
  work.x = x;
  work.mean = mean, work.mean_remainder = mean_remainder, work.variance = variance;
  normalization_passes passes = {1, {{.sum = sum_moments, .channel = store_statistics}}, &work};
  return run(&settings, &passes);
}

pf_status pf_batch_normalization_apply(const pf_context *context, const pf_batch_normalization *problem,
                                       pf_activation activation, const float *x, const float *scale,
                                       const float *shift, const float *mean, const float *mean_remainder,
                                       const float *variance, const float *addend, float *y) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  PF_REQUIRE(activation >= 0 && activation < (pf_activation)pf_activation_count, pf_error_value);
  if (work.batch == 0) return pf_ok;
  PF_REQUIRE(x != NULL && mean != NULL && variance != NULL && y != NULL, pf_error_null);
  work.activation = activation;
  work.x = x, work.addend = addend, work.scale = scale, work.shift = shift, work.y = y;
  work.given_mean = mean, work.given_remainder = mean_remainder, work.given_variance = variance;
  normalization_passes passes = {1, {{.compute = normalize}}, &work};
  return run(&settings, &passes);
}

pf_status pf_batch_normalization_backward(const pf_context *context, const pf_batch_normalization *problem,
                                          bool statistics_depend_on_x, pf_activation activation, const float *x,
                                          const float *y_gradient, const float *scale, const float *shift,
                                          const float *mean, const float *mean_remainder, const float *variance,
                                          const uint8_t *scale_gradient_mask, const uint8_t *shift_gradient_mask,
                                          float *x_gradient, float *scale_gradient, float *shift_gradient) {
  pf_settings settings;
  normalization_work work;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(read_problem(&settings, problem, &work));
  PF_REQUIRE(activation >= 0 && activation < (pf_activation)pf_activation_count, pf_error_value);
  PF_REQUIRE(work.batch > 0 || !statistics_depend_on_x, pf_error_dimension);
  PF_REQUIRE(mean != NULL && variance != NULL, pf_error_null);
  PF_REQUIRE(work.batch == 0 || (x != NULL && y_gradient != NULL), pf_error_null);
  const bool sums = scale_gradient != NULL || shift_gradient != NULL ||
                    (x_gradient != NULL && statistics_depend_on_x);
  if (!sums && (x_gradient == NULL || work.batch == 0)) return pf_ok;
  work.activation = activation;
  work.x = x, work.y_gradient = y_gradient, work.scale = scale, work.shift = shift, work.y = x_gradient;
  work.given_mean = mean, work.given_remainder = mean_remainder, work.given_variance = variance;
  work.statistics_depend_on_x = statistics_depend_on_x;
  work.scale_mask = scale_gradient_mask, work.shift_mask = shift_gradient_mask;
  work.scale_gradient = scale_gradient, work.shift_gradient = shift_gradient;
  normalization_passes passes = {.work = &work};
  if (sums) passes.passes[passes.count++] = (normalization_pass){.sum = sum_products, .channel = store_gradients};
  if (x_gradient != NULL) passes.passes[passes.count++] = (normalization_pass){.compute = differentiate};
  return run(&settings, &passes);
}
