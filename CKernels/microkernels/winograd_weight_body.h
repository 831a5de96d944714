// Winograd's transforms of weights and of their gradients, one lane an output. A filter's weights are contiguous and
// those of neighbouring filters far apart, so whole lines are read of PF_LANES filters and transposed.

enum { most_columns = 5 };

/// What filters of `rows` x `columns` taps are transformed for: tiles with n points along an axis, a single row apart;
/// the same of stride 2, with n = 6 weights; or, with n = 0, whole phases of height x width.
typedef struct filter_form {
  int32_t n, rows, columns;
  bool strided;
  int32_t height, width;
} filter_form;

// MARK: One dimension

/// Gg: n values.
PF_INLINE void winograd_weight(const int32_t n, const int32_t taps, const vector g[], vector u[]) {
  u[0] = g[0];
  u[n - 1] = g[taps - 1];
  if (n == 4) {
    const vector even = broadcast(0.5f) * (g[0] + g[2]), odd = broadcast(0.5f) * g[1];
    u[1] = even + odd;
    u[2] = even - odd;
    return;
  }
  vector even_near = multiply_add(broadcast(0.5f), g[2], g[0]), even_far = multiply_add(broadcast(2), g[2], g[0]);
  vector odd_near = g[1], odd_far = g[1];
  if (taps == 5) {
    even_near = multiply_add(broadcast(0.25f), g[4], even_near);
    even_far = multiply_add(broadcast(4), g[4], even_far);
    odd_near = multiply_add(broadcast(0.5f), g[3], odd_near);
    odd_far = multiply_add(broadcast(2), g[3], odd_far);
  }
  even_near *= broadcast(-2.0f / 3);
  even_far *= broadcast(1.0f / 6);
  u[1] = multiply_add(broadcast(-2 * PF_SQRT_HALF / 3), odd_near, even_near);
  u[2] = multiply_add(broadcast(2 * PF_SQRT_HALF / 3), odd_near, even_near);
  u[3] = multiply_add(broadcast(PF_SQRT_2 / 6), odd_far, even_far);
  u[4] = multiply_add(broadcast(-PF_SQRT_2 / 6), odd_far, even_far);
}

/// G's: `taps` values.
PF_INLINE void winograd_weight_gradient(const int32_t n, const int32_t taps, const vector s[], vector g[]) {
  const vector even_near = s[1] + s[2], odd_near = s[1] - s[2], last = s[n - 1];
  if (n == 4) {
    const vector half = broadcast(0.5f) * even_near;
    g[0] = s[0] + half;
    g[1] = broadcast(0.5f) * odd_near;
    g[2] = half + last;
    return;
  }
  const vector even_far = s[3] + s[4], odd_far = s[3] - s[4];
  g[0] = multiply_add(broadcast(-2.0f / 3), even_near, multiply_add(broadcast(1.0f / 6), even_far, s[0]));
  g[1] = multiply_add(broadcast(-2 * PF_SQRT_HALF / 3), odd_near, broadcast(PF_SQRT_2 / 6) * odd_far);
  const vector far = taps == 3 ? multiply_add(broadcast(1.0f / 3), even_far, last) : broadcast(1.0f / 3) * even_far;
  g[2] = multiply_add(broadcast(-1.0f / 3), even_near, far);
  if (taps == 3) return;
  g[3] = multiply_add(broadcast(-PF_SQRT_HALF / 3), odd_near, broadcast(PF_SQRT_2 / 3) * odd_far);
  g[4] = multiply_add(broadcast(-1.0f / 6), even_near, multiply_add(broadcast(2.0f / 3), even_far, last));
}

