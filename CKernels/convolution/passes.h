// The bytes of workspace of each pass.

#ifndef PF_PASSES_H
#define PF_PASSES_H

#include "convolution/correlation.h"
#include "convolution/problem.h"

int64_t pf_forward_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                             const pf_convolution_shape *shape);

int64_t pf_input_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                    const pf_convolution_shape *shape);

int64_t pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                     const pf_convolution_shape *shape);

#endif
