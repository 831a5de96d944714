// How a weight gradient of outer products runs: chosen from its shape, the kernels and the thread count. No result
// depends on the latter.

#ifndef PF_WEIGHT_GRADIENT_PLAN_H
#define PF_WEIGHT_GRADIENT_PLAN_H

#include "convolution/frame.h"
#include "convolution/gradient_mask.h"
#include "convolution/problem.h"

typedef struct pf_gradient_plan {
  const pf_kernels *kernels;
  pf_convolution2d problem;
  pf_convolution_shape shape;
  int64_t height, width;      // of the output gradient's planes; those of a 1x1 kernel may count as one row
  int64_t step_y, step_x;     // of the input, from a point to the next
  bool in_place;              // the input is read where it is
  pf_frame frame;             // where it is copied otherwise; its grid: all positions from the first point to the last
  int64_t first_y, first_x;   // of the taps that read anything
  int64_t taps;               // how many these are
  int64_t inner;              // elements of one filter that aren't always zero: channels * those taps
  pf_block chain;             // points that are summed one after another: rows, a piece of one, or images
  int64_t chains_y, chains_x, chains;
  pf_block most;              // of the largest block, whole chains; the first image, row and column of both are 0
  int64_t blocks_y, blocks_x, blocks;
  bool fetches;               // kernels fetch the next block's output gradient,
  int64_t run_points;         // and a run of points, at most so many, the cache lines of a filter
  int64_t slices, slice_blocks;
  bool one_block;             // of all points, with so many sums that these had better not wait
  int64_t channels;           // copied at a time
  int64_t group_parts;        // the pieces that a group's tiles are cut into,
  bool cut_channels;          // or its channels
  int64_t panel_floats;       // of packed output gradient
  int64_t sum_floats;         // of a slice
  int32_t parts, finish_parts;
  int64_t runs_bytes, scratch_bytes, finish_bytes, workspace_bytes;
  int64_t tiles_bytes, lists_bytes;  // more workspace: tiles of everything, or of what a mask leaves
} pf_gradient_plan;

/// Plans the weight gradient of a checked problem. pf_error_overflow when its workspace can't be addressed.
pf_status pf_gradient_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                              const pf_convolution_shape *shape, pf_gradient_plan *plan);

/// Block `index`: columns first, then rows, then images.
pf_block pf_gradient_block(const pf_gradient_plan *plan, int64_t index);

/// The part of a filter that isn't always zero.
pf_filter_window pf_gradient_window(const pf_gradient_plan *plan);

#endif