/// With stride 2, 5 values at points and the middle tap.
PF_INLINE void strided_weight(const vector g[3], vector u[]) {
  const float near = 1 / (2 * PF_NEAR * (PF_FAR * PF_FAR - PF_NEAR * PF_NEAR));
  const float far = 1 / (2 * PF_FAR * (PF_FAR * PF_FAR - PF_NEAR * PF_NEAR));
  u[0] = broadcast(1 / (PF_NEAR * PF_NEAR * PF_FAR * PF_FAR)) * g[0];
  u[1] = broadcast(-near) * multiply_add(broadcast(PF_NEAR), g[2], g[0]);
  u[2] = broadcast(near) * multiply_add(broadcast(-PF_NEAR), g[2], g[0]);
  u[3] = broadcast(far) * multiply_add(broadcast(PF_FAR), g[2], g[0]);
  u[4] = broadcast(-far) * multiply_add(broadcast(-PF_FAR), g[2], g[0]);
  u[5] = g[1];
}

/// The products' factors for a phase of `length` pixels between zeros: 2 * length - 1 values from 3.
PF_INLINE void phase_weight(const int32_t length, const vector g[3], vector u[]) {
  if (length == 1) {
    u[0] = g[1];
  } else if (length == 2) {
    u[0] = g[0] - g[1];
    u[1] = g[1];
    u[2] = g[2] - g[1];
  } else {
    const vector even_near = broadcast(4.0f / 3) * g[1], even_far = broadcast(-1.0f / 12) * g[1];
    const vector odd_near =
        multiply_add(broadcast(4 * PF_SQRT_HALF / 3), g[0], broadcast(-2 * PF_SQRT_HALF / 3) * g[2]);
    const vector odd_far = multiply_add(broadcast(PF_SQRT_2 / 6), g[2], broadcast(-PF_SQRT_2 / 12) * g[0]);
    u[0] = broadcast(-2.5f) * g[1];
    u[1] = even_near + odd_near;
    u[2] = even_near - odd_near;
    u[3] = even_far + odd_far;
    u[4] = even_far - odd_far;
  }
}

/// Its transpose: 3 values from 2 * length - 1.
PF_INLINE void phase_weight_gradient(const int32_t length, const vector s[], vector g[3]) {
  if (length == 1) {
    g[0] = g[2] = broadcast(0);
    g[1] = s[0];
  } else if (length == 2) {
    g[0] = s[0];
    g[1] = s[1] - (s[0] + s[2]);
    g[2] = s[2];
  } else {
    const vector even_near = s[1] + s[2], odd_near = s[1] - s[2], even_far = s[3] + s[4], odd_far = s[3] - s[4];
    g[0] = multiply_add(broadcast(4 * PF_SQRT_HALF / 3), odd_near, broadcast(-PF_SQRT_2 / 12) * odd_far);
    g[1] = multiply_add(broadcast(4.0f / 3), even_near,
                        multiply_add(broadcast(-1.0f / 12), even_far, broadcast(-2.5f) * s[0]));
    g[2] = multiply_add(broadcast(-2 * PF_SQRT_HALF / 3), odd_near, broadcast(PF_SQRT_2 / 6) * odd_far);
  }
}

// MARK: Weights

/// Calls transform(height, width, ...) with constants for the two.
#define PF_WITH_PHASE(transform, height, width, ...)  \
  switch (10 * (height) + (width)) {                  \
    case 11: transform(1, 1, __VA_ARGS__); break;     \
    case 12: transform(1, 2, __VA_ARGS__); break;     \
    case 13: transform(1, 3, __VA_ARGS__); break;     \
    case 21: transform(2, 1, __VA_ARGS__); break;     \
    case 22: transform(2, 2, __VA_ARGS__); break;     \
    case 23: transform(2, 3, __VA_ARGS__); break;     \
    case 31: transform(3, 1, __VA_ARGS__); break;     \
    case 32: transform(3, 2, __VA_ARGS__); break;     \
    case 33: transform(3, 3, __VA_ARGS__); break;     \
    default: __builtin_unreachable();                 \
  }

