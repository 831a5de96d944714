// Copies between strided views.

#include <string.h>

#include "operations/strided.h"

enum { from_operand = 0, to_operand = 1 };

// The walk: outer axes one by one, and a block of two axes: `rows`, and `columns` along which `to` is densest.
typedef struct copy_work {
  pf_views views;  // the outer axes
  int64_t rows, columns;
  int64_t from_row, from_column, to_row, to_column;  // strides
  int64_t row_blocks, column_blocks;
  const float *from;
  float *to;
  bool accumulates;
} copy_work;

// Side of a square that is copied at a time where the two views run along different axes: both sides' cache lines stay.
enum { tile = 16, longest_run = 16384 };

static void copy_row(const copy_work *work, int64_t count, const float *from, float *to) {
  const int64_t from_stride = work->from_column, to_stride = work->to_column;
  if (work->accumulates) {
    if (from_stride == 1 && to_stride == 1) {
      for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    } else {
      for (int64_t i = 0; i < count; ++i) to[i * to_stride] += from[i * from_stride];
    }
  } else if (from_stride == 1 && to_stride == 1) {
    memcpy(to, from, (size_t)count * sizeof(float));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

static void copy_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const copy_work *work = argument;
  const bool along = work->from_column == 0 || work->from_column == 1 || work->from_column == -1;
  const int64_t width = along ? longest_run : tile;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item % (work->row_blocks * work->column_blocks);
    int64_t offsets[pf_most_operands];
    pf_locate(&work->views, work->views.rank, item / (work->row_blocks * work->column_blocks), offsets);
    const int64_t first_row = block / work->column_blocks * tile;
    const int64_t last_row = pf_minimum_of(first_row + tile, work->rows);
    const int64_t first_column = block % work->column_blocks * longest_run;
    const int64_t last_column = pf_minimum_of(first_column + longest_run, work->columns);
    for (int64_t column = first_column; column < last_column; column += width) {
      const int64_t count = pf_minimum_of(width, last_column - column);
      for (int64_t row = first_row; row < last_row; ++row) {
        copy_row(work, count, work->from + offsets[from_operand] + row * work->from_row + column * work->from_column,
                 work->to + offsets[to_operand] + row * work->to_row + column * work->to_column);
      }
    }
  }
}

/// How far apart an axis puts neighbours; a broadcast axis counts as the farthest.
static int64_t distance(int64_t stride) { return stride == 0 ? INT64_MAX : stride < 0 ? -stride : stride; }

/// Removes the axis of `views` where `operand` has the smallest stride and stores its extent and strides; an extent of
/// 1 when none is left.
static void take_densest_axis(pf_views *views, int32_t operand, int64_t *extent, int64_t *from, int64_t *to) {
  *extent = 1, *from = 1, *to = 1;
  if (views->rank == 0) return;
  int32_t densest = views->rank - 1;
  for (int32_t axis = views->rank - 1; axis >= 0; --axis) {
    if (distance(views->strides[operand][axis]) < distance(views->strides[operand][densest])) densest = axis;
  }
  *extent = views->shape[densest];
  *from = views->strides[from_operand][densest];
  *to = views->strides[to_operand][densest];
  --views->rank;
  for (int32_t axis = densest; axis < views->rank; ++axis) {
    views->shape[axis] = views->shape[axis + 1];
    for (int32_t k = 0; k < views->operands; ++k) views->strides[k][axis] = views->strides[k][axis + 1];
  }
}

pf_status pf_copy_strided(const pf_context *context, int32_t rank, const int64_t *shape, const float *from,
                          const int64_t *strides_from, pf_writing writing, float *to, const int64_t *strides_to) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  copy_work work = {.from = from, .to = to, .accumulates = writing == pf_accumulate};
  PF_TRY(pf_read_views(rank, shape, 2, (const int64_t *const[]){strides_from, strides_to}, &work.views));
  if (work.views.count == 0) return pf_ok;
  PF_REQUIRE(from != NULL && to != NULL, pf_error_null);
  for (int32_t axis = 0; axis < rank; ++axis) {
    PF_REQUIRE(shape[axis] == 1 || strides_to[axis] != 0, pf_error_dimension);
  }
  take_densest_axis(&work.views, to_operand, &work.columns, &work.from_column, &work.to_column);
  take_densest_axis(&work.views, from_operand, &work.rows, &work.from_row, &work.to_row);
  work.row_blocks = pf_ceiling_divide(work.rows, tile);
  work.column_blocks = pf_ceiling_divide(work.columns, longest_run);
  int64_t outer = 1;
  for (int32_t axis = 0; axis < work.views.rank; ++axis) outer *= work.views.shape[axis];
  pf_parallel(&settings, outer * work.row_blocks * work.column_blocks,
              16.0 * tile * (double)pf_minimum_of(work.columns, longest_run), copy_range, &work);
  return pf_ok;
}
