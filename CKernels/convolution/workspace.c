#include "convolution/passes.h"

pf_status pf_convolution2d_workspace(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, size_t *bytes) {
  PF_REQUIRE(bytes != NULL, pf_error_null);
  pf_settings settings;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_check(problem, &shape));
  switch (pass) {
    case pf_pass_forward:
      *bytes = (size_t)pf_forward_workspace(&settings, problem, &shape);
      return pf_ok;
    case pf_pass_input_gradient:
      *bytes = (size_t)pf_input_gradient_workspace(&settings, problem, &shape);
      return pf_ok;
    case pf_pass_weight_gradient:
      *bytes = (size_t)pf_weight_gradient_workspace(&settings, problem, &shape);
      return pf_ok;
  }
  return pf_error_value;
}
