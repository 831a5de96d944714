// Elementwise leaf functions. Included by operations_body.h once for each instruction set.

#define PF_UNARY_LEAF(name, expression)                                                \
  static void unary_##name(int64_t count, const float *x, float *result) {          \
    PF_VECTORIZE                                                                       \
    for (int64_t i = 0; i < count; i++) {                                              \
      const float v = x[i];                                                            \
      result[i] = (expression);                                                        \
    }                                                                                  \
  }

PF_UNARY_LEAF(negate, -v)
PF_UNARY_LEAF(absolute, __builtin_fabsf(v))
PF_UNARY_LEAF(exp, exp1(v))
PF_UNARY_LEAF(log, log1(v))
PF_UNARY_LEAF(sqrt, __builtin_sqrtf(v))
PF_UNARY_LEAF(reciprocal, 1.0f / v)
PF_UNARY_LEAF(relu, v <= 0 ? 0.0f : v)
PF_UNARY_LEAF(relu6, v <= 0 ? 0.0f : v >= 6 ? 6.0f : v)
PF_UNARY_LEAF(sigmoid, sigmoid1(v))
PF_UNARY_LEAF(tanh, tanh1(v))

// The first operand of a maximum wins where it is larger or a NaN; a NaN in the second makes both comparisons false.
#define PF_BINARY_LEAF(name, expression)                                                                             \
  static void binary_##name(int64_t count, const float *a, int64_t step_a, const float *b, int64_t step_b,        \
                               float *result) {                                                                      \
    if (step_a != 0 && step_b != 0) {                                                                                \
      PF_VECTORIZE                                                                                                   \
      for (int64_t i = 0; i < count; i++) {                                                                          \
        const float u = a[i], v = b[i];                                                                              \
        result[i] = (expression);                                                                                    \
      }                                                                                                              \
    } else if (step_a != 0) {                                                                                        \
      const float v = *b;                                                                                            \
      PF_VECTORIZE                                                                                                   \
      for (int64_t i = 0; i < count; i++) {                                                                          \
        const float u = a[i];                                                                                        \
        result[i] = (expression);                                                                                    \
      }                                                                                                              \
    } else {                                                                                                         \
      const float u = *a;                                                                                            \
      PF_VECTORIZE                                                                                                   \
      for (int64_t i = 0; i < count; i++) {                                                                          \
        const float v = b[i * step_b];                                                                               \
        result[i] = (expression);                                                                                    \
      }                                                                                                              \
    }                                                                                                                \
  }

PF_BINARY_LEAF(add, u + v)
PF_BINARY_LEAF(subtract, u - v)
PF_BINARY_LEAF(multiply, u * v)
PF_BINARY_LEAF(divide, u / v)
PF_BINARY_LEAF(maximum, u > v || u != u ? u : v)
PF_BINARY_LEAF(minimum, u < v || u != u ? u : v)
PF_BINARY_LEAF(relu_backward, v > 0 ? u : 0.0f)
PF_BINARY_LEAF(relu6_backward, v > 0 && v < 6 ? u : 0.0f)

#undef PF_UNARY_LEAF
#undef PF_BINARY_LEAF

static void scale_elements(int64_t count, float scale, float shift, const float *x, float *result) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; i++) result[i] = multiply_add1(scale, x[i], shift);
}

static void add_scaled_elements(int64_t count, float scale, const float *x, float *result) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; i++) result[i] = multiply_add1(scale, x[i], result[i]);
}

static void mask_elements(int64_t count, const uint8_t *gradient_mask, float *gradient) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; i++) gradient[i] = gradient_mask[i] != 0 ? gradient[i] : 0.0f;
}
