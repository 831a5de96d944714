// The weight gradient where a group has few filters: dot products along the grid points of a frame.

#ifndef PF_DOT_GRADIENT_H
#define PF_DOT_GRADIENT_H

#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// Whether a group's filters are too few for the lanes of outer products.
bool pf_dot_gradient_applies(const pf_convolution_shape *shape);

pf_status pf_dot_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    const pf_convolution_shape *shape, int64_t *bytes);

/// Arguments as pf_weight_gradient's, plane sums only without a mask. Frozen filters aren't computed.
pf_status pf_dot_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                          const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                          const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                          float *weight_gradient);

#endif
