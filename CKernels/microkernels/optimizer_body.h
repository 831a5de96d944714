// Optimizer updates: the arithmetic of PyTorch's single-tensor implementations, operation by operation, fused where its
// vector kernels fuse.

PF_INLINE void sgd_elements(int64_t count, pf_sgd_scalars s, const float *gradient, const uint8_t *gradient_mask,
                            float *momentum_buffer, float *value) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const bool trainable = gradient_mask == NULL || gradient_mask[i] != 0;
    float update = gradient[i] * s.sign;
    if (s.weight_decay != 0) update = multiply_add1(value[i], s.weight_decay, update);
    if (momentum_buffer != NULL) {
      const float moved = multiply_add1(update, s.gradient_fraction, momentum_buffer[i] * s.momentum);
      const float buffer = s.first_step ? update : moved;
      momentum_buffer[i] = trainable ? buffer : 0.0f;
      update = s.nesterov ? multiply_add1(buffer, s.momentum, update) : buffer;
    }
    const float updated = multiply_add1(update, s.negative_learning_rate, value[i]);
    value[i] = trainable ? updated : value[i];
  }
}

static void sgd(int64_t count, const pf_sgd_scalars *scalars, const float *gradient, const uint8_t *gradient_mask,
                float *momentum_buffer, float *value) {
  const pf_sgd_scalars s = *scalars;
  // Four loops in which the compiler knows which arrays there are.
  if (momentum_buffer == NULL) {
    if (gradient_mask == NULL) {
      sgd_elements(count, s, gradient, NULL, NULL, value);
    } else {
      sgd_elements(count, s, gradient, gradient_mask, NULL, value);
    }
  } else if (gradient_mask == NULL) {
    sgd_elements(count, s, gradient, NULL, momentum_buffer, value);
  } else {
    sgd_elements(count, s, gradient, gradient_mask, momentum_buffer, value);
  }
}

PF_INLINE void adam_elements(int64_t count, pf_adam_scalars s, const float *gradient, const uint8_t *gradient_mask,
                             float *first_moment, float *second_moment, float *largest_second_moment, float *value) {
  const float beta1 = 1.0f - s.first_fraction;
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const bool trainable = gradient_mask == NULL || gradient_mask[i] != 0;
    float g = gradient[i] * s.sign;
    float w = value[i] * s.value_fraction;
    if (s.weight_decay != 0) g = multiply_add1(w, s.weight_decay, g);
    // lerp goes from the nearer end
    const float difference = g - first_moment[i];
    const float first = s.first_fraction < 0.5f ? multiply_add1(s.first_fraction, difference, first_moment[i])
                                                : multiply_add1(difference, -beta1, g);
    const float second = multiply_add1(s.second_fraction * g, g, second_moment[i] * s.beta2);
    first_moment[i] = trainable ? first : 0.0f;
    second_moment[i] = trainable ? second : 0.0f;
    float denominator = second;
    if (largest_second_moment != NULL) {
      const float previous = largest_second_moment[i];
      denominator = previous > second || previous != previous ? previous : second;
      largest_second_moment[i] = trainable ? denominator : 0.0f;
    }
    denominator = __builtin_sqrtf(denominator) / s.correction + s.epsilon;
    w += s.negative_step * first / denominator;
    value[i] = trainable ? w : value[i];
  }
}

static void adam(int64_t count, const pf_adam_scalars *scalars, const float *gradient, const uint8_t *gradient_mask,
                 float *first_moment, float *second_moment, float *largest_second_moment, float *value) {
  const pf_adam_scalars s = *scalars;
  if (largest_second_moment == NULL) {
    if (gradient_mask == NULL) {
      adam_elements(count, s, gradient, NULL, first_moment, second_moment, NULL, value);
    } else {
      adam_elements(count, s, gradient, gradient_mask, first_moment, second_moment, NULL, value);
    }
  } else if (gradient_mask == NULL) {
    adam_elements(count, s, gradient, NULL, first_moment, second_moment, largest_second_moment, value);
  } else {
    adam_elements(count, s, gradient, gradient_mask, first_moment, second_moment, largest_second_moment, value);
  }
}

PF_INLINE void rmsprop_elements(int64_t count, pf_rmsprop_scalars s, const float *gradient,
                                const uint8_t *gradient_mask, float *mean_square, float *mean_gradient,
                                float *momentum_buffer, float *value) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const bool trainable = gradient_mask == NULL || gradient_mask[i] != 0;
    float g = gradient[i] * s.sign;
    if (s.weight_decay != 0) g = multiply_add1(value[i], s.weight_decay, g);
    const float square = multiply_add1(s.second_fraction * g, g, mean_square[i] * s.alpha);
    mean_square[i] = trainable ? square : 0.0f;
    float variance = square;
    if (mean_gradient != NULL) {
      const float difference = g - mean_gradient[i];
      // lerp goes from the nearer end
      const float mean = s.second_fraction < 0.5f ? multiply_add1(s.second_fraction, difference, mean_gradient[i])
                                                  : multiply_add1(difference, -(1 - s.second_fraction), g);
      mean_gradient[i] = trainable ? mean : 0.0f;
      variance = multiply_add1(-mean, mean, square);
    }
    const float denominator = __builtin_sqrtf(variance) + s.epsilon;
    float updated;
    if (momentum_buffer != NULL) {
      const float buffer = momentum_buffer[i] * s.momentum + g / denominator;
      momentum_buffer[i] = trainable ? buffer : 0.0f;
      updated = multiply_add1(buffer, s.negative_learning_rate, value[i]);
    } else {
      updated = value[i] + s.negative_learning_rate * g / denominator;
    }
    value[i] = trainable ? updated : value[i];
  }
}

static void rmsprop(int64_t count, const pf_rmsprop_scalars *scalars, const float *gradient,
                    const uint8_t *gradient_mask, float *mean_square, float *mean_gradient, float *momentum_buffer,
                    float *value) {
  const pf_rmsprop_scalars s = *scalars;
  if (gradient_mask != NULL) {
    rmsprop_elements(count, s, gradient, gradient_mask, mean_square, mean_gradient, momentum_buffer, value);
  } else if (mean_gradient == NULL && momentum_buffer == NULL) {
    rmsprop_elements(count, s, gradient, NULL, mean_square, NULL, NULL, value);
  } else {
    rmsprop_elements(count, s, gradient, NULL, mean_square, mean_gradient, momentum_buffer, value);
  }
}

PF_INLINE void adagrad_elements(int64_t count, pf_adagrad_scalars s, const float *gradient,
                                const uint8_t *gradient_mask, float *sum_of_squares, float *value) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const bool trainable = gradient_mask == NULL || gradient_mask[i] != 0;
    float g = gradient[i] * s.sign;
    if (s.weight_decay != 0) g = multiply_add1(value[i], s.weight_decay, g);
    const float sum = multiply_add1(g, g, sum_of_squares[i]);
    sum_of_squares[i] = trainable ? sum : 0.0f;
    const float updated = value[i] + s.negative_step * g / (__builtin_sqrtf(sum) + s.epsilon);
    value[i] = trainable ? updated : value[i];
  }
}

static void adagrad(int64_t count, const pf_adagrad_scalars *scalars, const float *gradient,
                    const uint8_t *gradient_mask, float *sum_of_squares, float *value) {
  if (gradient_mask == NULL) {
    adagrad_elements(count, *scalars, gradient, NULL, sum_of_squares, value);
  } else {
    adagrad_elements(count, *scalars, gradient, gradient_mask, sum_of_squares, value);
  }
}
