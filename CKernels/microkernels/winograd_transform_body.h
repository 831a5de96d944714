// Winograd's transforms of inputs, output gradients and outputs. Pixels come in rows of one channel; the arithmetic across
// columns wants one lane a channel. Squares of PF_LANES channels x PF_LANES pixels are transposed in registers in between,
// by way of a strip: the rows of a few neighbouring tiles, PF_LANES channels side by side at each pixel.

enum { strip_pixels = 32 };

#define PF_SQRT_2 1.41421356237309504880f
#define PF_SQRT_HALF 0.70710678118654752440f

// MARK: One dimension

/// B'd for m outputs: m + 2 values from m + 2.
PF_INLINE void winograd_input(const int32_t m, const vector d[], vector v[]) {
  if (m == 2) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  } else {
    const vector even_near = multiply_add(broadcast(-2), d[2], d[4]);
    const vector odd_near = multiply_add(broadcast(-2), d[1], d[3]);
    const vector even_far = multiply_add(broadcast(-0.5f), d[2], d[4]);
    const vector odd_far = multiply_add(broadcast(-0.5f), d[1], d[3]);
    v[0] = d[0] + multiply_add(broadcast(-2.5f), d[2], d[4]);
    v[1] = multiply_add(broadcast(PF_SQRT_HALF), odd_near, even_near);
    v[2] = multiply_add(broadcast(-PF_SQRT_HALF), odd_near, even_near);
    v[3] = multiply_add(broadcast(PF_SQRT_2), odd_far, even_far);
    v[4] = multiply_add(broadcast(-PF_SQRT_2), odd_far, even_far);
    v[5] = d[1] + multiply_add(broadcast(-2.5f), d[3], d[5]);
  }
}

/// A'p: m values from m + 2.
PF_INLINE void winograd_output(const int32_t m, const vector p[], vector y[]) {
  const vector even_near = p[1] + p[2], odd_near = p[1] - p[2];
  if (m == 2) {
    y[0] = p[0] + even_near;
    y[1] = odd_near + p[3];
  } else {
    const vector even_far = p[3] + p[4], odd_far = p[3] - p[4];
    y[0] = p[0] + (even_near + even_far);
    y[1] = multiply_add(broadcast(PF_SQRT_2), odd_far, broadcast(PF_SQRT_HALF) * odd_near);
    y[2] = multiply_add(broadcast(2), even_far, broadcast(0.5f) * even_near);
    y[3] = multiply_add(broadcast(2 * PF_SQRT_2), odd_far,
                        multiply_add(broadcast(0.5f * PF_SQRT_HALF), odd_near, p[5]));
  }
}

/// Ay: m + 2 values from m.
PF_INLINE void winograd_output_gradient(const int32_t m, const vector y[], vector z[]) {
  if (m == 2) {
    z[0] = y[0];
    z[1] = y[0] + y[1];
    z[2] = y[0] - y[1];
    z[3] = y[1];
  } else {
    const vector even_near = multiply_add(broadcast(0.5f), y[2], y[0]);
    const vector odd_near = multiply_add(broadcast(0.5f), y[3], y[1]);
    const vector even_far = multiply_add(broadcast(2), y[2], y[0]);
    const vector odd_far = multiply_add(broadcast(2), y[3], y[1]);
    z[0] = y[0];
    z[1] = multiply_add(broadcast(PF_SQRT_HALF), odd_near, even_near);
    z[2] = multiply_add(broadcast(-PF_SQRT_HALF), odd_near, even_near);
    z[3] = multiply_add(broadcast(PF_SQRT_2), odd_far, even_far);
    z[4] = multiply_add(broadcast(-PF_SQRT_2), odd_far, even_far);
    z[5] = y[3];
  }
}

// MARK: Reading planes

/// Reads rows of several channels at one range of PF_LANES columns.
typedef struct row_reader {
  const pf_winograd_planes *planes;
  int64_t y, x;
  int64_t channel, channels;  // the first, and how many of at most PF_LANES
  bool whole;                 // every column lies inside of the planes
  bool free;                  // columns outside of the planes lie inside of the tensor: they may be read, and dropped
  integers inside;            // by column
} row_reader;

PF_INLINE row_reader read_rows(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t rows, int64_t channel) {
  row_reader reader = {.planes = planes, .y = y, .x = x, .channel = channel};
  const int64_t left = planes->channels - channel;
  reader.channels = left < PF_LANES ? left : PF_LANES;
  reader.whole = x >= 0 && x + PF_LANES <= planes->width;
  for (int32_t i = 0; i < PF_LANES; ++i) reader.inside[i] = x + i >= 0 && x + i < planes->width ? -1 : 0;
  const int64_t top = y < 0 ? 0 : y, bottom = y + rows > planes->height ? planes->height - 1 : y + rows - 1;
  const int64_t lowest = planes->first + channel * planes->stride + top * planes->width + x;
  const int64_t highest =
      planes->first + (channel + reader.channels - 1) * planes->stride + bottom * planes->width + x + PF_LANES;
  reader.free = lowest >= 0 && highest <= planes->count;
  return reader;
}

