// The input gradient of a convolution with strides of 1 or 2, at least one of them 2, and an even image along it.
//
// A stride of 2 cuts the input into two phases, the even and the odd rows or columns, each of which is a correlation of
// the output gradient with its own taps of the kernel, 1 and 2 of 3. All phases run together: one frame of the output
// gradient serves them, columns are packed once for all, and the even and the odd columns of a tile are written
// together, in whole vectors. Sums are taken in steps of whole channels; the length of a step follows from the shape.

#ifndef PF_STRIDED_GRADIENT_H
#define PF_STRIDED_GRADIENT_H

#include "convolution/correlation.h"
#include "convolution/passes.h"

/// An axis of a phase: its tap t is the kernel's tap first + t * step.
typedef struct pf_phase_axis {
  pf_axis axis;
  int64_t first, step;
} pf_phase_axis;

typedef struct pf_strided_plan {
  pf_correlation_plan shared;  // the geometry: a correlation whose taps are all shifts from the least to the most
  int64_t phases_y, phases_x, phases;
  int64_t reached;              // phases that have taps
  pf_phase_axis y[2], x[2];
  int64_t taps;                 // of all phases: of a channel
  int64_t shifts;               // of the shared taps
  int64_t kernel_height, kernel_width;
  int64_t steps;                // of channels
  int64_t chains[2][2];         // products of a phase that are added up one after another
} pf_strided_plan;

static inline int64_t pf_strided_taps(const pf_strided_plan *plan, int64_t phase_y, int64_t phase_x) {
  return plan->y[phase_y].axis.taps * plan->x[phase_x].axis.taps;
}

/// Floats of a register tile's sums of a phase.
static inline int64_t pf_strided_tile_floats(const pf_strided_plan *plan) {
  return plan->shared.kernels->tile_rows * plan->shared.kernels->tile_columns;
}

/// Plans the input gradient; false where it doesn't run this way.
bool pf_strided_prepare(const pf_settings *settings, const pf_convolution2d *problem,
                        const pf_convolution_shape *shape, pf_strided_plan *plan);

/// `workspace` is a block of plan->shared.workspace_bytes.
void pf_strided_run(const pf_strided_plan *plan, const float *output_gradient, const float *weight, pf_writing writing,
                    float *input_gradient, char *workspace);

#endif
