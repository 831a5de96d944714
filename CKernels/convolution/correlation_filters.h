// Correlations with the result's channels in the lanes. Points are read one by one, so neither strided columns nor
// short rows cost anything: register tiles are pieces of rows of the result, or of two rows where these are short.
//
// The source is read in place where no tap reads padding, else from frames that keep its columns as they are. Sums are
// kept by point, a vector of channels each, and transposed into the result. The order of a sum is that of
// correlation.h: steps of whole channels, in each chains of products, by channels and taps.

#ifndef PF_CORRELATION_FILTERS_H
#define PF_CORRELATION_FILTERS_H

#include "convolution/correlation.h"

/// Whether a correlation, its taps trimmed, can run this way.
bool pf_correlation_filters_apply(const pf_correlation_plan *plan);

/// Turns a plan into one that runs this way, but for what pf_correlation_filters_finish fills in, and stores its
/// estimated time were `threads` to start together, in vector multiply-adds.
pf_status pf_correlation_filters_prepare(const pf_settings *settings, int64_t threads, pf_correlation_plan *plan,
                                         double *time);

void pf_correlation_filters_finish(const pf_settings *settings, pf_correlation_plan *plan);

void pf_correlation_filters_run(const pf_correlation_plan *plan, const float *source, const float *weight,
                                const float *bias, pf_activation activation, pf_writing writing, float *result,
                                char *workspace);

// What planning and running share.

/// Vectors of channels of the largest register tile.
static inline int64_t pf_filter_tile_vectors(const pf_correlation_plan *plan) {
  return plan->kernels->tile_columns / plan->kernels->lanes;
}

/// Pieces that a row is cut into, a register tile each.
static inline int64_t pf_filter_pieces(const pf_correlation_plan *plan) {
  return pf_ceiling_divide(plan->problem.x.grid, plan->kernels->tile_rows);
}

/// Vectors of a part of the tiles, at most.
static inline int64_t pf_filter_part_vectors(const pf_correlation_plan *plan) {
  return pf_minimum_of(plan->vectors, pf_ceiling_divide(plan->tiles, plan->tile_parts) * pf_filter_tile_vectors(plan));
}

/// Floats from a vector of channels to the next one's sums.
static inline int64_t pf_filter_vector_stride(const pf_correlation_plan *plan) {
  const int64_t rows = pf_sums_wait(plan) ? plan->block_images * plan->block_rows : plan->strip_rows;
  return rows * plan->problem.x.grid * plan->kernels->lanes;
}

#endif
