#include "convolution/problem.h"

/// floor((input + before + after - dilation * (kernel - 1) - 1) / stride) + 1, checked.
static pf_status output_extent(int64_t input, int64_t before, int64_t after, int64_t kernel, int64_t dilation,
                               int64_t stride, int64_t *output) {
  int64_t padded, reach;
  PF_REQUIRE(!__builtin_add_overflow(input, before, &padded) && !__builtin_add_overflow(padded, after, &padded),
             pf_error_overflow);
  PF_REQUIRE(!__builtin_mul_overflow(dilation, kernel - 1, &reach), pf_error_overflow);
  PF_REQUIRE(padded > reach, pf_error_dimension);
  *output = (padded - reach - 1) / stride + 1;
  return pf_ok;
}

pf_status pf_convolution_check(const pf_convolution2d *problem, pf_convolution_shape *shape) {
  const pf_convolution2d *p = problem;
  PF_REQUIRE(p != NULL, pf_error_null);
  const int64_t positive[] = {p->input_channels, p->input_height,  p->input_width,     p->output_channels,
                              p->kernel_height,  p->kernel_width,  p->stride_height,   p->stride_width,
                              p->groups,         p->dilation_height, p->dilation_width};
  const int64_t not_negative[] = {p->batch, p->padding_top, p->padding_bottom, p->padding_left, p->padding_right};
  for (size_t i = 0; i < sizeof(positive) / sizeof(positive[0]); ++i) PF_REQUIRE(positive[i] >= 1, pf_error_dimension);
  for (size_t i = 0; i < sizeof(not_negative) / sizeof(not_negative[0]); ++i) {
    PF_REQUIRE(not_negative[i] >= 0, pf_error_dimension);
  }
  PF_REQUIRE(p->input_channels % p->groups == 0 && p->output_channels % p->groups == 0, pf_error_dimension);
  PF_TRY(output_extent(p->input_height, p->padding_top, p->padding_bottom, p->kernel_height, p->dilation_height,
                       p->stride_height, &shape->output_height));
  PF_TRY(output_extent(p->input_width, p->padding_left, p->padding_right, p->kernel_width, p->dilation_width,
                       p->stride_width, &shape->output_width));
  shape->group_input_channels = p->input_channels / p->groups;
  shape->group_output_channels = p->output_channels / p->groups;
  PF_TRY(pf_extents(&shape->taps, p->kernel_height, p->kernel_width));
  PF_TRY(pf_extents(&shape->input_plane, p->input_height, p->input_width));
  PF_TRY(pf_extents(&shape->output_plane, shape->output_height, shape->output_width));
  PF_TRY(pf_extents(&shape->weight_count, p->output_channels, shape->group_input_channels, shape->taps));
  PF_TRY(pf_extents(&shape->input_count, p->batch, p->input_channels, shape->input_plane));
  PF_TRY(pf_extents(&shape->output_count, p->batch, p->output_channels, shape->output_plane));
  // An empty batch is judged as a batch of one: what is wrong with a problem doesn't hang on how much data came.
  const int64_t outputs = pf_maximum_of(p->batch, 1) * p->output_channels * shape->output_plane;
  int64_t multiplications;
  PF_REQUIRE(!__builtin_mul_overflow(outputs, shape->group_input_channels * shape->taps, &multiplications),
             pf_error_overflow);
  return pf_ok;
}

/// Whether a kernel of one column meets each column of the planes as it would a row.
static bool meets_columns(const pf_convolution2d *p, const pf_convolution_shape *shape) {
  // With fewer channels, or outputs, algorithms run that share what neighbouring rows read.
  enum { few = 2 };
  if (p->kernel_width > 1 || p->padding_left > 0 || shape->output_width != p->input_width) return false;
  if (p->input_width == 1) return p->input_height > 1;
  // Steps into padding on the right may make as many columns as there are.
  return p->kernel_height > 1 && p->stride_height == 1 && p->stride_width == 1 && shape->group_input_channels > few &&
         shape->group_output_channels > few;
}

pf_status pf_convolution_read(const pf_convolution2d **problem, pf_convolution2d *laid, pf_convolution_shape *shape) {
  const pf_convolution2d *p = *problem;
  PF_TRY(pf_convolution_check(p, shape));
  const int64_t width = p->input_width, height = p->input_height + p->padding_top + p->padding_bottom;
  int64_t length;
  if (!meets_columns(p, shape) || __builtin_mul_overflow(height, width, &length)) return pf_ok;
  *laid = (pf_convolution2d){
      .batch = p->batch,
      .input_channels = p->input_channels,
      .input_height = 1,
      .input_width = p->input_height * width,
      .output_channels = p->output_channels,
      .kernel_height = 1,
      .kernel_width = p->kernel_height,
      .stride_height = 1,
      .stride_width = p->stride_height,
      .padding_left = p->padding_top * width,
      .padding_right = p->padding_bottom * width,
      .dilation_height = 1,
      .dilation_width = p->kernel_height == 1 ? 1 : p->dilation_height * width,
      .groups = p->groups,
  };
  *problem = laid;
  return pf_convolution_check(laid, shape);
}

pf_status pf_convolution2d_output_size(const pf_convolution2d *problem, int64_t *output_height,
                                       int64_t *output_width) {
  PF_REQUIRE(output_height != NULL && output_width != NULL, pf_error_null);
  pf_convolution_shape shape;
  PF_TRY(pf_convolution_check(problem, &shape));
  *output_height = shape.output_height;
  *output_width = shape.output_width;
  return pf_ok;
}
