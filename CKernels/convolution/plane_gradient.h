// The weight gradient of kernels of one tap whose planes are read where they lie.

#ifndef PF_PLANE_GRADIENT_H
#define PF_PLANE_GRADIENT_H

#include "convolution/gradient_mask.h"
#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// Whether a problem is one of those, and one that gains by it.
bool pf_plane_gradient_applies(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape);

pf_status pf_plane_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                      const pf_convolution_shape *shape, int64_t *bytes);

/// Arguments as pf_weight_gradient's; a mask leaves something, and not everything. Plane sums only without one.
pf_status pf_plane_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                            const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                            const pf_gradient_mask *mask, const pf_plane_sums *plane_sums, pf_writing writing,
                            float *weight_gradient);

#endif
