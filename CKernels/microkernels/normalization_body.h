// Batch normalisation: one stretch of a channel.

static void rows_normalize(pf_rows shape, float mean, float factor, float shift, const float *x, float *y) {
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride, y += shape.stride) {
    PF_VECTORIZE
    for (int64_t i = 0; i < shape.columns; ++i) y[i] = multiply_add1(x[i] - mean, factor, shift);
  }
}

static void rows_products(pf_rows shape, float mean, const float *x, const float *y_gradient, double sums[2]) {
  double_lanes gradients = 0, products = 0;
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride, y_gradient += shape.stride) {
    for (int64_t i = 0; i < shape.columns; i += reduction_lanes) {
      const int64_t rest = shape.columns - i;
      const double_lanes gradient = widen(load_lanes(y_gradient + i, rest, 0));
      const double_lanes deviation = widen(load_lanes(x + i, rest, mean)) - (double)mean;
      gradients += gradient;
      products += gradient * deviation;
    }
  }
  sums[0] = sum_of_lanes(gradients);
  sums[1] = sum_of_lanes(products);
}

/// x_gradient = (y_gradient - gradient_mean - (x - mean) * slope) * factor
static void rows_normalize_backward(pf_rows shape, float mean, float factor, float gradient_mean, float slope,
                                    const float *x, const float *y_gradient, float *x_gradient) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t offset = row * shape.stride;
    PF_VECTORIZE
    for (int64_t i = offset; i < offset + shape.columns; ++i) {
      x_gradient[i] = multiply_add1(x[i] - mean, -slope, y_gradient[i] - gradient_mean) * factor;
    }
  }
}
