// The columns of a correlation's register tiles: where they lie in the frame or in the source, and where in the result.
// And what a thread holds that runs them.

#ifndef PF_COLUMN_TILES_H
#define PF_COLUMN_TILES_H

#include "convolution/correlation.h"

/// A column tile of a block.
typedef struct pf_column_tile {
  int64_t first;        // of its segments, which end where the next tile's begin
  int64_t frame;        // where its columns begin, unless they are packed
  int64_t vector_step;  // from a vector of columns to the next
  float *panel;         // where they are packed, or NULL
  bool straight;        // as wide as a tile, and its columns lie in the result as they do in it
  bool thin;            // within a vector
} pf_column_tile;

/// The column tiles of a block.
typedef struct pf_column_tiles {
  pf_block block;         // of no images: none have been found yet
  int64_t count;
  pf_column_tile *tiles;  // and one more, whose first segment is the end of the last one's
  pf_segment *segments;
  float *panels;          // of plan->panel_floats each
} pf_column_tiles;

/// Cuts a block's rows into segments at the bounds of column tiles, unless they are there. A tile's columns are grid
/// points of the frame, gaps included, or, packed, the points of the result one after another. Tiles whose vectors
/// aren't runs of the frame, evenly apart, are given a panel each.
void pf_column_tiles_find(const pf_correlation_plan *plan, const pf_block *block, pf_column_tiles *columns);

/// Packs those that have a panel: of a step's channels, whose products with a column are at `offsets` from it. `source`
/// is where the tensor begins, `frame` where the block does in it, in place, or in a frame.
void pf_column_tiles_pack(const pf_correlation_plan *plan, const pf_column_tiles *columns, const pf_inner_step *step,
                          const int64_t *offsets, const float *source, const float *frame);

/// What a thread holds.
typedef struct pf_tile_scratch {
  float *frame, *sums;
  pf_frame_content content;  // of the frame
  pf_column_tiles columns;
} pf_tile_scratch;

/// Its memory: bytes with `panels` panels at most, and where it lies in that of a part.
int64_t pf_tile_scratch_bytes(const pf_correlation_plan *plan, int64_t panels);
pf_tile_scratch pf_tile_scratch_of(const pf_correlation_plan *plan, char *memory);

/// Points of the largest block that its column tiles hold.
static inline int64_t pf_most_points(const pf_correlation_plan *plan) {
  const pf_block *block = &plan->frame.most;
  return plan->packed ? block->images * block->rows * block->columns : pf_frame_span(&plan->frame, block);
}

/// Neighbouring points of a plane of one image of the source.
typedef struct pf_source_run {
  int64_t image, first, length;
} pf_source_run;

/// Where a run begins in the source, from the first image's plane on.
static inline int64_t pf_source_place(const pf_correlation *p, const pf_source_run *run) {
  return run->image * pf_source_image(p) + run->first;
}

/// Points of a block in place, gaps between its rows included.
int64_t pf_block_points(const pf_correlation_plan *plan, const pf_block *block);

/// The run that begins at point `done` of a block in place.
pf_source_run pf_block_run(const pf_correlation_plan *plan, const pf_block *block, int64_t done);

#endif
