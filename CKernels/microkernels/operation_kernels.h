// The leaf functions of the operations other than convolution and matrix multiplication: a part of the table in
// microkernels/kernels.h. Each runs on one thread, and an element's bits don't depend on where in a range the element
// lies, so that drivers may cut ranges anywhere.

#ifndef PF_OPERATION_KERNELS_H
#define PF_OPERATION_KERNELS_H

#include "include/CKernels.h"

enum {
  pf_unary_count = pf_tanh + 1,
  pf_binary_count = pf_relu6_backward + 1,
  pf_activation_count = pf_activation_relu6 + 1,
};

// The scalars of an optimizer step, rounded to float once, as PyTorch's scalar arguments are.
typedef struct pf_sgd_scalars {
  float sign;               // -1 to maximize
  float weight_decay;       // 0: no decay, and the value isn't read for it
  float momentum;
  float gradient_fraction;  // 1 - dampening
  float negative_learning_rate;
  bool nesterov, first_step;
} pf_sgd_scalars;

typedef struct pf_adam_scalars {
  float sign;
  float weight_decay;                 // coupled decay; 0: none
  float value_fraction;               // decoupled decay: 1 - learning_rate * weight_decay; 1: none
  float first_fraction;               // 1 - beta1
  float beta2, second_fraction;       // 1 - beta2
  float correction;                   // sqrt(1 - beta2^step)
  float epsilon;
  float negative_step;                // -learning_rate / (1 - beta1^step)
} pf_adam_scalars;

typedef struct pf_rmsprop_scalars {
  float sign;
  float weight_decay;            // 0: none
  float alpha, second_fraction;  // 1 - alpha
  float epsilon;
  float momentum;
  float negative_learning_rate;
} pf_rmsprop_scalars;

typedef struct pf_adagrad_scalars {
  float sign;
  float weight_decay;   // 0: none
  float epsilon;
  float negative_step;  // -learning_rate / (1 + (step - 1) * learning_rate_decay)
} pf_adagrad_scalars;

// A pooling problem with its output extents.
typedef struct pf_pooling_plan {
  pf_pooling2d problem;
  int64_t output_height, output_width;
} pf_pooling_plan;

// `rows` runs of `columns` elements, `stride` elements from one run's start to the next's.
typedef struct pf_rows {
  int64_t rows, stride, columns;
} pf_rows;

// What a channel's normalisation does to an element: y = (x - mean) * factor + shift, and backwards
// x_gradient = (y_gradient - gradient_mean - (x - mean) * slope) * factor.
typedef struct pf_affine {
  float mean, factor, shift, gradient_mean, slope;
} pf_affine;

// Two sums under way.
enum { pf_reduction_lanes = 16 };
typedef struct pf_lane_sums {
  double lanes[2][pf_reduction_lanes];
} pf_lane_sums;

static inline void pf_sum_lanes(const pf_lane_sums *lanes, double sums[2]) {
  for (int32_t which = 0; which < 2; ++which) {
    double part[pf_reduction_lanes];
    for (int32_t i = 0; i < pf_reduction_lanes; ++i) part[i] = lanes->lanes[which][i];
    for (int32_t width = pf_reduction_lanes / 2; width > 0; width /= 2) {
      for (int32_t i = 0; i < width; ++i) part[i] += part[i + width];
    }
    sums[which] = part[0];
  }
}

