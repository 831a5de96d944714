// Which algorithm a pass of a convolution runs: a function of the shape, the numerics and the length of vectors alone.

#ifndef PF_PLAN_H
#define PF_PLAN_H

#include "convolution/problem.h"
#include "convolution/winograd.h"

typedef enum pf_algorithm : int32_t {
  pf_algorithm_direct = 0,
  pf_algorithm_depthwise = 1,   // convolution/depthwise.h
  pf_algorithm_winograd_2 = 2,  // F(2 x 2, 3 x 3); the value stands for the tile
  pf_algorithm_winograd_whole = pf_winograd_whole,  // whole phases
  pf_algorithm_winograd_4 = 4,  // F(4 x 4, 3 x 3), and with its points 5 taps along an axis, or a single row
  pf_algorithm_winograd_strided = pf_winograd_strided,  // tiles as large of kernels of stride 2
} pf_algorithm;

/// The algorithm with the least estimated time for one pass of a checked problem.
pf_algorithm pf_plan_algorithm(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass);

/// The estimated time of a weight gradient by Winograd's algorithm for `channels` input channels and `outputs` filters
/// of each group, relative to that of the direct algorithm for all.
double pf_plan_masked_winograd(const pf_settings *settings, const pf_convolution2d *problem, pf_algorithm algorithm,
                               int64_t channels, int64_t outputs);

#endif
