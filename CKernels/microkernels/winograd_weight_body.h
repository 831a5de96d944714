// Winograd's transforms of weights and of their gradients, one lane an output. A filter's weights are contiguous and
// those of neighbouring filters far apart, so whole lines are read of PF_LANES filters and transposed. A kernel has 3
// columns and 1 or 3 rows, `rows` below.

enum { most_taps = 9 };

// MARK: One dimension

/// Gg: m + 2 values from 3.
PF_INLINE void winograd_weight(const int32_t m, const vector g[3], vector u[]) {
  if (m == 2) {
    const vector even = broadcast(0.5f) * (g[0] + g[2]), odd = broadcast(0.5f) * g[1];
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
  } else {
    const vector even_near = broadcast(-2.0f / 3) * multiply_add(broadcast(0.5f), g[2], g[0]);
    const vector even_far = broadcast(1.0f / 6) * multiply_add(broadcast(2), g[2], g[0]);
    u[0] = g[0];
    u[1] = multiply_add(broadcast(-2 * PF_SQRT_HALF / 3), g[1], even_near);
    u[2] = multiply_add(broadcast(2 * PF_SQRT_HALF / 3), g[1], even_near);
    u[3] = multiply_add(broadcast(PF_SQRT_2 / 6), g[1], even_far);
    u[4] = multiply_add(broadcast(-PF_SQRT_2 / 6), g[1], even_far);
    u[5] = g[2];
  }
}

/// G's: 3 values from m + 2.
PF_INLINE void winograd_weight_gradient(const int32_t m, const vector s[], vector g[3]) {
  const vector even_near = s[1] + s[2], odd_near = s[1] - s[2];
  if (m == 2) {
    const vector half = broadcast(0.5f) * even_near;
    g[0] = s[0] + half;
    g[1] = broadcast(0.5f) * odd_near;
    g[2] = half + s[3];
  } else {
    const vector even_far = s[3] + s[4], odd_far = s[3] - s[4];
    g[0] = multiply_add(broadcast(-2.0f / 3), even_near, multiply_add(broadcast(1.0f / 6), even_far, s[0]));
    g[1] = multiply_add(broadcast(-2 * PF_SQRT_HALF / 3), odd_near, broadcast(PF_SQRT_2 / 6) * odd_far);
    g[2] = multiply_add(broadcast(-1.0f / 3), even_near, multiply_add(broadcast(1.0f / 3), even_far, s[5]));
  }
}

// MARK: Weights

/// The taps, a vector each, transformed and stored a vector a point.
PF_INLINE void transform_filter(const int32_t m, const int32_t rows, const float *filter, bool turned, float *point,
                                int64_t point_stride) {
  const int32_t taps = rows * 3, point_rows = rows == 1 ? 1 : m + 2;
  vector lines[6][3];
  PF_UNROLL for (int32_t j = 0; j < 3; ++j) {
    vector g[3], u[6];
    PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
      const int32_t tap = i * 3 + j;
      g[i] = load(filter + (turned ? taps - 1 - tap : tap) * PF_LANES);
    }
    if (rows == 1) {
      u[0] = g[0];
    } else {
      winograd_weight(m, g, u);
    }
    PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) lines[i][j] = u[i];
  }
  PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) {
    vector u[6];
    winograd_weight(m, lines[i], u);
    PF_UNROLL for (int32_t j = 0; j < m + 2; ++j, point += point_stride) store(point, u[j]);
  }
}

PF_INLINE void transform_weight(const int32_t m, const int32_t rows, const float *weight, int64_t output_stride,
                                int64_t channels, int64_t outputs, const pf_winograd_block *result) {
  const int32_t taps = rows * 3;
  float filters[most_taps * PF_LANES * PF_LANES] __attribute__((aligned(64)));  // of PF_LANES channels: tap by tap
  for (int64_t output = 0; output < outputs; output += PF_LANES) {
    for (int64_t channel = 0; channel < channels; channel += PF_LANES) {
      const int64_t count = channels - channel < PF_LANES ? channels - channel : PF_LANES;
      const float *lines = weight + output * output_stride + channel * taps;
      for (int64_t i = 0; i < count * taps; i += PF_LANES) {
        const int64_t length = count * taps - i;
        vector square[PF_LANES];
        if (length >= PF_LANES && output + PF_LANES <= outputs) {
          PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) square[o] = load(lines + o * output_stride + i);
        } else {
          PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) {
            square[o] = output + o < outputs ? load_first(length, lines + o * output_stride + i) : broadcast(0);
          }
        }
        transpose(square);
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) store(filters + (i + o) * PF_LANES, square[o]);
      }
      for (int64_t c = 0; c < count; ++c) {
        transform_filter(m, rows, filters + c * taps * PF_LANES, false,
                         result->data + (channel + c) * result->width + output, result->point_stride);
      }
    }
  }
}

PF_INLINE void transform_turned_weight(const int32_t m, const int32_t rows, const float *weight, int64_t channel_stride,
                                       int64_t channels, int64_t outputs, const pf_winograd_block *result) {
  enum { most_squares = (most_taps + PF_LANES - 1) / PF_LANES };
  const int32_t taps = rows * 3;
  for (int64_t output = 0; output < outputs; output += PF_LANES) {
    const int64_t count = outputs - output < PF_LANES ? outputs - output : PF_LANES;
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float *row = weight + channel * channel_stride + output * taps;
      float filters[(most_taps + most_squares) * PF_LANES] __attribute__((aligned(64))) = {0};
      float filter[most_squares * PF_LANES * PF_LANES] __attribute__((aligned(64)));
      for (int64_t i = 0; i < count * taps; i += PF_LANES) store(filters + i, load_first(count * taps - i, row + i));
      for (int32_t i = 0; i < taps; i += PF_LANES) {
        vector square[PF_LANES];
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) square[o] = load(filters + o * taps + i);
        transpose(square);
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) store(filter + (i + o) * PF_LANES, square[o]);
      }
      transform_filter(m, rows, filter, true, result->data + channel * result->width + output, result->point_stride);
    }
  }
}

