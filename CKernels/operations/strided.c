#include "operations/strided.h"

/// Whether every offset of a view, in bytes, can be addressed.
static bool is_addressable(int32_t rank, const int64_t *shape, const int64_t *strides) {
  int64_t reach = 0;
  for (int32_t axis = 0; axis < rank; ++axis) {
    int64_t distance;
    if (strides[axis] == INT64_MIN) return false;
    const int64_t stride = strides[axis] < 0 ? -strides[axis] : strides[axis];
    if (__builtin_mul_overflow(stride, shape[axis] - 1, &distance)) return false;
    if (__builtin_add_overflow(reach, distance, &reach)) return false;
  }
  return reach < PTRDIFF_MAX / (int64_t)sizeof(float);
}

pf_status pf_read_views(int32_t rank, const int64_t *shape, int32_t operands, const int64_t *const *strides,
                        pf_views *views) {
  PF_REQUIRE(rank >= 0 && rank <= pf_maximum_rank, pf_error_dimension);
  PF_REQUIRE(rank == 0 || shape != NULL, pf_error_null);
  for (int32_t operand = 0; operand < operands; ++operand) {
    PF_REQUIRE(rank == 0 || strides[operand] != NULL, pf_error_null);
  }
  PF_TRY(pf_multiply_extents(shape, rank, &views->count));
  views->operands = operands;
  views->rank = 1;
  views->shape[0] = 1;
  for (int32_t operand = 0; operand < operands; ++operand) views->strides[operand][0] = 1;
  if (views->count == 0) return pf_ok;
  int32_t axes = 0;
  for (int32_t operand = 0; operand < operands; ++operand) {
    PF_REQUIRE(is_addressable(rank, shape, strides[operand]), pf_error_overflow);
  }
  for (int32_t axis = 0; axis < rank; ++axis) {
    if (shape[axis] == 1) continue;
    bool merges = axes > 0;
    for (int32_t operand = 0; operand < operands && merges; ++operand) {
      merges = views->strides[operand][axes - 1] == strides[operand][axis] * shape[axis];
    }
    if (merges) {
      views->shape[axes - 1] *= shape[axis];
    } else {
      views->shape[axes++] = shape[axis];
    }
    for (int32_t operand = 0; operand < operands; ++operand) {
      views->strides[operand][axes - 1] = strides[operand][axis];
    }
  }
  if (axes > 0) views->rank = axes;
  return pf_ok;
}

void pf_locate(const pf_views *views, int32_t axes, int64_t index, int64_t *offsets) {
  for (int32_t operand = 0; operand < views->operands; ++operand) offsets[operand] = 0;
  for (int32_t axis = axes - 1; axis >= 0; --axis) {
    const int64_t position = index % views->shape[axis];
    index /= views->shape[axis];
    for (int32_t operand = 0; operand < views->operands; ++operand) {
      offsets[operand] += position * views->strides[operand][axis];
    }
  }
}
