// Leaf functions of depthwise convolution with a pixel a lane. See convolution/depthwise_rows.h for the algorithm.

#ifndef PF_DEPTHWISE_ROWS_KERNELS_H
#define PF_DEPTHWISE_ROWS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "CKernels.h"

/// Rows of one plane of a convolution with 3 x 3 taps, with zeros around the image and a step of 1 or 2 from an output
/// to the next: there are ceil(height / step) rows and ceil(width / step) columns of outputs.
typedef struct pf_depthwise_plane {
  int64_t height, width;                // of the input
  int64_t output_height, output_width;
  int64_t begin, end;                   // rows of the output
  const float *source, *source_end;     // of the plane, of the tensor: nothing behind is read
  const float *gradient, *gradient_end;  // the same of the output gradient, in the weight gradient
  const float *weight;
  float bias;
  bool accumulate;
  pf_activation activation;  // of what is not accumulated
  float *result;  // of the plane; in the weight gradient a vector of sums a tap
} pf_depthwise_plane;

typedef struct pf_depthwise_rows_kernels {
  /// Rows of the output from the input: result = activation(bias + the sum over tap rows and columns, in this order,
  /// of weight * source), or += the sum. By step, from 1.
  void (*forward[2])(const pf_depthwise_plane *plane);

  /// The input gradient of step 2 from the output's: input rows 2 * begin up to 2 * end.
  void (*spread)(const pf_depthwise_plane *plane);

  /// result[t * lanes + l] += the products of tap t that fall to lane l, which are added up in chains of up to 128. By
  /// step, from 1; NULL where it wouldn't be fast.
  void (*products[2])(const pf_depthwise_plane *plane);

  /// result[i] = the sum across the lanes of vector i.
  void (*sum_vectors)(int64_t count, const float *vectors, float *result);
} pf_depthwise_rows_kernels;

#endif