typedef struct pf_operation_kernels {
  // Elementwise. x and result may be the same; steps are 0 or 1.
  void (*unary[pf_unary_count])(int64_t count, const float *x, float *result);
  void (*binary[pf_binary_count])(int64_t count, const float *a, int64_t step_a, const float *b, int64_t step_b,
                                  float *result);
  void (*scale)(int64_t count, float scale, float shift, const float *x, float *result);
  void (*add_scaled)(int64_t count, float scale, const float *x, float *result);
  void (*mask_gradient)(int64_t count, const uint8_t *gradient_mask, float *gradient);

  // Reductions.
  double (*sum)(int64_t count, const float *x);
  void (*add_rows)(pf_rows shape, const float *x, double *sums);  // sums[i] += the sum of column i
  double (*sum_of_squares)(int64_t count, const float *x, const uint8_t *gradient_mask);
  float (*maximum)(int64_t count, const float *x);               // count at least 1; NaN if there is one
  float (*minimum)(int64_t count, const float *x);
  int64_t (*argmax)(int64_t count, const float *x);

  // Pooling: any indices, whether all are at least -1 and less than the limit; one plane.
  bool (*indices_fit)(int64_t count, const int32_t *indices, int32_t limit);
  void (*max_pool)(const pf_pooling_plan *plan, const float *input, float *output, int32_t *indices);
  void (*average_pool)(const pf_pooling_plan *plan, const float *input, float *output);
  // scratch: an output row and an input row
  void (*average_pool_backward)(const pf_pooling_plan *plan, const float *output_gradient, float *scratch,
                                float *input_gradient);

  double (*rows_sum)(pf_rows shape, const float *x);

  // Batch normalisation. Sums are of one channel, and meanwhile fetch into the caches what lies `ahead` elements beyond
  // what they read, unless that is 0; other rows may be of as many channels, whose affines lie `affine_step` apart, 0
  // or 1.
  // adds x - origin and its square
  void (*rows_moments)(pf_rows shape, int64_t ahead, double origin, const float *x, pf_lane_sums *sums);
  // addend may be NULL
  void (*rows_normalize[pf_activation_count])(pf_rows shape, const pf_affine *affines, int64_t affine_step,
                                              const float *x, const float *addend, float *y);
  // adds y's gradient before the activation and its product with x - mean
  void (*rows_products[pf_activation_count])(pf_rows shape, int64_t ahead, const pf_affine *affine, const float *x,
                                             const float *y_gradient, pf_lane_sums *sums);
  void (*rows_normalize_backward[pf_activation_count])(pf_rows shape, const pf_affine *affines, int64_t affine_step,
                                                       const float *x, const float *y_gradient, float *x_gradient);

  // Softmax and cross-entropy: whole rows.
  void (*softmax)(int64_t rows, int64_t columns, bool logarithm, const float *x, float *result);
  void (*softmax_backward)(int64_t rows, int64_t columns, bool logarithm, const float *result,
                           const float *result_gradient, float *x_gradient);
  void (*cross_entropy)(int64_t rows, int64_t classes, float smoothing, const float *logits, const int32_t *targets,
                        float *loss, float *log_normalizer);
  void (*cross_entropy_backward)(int64_t rows, int64_t classes, float smoothing, const float *logits,
                                 const int32_t *targets, const float *log_normalizer, const float *loss_gradient,
                                 float *logits_gradient);

  // Random numbers: elements first ..< first + count.
  void (*random_bits)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *result);
  void (*random_uniform)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float low, float high,
                         float *result);
  void (*random_normal)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float mean,
                        float standard_deviation, float *result);
  void (*dropout)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float probability, const float *x,
                  float *result);

  // Optimizer updates.
  void (*sgd)(int64_t count, const pf_sgd_scalars *scalars, const float *gradient, const uint8_t *gradient_mask,
              float *momentum_buffer, float *value);
  void (*adam)(int64_t count, const pf_adam_scalars *scalars, const float *gradient, const uint8_t *gradient_mask,
               float *first_moment, float *second_moment, float *largest_second_moment, float *value);
  void (*rmsprop)(int64_t count, const pf_rmsprop_scalars *scalars, const float *gradient,
                  const uint8_t *gradient_mask, float *mean_square, float *mean_gradient, float *momentum_buffer,
                  float *value);
  void (*adagrad)(int64_t count, const pf_adagrad_scalars *scalars, const float *gradient,
                  const uint8_t *gradient_mask, float *sum_of_squares, float *value);
} pf_operation_kernels;

#endif
