// Depthwise convolution, all three passes: one input channel a group, a channel a lane of a vector; or, where that is
// faster, a pixel a lane, as depthwise_rows.h says.
//
// A vector's length of channels of a block of an image is transposed into pixels, a vector each, that stay in a cache
// close by. A tap is then one multiply-add of two whole vectors, however small the image and whatever the stride, the
// dilation or the padding; of the columns beyond the image the block holds zeros, and tap rows beyond it are left out.
// Results are transposed back. The input gradient is a correlation like the forward pass, of as many phases as the
// stride has (pf_input_gradient_axis): it writes all of them side by side.
//
// The order of a result's sum is output channels of the group, tap rows, tap columns. A weight gradient's is, within a
// block of the output gradient, rows and pixels, in chains of rows or of pieces of one; then chains and blocks; then
// slices of the blocks. Both follow from the shape and the vector's length alone, and no mask changes them.

#ifndef PF_DEPTHWISE_H
#define PF_DEPTHWISE_H

#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// Whether a pass of a checked problem runs fastest this way.
bool pf_depthwise_suits(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass);

// Of problems that suit:

/// The workspace that a pass takes from the arena, in bytes.
int64_t pf_depthwise_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass);

// The passes, with checked pointers: `bias`, `gradient_mask` and `plane_sums` may be NULL.

pf_status pf_depthwise_forward(const pf_settings *settings, const pf_convolution2d *problem, pf_activation activation,
                               const float *input, const float *weight, const float *bias, float *output);

pf_status pf_depthwise_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                      const float *output_gradient, const float *weight, pf_writing writing,
                                      float *input_gradient);

pf_status pf_depthwise_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem, const float *input,
                                       const float *output_gradient, const uint8_t *gradient_mask,
                                       pf_plane_sums *plane_sums, pf_writing writing, float *weight_gradient);

#endif