/// Row y + i of channel `channel` + c. With `whole`, the reader's.
PF_INLINE vector read_row(const row_reader *reader, const bool whole, int64_t i, int64_t c) {
  const pf_winograd_planes *planes = reader->planes;
  const int64_t y = reader->y + i;
  if (y < 0 || y >= planes->height || c >= reader->channels) return broadcast(0);
  const int64_t place = planes->first + (reader->channel + c) * planes->stride + y * planes->width + reader->x;
  if (whole) return load(planes->tensor + place);
  if (reader->free) return reader->inside ? load(planes->tensor + place) : broadcast(0);
  vector row = broadcast(0);
  for (int32_t j = 0; j < PF_LANES; ++j) {
    if (reader->inside[j]) row[j] = planes->tensor[place + j];
  }
  return row;
}

// MARK: Input

/// For PF_LANES columns: the vertical transform with a lane a column, then lanes become channels.
PF_INLINE void input_columns(const int32_t m, const row_reader *reader, const bool whole, float *strip) {
  float rows[6][PF_LANES][PF_LANES] __attribute__((aligned(64)));
  for (int64_t c = 0; c < PF_LANES; ++c) {
    vector d[6], v[6];
    PF_UNROLL for (int32_t i = 0; i < m + 2; ++i) d[i] = read_row(reader, whole, i, c);
    winograd_input(m, d, v);
    PF_UNROLL for (int32_t i = 0; i < m + 2; ++i) store(rows[i][c], v[i]);
  }
  for (int32_t i = 0; i < m + 2; ++i) {
    vector square[PF_LANES];
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(rows[i][c]);
    transpose(square);
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(strip + (i * strip_pixels + c) * PF_LANES, square[c]);
  }
}

PF_INLINE void transform_input(const int32_t m, const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t tiles,
                               const pf_winograd_tiles *result) {
  float strip[6 * strip_pixels * PF_LANES] __attribute__((aligned(64)));
  const int64_t most_tiles = (strip_pixels - 2) / m;
  for (int64_t first = 0; first < tiles; first += most_tiles) {
    const int64_t count = tiles - first < most_tiles ? tiles - first : most_tiles;
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      for (int64_t pixel = 0; pixel < count * m + 2; pixel += PF_LANES) {
        const row_reader reader = read_rows(planes, y, x + first * m + pixel, m + 2, channel);
        if (reader.whole) {
          input_columns(m, &reader, true, strip + pixel * PF_LANES);
        } else {
          input_columns(m, &reader, false, strip + pixel * PF_LANES);
        }
      }
      float *tile = result->data + channel / PF_LANES * result->block_stride + first * result->tile_stride;
      for (int64_t t = 0; t < count; ++t, tile += result->tile_stride) {
        float *point = tile;
        for (int32_t i = 0; i < m + 2; ++i) {
          vector d[6], v[6];
          const float *row = strip + (i * strip_pixels + t * m) * PF_LANES;
          PF_UNROLL for (int32_t j = 0; j < m + 2; ++j) d[j] = load(row + j * PF_LANES);
          winograd_input(m, d, v);
          PF_UNROLL for (int32_t j = 0; j < m + 2; ++j, point += result->point_stride) store(point, v[j]);
        }
      }
    }
  }
}

// MARK: Output gradient

PF_INLINE void transform_output_gradient(const int32_t m, const pf_winograd_planes *planes, int64_t y, int64_t x,
                                         int64_t tiles, const pf_winograd_tiles *result) {
  float strip[4 * strip_pixels * PF_LANES] __attribute__((aligned(64)));
  const int64_t most_tiles = strip_pixels / m;
  for (int64_t first = 0; first < tiles; first += most_tiles) {
    const int64_t count = tiles - first < most_tiles ? tiles - first : most_tiles;
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      for (int64_t pixel = 0; pixel < count * m; pixel += PF_LANES) {
        const row_reader reader = read_rows(planes, y, x + first * m + pixel, m, channel);
        for (int32_t i = 0; i < m; ++i) {
          vector square[PF_LANES];
          if (reader.whole) {
            PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = read_row(&reader, true, i, c);
          } else {
            PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = read_row(&reader, false, i, c);
          }
          transpose(square);
          float *row = strip + (i * strip_pixels + pixel) * PF_LANES;
          PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(row + c * PF_LANES, square[c]);
        }
      }
      float *tile = result->data + channel / PF_LANES * result->block_stride + first * result->tile_stride;
      for (int64_t t = 0; t < count; ++t, tile += result->tile_stride) {
        vector columns[4][6];
        PF_UNROLL for (int32_t j = 0; j < m; ++j) {
          vector d[4];
          PF_UNROLL for (int32_t i = 0; i < m; ++i) d[i] = load(strip + (i * strip_pixels + t * m + j) * PF_LANES);
          winograd_output_gradient(m, d, columns[j]);
        }
        float *point = tile;
        PF_UNROLL for (int32_t i = 0; i < m + 2; ++i) {
          vector d[4], z[6];
          PF_UNROLL for (int32_t j = 0; j < m; ++j) d[j] = columns[j][i];
          winograd_output_gradient(m, d, z);
          PF_UNROLL for (int32_t j = 0; j < m + 2; ++j, point += result->point_stride) store(point, z[j]);
        }
      }
    }
  }
}

