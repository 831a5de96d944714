// Correlations with few result channels a group, depthwise ones above all: each result channel by itself, with rows and
// taps of it blocked in registers, on frames.
//
// Tap rows that lie in one phase of the frame are taken up to pf_most_run_taps at a time. Their distance there is the
// step from row to row of a register tile, so that a tile's rows share what they read. The order of an element's sum is
// channels, those groups of tap rows, tap columns, tap rows: it follows from the kernel's shape alone.

#ifndef PF_CORRELATION_PLANES_H
#define PF_CORRELATION_PLANES_H

#include "convolution/correlation.h"

/// Whether a correlation, its taps trimmed and its frame's axes analysed, runs fastest this way.
bool pf_correlation_planes_suit(const pf_correlation_plan *plan);

/// Fills in the rest of a plan.
void pf_correlation_planes_prepare(const pf_settings *settings, pf_correlation_plan *plan);

void pf_correlation_planes_run(const pf_correlation_plan *plan, const float *source, const float *weight,
                               const float *bias, pf_activation activation, pf_writing writing, float *result,
                               char *workspace);

#endif
