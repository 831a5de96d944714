// Depthwise convolution's leaf functions: a channel a lane. See convolution/depthwise.h for the algorithm.

#ifndef PF_DEPTHWISE_KERNELS_H
#define PF_DEPTHWISE_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "include/CKernels.h"

/// Up to a vector's length of a tensor's planes, `stride` floats apart. Nothing behind `end` is read.
typedef struct pf_depthwise_planes {
  const float *first, *end;
  int64_t stride, count;
} pf_depthwise_planes;

/// What all rows of results have in common. Lengths are in floats, pixels are vectors.
typedef struct pf_depthwise_window {
  int64_t pixels;                               // results of a row
  int64_t step, result_step;                    // from a result to the next: of the source, of the results
  int64_t columns, column, weight_column;       // taps of a row, from one to the next
  int64_t first, weight_first;                  // of the first result's first tap
  int64_t result_first;
  int64_t planes, plane, weight_plane;          // source planes that are summed over, from one to the next
  pf_activation activation;                     // of the results
} pf_depthwise_window;

/// A row of results: its taps' rows, `row` floats of the source and `weight_row` floats of the weights apart.
typedef struct pf_depthwise_row {
  int64_t rows, source, weight;  // the first one's
  int64_t row, weight_row;
  int64_t first_tap;             // the first one's number among the taps' rows
} pf_depthwise_row;

/// Sums for the weight gradient: those of `rows` x `columns` taps over `height` x `width` pixels of the output
/// gradient, which are neighbours. Lengths are in floats.
typedef struct pf_depthwise_patch {
  int64_t height, width;
  int64_t source_row, source_step;  // of the source: from a row of the output gradient to the next, from a pixel
  int64_t rows, row, columns, column;
  int64_t sum_row;                  // from a row of taps' sums to the next; taps of a row are neighbours
} pf_depthwise_patch;

typedef struct pf_depthwise_kernels {
  int32_t patch_taps, patch_rows, patch_columns;  // the most of a patch

  /// pixels[r * pitch + x][c] = planes[c][r * width + x] for `count` neighbouring pixels from r = x = 0 on; other lanes
  /// 0. The pitch is in pixels.
  void (*spread)(const pf_depthwise_planes *planes, int64_t count, int64_t width, int64_t pitch, float *pixels);

  /// result[c * stride + i] = (or +=) pixels[i][c] for `planes` lanes c and `count` neighbouring pixels i. Whole
  /// vectors are read behind the last pixel.
  void (*collect)(int64_t planes, int64_t count, const float *pixels, bool accumulate, float *result, int64_t stride);

  /// result[r * result_row][...] = activation(bias + the sum over planes, tap rows and tap columns, in this order, of
  /// weight * source), for `row_count` rows r.
  void (*sum)(const pf_depthwise_window *window, int64_t row_count, const pf_depthwise_row *rows, const float *source,
              const float *weight, const float *bias, float *result, int64_t result_row);

  /// sums[i * sum_row][j] += the sum over rows y and pixels x, in this order, of gradient[y][x] * source[y, x, i, j].
  void (*accumulate)(const pf_depthwise_patch *patch, const float *source, const float *gradient, float *sums);
} pf_depthwise_kernels;

#endif
