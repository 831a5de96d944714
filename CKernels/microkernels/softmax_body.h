// Softmax and cross-entropy: whole rows.

PF_INLINE void exponentials(int64_t count, const float *x, float shift, float *result) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) result[i] = exp1(x[i] - shift);
}

/// log of the sum of e^(x - shift), through a buffer in the nearest cache.
static double log_sum_of_exponentials(int64_t count, const float *x, float shift) {
  enum { chunk = 512 };
  float buffer[chunk];
  double sum = 0;
  for (int64_t i = 0; i < count; i += chunk) {
    const int64_t rest = count - i < chunk ? count - i : chunk;
    exponentials(rest, x + i, shift, buffer);
    sum += sum_elements(rest, buffer);
  }
  return log(sum);
}

static void softmax(int64_t rows, int64_t columns, bool logarithm, const float *x, float *result) {
  for (int64_t row = 0; row < rows; ++row, x += columns, result += columns) {
    const float maximum = maximum_element(columns, x);
    if (logarithm) {
      const float log_sum = (float)log_sum_of_exponentials(columns, x, maximum);
      PF_VECTORIZE
      for (int64_t i = 0; i < columns; ++i) result[i] = x[i] - maximum - log_sum;
    } else {
      exponentials(columns, x, maximum, result);
      const float sum = (float)sum_elements(columns, result);
      PF_VECTORIZE
      for (int64_t i = 0; i < columns; ++i) result[i] /= sum;
    }
  }
}

static void softmax_backward(int64_t rows, int64_t columns, bool logarithm, const float *result,
                             const float *result_gradient, float *x_gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    if (logarithm) {
      const float sum = (float)sum_elements(columns, result_gradient);
      PF_VECTORIZE
      for (int64_t i = 0; i < columns; ++i) x_gradient[i] = result_gradient[i] - exp1(result[i]) * sum;
    } else {
      const pf_affine nothing = {0};
      pf_lane_sums lanes = {0};
      double sums[2];
      rows_products_none((pf_rows){1, columns, columns}, 0, &nothing, result, result_gradient, &lanes);
      pf_sum_lanes(&lanes, sums);
      const float product = (float)sums[1];
      PF_VECTORIZE
      for (int64_t i = 0; i < columns; ++i) x_gradient[i] = (result_gradient[i] - product) * result[i];
    }
    result += columns, result_gradient += columns, x_gradient += columns;
  }
}

static void cross_entropy(int64_t rows, int64_t classes, float smoothing, const float *logits, const int32_t *targets,
                          float *loss, float *log_normalizer) {
  for (int64_t row = 0; row < rows; ++row, logits += classes) {
    // Relative to the maximum: the loss of a certain prediction doesn't drown in the rounding of large logits.
    const float maximum = maximum_element(classes, logits);
    const double log_sum = log_sum_of_exponentials(classes, logits, maximum);
    double result = (1.0 - (double)smoothing) * ((double)maximum - (double)logits[targets[row]] + log_sum);
    if (smoothing != 0) {
      const double mean = sum_elements(classes, logits) / (double)classes;
      result += (double)smoothing * ((double)maximum - mean + log_sum);
    }
    loss[row] = (float)result;
    log_normalizer[row] = (float)((double)maximum + log_sum);
  }
}

static void cross_entropy_backward(int64_t rows, int64_t classes, float smoothing, const float *logits,
                                   const int32_t *targets, const float *log_normalizer, const float *loss_gradient,
                                   float *logits_gradient) {
  const float elsewhere = (float)((double)smoothing / (double)classes);
  const float at_target = (float)(1.0 - (double)smoothing + (double)smoothing / (double)classes);
  for (int64_t row = 0; row < rows; ++row, logits += classes, logits_gradient += classes) {
    exponentials(classes, logits, log_normalizer[row], logits_gradient);
    // 1 but for the rounding of log_normalizer, which is large where the logits are: divided out.
    const float sum = (float)sum_elements(classes, logits_gradient);
    const float gradient = loss_gradient[row];
    float *target = logits_gradient + targets[row];
    const float probability = *target / sum;
    PF_VECTORIZE
    for (int64_t i = 0; i < classes; ++i) {
      logits_gradient[i] = gradient * (logits_gradient[i] / sum - elsewhere);
    }
    *target = gradient * (probability - at_target);
  }
}