PF_INLINE void transform_phase_filter(const int32_t height, const int32_t width, const float *filter, bool turned,
                                      float *point, int64_t point_stride) {
  vector lines[phase_points][3];
  PF_UNROLL for (int32_t j = 0; j < 3; ++j) {
    vector g[3], u[phase_points];
    PF_UNROLL for (int32_t i = 0; i < 3; ++i) {
      const int32_t tap = i * 3 + j;
      g[i] = load(filter + (turned ? 3 * 3 - 1 - tap : tap) * PF_LANES);
    }
    phase_weight(height, g, u);
    PF_UNROLL for (int32_t i = 0; i < 2 * height - 1; ++i) lines[i][j] = u[i];
  }
  PF_UNROLL for (int32_t i = 0; i < 2 * height - 1; ++i) {
    vector u[phase_points];
    phase_weight(width, lines[i], u);
    PF_UNROLL for (int32_t j = 0; j < 2 * width - 1; ++j, point += point_stride) store(point, u[j]);
  }
}

PF_INLINE void form_weight(const filter_form form, const int32_t taps, const vector g[], vector u[]) {
  if (form.strided) {
    strided_weight(g, u);
  } else {
    winograd_weight(form.n, taps, g, u);
  }
}

/// The taps, a vector each, transformed and stored a vector a point.
PF_INLINE void transform_filter(const filter_form form, const float *filter, bool turned, float *point,
                                int64_t point_stride) {
  if (form.n == 0) {
    PF_WITH_PHASE(transform_phase_filter, form.height, form.width, filter, turned, point, point_stride)
    return;
  }
  const int32_t rows = form.rows, columns = form.columns, taps = rows * columns;
  const int32_t points = form.n, point_rows = rows == 1 ? 1 : points;
  vector lines[6][most_columns];
  PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
    vector g[most_columns], u[6];
    PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
      const int32_t tap = i * columns + j;
      g[i] = load(filter + (turned ? taps - 1 - tap : tap) * PF_LANES);
    }
    if (rows == 1) {
      u[0] = g[0];
    } else {
      form_weight(form, rows, g, u);
    }
    PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) lines[i][j] = u[i];
  }
  PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) {
    vector u[6];
    form_weight(form, columns, lines[i], u);
    PF_UNROLL for (int32_t j = 0; j < points; ++j, point += point_stride) store(point, u[j]);
  }
}

PF_INLINE void transform_weight(const filter_form form, const float *weight, int64_t output_stride, int64_t channels,
                                int64_t outputs, const pf_winograd_block *result) {
  const int32_t taps = form.rows * form.columns;
  // Of PF_LANES channels: tap by tap.
  float filters[pf_most_winograd_taps * PF_LANES * PF_LANES] __attribute__((aligned(64)));
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
        transform_filter(form, filters + c * taps * PF_LANES, false,
                         result->data + (channel + c) * result->width + output, result->point_stride);
      }
    }
  }
}

PF_INLINE void transform_turned_weight(const filter_form form, const float *weight, int64_t channel_stride,
                                       int64_t channels, int64_t outputs, const pf_winograd_block *result) {
  enum { most_squares = (pf_most_winograd_taps + PF_LANES - 1) / PF_LANES };
  const int32_t taps = form.rows * form.columns;
  for (int64_t output = 0; output < outputs; output += PF_LANES) {
    const int64_t count = outputs - output < PF_LANES ? outputs - output : PF_LANES;
    for (int64_t channel = 0; channel < channels; ++channel) {
      const float *row = weight + channel * channel_stride + output * taps;
      float filters[(pf_most_winograd_taps + most_squares) * PF_LANES] __attribute__((aligned(64)));
      float filter[most_squares * PF_LANES * PF_LANES] __attribute__((aligned(64)));
      // Of the last filter whole vectors are read, and there may be fewer filters than lanes.
      for (int64_t i = 0; i < (taps + 1) * PF_LANES; i += PF_LANES) {
        store(filters + i, i < count * taps ? load_first(count * taps - i, row + i) : broadcast(0));
      }
      for (int32_t i = 0; i < taps; i += PF_LANES) {
        vector square[PF_LANES];
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) square[o] = load(filters + o * taps + i);
        transpose(square);
        PF_UNROLL for (int32_t o = 0; o < PF_LANES; ++o) store(filter + (i + o) * PF_LANES, square[o]);
      }
      transform_filter(form, filter, true, result->data + channel * result->width + output, result->point_stride);
    }
  }
}

