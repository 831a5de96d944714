// CKernels as a table of functions: all that the harness knows of the interface it tests.

#include <string.h>

#include "CKernels.h"
#include "CReference.h"

static pf_convolution2d problem_of(const ref_convolution *p) {
  return (pf_convolution2d){
      .batch = p->batch,
      .input_channels = p->input_channels,
      .input_height = p->input_height,
      .input_width = p->input_width,
      .output_channels = p->output_channels,
      .kernel_height = p->kernel_height,
      .kernel_width = p->kernel_width,
      .stride_height = p->stride_height,
      .stride_width = p->stride_width,
      .padding_top = p->padding_top,
      .padding_bottom = p->padding_bottom,
      .padding_left = p->padding_left,
      .padding_right = p->padding_right,
      .dilation_height = p->dilation_height,
      .dilation_width = p->dilation_width,
      .groups = p->groups,
  };
}

static pf_context context_of(const ref_context *c) {
  return (pf_context){.threads = c->threads, .numerics = (pf_numerics)c->numerics, .isa = (pf_isa)c->isa};
}

static pf_writing writing_of(bool accumulate) { return accumulate ? pf_accumulate : pf_overwrite; }

/// Leaves NaNs in the block that the pass will take its workspace from: what it reads there, it must have written.
static void soil_workspace(const pf_context *context, const pf_convolution2d *problem, pf_convolution_pass pass) {
  size_t bytes = 0;
  if (pf_convolution2d_workspace(context, problem, pass, &bytes) != pf_ok) return;
  void *block = pf_memory_allocate(bytes);
  if (block) memset(block, 0xFF, bytes);
  pf_memory_release(block);
}

static int32_t output_size(const ref_convolution *problem, int64_t *height, int64_t *width) {
  pf_convolution2d p = problem_of(problem);
  return pf_convolution2d_output_size(&p, height, width);
}

static int32_t forward(const ref_context *context, const ref_convolution *problem, int32_t activation,
                       const float *input, const float *weight, const float *bias, float *output) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  soil_workspace(&c, &p, pf_pass_forward);
  return pf_convolution2d_forward(&c, &p, (pf_activation)activation, input, weight, bias, output);
}

static int32_t input_gradient(const ref_context *context, const ref_convolution *problem, const float *output_gradient,
                              const float *weight, bool accumulate, float *result) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  soil_workspace(&c, &p, pf_pass_input_gradient);
  return pf_convolution2d_input_gradient(&c, &p, output_gradient, weight, writing_of(accumulate), result);
}

static int32_t weight_gradient(const ref_context *context, const ref_convolution *problem, const float *input,
                               const float *output_gradient, const uint8_t *mask, bool accumulate, float *result) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  soil_workspace(&c, &p, pf_pass_weight_gradient);
  return pf_convolution2d_weight_gradient(&c, &p, input, output_gradient, mask, writing_of(accumulate), result);
}

static int32_t bias_gradient(const ref_context *context, const ref_convolution *problem, const float *output_gradient,
                             const uint8_t *mask, bool accumulate, float *result) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  return pf_convolution2d_bias_gradient(&c, &p, output_gradient, mask, writing_of(accumulate), result);
}

static int32_t backward(const ref_context *context, const ref_convolution *problem, const float *input,
                        const float *weight, const float *output_gradient, const uint8_t *weight_mask,
                        const uint8_t *bias_mask, bool accumulate_input, bool accumulate_parameters,
                        float *input_gradient, float *weight_gradient, float *bias_gradient) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  soil_workspace(&c, &p, pf_pass_backward);
  return pf_convolution2d_backward(&c, &p, input, weight, output_gradient, weight_mask, bias_mask,
                                   writing_of(accumulate_input), writing_of(accumulate_parameters), input_gradient,
                                   weight_gradient, bias_gradient);
}

static const char *algorithm(const ref_context *context, const ref_convolution *problem, int32_t pass) {
  pf_context c = context_of(context);
  pf_convolution2d p = problem_of(problem);
  const char *name = "unknown";
  pf_convolution2d_algorithm(&c, &p, (pf_convolution_pass)pass, &name);
  return name;
}

static int32_t multiply(const ref_context *context, const ref_product *product, const float *a, const float *b,
                        const float *column_bias, const uint8_t *mask, bool accumulate, float *result) {
  pf_context c = context_of(context);
  pf_matrix_product p = {
      .rows = product->rows,
      .columns = product->columns,
      .inner = product->inner,
      .transpose_a = product->transpose_a,
      .transpose_b = product->transpose_b,
      .stride_a = product->stride_a,
      .stride_b = product->stride_b,
      .stride_result = product->stride_result,
  };
  return pf_matrix_multiply(&c, &p, a, b, column_bias, mask, writing_of(accumulate), result);
}

static bool isa_supported(int32_t isa) { return pf_isa_supported((pf_isa)isa); }
static const char *isa_name(int32_t isa) { return pf_isa_name((pf_isa)isa); }
static const char *status_message(int32_t status) { return pf_status_message((pf_status)status); }

ref_kernels ref_ckernels(void) {
  return (ref_kernels){
      .output_size = output_size,
      .forward = forward,
      .input_gradient = input_gradient,
      .weight_gradient = weight_gradient,
      .bias_gradient = bias_gradient,
      .backward = backward,
      .algorithm = algorithm,
      .multiply = multiply,
      .isa_supported = isa_supported,
      .isa_name = isa_name,
      .status_message = status_message,
  };
}
