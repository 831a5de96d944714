#include "convolution/problem.h"

/// floor((input + before + after - dilation * (kernel - 1) - 1) / stride) + 1, checked.
static pf_status output_extent(int64_t input, int64_t before, int64_t after, int64_t kernel, int64_t dilation,
                               int64_t stride, int64_t *output) {
  PF_REQUIRE(input >= 1 && before >= 0 && after >= 0 && kernel >= 1 && dilation >= 1 && stride >= 1,
             pf_error_dimension);
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
  PF_REQUIRE(p->batch >= 0 && p->input_channels >= 1 && p->output_channels >= 1 && p->groups >= 1, pf_error_dimension);
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
  int64_t multiplications;
  return pf_extents(&multiplications, p->batch, p->output_channels, shape->output_plane, shape->group_input_channels,
                    shape->taps);
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
