// A checked convolution problem.

#ifndef PF_PROBLEM_H
#define PF_PROBLEM_H

#include "runtime/runtime.h"

/// What follows from a pf_convolution2d; counts are in elements.
typedef struct pf_convolution_shape {
  int64_t output_height, output_width;
  int64_t group_input_channels, group_output_channels;  // channels of one group
  int64_t taps;                                         // kernel_height * kernel_width
  int64_t input_plane, output_plane;                    // elements of one image's channel
  int64_t weight_count, input_count, output_count;
} pf_convolution_shape;

/// Checks a problem and computes its shape; errors as pf_convolution2d_output_size.
pf_status pf_convolution_check(const pf_convolution2d *problem, pf_convolution_shape *shape);

/// The same, of a problem to run in the given one's place: rows are what kernels run along, so where a kernel has one
/// column and strides don't keep it from that, a plane becomes a single row whose taps are whole rows of the plane
/// apart. No element moves in memory. *problem becomes `laid` then.
pf_status pf_convolution_read(const pf_convolution2d **problem, pf_convolution2d *laid, pf_convolution_shape *shape);

#endif