// MARK: Weight gradient

PF_INLINE void transform_phase_sums(const int32_t height, const int32_t width, const float *sums, int64_t point_stride,
                                    int64_t parts, int64_t part_stride, float *filter) {
  vector lines[phase_points][3];
  PF_UNROLL for (int32_t i = 0; i < 2 * height - 1; ++i) {
    vector s[phase_points];
    PF_UNROLL for (int32_t j = 0; j < 2 * width - 1; ++j, sums += point_stride) {
      s[j] = load(sums);
      for (int64_t p = 1; p < parts; ++p) s[j] += load(sums + p * part_stride);
    }
    phase_weight_gradient(width, s, lines[i]);
  }
  PF_UNROLL for (int32_t j = 0; j < 3; ++j) {
    vector s[phase_points], g[3];
    PF_UNROLL for (int32_t i = 0; i < 2 * height - 1; ++i) s[i] = lines[i][j];
    phase_weight_gradient(height, s, g);
    PF_UNROLL for (int32_t i = 0; i < 3; ++i) store(filter + (i * 3 + j) * PF_LANES, g[i]);
  }
}

PF_INLINE void transform_sums(const filter_form form, const float *sums, int64_t point_stride, int64_t parts,
                              int64_t part_stride, float *filter) {
  if (form.n == 0) {
    PF_WITH_PHASE(transform_phase_sums, form.height, form.width, sums, point_stride, parts, part_stride, filter)
    return;
  }
  const int32_t rows = form.rows, columns = form.columns;
  const int32_t points = form.n, point_rows = rows == 1 ? 1 : points;
  vector lines[6][most_columns];
  PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) {
    vector s[6];
    PF_UNROLL for (int32_t j = 0; j < points; ++j, sums += point_stride) {
      s[j] = load(sums);
      for (int64_t p = 1; p < parts; ++p) s[j] += load(sums + p * part_stride);
    }
    winograd_weight_gradient(form.n, columns, s, lines[i]);
  }
  PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
    vector s[6], g[most_columns];
    PF_UNROLL for (int32_t i = 0; i < point_rows; ++i) s[i] = lines[i][j];
    if (rows == 1) {
      g[0] = s[0];
    } else {
      winograd_weight_gradient(form.n, rows, s, g);
    }
    PF_UNROLL for (int32_t i = 0; i < rows; ++i) store(filter + (i * columns + j) * PF_LANES, g[i]);
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

