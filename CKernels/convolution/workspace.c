#include "convolution/depthwise.h"
#include "convolution/passes.h"
#include "convolution/plan.h"
#include "convolution/winograd.h"

pf_status pf_convolution2d_workspace(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, size_t *bytes) {
  PF_REQUIRE(bytes != NULL, pf_error_null);
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pass >= pf_pass_forward && pass <= pf_pass_weight_gradient, pf_error_value);
  const pf_algorithm algorithm = pf_plan_algorithm(&settings, problem, pass);
  int64_t workspace = 0, other = 0, mask = 0;
  if (algorithm == pf_algorithm_depthwise) {
    *bytes = (size_t)pf_depthwise_workspace(&settings, problem, pass);
    return pf_ok;
  }
  if (algorithm != pf_algorithm_direct) {
    other = pf_winograd_workspace(&settings, problem, pass, algorithm);
    // A mask may have the weight gradient run directly, or for one tap.
    if (pass != pf_pass_weight_gradient) {
      *bytes = (size_t)other;
      return pf_ok;
    }
    mask = pf_winograd_mask_bytes(problem);
    const pf_convolution2d tap = pf_winograd_tap_problem(problem);
    size_t tap_bytes;
    PF_TRY(pf_convolution2d_workspace(context, &tap, pass, &tap_bytes));
    other = pf_maximum_of(other, (int64_t)tap_bytes);
  }
  pf_status status = pf_ok;
  switch (pass) {
    case pf_pass_forward: status = pf_forward_workspace(&settings, problem, &shape, &workspace); break;
    case pf_pass_input_gradient: status = pf_input_gradient_workspace(&settings, problem, &shape, &workspace); break;
    case pf_pass_weight_gradient: status = pf_weight_gradient_workspace(&settings, problem, &shape, &workspace); break;
  }
  if (status == pf_ok) *bytes = (size_t)(pf_maximum_of(workspace, other) + mask);
  return status;
}
