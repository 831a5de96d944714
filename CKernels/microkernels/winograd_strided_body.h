// Winograd's transforms of tiles of kernels with stride 2: of 4 or 3 outputs along an axis, or of one row, which the
// kernel of one row leaves as it is. Along an axis the points come first, then the plain products. Tiles overlap by one
// pixel at most, so that rows are read tile by tile, as in winograd_line_body.h.

enum {
  strided_tile = 4,
  most_strided = 2 * strided_tile + 1,  // pixels of a window, or points, along an axis
  strided_row = (near_pixels + PF_LANES) * PF_LANES + 16,
};

// The points 0, +-near, +-far; tiles of 3 outputs do without 0. Squares are exact.
#define PF_NEAR 0.75f
#define PF_FAR 2.5f

/// Along an axis on which tiles have m outputs, or 1 where the kernel has one row: the pixels of a tile, and of a
/// window, of the input or of the output; and the values after the transform.
PF_INLINE int32_t strided_pixels(const bool of_input, const int32_t m) { return m > 1 && of_input ? 2 * m : m; }
PF_INLINE int32_t strided_reach(const bool of_input, const int32_t m) {
  return m == 1 ? 1 : strided_pixels(of_input, m) + 1;
}
PF_INLINE int32_t strided_points(const int32_t m) { return m == 1 ? 1 : 2 * m + 1; }

// MARK: One dimension

/// B'd: m + 1 values from m + 1.
PF_INLINE void strided_interpolation(const int32_t m, const vector d[], vector v[]) {
  const int32_t last = m == 4 ? 4 : 2;
  const float near = m == 4 ? 1 / PF_NEAR : PF_NEAR, far = m == 4 ? 1 / PF_FAR : PF_FAR;
  const vector plain_near = multiply_add(broadcast(-PF_FAR * PF_FAR), d[1], d[3]);
  const vector plain_far = multiply_add(broadcast(-PF_NEAR * PF_NEAR), d[1], d[3]);
  const vector scaled_near = multiply_add(broadcast(-PF_FAR * PF_FAR), d[last - 2], d[last]);
  const vector scaled_far = multiply_add(broadcast(-PF_NEAR * PF_NEAR), d[last - 2], d[last]);
  if (m == 4) {
    v[0] = multiply_add(broadcast(PF_NEAR * PF_NEAR * PF_FAR * PF_FAR), d[0],
                        multiply_add(broadcast(-(PF_NEAR * PF_NEAR + PF_FAR * PF_FAR)), d[2], d[4]));
  }
  v += m - 3;
  v[0] = multiply_add(broadcast(near), scaled_near, plain_near);
  v[1] = multiply_add(broadcast(-near), scaled_near, plain_near);
  v[2] = multiply_add(broadcast(far), scaled_far, plain_far);
  v[3] = multiply_add(broadcast(-far), scaled_far, plain_far);
}

/// 2 m + 1 values of as many pixels of the input, or of m + 1 of the output gradient.
PF_INLINE void strided_values(const bool of_input, const int32_t m, const vector d[], vector v[]) {
  if (m == 1) {
    v[0] = d[0];
    return;
  }
  vector outer[strided_tile + 1];
  PF_UNROLL for (int32_t i = 0; i <= m; ++i) outer[i] = d[of_input ? 2 * i : i];
  strided_interpolation(m, outer, v);
  PF_UNROLL for (int32_t i = 0; i < m; ++i) v[m + 1 + i] = d[of_input ? 2 * i + 1 : i];
}

/// Pixels from 2 m + 1 products: m of the output, or 2 m of the input, whose first meets the middle tap.
PF_INLINE void strided_result(const bool of_input, const int32_t m, const vector p[], vector y[]) {
  if (m == 1) {
    y[0] = p[0];
    return;
  }
  const vector *q = p + m - 3, *plain = p + m + 1;
  const vector even_near = q[0] + q[1], odd_near = q[0] - q[1], even_far = q[2] + q[3], odd_far = q[2] - q[3];
  vector even[strided_tile];
  even[0] = m == 4 ? p[0] + (even_near + even_far) : even_near + even_far;
  even[1] = multiply_add(broadcast(PF_FAR), odd_far, broadcast(PF_NEAR) * odd_near);
  even[2] = multiply_add(broadcast(PF_FAR * PF_FAR), even_far, broadcast(PF_NEAR * PF_NEAR) * even_near);
  if (m == 4) {
    even[3] = multiply_add(broadcast(PF_FAR * PF_FAR * PF_FAR), odd_far,
                           broadcast(PF_NEAR * PF_NEAR * PF_NEAR) * odd_near);
  }
  PF_UNROLL for (int32_t i = 0; i < m; ++i) {
    if (of_input) {
      y[2 * i] = plain[i];
      y[2 * i + 1] = even[i];
    } else {
      y[i] = even[i] + plain[i];
    }
  }
}

// MARK: Tiles

