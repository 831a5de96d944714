// Winograd's transforms of inputs, output gradients and outputs. Pixels come in rows of one channel; the arithmetic
// across columns wants one lane a channel. Squares of PF_LANES channels x PF_LANES pixels are transposed in registers
// in between, by way of a strip: the rows of a few neighbouring tiles, PF_LANES channels side by side at each pixel.

enum {
  strip_pixels = 128,
  near_pixels = 64,  // of a strip that stays in the first-level cache
  // Floats from a row to the next, with room for one more vector of pixels: not a power of two, for the cache's sake.
  strip_row = (strip_pixels + PF_LANES) * PF_LANES + 16,
};

#define PF_SQRT_2 1.41421356237309504880f
#define PF_SQRT_HALF 0.70710678118654752440f

// MARK: One dimension
//
// Tiles of m outputs with n points: kernels of n - m + 1 taps.

/// B'd: n values from n.
PF_INLINE void winograd_input(const int32_t n, const vector d[], vector v[]) {
  if (n == 4) {
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

/// A'p: m values from n.
PF_INLINE void winograd_output(const int32_t m, const int32_t n, const vector p[], vector y[]) {
  const vector even_near = p[1] + p[2], odd_near = p[1] - p[2];
  if (n == 4) {
    y[0] = p[0] + even_near;
    y[1] = odd_near + p[3];
  } else {
    const vector even_far = p[3] + p[4], odd_far = p[3] - p[4];
    y[0] = p[0] + (even_near + even_far);
    if (m == 2) {
      y[1] = multiply_add(broadcast(PF_SQRT_2), odd_far, multiply_add(broadcast(PF_SQRT_HALF), odd_near, p[5]));
      return;
    }
    y[1] = multiply_add(broadcast(PF_SQRT_2), odd_far, broadcast(PF_SQRT_HALF) * odd_near);
    y[2] = multiply_add(broadcast(2), even_far, broadcast(0.5f) * even_near);
    y[3] = multiply_add(broadcast(2 * PF_SQRT_2), odd_far,
                        multiply_add(broadcast(0.5f * PF_SQRT_HALF), odd_near, p[5]));
  }
}

/// Ay: n values from m.
PF_INLINE void winograd_output_gradient(const int32_t m, const int32_t n, const vector y[], vector z[]) {
  z[0] = y[0];
  if (n == 4) {
    z[1] = y[0] + y[1];
    z[2] = y[0] - y[1];
    z[3] = y[1];
  } else if (m == 2) {
    z[1] = multiply_add(broadcast(PF_SQRT_HALF), y[1], y[0]);
    z[2] = multiply_add(broadcast(-PF_SQRT_HALF), y[1], y[0]);
    z[3] = multiply_add(broadcast(PF_SQRT_2), y[1], y[0]);
    z[4] = multiply_add(broadcast(-PF_SQRT_2), y[1], y[0]);
    z[5] = y[1];
  } else {
    const vector even_near = multiply_add(broadcast(0.5f), y[2], y[0]);
    const vector odd_near = multiply_add(broadcast(0.5f), y[3], y[1]);
    const vector even_far = multiply_add(broadcast(2), y[2], y[0]);
    const vector odd_far = multiply_add(broadcast(2), y[3], y[1]);
    z[1] = multiply_add(broadcast(PF_SQRT_HALF), odd_near, even_near);
    z[2] = multiply_add(broadcast(-PF_SQRT_HALF), odd_near, even_near);
    z[3] = multiply_add(broadcast(PF_SQRT_2), odd_far, even_far);
    z[4] = multiply_add(broadcast(-PF_SQRT_2), odd_far, even_far);
    z[5] = y[3];
  }
}

// MARK: Tiles of a row

/// Some neighbouring tiles in a row of tiles whose pixels fit into a strip: of all phases, or one tile of each of some.
/// Pixel j of tile t lies in place (t / phases * m + j) * phases + t % phases of the strip.
typedef struct piece {
  int64_t tiles, phases;
  int64_t column;          // of the first pixel, from where the row of tiles begins
  int64_t ranges, pixels;  // contiguous ranges of columns, step_x apart, and the pixels of one
} piece;

/// The piece that begins with tile `first`, of `left` tiles that are `reach` pixels wide.
PF_INLINE piece next_piece(const int32_t m, const int32_t reach, int64_t step, int64_t first, int64_t left) {
  if (step == 1) {
    const int64_t most = (near_pixels - (reach - m)) / m, tiles = left < most ? left : most;
    return (piece){.tiles = tiles, .phases = 1, .column = first * m, .ranges = 1, .pixels = tiles * m + reach - m};
  }
  const int64_t phase = first % step, group = first / step;
  piece result = {.column = group * m * step + phase, .ranges = 1};
  int64_t groups = (near_pixels / step - (reach - m)) / m;
  if (groups < 1) groups = reach * step <= strip_pixels ? 1 : 0;
  if (left < groups * step) groups = left / step;
  if (phase == 0 && groups > 0) {
    result.phases = step;
    result.tiles = groups * step;
    result.pixels = (groups * m + reach - m) * step;
  } else {
    result.phases = step - phase;
    if (result.phases > left) result.phases = left;
    if (result.phases > strip_pixels / reach) result.phases = strip_pixels / reach;
    result.tiles = result.pixels = result.phases;
    result.ranges = reach;
  }
  return result;
}

/// Floats from the strip's begin to pixel 0 of tile `t`.
PF_INLINE int64_t strip_place(const int32_t m, const piece *p, int64_t t) {
  return (p->phases == 1 ? t * m : t / p->phases * m * p->phases + t % p->phases) * PF_LANES;
}

// MARK: Reading planes

/// A vector of channels, or what is left of one.
typedef struct channel_vector {
  int64_t count;
  int64_t offset[PF_LANES];   // of each channel's plane, from that of channel 0
  int64_t nearest, farthest;  // offsets
} channel_vector;

PF_INLINE channel_vector channels_from(const pf_winograd_planes *planes, int64_t channel) {
  const int64_t left = planes->channels - channel;
  channel_vector result = {.count = left < PF_LANES ? left : PF_LANES, .nearest = INT64_MAX};
  for (int64_t c = 0; c < result.count; ++c) {
    const int64_t offset = (planes->list == NULL ? channel + c : planes->list[channel + c]) * planes->stride;
    result.offset[c] = offset;
    if (offset < result.nearest) result.nearest = offset;
    if (offset > result.farthest) result.farthest = offset;
  }
  return result;
}

/// Rows of a vector of channels at one range of PF_LANES columns.
typedef struct row_reader {
  const pf_winograd_planes *planes;
  const channel_vector *channels;
  int64_t place, pitch;  // of row 0 of the plane at offset 0, in the tensor; to the next row
  int64_t ahead;         // to the plane of the channel PF_LANES further on, about
  integers inside[6];    // by row and column: whether it lies in the planes; unless all do
  enum { reads_whole, reads_masked, reads_careful } kind;
} row_reader;

/// Whether all rows and columns lie in the planes; else, whether the tensor goes on around them, so that what lies
/// outside can be read and dropped; else neither.
PF_INLINE row_reader read_rows(const int32_t rows, const pf_winograd_planes *planes, const channel_vector *channels,
                               int64_t y, int64_t x) {
  row_reader reader = {
      .planes = planes,
      .channels = channels,
      .place = planes->first + y * planes->width + x,
      .pitch = planes->step_y * planes->width,
      .ahead = PF_LANES * planes->stride,
  };
  const int64_t last = y + (rows - 1) * planes->step_y;
  if (y >= 0 && last < planes->height && x >= 0 && x + PF_LANES <= planes->width) {
    reader.kind = reads_whole;
    return reader;
  }
  integers columns;
  for (int32_t i = 0; i < PF_LANES; ++i) columns[i] = x + i >= 0 && x + i < planes->width ? -1 : 0;
  PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
    const int64_t line = y + i * planes->step_y;
    reader.inside[i] = line >= 0 && line < planes->height ? columns : (integers)0;
  }
  const bool goes_on = reader.place + channels->nearest >= 0 &&
                       reader.place + (rows - 1) * reader.pitch + channels->farthest + PF_LANES <= planes->count;
  reader.kind = goes_on ? reads_masked : reads_careful;
  return reader;
}

/// Row i of channel c; `kind` is the reader's. `fresh`: the row of tiles above hasn't read it.
PF_INLINE vector read_row(const row_reader *reader, const int32_t kind, const int32_t i, int64_t c, bool fresh) {
  const float *tensor = reader->planes->tensor;
  const int64_t place = reader->place + reader->channels->offset[c] + i * reader->pitch;
  if (kind == reads_careful && (place < 0 || place + PF_LANES > reader->planes->count)) {
    vector lanes = broadcast(0);
    for (int32_t j = 0; j < PF_LANES; ++j) {
      if (reader->inside[i][j]) lanes[j] = tensor[place + j];
    }
    return lanes;
  }
  // The next channels' rows are far from what a hardware prefetcher expects.
  if (fresh && kind != reads_careful) __builtin_prefetch(tensor + place + reader->ahead, 0, 2);
  return kind == reads_whole ? load(tensor + place) : reader->inside[i] ? load(tensor + place) : broadcast(0);
}

// MARK: Input

/// For PF_LANES columns: the vertical transform with a lane a column, then lanes become channels. The row of tiles
/// above has read the first `overlap` rows.
PF_INLINE void input_columns(const int32_t n, const int32_t overlap, const row_reader *reader, const int32_t kind,
                             float *strip) {
  float rows[6][PF_LANES][PF_LANES] __attribute__((aligned(64)));
  for (int64_t c = 0; c < reader->channels->count; ++c) {
    vector d[6], v[6];
    PF_UNROLL for (int32_t i = 0; i < n; ++i) d[i] = read_row(reader, kind, i, c, i >= overlap);
    winograd_input(n, d, v);
    PF_UNROLL for (int32_t i = 0; i < n; ++i) store(rows[i][c], v[i]);
  }
  for (int64_t c = reader->channels->count; c < PF_LANES; ++c) {
    PF_UNROLL for (int32_t i = 0; i < n; ++i) store(rows[i][c], broadcast(0));
  }
  for (int32_t i = 0; i < n; ++i) {
    vector square[PF_LANES];
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(rows[i][c]);
    transpose(square);
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(strip + i * strip_row + c * PF_LANES, square[c]);
  }
}

PF_INLINE void transform_input(const int32_t height, const int32_t width, const int32_t n, const int64_t step_x,
                               const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first, int64_t tiles,
                               const pf_winograd_tiles *result) {
  float strip[6 * strip_row] __attribute__((aligned(64)));
  const int64_t point_stride = result->point_stride;
  float *data = result->data;
  while (tiles > 0) {
    const piece p = next_piece(width, n, step_x, first, tiles);
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      for (int64_t range = 0; range < p.ranges; ++range) {
        for (int64_t pixel = 0; pixel < p.pixels; pixel += PF_LANES) {
          const row_reader reader = read_rows(n, planes, &channels, y, x + p.column + range * step_x + pixel);
          float *target = strip + (range * p.phases + pixel) * PF_LANES;
          switch (reader.kind) {
            case reads_whole: input_columns(n, n - height, &reader, reads_whole, target); break;
            case reads_masked: input_columns(n, n - height, &reader, reads_masked, target); break;
            case reads_careful: input_columns(n, n - height, &reader, reads_careful, target); break;
          }
        }
      }
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        float *point = tile;
        const float *place = strip + strip_place(width, &p, t);
        for (int32_t i = 0; i < n; ++i) {
          vector d[6], v[6];
          const float *row = place + i * strip_row;
          PF_UNROLL for (int32_t j = 0; j < n; ++j) d[j] = load(row + j * p.phases * PF_LANES);
          winograd_input(n, d, v);
          PF_UNROLL for (int32_t j = 0; j < n; ++j, point += point_stride) store(point, v[j]);
        }
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
  }
}

// MARK: Output gradient

/// Lanes become channels.
PF_INLINE void gradient_columns(const int32_t height, const row_reader *reader, const int32_t kind, float *strip) {
  for (int32_t i = 0; i < height; ++i) {
    vector square[PF_LANES];
    if (reader->channels->count == PF_LANES && kind != reads_careful) {
      PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = read_row(reader, kind, i, c, true);
    } else {
      float rows[PF_LANES][PF_LANES] __attribute__((aligned(64))) = {{0}};
      for (int64_t c = 0; c < reader->channels->count; ++c) store(rows[c], read_row(reader, kind, i, c, true));
      PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(rows[c]);
    }
    transpose(square);
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(strip + i * strip_row + c * PF_LANES, square[c]);
  }
}

PF_INLINE void transform_output_gradient(const int32_t height, const int32_t width, const int32_t n,
                                         const int64_t step_x, const pf_winograd_planes *planes, int64_t y, int64_t x,
                                         int64_t first, int64_t tiles, const pf_winograd_tiles *result) {
  float strip[4 * strip_row] __attribute__((aligned(64)));
  const int64_t point_stride = result->point_stride;
  float *data = result->data;
  while (tiles > 0) {
    const piece p = next_piece(width, width, step_x, first, tiles);
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      for (int64_t range = 0; range < p.ranges; ++range) {
        for (int64_t pixel = 0; pixel < p.pixels; pixel += PF_LANES) {
          const row_reader reader = read_rows(height, planes, &channels, y, x + p.column + range * step_x + pixel);
          float *target = strip + (range * p.phases + pixel) * PF_LANES;
          switch (reader.kind) {
            case reads_whole: gradient_columns(height, &reader, reads_whole, target); break;
            case reads_masked: gradient_columns(height, &reader, reads_masked, target); break;
            case reads_careful: gradient_columns(height, &reader, reads_careful, target); break;
          }
        }
      }
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        vector columns[4][6];
        const float *place = strip + strip_place(width, &p, t);
        PF_UNROLL for (int32_t j = 0; j < width; ++j) {
          vector d[4];
          PF_UNROLL for (int32_t i = 0; i < height; ++i) d[i] = load(place + i * strip_row + j * p.phases * PF_LANES);
          winograd_output_gradient(height, n, d, columns[j]);
        }
        float *point = tile;
        PF_UNROLL for (int32_t i = 0; i < n; ++i) {
          vector d[4], z[6];
          PF_UNROLL for (int32_t j = 0; j < width; ++j) d[j] = columns[j][i];
          winograd_output_gradient(width, n, d, z);
          PF_UNROLL for (int32_t j = 0; j < n; ++j, point += point_stride) store(point, z[j]);
        }
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
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

/// The tile at `point` of one vector of channels, to the strip; neighbouring pixels of a row `step` floats apart.
PF_INLINE void output_tile(const int32_t height, const int32_t width, const int32_t n, const float *point,
                           int64_t point_stride, vector bias, pf_activation activation, float *strip, int64_t step) {
  vector rows[6][4];
  PF_UNROLL for (int32_t i = 0; i < n; ++i) {
    vector p[6];
    PF_UNROLL for (int32_t j = 0; j < n; ++j, point += point_stride) p[j] = load(point);
    winograd_output(width, n, p, rows[i]);
  }
  PF_UNROLL for (int32_t j = 0; j < width; ++j) {
    vector p[6], y[4];
    PF_UNROLL for (int32_t i = 0; i < n; ++i) p[i] = rows[i][j];
    winograd_output(height, n, p, y);
    PF_UNROLL for (int32_t i = 0; i < height; ++i) {
      store(strip + i * strip_row + j * step, activate(y[i] + bias, activation));
    }
  }
}

PF_INLINE void transform_output(const int32_t height, const int32_t width, const int32_t n, const int64_t step_x,
                                const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,
                                int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish) {
  float strip[4 * strip_row] __attribute__((aligned(64)));
  const int64_t step = planes->step_y, most = (planes->height - y + step - 1) / step;
  const int64_t rows = most < height ? most : height;
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    const float *product = products->data + channel;
    for (int64_t done = 0; done < tiles;) {
      const piece p = next_piece(width, width, step_x, first + done, tiles - done);
      for (int64_t t = 0; t < p.tiles; ++t, product += products->width) {
        output_tile(height, width, n, product, products->point_stride, bias, finish->activation,
                    strip + strip_place(width, &p, t), p.phases * PF_LANES);
      }
      for (int64_t range = 0; range < p.ranges; ++range) {
        const int64_t column = x + p.column + range * step_x, inside = planes->width - column;
        const int64_t columns = inside < p.pixels ? inside : p.pixels;
        for (int64_t i = 0; i < rows; ++i) {
          float *result =
              planes->tensor + planes->first + channel * planes->stride + (y + i * step) * planes->width + column;
          for (int64_t pixel = 0; pixel < columns; pixel += PF_LANES) {
            vector square[PF_LANES];
            const float *row = strip + i * strip_row + (range * p.phases + pixel) * PF_LANES;
            PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(row + c * PF_LANES);
            transpose(square);
            store_rows(square, channels, columns - pixel < PF_LANES ? columns - pixel : PF_LANES, planes->stride,
                       finish->accumulate, result + pixel);
          }
        }
      }
      done += p.tiles;
    }
  }
}

// MARK: Tile sizes

/// Calls transform(height, width, n, step_x, ...), with a constant for the step of an undilated kernel.
#define PF_WITH_STEP(transform, height, width, n, ...)        \
  if (planes->step_x == 1) {                                  \
    transform(height, width, n, 1, __VA_ARGS__);              \
  } else {                                                    \
    transform(height, width, n, planes->step_x, __VA_ARGS__); \
  }

#define PF_WINOGRAD_TRANSFORMS(name, height, width, n)                                                                 \
  static void transform_input_##name(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,            \
                                     int64_t tiles, const pf_winograd_tiles *result) {                                 \
    PF_WITH_STEP(transform_input, height, width, n, planes, y, x, first, tiles, result)                                \
  }                                                                                                                    \
  static void transform_output_gradient_##name(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,  \
                                               int64_t tiles, const pf_winograd_tiles *result) {                       \
    PF_WITH_STEP(transform_output_gradient, height, width, n, planes, y, x, first, tiles, result)                      \
  }                                                                                                                    \
  static void transform_output_##name(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,  \
                                      int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish) {     \
    PF_WITH_STEP(transform_output, height, width, n, products, planes, y, x, first, tiles, finish)                     \
  }

PF_WINOGRAD_TRANSFORMS(2, 2, 2, 4)
PF_WINOGRAD_TRANSFORMS(kernel_33, 4, 4, 6)
PF_WINOGRAD_TRANSFORMS(kernel_35, 4, 2, 6)
PF_WINOGRAD_TRANSFORMS(kernel_53, 2, 4, 6)
PF_WINOGRAD_TRANSFORMS(kernel_55, 2, 2, 6)

#undef PF_WINOGRAD_TRANSFORMS
#undef PF_WITH_STEP
