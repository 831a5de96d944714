// What the passes share.

#ifndef PF_PASSES_H
#define PF_PASSES_H

#include "convolution/correlation.h"
#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// The axis of phase `phase` of the input gradient, input elements phase, phase + stride, ..., and the weight tap that
/// its first tap is; its taps are `*step` weight taps apart.
pf_axis pf_input_gradient_axis(int64_t input, int64_t output, int64_t stride, int64_t dilation, int64_t padding,
                               int64_t kernel, int64_t phase, int64_t *first, int64_t *step);

// The passes, of checked problems with checked arguments. Masks and `plane_sums` may be NULL.

pf_status pf_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                            const pf_convolution_shape *shape, const float *output_gradient, const float *weight,
                            pf_writing writing, float *input_gradient);

pf_status pf_weight_gradient(const pf_context *context, const pf_settings *settings, const pf_convolution2d *problem,
                             const pf_convolution_shape *shape, const float *input, const float *output_gradient,
                             const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                             float *weight_gradient);

void pf_bias_gradient(const pf_settings *settings, const pf_convolution2d *problem, const pf_convolution_shape *shape,
                      const float *output_gradient, const pf_plane_sums *plane_sums, const uint8_t *gradient_mask,
                      pf_writing writing, float *bias_gradient);

// The bytes of workspace of each pass; pf_error_overflow when they can't be addressed.

pf_status pf_forward_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape, int64_t *bytes);

pf_status pf_input_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                      const pf_convolution_shape *shape, int64_t *bytes);

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes);

#endif
