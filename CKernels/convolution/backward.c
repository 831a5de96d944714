// The gradients that a backward pass wants, in one call. Of the output gradient the input gradient wants points in
// lanes with zeros around them, the weight gradient channels in lanes, and Winograd's two transforms of it differ:
// there is no packed form to share, and to take turns at parts of the batch was measured to gain nothing. The bias
// gradient's sums are taken where the weight gradient reads the planes.

#include "convolution/passes.h"

pf_status pf_convolution2d_backward(const pf_context *context, const pf_convolution2d *problem, const float *input,
                                    const float *weight, const float *output_gradient,
                                    const uint8_t *weight_gradient_mask, const uint8_t *bias_gradient_mask,
                                    pf_writing input_writing, pf_writing parameter_writing, float *input_gradient,
                                    float *weight_gradient, float *bias_gradient) {
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pf_writing_is_valid(input_writing) && pf_writing_is_valid(parameter_writing), pf_error_value);
  if (shape.input_count == 0) input_gradient = NULL;
  const bool any = input_gradient != NULL || weight_gradient != NULL || bias_gradient != NULL;
  PF_REQUIRE(problem->batch == 0 || !any || output_gradient != NULL, pf_error_null);
  PF_REQUIRE(problem->batch == 0 || weight_gradient == NULL || input != NULL, pf_error_null);
  PF_REQUIRE(input_gradient == NULL || weight != NULL, pf_error_null);

  pf_plane_sums plane_sums = {
      .kernels = settings.kernels,
      .output_gradient = output_gradient,
      .channels = problem->output_channels,
      .plane = shape.output_plane,
  };
  const bool sums = bias_gradient != NULL && weight_gradient != NULL && problem->batch > 0;
  if (sums) {
    plane_sums.sums = pf_allocate_floats(problem->batch * problem->output_channels);
    PF_REQUIRE(plane_sums.sums != NULL, pf_error_memory);
  }
  pf_status status = pf_ok;
  if (weight_gradient != NULL) {
    status = pf_weight_gradient(context, &settings, problem, &shape, input, output_gradient, weight_gradient_mask,
                                sums ? &plane_sums : NULL, parameter_writing, weight_gradient);
  }
  if (status == pf_ok && input_gradient != NULL) {
    status = pf_input_gradient(&settings, problem, &shape, output_gradient, weight, input_writing, input_gradient);
  }
  if (status == pf_ok && bias_gradient != NULL) {
    pf_bias_gradient(&settings, problem, &shape, output_gradient, &plane_sums, bias_gradient_mask, parameter_writing,
                     bias_gradient);
  }
  pf_memory_release(plane_sums.sums);
  return status;
}
