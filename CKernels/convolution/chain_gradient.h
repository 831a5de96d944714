// The weight gradient of scattered elements.

#ifndef PF_CHAIN_GRADIENT_H
#define PF_CHAIN_GRADIENT_H

#include "convolution/weight_gradient_plan.h"

/// The estimated time for `trainable` elements, relative to that for all of them by outer products: at least 1 where
/// it can't be less.
double pf_chain_gradient_time(const pf_settings *settings, const pf_gradient_plan *plan, int64_t trainable);

/// The workspace for as many elements as may take less time than 1.
int64_t pf_chain_gradient_workspace(const pf_settings *settings, const pf_gradient_plan *plan);

/// Computes the trainable elements of a mask, to the same bits as outer products, and clears the others. Only where the
/// time is less than 1.
pf_status pf_chain_gradient(const pf_settings *settings, const pf_gradient_plan *plan, const float *input,
                            const float *output_gradient, const pf_gradient_mask *mask, bool accumulate,
                            float *weight_gradient);

#endif
