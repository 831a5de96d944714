// Generalised correlation: the forward pass, and each phase of the input gradient.
//
//   result[n, o, y, x] = bias[o] + sum over c, i, j of weight(o, c, i, j) * source[n, g(o) + c, tap (i, j) of (y, x)]
//
// or an activation of this, in an order that is the same for every element, whatever block, tile or thread it falls to.
// It is c, i, j, but for few result channels a group, which run as correlation_planes.h says. Where rows are short or
// strided, or planes in place fill no column tiles, result channels may lie in the lanes, as correlation_filters.h
// says.
//
// Otherwise weights are packed once into row panels; each block of the grid is copied into a frame, unless its source
// can be read in place, and register tiles of result channels x grid points run over it: on the frame, gaps included,
// or on points of the result alone, whose columns are packed where they lie apart in the frame. Blocks in place whose
// result is contiguous too are cut from the points of all images: first the columns of each that fill tiles, then what
// is left of each. Sums are taken in steps of whole channels, each in the tile kernels' chains, and added up in order;
// the length of a step follows from the shape.

#ifndef PF_CORRELATION_H
#define PF_CORRELATION_H

#include "convolution/frame.h"

typedef struct pf_correlation {
  int64_t images, groups;
  int64_t channels, outputs;  // of the source and the result, in a group
  pf_axis y, x;
  // weight(o, c, i, j) = weight[group * weight_group + o * weight_output + c * weight_channel + weight_first +
  //                             i * weight_y + j * weight_x]
  int64_t weight_group, weight_output, weight_channel, weight_first, weight_y, weight_x;
  // result[n, g * outputs + o, y, x] = result[n * result_image + (g * outputs + o) * result_plane + result_first +
  //                                           y * result_y + x * result_x]
  int64_t result_image, result_plane, result_first, result_y, result_x;
} pf_correlation;

/// How a correlation runs: chosen from its shape, the kernels and the thread count; no result depends on it.
typedef struct pf_correlation_plan {
  pf_correlation problem;  // with the taps that read nothing dropped
  const pf_kernels *kernels;
  pf_frame frame;
  bool in_place;      // the source is the frame: 1x1, stride 1, no padding; with channels in the lanes just no padding
  bool joined;        // in place, where the result's rows are contiguous too: the points of all images are one row
  bool packed;        // tiles are points of the result, packed from the frame where they lie apart in it
  bool planes;        // each result channel by itself: correlation_planes.h
  bool filters;       // result channels in the lanes: correlation_filters.h
  int64_t inner;      // channels * taps
  int64_t grids;      // that blocks are cut from: the images, or one where these are joined
  int64_t tiles;      // of result channels, in a group
  int64_t tile_parts;  // pieces that the tiles of one block are cut into
  bool packs_late;    // each tile's weights are packed by the thread that runs it, in its first block
  int64_t channel_step;  // channels whose part of all sums of a block is taken at a time
  int64_t chain;         // products of these that are added up one after another
  int64_t panel_floats;  // of a packed column tile
  int64_t sums_floats;   // of the sums that aren't in the result
  int64_t blocks_y, blocks_x, blocks_images;
  int64_t most_segments, most_column_tiles;  // of a block
  int32_t parts;                             // of the threads
  // Of correlation_planes.c
  int64_t row_step;  // rows from one to the next of a tile that shares taps; 0: nothing is shared
  int64_t staged;    // floats of a result that waits to be scattered
  // Of correlation_filters.c
  int64_t vectors;                   // of result channels, in a group
  int64_t block_images, block_rows;  // of the result; with several images all rows
  int64_t strip_rows;                // whose sums are transposed at a time

  int64_t scratch_bytes;                     // of a part
  int64_t shared_bytes;                      // of what all parts read
  int64_t workspace_bytes;                   // in all
} pf_correlation_plan;

/// Floats of a channel of the source, and of an image.
static inline int64_t pf_source_plane(const pf_correlation *p) { return p->y.source * p->x.source; }
static inline int64_t pf_source_image(const pf_correlation *p) {
  return p->groups * p->channels * pf_source_plane(p);
}

/// Where a channel of a group of an image begins in the source.
static inline int64_t pf_source_channel(const pf_correlation *p, int64_t image, int64_t group, int64_t channel) {
  return ((image * p->groups + group) * p->channels + channel) * pf_source_plane(p);
}

/// Blocks of all groups.
static inline int64_t pf_correlation_blocks(const pf_correlation_plan *plan) {
  return plan->blocks_images * plan->blocks_y * plan->blocks_x * plan->problem.groups;
}

/// Floats of a frame, which holds the channels of a step.
static inline int64_t pf_correlation_frame_floats(const pf_correlation_plan *plan) {
  return plan->in_place ? 0 : plan->channel_step * plan->frame.channel_stride;
}

/// Whether sums wait for the next step of the inner dimension.
static inline bool pf_sums_wait(const pf_correlation_plan *plan) {
  return plan->channel_step < plan->problem.channels;
}

/// The tiles of a part of them, and the outputs of a tile, in a group.
static inline pf_piece pf_part_tiles(const pf_correlation_plan *plan, int64_t part) {
  return pf_piece_of(plan->tiles, part, plan->tile_parts);
}
static inline pf_piece pf_tile_outputs(const pf_correlation_plan *plan, int64_t tile) {
  return pf_piece_of(plan->problem.outputs, tile, plan->tiles);
}

/// A step of the sums: channels first ..< first + channels of a group.
typedef struct pf_inner_step {
  int64_t first, channels;
  int64_t k, inner;  // their part of the inner dimension
  bool last;
} pf_inner_step;

static inline pf_inner_step pf_inner_step_from(const pf_correlation_plan *plan, int64_t first) {
  const int64_t taps = plan->problem.y.taps * plan->problem.x.taps, left = plan->problem.channels - first;
  const int64_t channels = pf_minimum_of(plan->channel_step, left);
  return (pf_inner_step){first, channels, first * taps, channels * taps, channels == left};
}

/// Channels of a step of about `budget` of the inner dimension.
static inline int64_t pf_correlation_step(const pf_correlation_plan *plan, int64_t budget) {
  const int64_t taps = pf_maximum_of(plan->problem.y.taps * plan->problem.x.taps, 1);
  if (plan->inner <= budget + budget / 2) return plan->problem.channels;
  return pf_balanced(plan->problem.channels, pf_maximum_of(budget / taps, 1));
}

/// Plans a correlation. pf_error_overflow when its workspace can't be addressed.
pf_status pf_correlation_prepare(const pf_settings *settings, const pf_correlation *problem, pf_correlation_plan *plan);

/// Runs a plan. `workspace` is a block of plan->workspace_bytes.
void pf_correlation_run(const pf_correlation_plan *plan, const float *source, const float *weight, const float *bias,
                        pf_activation activation, pf_writing writing, float *result, char *workspace);

#endif
