// Depthwise convolution with a pixel a lane: how depthwise.h's passes run for 3 x 3 taps of step 1 or 2 with zeros
// around the image, where rows are long enough for vectors.
//
// Nothing is copied or transposed: rows are read from the images as they lie, each once, and the sums of the rows of
// results that it reaches go on in registers. An input gradient of step 1 is a forward pass with the taps turned round;
// one of step 2 forms pairs of rows and columns, of a kernel's even and odd taps, from each pixel and its neighbours.
//
// The order of a result's sum is tap rows, tap columns. A weight gradient's sums are lane by lane in chains of rows,
// then over chains, planes and the lanes, then over slices of the images. Both follow from the shape and the vector's
// length alone, and no mask changes them.

#ifndef PF_DEPTHWISE_ROWS_H
#define PF_DEPTHWISE_ROWS_H

#include "convolution/plane_sums.h"
#include "convolution/problem.h"

/// The estimated time of a plane, in the measure of depthwise_plan.c; negative where a pass of a checked problem can't
/// run this way.
double pf_depthwise_rows_time(const pf_kernels *kernels, const pf_convolution2d *problem, pf_convolution_pass pass);

// Of problems that can, as in depthwise.h:

int64_t pf_depthwise_rows_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    pf_convolution_pass pass);

void pf_depthwise_rows_forward(const pf_settings *settings, const pf_convolution2d *problem, pf_activation activation,
                               const float *input, const float *weight, const float *bias, float *output);

void pf_depthwise_rows_input_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                      const float *output_gradient, const float *weight, pf_writing writing,
                                      float *input_gradient);

pf_status pf_depthwise_rows_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem,
                                            const float *input, const float *output_gradient,
                                            const uint8_t *gradient_mask, pf_plane_sums *plane_sums, pf_writing writing,
                                            float *weight_gradient);

#endif