/// Windows of the input, or of the output gradient, for the input gradient.
PF_INLINE void transform_strided(const bool of_input, const int32_t height, const int32_t width,
                                 const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first, int64_t tiles,
                                 const pf_winograd_tiles *result) {
  const int32_t rows = strided_reach(of_input, height), columns = strided_reach(of_input, width);
  const int32_t advance = strided_pixels(of_input, width);
  float strip[most_strided * strided_row] __attribute__((aligned(64)));
  float *data = result->data;
  while (tiles > 0) {
    const piece p = next_piece(advance, columns, 1, first, tiles);
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      for (int32_t i = 0; i < rows; ++i) read_line(planes, &channels, y + i, x, &p, strip + i * strided_row);
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        vector lines[most_strided][most_strided];
        const float *place = strip + strip_place(advance, &p, t);
        for (int32_t j = 0; j < columns; ++j, place += PF_LANES) {
          vector d[most_strided], v[most_strided];
          PF_UNROLL for (int32_t i = 0; i < rows; ++i) d[i] = load(place + i * strided_row);
          strided_values(of_input, height, d, v);
          PF_UNROLL for (int32_t i = 0; i < strided_points(height); ++i) lines[i][j] = v[i];
        }
        float *point = tile;
        for (int32_t i = 0; i < strided_points(height); ++i) {
          vector v[most_strided];
          strided_values(of_input, width, lines[i], v);
          PF_UNROLL for (int32_t j = 0; j < strided_points(width); ++j, point += result->point_stride) {
            store(point, v[j]);
          }
        }
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
  }
}

/// Tiles of the output, or of the input, whose first row and column may lie before the plane's.
PF_INLINE void transform_strided_result(const bool of_input, const int32_t height, const int32_t width,
                                        const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,
                                        int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish) {
  const int32_t rows = strided_pixels(of_input, height), columns = strided_pixels(of_input, width);
  const int64_t below = planes->height - y, last_row = rows < below ? rows : below;
  float strip[2 * strided_tile * strided_row] __attribute__((aligned(64)));
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    const float *product = products->data + channel;
    for (int64_t done = 0; done < tiles;) {
      const piece p = next_piece(columns, columns, 1, first + done, tiles - done);
      for (int64_t t = 0; t < p.tiles; ++t, product += products->width) {
        vector lines[most_strided][2 * strided_tile];
        const float *point = product;
        for (int32_t i = 0; i < strided_points(height); ++i) {
          vector m[most_strided];
          PF_UNROLL for (int32_t j = 0; j < strided_points(width); ++j, point += products->point_stride) {
            m[j] = load(point);
          }
          strided_result(of_input, width, m, lines[i]);
        }
        float *place = strip + strip_place(columns, &p, t);
        for (int32_t j = 0; j < columns; ++j, place += PF_LANES) {
          vector m[most_strided], values[2 * strided_tile];
          PF_UNROLL for (int32_t i = 0; i < strided_points(height); ++i) m[i] = lines[i][j];
          strided_result(of_input, height, m, values);
          PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
            store(place + i * strided_row, activate(values[i] + bias, finish->activation));
          }
        }
      }
      for (int64_t i = y < 0 ? -y : 0; i < last_row; ++i) {
        write_line(planes, channel, channels, y + i, x, &p, finish->accumulate, strip + i * strided_row);
      }
      done += p.tiles;
    }
  }
}

#define PF_WINOGRAD_STRIDED_SOURCE(name, of_input, height, width)                                                     \
  static void transform_##name##_strided_##height##width(const pf_winograd_planes *planes, int64_t y, int64_t x,      \
                                                         int64_t first, int64_t tiles,                                \
                                                         const pf_winograd_tiles *result) {                           \
    transform_strided(of_input, height, width, planes, y, x, first, tiles, result);                                   \
  }
#define PF_WINOGRAD_STRIDED_RESULT(name, of_input, height, width)                                                     \
  static void transform_##name##_strided_##height##width(const pf_winograd_block *products,                           \
                                                         const pf_winograd_planes *planes, int64_t y, int64_t x,      \
                                                         int64_t first, int64_t tiles,                                \
                                                         const pf_winograd_finish *finish) {                          \
    transform_strided_result(of_input, height, width, products, planes, y, x, first, tiles, finish);                  \
  }
#define PF_WINOGRAD_STRIDED(height, width)                             \
  PF_WINOGRAD_STRIDED_SOURCE(input, true, height, width)               \
  PF_WINOGRAD_STRIDED_SOURCE(gradient_window, false, height, width)    \
  PF_WINOGRAD_STRIDED_RESULT(output, false, height, width)             \
  PF_WINOGRAD_STRIDED_RESULT(input_gradient, true, height, width)

#define PF_EACH_STRIDED(what) what(4, 4) what(4, 3) what(3, 4) what(3, 3) what(1, 4) what(1, 3)

PF_EACH_STRIDED(PF_WINOGRAD_STRIDED)

#undef PF_WINOGRAD_STRIDED
#undef PF_WINOGRAD_STRIDED_SOURCE
#undef PF_WINOGRAD_STRIDED_RESULT
