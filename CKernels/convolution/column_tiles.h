// The columns of a correlation's register tiles: where they lie in the frame or in the source, and where in the result.

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

/// Cuts a block's rows into segments at the bounds of column tiles. A tile's columns are grid points of the frame, gaps
/// included, or, packed, the points of the result one after another. Tiles whose vectors aren't runs of the frame,
/// evenly apart, are given a panel of plan->panel_floats each, from `panels` on. Returns their number; the tile behind
/// the last one holds the end of the segments.
int64_t pf_column_tiles_find(const pf_correlation_plan *plan, const pf_block *block, pf_segment *segments,
                             pf_column_tile *tiles, float *panels);

/// Packs those that have a panel: of `channels` channels, whose products with a column are at `offsets` from it.
/// `source` is where the tensor begins, `frame` where the block does in it, in place, or in a frame.
void pf_column_tiles_pack(const pf_correlation_plan *plan, const pf_segment *segments, const pf_column_tile *tiles,
                          int64_t tile_count, int64_t channels, int64_t products, const int64_t *offsets,
                          const float *source, const float *frame);

/// Floats of a channel of the source, and of an image.
static inline int64_t pf_source_plane(const pf_correlation *p) { return p->y.source * p->x.source; }
static inline int64_t pf_source_image(const pf_correlation *p) {
  return p->groups * p->channels * pf_source_plane(p);
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
