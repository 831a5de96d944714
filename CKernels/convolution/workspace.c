#include "convolution/passes.h"

pf_status pf_convolution2d_workspace(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, size_t *bytes) {
  PF_REQUIRE(bytes != NULL, pf_error_null);
  pf_settings settings;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_check(problem, &shape));
  int64_t workspace = 0;
  pf_status status = pf_error_value;
  switch (pass) {
    case pf_pass_forward: status = pf_forward_workspace(&settings, problem, &shape, &workspace); break;
    case pf_pass_input_gradient: status = pf_input_gradient_workspace(&settings, problem, &shape, &workspace); break;
    case pf_pass_weight_gradient: status = pf_weight_gradient_workspace(&settings, problem, &shape, &workspace); break;
  }
  if (status == pf_ok) *bytes = (size_t)workspace;
  return status;
}
