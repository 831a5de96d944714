// The leaf functions of operation_kernels.h.

#include <math.h>
#include <string.h>

/// Iterations are independent: where operands may be the same array, they are read and written at the same index.
#define PF_VECTORIZE _Pragma("clang loop vectorize(assume_safety)")

/// The same for loops that may be as short as one vector: a longer step would leave them to the scalar remainder.
#define PF_VECTORIZE_SHORT _Pragma("clang loop vectorize(assume_safety) interleave_count(1)")

// Functions that take or return vectors wider than the instruction set's are all inlined: no calling convention
// matters.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpsabi"

#include "microkernels/vector_math.h"
#include "microkernels/elementwise_body.h"
#include "microkernels/reduction_body.h"
#include "microkernels/pooling_body.h"
#include "microkernels/normalization_body.h"
#include "microkernels/softmax_body.h"
#include "microkernels/random_body.h"
#include "microkernels/optimizer_body.h"

static const pf_operation_kernels operation_kernels = {
  .unary = {unary_negate, unary_absolute, unary_exp, unary_log, unary_sqrt, unary_reciprocal, unary_relu, unary_relu6,
            unary_sigmoid, unary_tanh},
  .binary = {binary_add, binary_subtract, binary_multiply, binary_divide, binary_maximum, binary_minimum,
             binary_relu_backward, binary_relu6_backward},
  .scale = scale_elements,
  .add_scaled = add_scaled_elements,
  .mask_gradient = mask_elements,
  .sum = sum_elements,
  .add_rows = add_rows,
  .sum_of_squares = sum_of_squares,
  .maximum = maximum_element,
  .minimum = minimum_element,
  .argmax = argmax,
  .indices_fit = indices_fit,
  .max_pool = max_pool,
  .average_pool = average_pool,
  .average_pool_backward = average_pool_backward,
  .rows_sum = rows_sum,
  .rows_moments = rows_moments,
  .rows_normalize = {rows_normalize_none, rows_normalize_relu, rows_normalize_relu6},
  .rows_products = {rows_products_none, rows_products_relu, rows_products_relu6},
  .rows_normalize_backward = {rows_normalize_backward_none, rows_normalize_backward_relu,
                              rows_normalize_backward_relu6},
  .softmax = softmax,
  .softmax_backward = softmax_backward,
  .cross_entropy = cross_entropy,
  .cross_entropy_backward = cross_entropy_backward,
  .random_bits = random_bits,
  .random_uniform = random_uniform,
  .random_normal = random_normal,
  .dropout = dropout,
  .sgd = sgd,
  .adam = adam,
  .rmsprop = rmsprop,
  .adagrad = adagrad,
};

#undef PF_VECTORIZE
#undef PF_VECTORIZE_SHORT
#pragma clang diagnostic pop
