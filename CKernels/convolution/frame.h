// Frames: planes of a source, copied so that every tap of a kernel is a shift.
//
// The points of a result's grid are numbered g = row * pitch + column. A tap (i, j) of grid point (y, x) reads
//   source[y * step_y + first_y + i * tap_step_y][x * step_x + first_x + j * tap_step_x], zero outside,
// and in the frame that is plane[g + offset(i, j)]: a stride turns into one plane for each remainder that taps have
// modulo it, and the zeros around the source are there. Kernels then load whole vectors of grid points, one contiguous
// load a tap. A grid row is followed by a gap of columns that are no points of the result; rows share the zeros between
// them, and so do images that lie in one frame, so for a 3x3 kernel with padding 1 the gap is one column.

#ifndef PF_FRAME_H
#define PF_FRAME_H

#include "runtime/runtime.h"

/// One axis of a correlation: tap t of grid point g reads source[g * step + first + t * tap_step].
typedef struct pf_axis {
  int64_t source, grid;  // extents
  int64_t step, taps, first, tap_step;
} pf_axis;

/// Drops the taps at either end that read only zeros for every grid point, and returns how many went from the front.
int64_t pf_axis_trim(pf_axis *axis);

/// What follows from an axis. A tap's position first + t * tap_step is shift * step + remainder, and its phase, the
/// index of the remainder, is t modulo the number of phases: remainders repeat with that period.
typedef struct pf_axis_taps {
  int64_t phases;
  int64_t least, most;  // shift; both 0 without taps
  int64_t valid;        // source elements of the longest phase, up to the farthest that is read
} pf_axis_taps;

/// A part of the grid: images, rows and columns from the first. Several images come with all rows and columns.
typedef struct pf_block {
  int64_t image, images, row, rows, column, columns;
} pf_block;

/// Whether two blocks differ in the first image at most.
static inline bool pf_same_extents(const pf_block *a, const pf_block *b) {
  return a->images == b->images && a->row == b->row && a->rows == b->rows && a->column == b->column &&
         a->columns == b->columns;
}

typedef struct pf_frame {
  pf_axis y, x;
  pf_axis_taps y_taps, x_taps;
  int64_t pitch_unit;      // that rows lie a multiple of apart
  pf_block most;           // the largest block's extents; its first image, row and column are 0
  bool shared_y, shared_x;  // whether neighbouring images, rows share zeros
  int64_t origin_y, origin_x;  // the shift that reads local row 0, column 0
  int64_t pitch;               // floats from a grid row to the next
  int64_t image_pitch;         // floats from an image to the next
  int64_t plane;               // floats of a plane of one phase
  int64_t channel_stride;      // floats of a channel's planes
} pf_frame;

/// Fills the parts of `frame` that follow from the axes y and x, for rows with a pitch of any length. pf_error_overflow
/// when a frame with that many channels might not be addressable.
pf_status pf_frame_analyse(pf_frame *frame, int64_t channels);

/// Chooses the layout for blocks of at most these extents whose grid points are read `vector_columns` at a time.
void pf_frame_shape(pf_frame *frame, int64_t images, int64_t rows, int64_t columns, int64_t vector_columns);

/// Block `index` of `images` grids cut into blocks of the extents of `most`: columns first, then rows, then images.
pf_block pf_frame_block(const pf_frame *frame, int64_t images, int64_t index);

/// Where tap (i, j) of grid point 0 lies in a channel's planes.
int64_t pf_frame_offset(const pf_frame *frame, int64_t i, int64_t j);

/// Grid points from the first to the last of a block, gaps included.
int64_t pf_frame_span(const pf_frame *frame, const pf_block *block);

/// Copies `channels` planes of each image of a block. `source` is the first channel of image 0. With `zeroed` the
/// buffer holds at least as many planes of a block that differs in the first image alone, and its zeros stay.
void pf_frame_fill(const pf_frame *frame, const pf_kernels *kernels, const pf_block *block, int64_t channels,
                   const float *source, int64_t source_image_stride, bool zeroed, float *buffer);

/// What a frame's memory holds; at first nothing.
typedef struct pf_frame_content {
  pf_block block;
  int64_t channels;  // that have the zeros of the block
  const float *source;
} pf_frame_content;

/// pf_frame_fill of what isn't there yet: nothing, the source's elements, or these and the zeros. One `source` always
/// comes with the same number of channels.
void pf_frame_refill(const pf_frame *frame, const pf_kernels *kernels, const pf_block *block, int64_t channels,
                     const float *source, int64_t source_image_stride, pf_frame_content *content, float *buffer);

#endif
