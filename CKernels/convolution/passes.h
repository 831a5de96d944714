// The bytes of workspace of each pass; pf_error_overflow when they can't be addressed.

#ifndef PF_PASSES_H
#define PF_PASSES_H

#include "convolution/correlation.h"
#include "convolution/problem.h"

pf_status pf_forward_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                               const pf_convolution_shape *shape, int64_t *bytes);

pf_status pf_input_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                      const pf_convolution_shape *shape, int64_t *bytes);

pf_status pf_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                       const pf_convolution_shape *shape, int64_t *bytes);

#endif
