// CReference: what the kernels are held against.
//
// Three things, none of which shares code with the kernels:
//   Reference  convolution and matrix multiplication as they stand in a textbook, summed in double precision.
//   Problems   random shapes, drawn so that the shapes that break kernels are frequent.
//   Checker    runs kernels, given as a table of functions, on random problems against the reference, in memory whose
//              neighbouring pages can't be touched.
//
// Everything is plain C, so that it runs from Swift and, cross-compiled, under an emulator. `kernels.c` alone knows the
// interface under test, and nothing of it but the public header.

#ifndef CREFERENCE_H
#define CREFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Reference

/// A 2-D convolution: input batch x input_channels x input_height x input_width, weight output_channels x
/// (input_channels / groups) x kernel_height x kernel_width, all dense and row-major.
typedef struct ref_convolution {
  int64_t batch;
  int64_t input_channels, input_height, input_width;
  int64_t output_channels, kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t padding_top, padding_bottom, padding_left, padding_right;
  int64_t dilation_height, dilation_width;
  int64_t groups;
} ref_convolution;

int64_t ref_output_height(const ref_convolution *problem);
int64_t ref_output_width(const ref_convolution *problem);

/// Elements of each tensor of a problem, its multiplications a pass, and the longest sum behind one element of a
/// result.
int64_t ref_input_count(const ref_convolution *problem);
int64_t ref_weight_count(const ref_convolution *problem);
int64_t ref_output_count(const ref_convolution *problem);
int64_t ref_multiplications(const ref_convolution *problem);
int64_t ref_longest_sum(const ref_convolution *problem);

/// output = bias (or 0, if NULL) + weight * input.
void ref_convolution_forward(const ref_convolution *problem, const float *input, const float *weight, const float *bias,
                             double *output);
void ref_convolution_input_gradient(const ref_convolution *problem, const float *output_gradient, const float *weight,
                                    double *input_gradient);
void ref_convolution_weight_gradient(const ref_convolution *problem, const float *input, const float *output_gradient,
                                     double *weight_gradient);
void ref_convolution_bias_gradient(const ref_convolution *problem, const float *output_gradient,
                                   double *bias_gradient);

/// result = op(a) op(b) + bias; op(a): rows x inner, op(b): inner x columns. Row strides are in elements.
typedef struct ref_product {
  int64_t rows, columns, inner;
  bool transpose_a, transpose_b;
  int64_t stride_a, stride_b, stride_result;
} ref_product;

/// `result` is dense, rows x columns, whatever stride_result says. `column_bias` may be NULL.
void ref_matrix_multiply(const ref_product *product, const float *a, const float *b, const float *column_bias,
                         double *result);

/// The largest error that a sum of `terms` products, computed in float32 in any order, with or without fused
/// multiply-add, may have; `magnitude` is the sum of the products' absolute values. See bound.c for its derivation.
double ref_error_bound(int64_t terms, double magnitude);

/// The bound of a convolution by another algorithm than the textbook's: ref_error_bound of the terms that a pass sums
/// over (channels, or tiles) and `roundings` more, with the pass's factor times the largest absolute value of each
/// operand for the magnitude.
typedef struct ref_fast_bound {
  int64_t roundings;
  int64_t forward_terms, input_gradient_terms, weight_gradient_terms;
  double forward, input_gradient, weight_gradient;
} ref_fast_bound;

/// Winograd's F(rows x columns): with 4 outputs along an axis of 3 taps, 2 along one of 5, and 1 row for a kernel of
/// one, or that upright; for 3 x 3 taps also with 2 x 2 outputs. With 3 taps along each axis also of stride 2,
/// undilated. With 3 x 3 his algorithm on whole phases of a dilated kernel, of at most that many pixels. Zeros for a
/// problem that it doesn't apply to.
ref_fast_bound ref_winograd_bound_of(const ref_convolution *problem, int32_t rows, int32_t columns);

/// The largest of those that pf_fast may choose from.
ref_fast_bound ref_fast_bound_of(const ref_convolution *problem);

// MARK: Problems

/// Problem `index` of the sequence `seed`; each depends on the two numbers alone.
ref_convolution ref_random_convolution(uint64_t seed, int64_t index);
ref_product ref_random_product(uint64_t seed, int64_t index);

/// What a convolution problem exercises; a sequence that doesn't reach one of them proves less than it seems.
typedef enum ref_feature : int32_t {
  ref_feature_pointwise, ref_feature_strided_pointwise, ref_feature_depthwise, ref_feature_multiplier,
  ref_feature_grouped, ref_feature_strided, ref_feature_stride_over_kernel, ref_feature_dilated,
  ref_feature_asymmetric_padding, ref_feature_padding_over_kernel, ref_feature_kernel_over_image,
  ref_feature_one_dimensional, ref_feature_same_3x3, ref_feature_few_channels, ref_feature_odd_channels,
  ref_feature_many_channels, ref_feature_many_pixels, ref_feature_single_image, ref_feature_empty_batch,
  ref_feature_line_depthwise, ref_feature_tall_strided_depthwise, ref_feature_one_column_one_side,
  ref_feature_one_column_of_zeros,
  ref_feature_mask_scattered, ref_feature_mask_filters, ref_feature_mask_channels, ref_feature_mask_taps,
  ref_feature_mask_all, ref_feature_mask_none, ref_feature_mask_one, ref_feature_mask_all_but_one,
  ref_feature_poisoned,
  ref_feature_count,
} ref_feature;