PF_INLINE void transform_weight_gradient(const filter_form form, const pf_winograd_block *products, int64_t parts,
                                         int64_t part_stride, int64_t channels, int64_t outputs, const uint8_t *mask,
                                         bool accumulate, float *gradient, int64_t output_stride) {
  const int32_t taps = form.rows * form.columns;
  float filters[pf_most_winograd_taps * PF_LANES * PF_LANES] __attribute__((aligned(64)));
  for (int64_t output = 0; output < outputs; output += PF_LANES) {
    for (int64_t channel = 0; channel < channels; channel += PF_LANES) {
      const int64_t count = channels - channel < PF_LANES ? channels - channel : PF_LANES;
      for (int64_t c = 0; c < count; ++c) {
        transform_sums(form, products->data + (channel + c) * products->width + output, products->point_stride, parts,
                       part_stride, filters + c * taps * PF_LANES);
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

static void transform_weight_phases(int32_t height, int32_t width, const float *weight, int64_t output_stride,
                                    int64_t channels, int64_t outputs, const pf_winograd_block *result) {
  transform_weight((filter_form){.rows = 3, .columns = 3, .height = height, .width = width}, weight, output_stride,
                   channels, outputs, result);
}

static void transform_turned_weight_phases(int32_t height, int32_t width, const float *weight, int64_t channel_stride,
                                           int64_t channels, int64_t outputs, const pf_winograd_block *result) {
  transform_turned_weight((filter_form){.rows = 3, .columns = 3, .height = height, .width = width}, weight,
                          channel_stride, channels, outputs, result);
}

static void transform_weight_gradient_phases(int32_t height, int32_t width, const pf_winograd_block *products,
                                             int64_t parts, int64_t part_stride, int64_t channels, int64_t outputs,
                                             const uint8_t *mask, bool accumulate, float *gradient,
                                             int64_t output_stride) {
  transform_weight_gradient((filter_form){.rows = 3, .columns = 3, .height = height, .width = width}, products, parts,
                            part_stride, channels, outputs, mask, accumulate, gradient, output_stride);
}

/// The functions of tiles called `name`: each calls that of the same name and `form` with the arguments in front.
#define PF_WINOGRAD_WEIGHTS(name, form, ...)                                                                          \
  static void transform_weight_##name(const float *weight, int64_t output_stride, int64_t channels, int64_t outputs,  \
                                      const pf_winograd_block *result) {                                              \
    transform_weight##form(__VA_ARGS__, weight, output_stride, channels, outputs, result);                            \
  }                                                                                                                   \
  static void transform_turned_weight_##name(const float *weight, int64_t channel_stride, int64_t channels,           \
                                             int64_t outputs, const pf_winograd_block *result) {                      \
    transform_turned_weight##form(__VA_ARGS__, weight, channel_stride, channels, outputs, result);                    \
  }
#define PF_WINOGRAD_GRADIENTS(name, form, ...)                                                                        \
  PF_WINOGRAD_WEIGHTS(name, form, __VA_ARGS__)                                                                        \
  static void transform_weight_gradient_##name(const pf_winograd_block *products, int64_t parts, int64_t part_stride, \
                                               int64_t channels, int64_t outputs, const uint8_t *mask,                \
                                               bool accumulate, float *gradient, int64_t output_stride) {             \
    transform_weight_gradient##form(__VA_ARGS__, products, parts, part_stride, channels, outputs, mask, accumulate,   \
                                    gradient, output_stride);                                                         \
  }
#define PF_WINOGRAD_PHASE_GRADIENTS(height, width) PF_WINOGRAD_GRADIENTS(height##width, _phases, height, width)

PF_WINOGRAD_GRADIENTS(2, , (filter_form){.n = 4, .rows = 3, .columns = 3})
PF_WINOGRAD_GRADIENTS(kernel_13, , (filter_form){.n = 6, .rows = 1, .columns = 3})
PF_WINOGRAD_GRADIENTS(kernel_15, , (filter_form){.n = 6, .rows = 1, .columns = 5})
PF_WINOGRAD_GRADIENTS(kernel_33, , (filter_form){.n = 6, .rows = 3, .columns = 3})
PF_WINOGRAD_GRADIENTS(kernel_35, , (filter_form){.n = 6, .rows = 3, .columns = 5})
PF_WINOGRAD_GRADIENTS(kernel_53, , (filter_form){.n = 6, .rows = 5, .columns = 3})
PF_WINOGRAD_GRADIENTS(kernel_55, , (filter_form){.n = 6, .rows = 5, .columns = 5})
PF_EACH_PHASE(PF_WINOGRAD_PHASE_GRADIENTS)
PF_WINOGRAD_WEIGHTS(strided, , (filter_form){.n = 6, .rows = 3, .columns = 3, .strided = true})
PF_WINOGRAD_WEIGHTS(strided_line, , (filter_form){.n = 6, .rows = 1, .columns = 3, .strided = true})

#undef PF_WINOGRAD_WEIGHTS
#undef PF_WINOGRAD_GRADIENTS
#undef PF_WINOGRAD_PHASE_GRADIENTS
#undef PF_WITH_PHASE
