// What the passes of depthwise.h have in common: their blocks, and the blocks' pixels. Between depthwise*.c.
//
// A pass reads a source and has a grid: in the forward pass and the weight gradient the input and the output's pixels,
// in the input gradient the output gradient and, for each phase of the stride, the input pixels of that phase. A block
// is a rectangle of the grid, in all phases.

#ifndef PF_DEPTHWISE_PLAN_H
#define PF_DEPTHWISE_PLAN_H

#include "convolution/frame.h"
#include "convolution/problem.h"

/// One axis of a pass.
typedef struct pf_depthwise_axis {
  int64_t source, result;        // extents
  int64_t kernel, stride, dilation, padding;
  int64_t phases;                // results phase, phase + phases, ... are those of a phase
  int64_t grid;                  // of phase 0, the longest
  int64_t step;                  // of the source, from a point of the grid to the next
  int64_t least, most;           // the source positions that the taps of point 0 have, relative to it
} pf_depthwise_axis;

/// A block's source and its results, in pixels. Source columns may lie outside of the image.
typedef struct pf_depthwise_block {
  int64_t row, rows, column, columns;                              // of the results
  int64_t source_row, source_rows, source_column, source_columns;
} pf_depthwise_block;

typedef struct pf_depthwise_plan {
  const pf_kernels *kernels;
  pf_convolution_pass pass;
  pf_depthwise_axis y, x;
  int64_t images, groups;
  int64_t multiplier;                 // output channels of a group
  int64_t planes, results;            // channels of a group that are summed over, that come out: the multiplier and 1
  int64_t taps;                       // kernel height * width
  int64_t channel_blocks;             // vectors of groups
  int64_t rows, columns;              // of the grid, in the largest block
  int64_t blocks_y, blocks_x;
  int64_t source_rows, pitch;         // pixels of the largest block's source
  int64_t tile;                       // floats of one plane of it
  int64_t staged_rows, staged;        // rows of results, and floats of them, that wait to be transposed back
  int64_t slices;                     // of the weight gradient's blocks
  int64_t chain_rows, chain_columns;  // pixels of one of these that are added up one after another
  int32_t parts;                      // of the threads
  int64_t scratch;                    // floats of a part
  int64_t weights, sums;              // floats of all channels' weights and biases, of all slices' sums
  int64_t workspace_bytes;
} pf_depthwise_plan;

/// What a plan's workspace holds.
typedef struct pf_depthwise_tables {
  pf_depthwise_row *rows;        // by row of the result
  pf_depthwise_window *windows;  // by phase of the columns
  float *weights;                // by vector of groups, plane or result, tap
  float *biases;                 // by vector of groups, result
  float *sums;
  float *scratch;
} pf_depthwise_tables;

/// Whether a pass of a checked problem is fastest as depthwise_rows.h has it.
bool pf_depthwise_by_rows(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass);

/// False where the least block is too large.
bool pf_depthwise_prepare(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass,
                          pf_depthwise_plan *plan);

/// The parts of a plan that depend on the threads: the workspace among them.
void pf_depthwise_prepare_parts(const pf_settings *settings, pf_depthwise_plan *plan);

/// Fills a workspace's tables of rows and windows.
pf_depthwise_tables pf_depthwise_fill_tables(const pf_depthwise_plan *plan, char *workspace);

/// Block `index` of an image's.
pf_depthwise_block pf_depthwise_block_of(const pf_depthwise_plan *plan, const pf_depthwise_tables *tables,
                                         int64_t index);

/// The number of groups in a vector of them.
static inline int64_t pf_depthwise_channels(const pf_depthwise_plan *plan, int64_t channel_block) {
  return pf_minimum_of(plan->kernels->lanes, plan->groups - channel_block * plan->kernels->lanes);
}

/// A part's copy of a block's source.
typedef struct pf_depthwise_tile {
  float *pixels;
  int64_t zeroed_column;  // the source column whose block's zeros are in place; INT64_MIN: none's
} pf_depthwise_tile;

/// Transposes plane `plane` of `planes` a group of a block into pixels. `source` holds all images.
void pf_depthwise_fill_tile(const pf_depthwise_plan *plan, const pf_depthwise_block *block, const float *source,
                            int64_t image, int64_t channel_block, pf_depthwise_tile *tile);

#endif
