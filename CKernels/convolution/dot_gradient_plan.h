// How a weight gradient of dot products runs: chosen from its shape, the kernels and the thread count. No result
// depends on the latter.

#ifndef PF_DOT_GRADIENT_PLAN_H
#define PF_DOT_GRADIENT_PLAN_H

#include "convolution/frame.h"
#include "convolution/problem.h"

typedef struct pf_dot_plan {
  const pf_kernels *kernels;
  pf_convolution2d problem;
  pf_convolution_shape shape;
  pf_frame frame;
  int64_t first_y, first_x;  // of the taps that read anything
  int64_t inner;             // elements of one filter that aren't always zero: channels * those taps
  bool far;                   // the next item of work is fetched from memory while one runs
  int64_t blocks_images, blocks_y, blocks_x, blocks;
  int64_t slices;
  int64_t channels;   // copied at a time
  int64_t row_stride;  // floats of a row of the output gradient on the grid
  int64_t row_tiles, row_parts;  // filters of a group in tiles, and the pieces these are cut into
  int64_t shifts;      // most tap rows that take the place of filters; 0: none does
  int64_t shift;       // floats that the output gradient moves by from one to the next
  int64_t lead;        // zeros in front of a row of the output gradient, for its moves
  int32_t parts, finish_parts;
  int64_t scratch_bytes, workspace_bytes;
} pf_dot_plan;

/// Plans the weight gradient of a checked problem. pf_error_overflow when its workspace can't be addressed.
pf_status pf_dot_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                         const pf_convolution_shape *shape, pf_dot_plan *plan);

#endif
