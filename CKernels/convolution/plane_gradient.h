// The weight gradient of 1x1 kernels without stride and padding that have several times as many filters as channels, on
// large planes: dot products of these, which are read where they lie.

#ifndef PF_PLANE_GRADIENT_H
#define PF_PLANE_GRADIENT_H

#include "convolution/gradient_mask.h"
#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// Whether a problem is one of those.
bool pf_plane_gradient_applies(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape);

int64_t pf_plane_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    const pf_convolution_shape *shape);

/// Arguments as pf_weight_gradient's; a mask leaves something, and not everything. Plane sums only without one.
pf_status pf_plane_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                            const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                            const pf_gradient_mask *mask, const pf_plane_sums *plane_sums, pf_writing writing,
                            float *weight_gradient);

#endif