// MARK: Output

/// Stores `channels` rows of `pixels` pixels, a plane apart.
PF_INLINE void store_rows(const vector square[PF_LANES], int64_t channels, int64_t pixels, int64_t stride,
                          bool accumulate, float *result) {
  if (pixels == PF_LANES && channels == PF_LANES && !accumulate) {
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(result + c * stride, square[c]);
    return;
  }
  float rows[PF_LANES][PF_LANES] __attribute__((aligned(64)));
  PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(rows[c], square[c]);
  for (int64_t c = 0; c < channels; ++c, result += stride) {
    if (accumulate && pixels == PF_LANES) {
      store(result, load(result) + load(rows[c]));
    } else if (accumulate) {
      for (int64_t j = 0; j < pixels; ++j) result[j] += rows[c][j];
    } else {
      copy_first(pixels, rows[c], result);
    }
  }
}

/// The tile at `point` of one vector of channels, to the strip.
PF_INLINE void output_tile(const int32_t m, const float *point, int64_t point_stride, vector bias, float *strip) {
  vector rows[6][4];
  PF_UNROLL for (int32_t i = 0; i < m + 2; ++i) {
    vector p[6];
    PF_UNROLL for (int32_t j = 0; j < m + 2; ++j, point += point_stride) p[j] = load(point);
    winograd_output(m, p, rows[i]);
  }
  PF_UNROLL for (int32_t j = 0; j < m; ++j) {
    vector p[6], y[4];
    PF_UNROLL for (int32_t i = 0; i < m + 2; ++i) p[i] = rows[i][j];
    winograd_output(m, p, y);
    PF_UNROLL for (int32_t i = 0; i < m; ++i) store(strip + (i * strip_pixels + j) * PF_LANES, y[i] + bias);
  }
}

PF_INLINE void transform_output(const int32_t m, const pf_winograd_block *products, const pf_winograd_planes *planes,
                                int64_t y, int64_t x, int64_t tiles, const pf_winograd_finish *finish) {
  float strip[4 * strip_pixels * PF_LANES] __attribute__((aligned(64)));
  const int64_t most_tiles = strip_pixels / m;
  const int64_t rows = planes->height - y < m ? planes->height - y : m;
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    for (int64_t first = 0; first < tiles; first += most_tiles) {
      const int64_t count = tiles - first < most_tiles ? tiles - first : most_tiles;
      for (int64_t t = 0; t < count; ++t) {
        output_tile(m, products->data + (first + t) * products->width + channel, products->point_stride, bias,
                    strip + t * m * PF_LANES);
      }
      const int64_t column = x + first * m;
      const int64_t columns = planes->width - column < count * m ? planes->width - column : count * m;
      for (int64_t i = 0; i < rows; ++i) {
        float *result = planes->tensor + planes->first + channel * planes->stride + (y + i) * planes->width + column;
        for (int64_t pixel = 0; pixel < columns; pixel += PF_LANES) {
          vector square[PF_LANES];
          const float *row = strip + (i * strip_pixels + pixel) * PF_LANES;
          PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(row + c * PF_LANES);
          transpose(square);
          store_rows(square, channels, columns - pixel < PF_LANES ? columns - pixel : PF_LANES, planes->stride,
                     finish->accumulate, result + pixel);
        }
      }
    }
  }
}

// MARK: Tile sizes

#define PF_WINOGRAD_TRANSFORMS(m)                                                                                     \
  static void transform_input_##m(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t tiles,              \
                                  const pf_winograd_tiles *result) {                                                  \
    transform_input(m, planes, y, x, tiles, result);                                                                  \
  }                                                                                                                   \
  static void transform_output_gradient_##m(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t tiles,    \
                                            const pf_winograd_tiles *result) {                                        \
    transform_output_gradient(m, planes, y, x, tiles, result);                                                        \
  }                                                                                                                   \
  static void transform_output_##m(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,    \
                                   int64_t x, int64_t tiles, const pf_winograd_finish *finish) {                      \
    transform_output(m, products, planes, y, x, tiles, finish);                                                       \
  }

PF_WINOGRAD_TRANSFORMS(2)
PF_WINOGRAD_TRANSFORMS(4)

#undef PF_WINOGRAD_TRANSFORMS
