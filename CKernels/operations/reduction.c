// Reductions. Sums are formed in double: in tiles of outputs and chunks of the reduced axis that follow from the shape
// alone, chunks added in order.

#include <math.h>
#include <string.h>

#include "runtime/runtime.h"

enum {
  widest_tile = 256,      // outputs of a tile
  chunk_elements = 16384  // elements that a chunk of a tile reduces, about
};

typedef struct reduction_work {
  const pf_operation_kernels *kernels;
  pf_reduction reduction;
  int64_t middle, inner;
  int64_t tile, tiles;          // outputs of a tile, tiles of the inner axis
  int64_t chunk_rows, chunks;   // of the middle axis
  const float *x;
  double *partials;             // outer x chunks x inner; NULL with one chunk
  const uint8_t *mask;
  pf_writing writing;
  float *result;
} reduction_work;

/// Reduces `rows` rows of `columns` neighbouring outputs.
static void reduce_block(const reduction_work *work, int64_t rows, int64_t columns, const float *x, double *block) {
  if (work->reduction == pf_sum) {
    if (work->inner == 1) {
      block[0] = work->kernels->sum(rows, x);
    } else {
      memset(block, 0, (size_t)columns * sizeof(double));
      work->kernels->add_rows((pf_rows){rows, work->inner, columns}, x, block);
    }
  } else if (work->inner == 1) {
    block[0] = (double)(work->reduction == pf_max ? work->kernels->maximum : work->kernels->minimum)(rows, x);
  } else {
    float best[widest_tile];
    memcpy(best, x, (size_t)columns * sizeof(float));
    const pf_binary operation = work->reduction == pf_max ? pf_maximum : pf_minimum;
    for (int64_t row = 1; row < rows; ++row) {
      work->kernels->binary[operation](columns, best, 1, x + row * work->inner, 1, best);
    }
    for (int64_t i = 0; i < columns; ++i) block[i] = (double)best[i];
  }
}

static void finish(const reduction_work *work, int64_t index, double value) {
  const bool trainable = work->mask == NULL || work->mask[index] != 0;
  const float previous = work->writing == pf_accumulate ? work->result[index] : 0.0f;
  work->result[index] = !trainable ? 0.0f : work->writing == pf_accumulate ? previous + (float)value : (float)value;
}

static void reduce_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const reduction_work *work = argument;
  double block[widest_tile];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tile = item % work->tiles, chunk = item / work->tiles % work->chunks;
    const int64_t outer = item / work->tiles / work->chunks;
    const int64_t column = tile * work->tile, columns = pf_minimum_of(work->tile, work->inner - column);
    const int64_t row = chunk * work->chunk_rows, rows = pf_minimum_of(work->chunk_rows, work->middle - row);
    const float *x = work->x + (outer * work->middle + row) * work->inner + column;
    if (work->partials != NULL) {
      reduce_block(work, rows, columns, x, work->partials + (outer * work->chunks + chunk) * work->inner + column);
    } else {
      reduce_block(work, rows, columns, x, block);
      for (int64_t i = 0; i < columns; ++i) finish(work, outer * work->inner + column + i, block[i]);
    }
  }
}

static double combine(pf_reduction reduction, double a, double b) {
  if (reduction == pf_sum) return a + b;
  if (isnan(a)) return a;
  return (reduction == pf_max ? b > a : b < a) || isnan(b) ? b : a;
}