// MARK: Weight gradient

PF_INLINE void transform_sums(const int32_t m, const int32_t rows, const float *sums, int64_t point_stride,
                              int64_t parts, int64_t part_stride, float *filter) {
  const int32_t point_rows = rows == 1 ? 1 : m + 2;
  vector lines[6][3];
  PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) {
    vector s[6];
    PF_UNROLL for (int32_t j = 0; j < m + 2; ++j, sums += point_stride) {
      s[j] = load(sums);
      for (int64_t p = 1; p < parts; ++p) s[j] += load(sums + p * part_stride);
    }
    winograd_weight_gradient(m, s, lines[i]);
  }
  PF_UNROLL for (int32_t j = 0; j < 3; ++j) {
    vector s[6], g[3];
    PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) s[i] = lines[i][j];
    if (rows == 1) {
      g[0] = s[0];
    } else {
      winograd_weight_gradient(m, s, g);
    }
    PF_UNROLL for (int32_t i = 0; i < rows; ++i) store(filter + (i * 3 + j) * PF_LANES, g[i]);
  }
}

typedef uint8_t lane_bytes __attribute__((ext_vector_type(PF_LANES), aligned(1)));

/// The first `count` of a vector's elements; where the mask is 0, +0.0.
PF_INLINE void store_gradient(int64_t count, const float *values, const uint8_t *mask, bool accumulate,
                              float *gradient) {
  if (mask == NULL && !accumulate) {
    copy_first(count, values, gradient);
    return;
  }
  if (count == PF_LANES) {
    vector value = load(values);
    if (accumulate) value += load(gradient);
    if (mask != NULL) value = __builtin_convertvector(*(const lane_bytes *)mask, integers) != 0 ? value : broadcast(0);
    store(gradient, value);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float value = accumulate ? gradient[i] + values[i] : values[i];
    gradient[i] = mask == NULL || mask[i] != 0 ? value : 0.0f;
  }
}

PF_INLINE void transform_weight_gradient(const int32_t m, const int32_t rows, const pf_winograd_block *products,
                                         int64_t parts, int64_t part_stride, int64_t channels, int64_t outputs,
                                         const uint8_t *mask, bool accumulate, float *gradient,
                                         int64_t output_stride) {
  const int32_t taps = rows * 3;
  float filters[most_taps * PF_LANES * PF_LANES] __attribute__((aligned(64)));
  for (int64_t output = 0; output < outputs; output += PF_LANES) {
    for (int64_t channel = 0; channel < channels; channel += PF_LANES) {
      const int64_t count = channels - channel < PF_LANES ? channels - channel : PF_LANES;
      for (int64_t c = 0; c < count; ++c) {
        transform_sums(m, rows, products->data + (channel + c) * products->width + output, products->point_stride,
                       parts, part_stride, filters + c * taps * PF_LANES);
      }
      const int64_t lanes = outputs - output < PF_LANES ? outputs - output : PF_LANES;
      for (int64_t i = 0; i < count * taps; i += PF_LANES) {
        const int64_t length = count * taps - i < PF_LANES ? count * taps - i : PF_LANES;
        const int64_t place = output * output_stride + channel * taps + i;
        vector square[PF_LANES];
        float values[PF_LANES][PF_LANES] __attribute__((aligned(64)));
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) square[o] = load(filters + (i + o) * PF_LANES);
        transpose(square);
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) store(values[o], square[o]);
        for (int64_t o = 0; o < lanes; ++o) {
          store_gradient(length, values[o], mask == NULL ? NULL : mask + place + o * output_stride, accumulate,
                         gradient + place + o * output_stride);
        }
      }
    }
  }
}

// MARK: Tiles

#define PF_WINOGRAD_WEIGHTS(name, m, rows)                                                                            \
  static void transform_weight_##name(const float *weight, int64_t output_stride, int64_t channels, int64_t outputs,  \
                                      const pf_winograd_block *result) {                                              \
    transform_weight(m, rows, weight, output_stride, channels, outputs, result);                                      \
  }                                                                                                                   \
  static void transform_turned_weight_##name(const float *weight, int64_t channel_stride, int64_t channels,           \
                                             int64_t outputs, const pf_winograd_block *result) {                      \
    transform_turned_weight(m, rows, weight, channel_stride, channels, outputs, result);                              \
  }                                                                                                                   \
  static void transform_weight_gradient_##name(const pf_winograd_block *products, int64_t parts, int64_t part_stride, \
                                               int64_t channels, int64_t outputs, const uint8_t *mask,                \
                                               bool accumulate, float *gradient, int64_t output_stride) {             \
    transform_weight_gradient(m, rows, products, parts, part_stride, channels, outputs, mask, accumulate, gradient,   \
                              output_stride);                                                                         \
  }

PF_WINOGRAD_WEIGHTS(2, 2, 3)
PF_WINOGRAD_WEIGHTS(4, 4, 3)
PF_WINOGRAD_WEIGHTS(line, 4, 1)

#undef PF_WINOGRAD_WEIGHTS
