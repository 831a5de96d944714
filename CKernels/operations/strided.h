// Iteration over strided views.

#ifndef PF_STRIDED_H
#define PF_STRIDED_H

#include "runtime/runtime.h"

enum { pf_most_operands = 3 };

// Up to three operands that are walked together, with as few axes as they allow.
typedef struct pf_views {
  int32_t rank, operands;
  int64_t count;  // elements walked over
  int64_t shape[pf_maximum_rank];
  int64_t strides[pf_most_operands][pf_maximum_rank];
} pf_views;

/// Checks a shape and the strides of each operand, drops axes of extent 1 and merges neighbours that every operand
/// walks as one. The rank of the result is at least 1. `strides` holds `operands` pointers, each to `rank` strides.
pf_status pf_read_views(int32_t rank, const int64_t *shape, int32_t operands, const int64_t *const *strides,
                        pf_views *views);

/// The offsets of the element with row-major index `index` over the first `axes` axes.
void pf_locate(const pf_views *views, int32_t axes, int64_t index, int64_t *offsets);

#endif
