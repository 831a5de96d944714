// Batch normalisation: one stretch of a channel. The gradients' kernels find out what the activation let pass by
// computing its argument again, as forward did: that costs less than to read its result.

PF_INLINE float activated(pf_activation activation, float v) {
  if (activation == pf_activation_none) return v;
  if (activation == pf_activation_relu6) return v <= 0 ? 0.0f : v >= 6 ? 6.0f : v;
  return v <= 0 ? 0.0f : v;
}

PF_INLINE void normalize_rows(pf_activation activation, pf_rows shape, const pf_affine *affines, int64_t affine_step,
                              const float *x, const float *addend, float *y) {
  for (int64_t row = 0; row < shape.rows; ++row, affines += affine_step) {
    const pf_affine affine = *affines;
    const int64_t begin = row * shape.stride, end = begin + shape.columns;
    if (addend == NULL) {
      PF_VECTORIZE_SHORT
      for (int64_t i = begin; i < end; ++i) {
        y[i] = activated(activation, multiply_add1(x[i] - affine.mean, affine.factor, affine.shift));
      }
    } else {
      PF_VECTORIZE_SHORT
      for (int64_t i = begin; i < end; ++i) {
        y[i] = activated(activation, multiply_add1(x[i] - affine.mean, affine.factor, affine.shift) + addend[i]);
      }
    }
  }
}

/// The gradient in the lanes where the activation of (x - mean) * factor + shift passes it on, else 0.
PF_INLINE float_lanes passed_lanes(pf_activation activation, pf_affine affine, float_lanes x, float_lanes gradient) {
  if (activation == pf_activation_none) return gradient;
  const float_lanes v = multiply_add_lanes(x - affine.mean, affine.factor, affine.shift);
  integer_lanes passes = v > 0;
  if (activation == pf_activation_relu6) passes &= v < 6;
  return (float_lanes)((integer_lanes)gradient & passes);
}

PF_INLINE void add_products_of_lanes(pf_activation activation, pf_affine affine, float_lanes x, float_lanes gradient,
                                     double_lanes *gradients, double_lanes *products) {
  const double_lanes wide = widen(passed_lanes(activation, affine, x, gradient));
  *gradients += wide;
  *products = multiply_add_wide(wide, widen(x) - (double)affine.mean, *products);
}

PF_INLINE void products_of_rows(pf_activation activation, pf_rows shape, int64_t ahead, pf_affine affine,
                                const float *x, const float *y_gradient, pf_lane_sums *sums) {
  double_lanes gradients = load_sums(sums->lanes[0]), products = load_sums(sums->lanes[1]);
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride, y_gradient += shape.stride) {
    int64_t i = 0;
    for (; i + reduction_lanes <= shape.columns; i += reduction_lanes) {
      if (ahead != 0) {
        __builtin_prefetch(x + i + ahead);
        __builtin_prefetch(y_gradient + i + ahead);
      }
      add_products_of_lanes(activation, affine, load_lanes(x + i, reduction_lanes, 0),
                            load_lanes(y_gradient + i, reduction_lanes, 0), &gradients, &products);
    }
    const int64_t rest = shape.columns - i;
    if (rest > 0) {
      add_products_of_lanes(activation, affine, load_lanes(x + i, rest, affine.mean),
                            load_lanes(y_gradient + i, rest, 0), &gradients, &products);
    }
  }
  store_sums(sums->lanes[0], gradients);
  store_sums(sums->lanes[1], products);
}

/// With what the activation passes on of y's gradient.
PF_INLINE void differentiate_rows(pf_activation activation, pf_rows shape, const pf_affine *affines,
                                  int64_t affine_step, const float *x, const float *y_gradient, float *x_gradient) {
  for (int64_t row = 0; row < shape.rows; ++row, affines += affine_step) {
    const pf_affine affine = *affines;
    const int64_t begin = row * shape.stride, end = begin + shape.columns;
    PF_VECTORIZE_SHORT
    for (int64_t i = begin; i < end; ++i) {
      const float deviation = x[i] - affine.mean;
      float gradient = y_gradient[i];
      if (activation != pf_activation_none) {
        const float v = multiply_add1(deviation, affine.factor, affine.shift);
        const bool below = activation != pf_activation_relu6 || v < 6;
        gradient = v > 0 && below ? gradient : 0.0f;
      }
      x_gradient[i] = multiply_add1(deviation, -affine.slope, gradient - affine.gradient_mean) * affine.factor;
    }
  }
}

#define PF_NORMALIZATION(activation)                                                                              \
  static void rows_normalize_##activation(pf_rows shape, const pf_affine *affines, int64_t affine_step,           \
                                          const float *x, const float *addend, float *y) {                        \
    normalize_rows(pf_activation_##activation, shape, affines, affine_step, x, addend, y);                        \
  }                                                                                                               \
  static void rows_products_##activation(pf_rows shape, int64_t ahead, const pf_affine *affine, const float *x,   \
                                         const float *y_gradient, pf_lane_sums *sums) {                           \
    products_of_rows(pf_activation_##activation, shape, ahead, *affine, x, y_gradient, sums);                     \
  }                                                                                                               \
  static void rows_normalize_backward_##activation(pf_rows shape, const pf_affine *affines, int64_t affine_step,  \
                                                   const float *x, const float *y_gradient, float *x_gradient) {  \
    differentiate_rows(pf_activation_##activation, shape, affines, affine_step, x, y_gradient, x_gradient);       \
  }

PF_NORMALIZATION(none)
PF_NORMALIZATION(relu)
PF_NORMALIZATION(relu6)

#undef PF_NORMALIZATION