const char *ref_feature_name(ref_feature feature);

// MARK: Checker

typedef struct ref_context {
  int32_t threads, numerics, isa;  // as the kernels' own context
} ref_context;

/// The functions under test. Each returns 0 for success; the arguments mean what they mean in CKernels.h, with
/// `accumulate` for the writing mode.
typedef struct ref_kernels {
  int32_t (*output_size)(const ref_convolution *problem, int64_t *height, int64_t *width);
  int32_t (*forward)(const ref_context *context, const ref_convolution *problem, int32_t activation,
                     const float *input, const float *weight, const float *bias, float *output);
  int32_t (*input_gradient)(const ref_context *context, const ref_convolution *problem, const float *output_gradient,
                            const float *weight, bool accumulate, float *input_gradient);
  int32_t (*weight_gradient)(const ref_context *context, const ref_convolution *problem, const float *input,
                             const float *output_gradient, const uint8_t *mask, bool accumulate,
                             float *weight_gradient);
  int32_t (*bias_gradient)(const ref_context *context, const ref_convolution *problem, const float *output_gradient,
                           const uint8_t *mask, bool accumulate, float *bias_gradient);
  /// All three gradients; those that are NULL aren't computed.
  int32_t (*backward)(const ref_context *context, const ref_convolution *problem, const float *input,
                      const float *weight, const float *output_gradient, const uint8_t *weight_mask,
                      const uint8_t *bias_mask, bool accumulate_input, bool accumulate_parameters,
                      float *input_gradient, float *weight_gradient, float *bias_gradient);
  /// The name of the algorithm that a pass (0 forward, 1 input gradient, 2 weight gradient) would run; never NULL.
  const char *(*algorithm)(const ref_context *context, const ref_convolution *problem, int32_t pass);
  int32_t (*multiply)(const ref_context *context, const ref_product *product, const float *a, const float *b,
                      const float *column_bias, const uint8_t *mask, bool accumulate, float *result);
  bool (*isa_supported)(int32_t isa);
  const char *(*isa_name)(int32_t isa);
  const char *(*status_message)(int32_t status);
} ref_kernels;

/// The kernels of CKernels.
ref_kernels ref_ckernels(void);

enum { ref_activation_none = 0, ref_activation_relu = 1, ref_activation_relu6 = 2 };  // the values of CKernels.h
enum { ref_numerics_fast = 0, ref_numerics_exact = 1 };
enum { ref_isa_limit = 8 };                              // instruction sets are numbered 1 ..< ref_isa_limit
enum { ref_algorithm_limit = 16 };                       // how many algorithms a report tells apart

typedef enum ref_data : int32_t {
  /// Integers so small that every partial sum is exact in float32 in any order: results of direct algorithms must equal
  /// the reference, those of others lie within their bound. One thread count a problem.
  ref_data_integers = 0,
  /// Random fractions: results must lie within their algorithm's bound, have the same bits at 1, 2 and 3 threads and,
  /// in exact numerics, the same bits where trainable with and without a mask.
  ref_data_fractions = 1,
} ref_data;

typedef struct ref_check {
  uint64_t seed;
  int64_t first, count;       // problems first ..< first + count of the sequence
  int32_t numerics;
  int32_t isa;                // 0: each that the machine has
  ref_data data;
  const char *reproduction;   // the command that a failure's options are appended to
} ref_check;

/// How often an algorithm was chosen, by pass, for a problem on one instruction set.
typedef struct ref_algorithm_count {
  const char *name;  // NULL: an unused entry
  int64_t passes[3];
} ref_algorithm_count;

typedef struct ref_report {
  int64_t problems;
  int64_t results;             // results compared, over all instruction sets
  int64_t elements;            // elements compared
  int64_t frozen;              // of these, frozen
  int64_t poisoned;            // NaNs and infinities planted where they reach frozen elements alone
  int64_t mistrusted;          // problems whose reference stayed mostly zero: these prove little
  int64_t failures;            // problems that failed; the check stops at the tenth
  int64_t results_by_isa[ref_isa_limit];
  int64_t features[ref_feature_count];
  ref_algorithm_count algorithms[ref_algorithm_limit];
  char failure[2048];          // the first one: seed, index, shape, what differs, and a command that repeats it
} ref_report;

int64_t ref_report_results(const ref_report *report, int32_t isa);
/// The algorithms in the order in which they were met; NULL beyond the last one.
const char *ref_report_algorithm_name(const ref_report *report, int32_t algorithm);
int64_t ref_report_algorithm_count(const ref_report *report, int32_t algorithm, int32_t pass);
int64_t ref_report_feature(const ref_report *report, ref_feature feature);
const char *ref_report_failure(const ref_report *report);  // "" if there is none

/// Checks forward, input gradient (both writing modes), weight and bias gradient (both modes, with and without a mask,
/// and with a mask and NaNs all over their inputs), and that fused calls give the bits of separate ones. A kernel that
/// leaves its memory ends the process, after the problem has been printed to standard error.
ref_report ref_check_convolutions(const ref_kernels *kernels, const ref_check *check);

/// Checks matrix products: transposed and not, with gaps between rows, with and without bias, mask and accumulation.
ref_report ref_check_products(const ref_kernels *kernels, const ref_check *check);

#ifdef __cplusplus
}
#endif

#endif