pf_status pf_reduce(const pf_context *context, pf_reduction reduction, int64_t outer, int64_t middle, int64_t inner,
                    const float *x, const uint8_t *gradient_mask, pf_writing writing, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_REQUIRE(reduction == pf_sum || reduction == pf_max || reduction == pf_min, pf_error_value);
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  PF_REQUIRE(reduction == pf_sum || (gradient_mask == NULL && writing == pf_overwrite), pf_error_value);
  int64_t elements, outputs;
  PF_TRY(pf_extents(&elements, outer, middle, inner));
  PF_TRY(pf_extents(&outputs, outer, inner));
  if (outputs == 0) return pf_ok;
  PF_REQUIRE(reduction == pf_sum || middle > 0, pf_error_dimension);
  PF_REQUIRE(result != NULL && (elements == 0 || x != NULL), pf_error_null);
  reduction_work work = {.kernels = &settings.kernels->operations, .reduction = reduction, .middle = middle,
                         .inner = inner, .x = x, .mask = gradient_mask, .writing = writing, .result = result};
  if (middle == 0) {
    for (int64_t i = 0; i < outputs; ++i) finish(&work, i, 0);
    return pf_ok;
  }
  work.tile = pf_minimum_of(inner, widest_tile);
  work.tiles = pf_ceiling_divide(inner, work.tile);
  work.chunk_rows = pf_minimum_of(middle, chunk_elements / work.tile);
  work.chunks = pf_ceiling_divide(middle, work.chunk_rows);
  if (work.chunks > 1) {
    // At most a 64th of the elements: no overflow.
    work.partials = pf_memory_allocate((size_t)(outer * work.chunks * inner) * sizeof(double));
    PF_REQUIRE(work.partials != NULL, pf_error_memory);
  }
  pf_parallel(&settings, outer * work.tiles * work.chunks, 8.0 * (double)(work.tile * work.chunk_rows), reduce_range,
              &work);
  if (work.partials != NULL) {
    for (int64_t i = 0; i < outer; ++i) {
      const double *partials = work.partials + i * work.chunks * inner;
      for (int64_t j = 0; j < inner; ++j) {
        double value = partials[j];
        for (int64_t chunk = 1; chunk < work.chunks; ++chunk) {
          value = combine(reduction, value, partials[chunk * inner + j]);
        }
        finish(&work, i * inner + j, value);
      }
    }
    pf_memory_release(work.partials);
  }
  return pf_ok;
}

typedef struct argmax_work {
  const pf_operation_kernels *kernels;
  int64_t columns;
  const float *x;
  int32_t *result;
} argmax_work;

static void argmax_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const argmax_work *work = argument;
  for (int64_t row = begin; row < end; ++row) {
    work->result[row] = (int32_t)work->kernels->argmax(work->columns, work->x + row * work->columns);
  }
}

pf_status pf_argmax(const pf_context *context, int64_t rows, int64_t columns, const float *x, int32_t *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  int64_t elements;
  PF_TRY(pf_extents(&elements, rows, columns));
  PF_REQUIRE(columns > 0, pf_error_dimension);
  PF_REQUIRE(columns <= INT32_MAX, pf_error_overflow);
  if (rows == 0) return pf_ok;
  PF_REQUIRE(x != NULL && result != NULL, pf_error_null);
  argmax_work work = {&settings.kernels->operations, columns, x, result};
  pf_parallel(&settings, rows, 8.0 * (double)columns, argmax_range, &work);
  return pf_ok;
}

typedef struct squares_work {
  const pf_operation_kernels *kernels;
  int64_t count;
  const float *x;
  const uint8_t *mask;
  double *partials;
} squares_work;

static void squares_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const squares_work *work = argument;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t first = chunk * chunk_elements, count = pf_minimum_of(chunk_elements, work->count - first);
    work->partials[chunk] = work->kernels->sum_of_squares(count, work->x + first,
                                                          work->mask == NULL ? NULL : work->mask + first);
  }
}

pf_status pf_sum_of_squares(const pf_context *context, int64_t count, const float *x, const uint8_t *gradient_mask,
                            double *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_extents(&count, count));
  PF_REQUIRE(result != NULL && (count == 0 || x != NULL), pf_error_null);
  const int64_t chunks = pf_ceiling_divide(count, chunk_elements);
  double *partials = pf_memory_allocate((size_t)chunks * sizeof(double));
  PF_REQUIRE(partials != NULL, pf_error_memory);
  squares_work work = {&settings.kernels->operations, count, x, gradient_mask, partials};
  pf_parallel(&settings, chunks, 8.0 * chunk_elements, squares_range, &work);
  double sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk];
  *result = sum;
  pf_memory_release(partials);
  return pf_ok;
}
