#include "convolution/depthwise.h"
#include "convolution/gradient_mask.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/winograd.h"

static pf_status workspace(const pf_context *context, const pf_settings *settings, const pf_convolution2d *problem,
                           const pf_convolution_shape *shape, pf_convolution_pass pass, int64_t *bytes);

/// The plane sums are there while the other two gradients are computed.
static pf_status backward_workspace(const pf_context *context, const pf_settings *settings,
                                    const pf_convolution2d *problem, const pf_convolution_shape *shape,
                                    int64_t *bytes) {
  int64_t input_bytes, weight_bytes;
  PF_TRY(workspace(context, settings, problem, shape, pf_pass_input_gradient, &input_bytes));
  PF_TRY(workspace(context, settings, problem, shape, pf_pass_weight_gradient, &weight_bytes));
  *bytes = pf_maximum_of(input_bytes, weight_bytes);
  *bytes += problem->batch * problem->output_channels * (int64_t)sizeof(float);
  return pf_ok;
}

static pf_status workspace(const pf_context *context, const pf_settings *settings, const pf_convolution2d *problem,
                           const pf_convolution_shape *shape, pf_convolution_pass pass, int64_t *bytes) {
  if (pass == pf_pass_backward) return backward_workspace(context, settings, problem, shape, bytes);
  const pf_algorithm algorithm = pf_plan_algorithm(settings, problem, pass);
  int64_t direct = 0, other = 0, mask = pass == pf_pass_weight_gradient ? pf_gradient_mask_bytes(problem) : 0;
  if (algorithm == pf_algorithm_depthwise) {
    *bytes = pf_depthwise_workspace(settings, problem, pass) + mask;
    return pf_ok;
  }
  if (algorithm != pf_algorithm_direct) {
    other = pf_winograd_workspace(settings, problem, pass, algorithm);
    // A mask may have the weight gradient run directly, or for one tap.
    if (pass != pf_pass_weight_gradient) {
      *bytes = other;
      return pf_ok;
    }
    mask += pf_winograd_mask_bytes(problem);
    const pf_convolution2d tap = pf_winograd_tap_problem(problem);
    size_t tap_bytes;
    PF_TRY(pf_convolution2d_workspace(context, &tap, pass, &tap_bytes));
    other = pf_maximum_of(other, (int64_t)tap_bytes);
  }
  switch (pass) {
    case pf_pass_forward: PF_TRY(pf_forward_workspace(settings, problem, shape, &direct)); break;
    case pf_pass_input_gradient: PF_TRY(pf_input_gradient_workspace(settings, problem, shape, &direct)); break;
    default: PF_TRY(pf_weight_gradient_workspace(settings, problem, shape, &direct)); break;
  }
  *bytes = pf_maximum_of(direct, other) + mask;
  return pf_ok;
}

pf_status pf_convolution2d_workspace(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, size_t *bytes) {
  PF_REQUIRE(bytes != NULL, pf_error_null);
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pass >= pf_pass_forward && pass <= pf_pass_backward, pf_error_value);
  int64_t result;
  PF_TRY(workspace(context, &settings, problem, &shape, pass, &result));
  *bytes = (size_t)result;
  return pf_ok;
}
