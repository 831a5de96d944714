// Winograd's transforms tile by tile without overlap of rows: of tiles of one row, for kernels of one row, and of whole
// phases. They have the strips and the one-dimensional arithmetic of winograd_transform_body.h.

enum { most_line_tile = 4, line_points = 6, longest_phase = 3, phase_points = 2 * longest_phase - 1 };

// MARK: Rows of pixels

/// Reads row y of a piece of the row of tiles that begins at column x, into a row of a strip.
static void read_line(const pf_winograd_planes *planes, const channel_vector *channels, int64_t y, int64_t x,
                      const piece *p, float *strip) {
  for (int64_t range = 0; range < p->ranges; ++range) {
    for (int64_t pixel = 0; pixel < p->pixels; pixel += PF_LANES) {
      const row_reader reader = read_rows(1, planes, channels, y, x + p->column + range * planes->step_x + pixel);
      float *target = strip + (range * p->phases + pixel) * PF_LANES;
      switch (reader.kind) {
        case reads_whole: gradient_columns(1, &reader, reads_whole, target); break;
        case reads_masked: gradient_columns(1, &reader, reads_masked, target); break;
        case reads_careful: gradient_columns(1, &reader, reads_careful, target); break;
      }
    }
  }
}

/// Stores a row of a strip as row y of `channels` channels from `channel` on.
static void write_line(const pf_winograd_planes *planes, int64_t channel, int64_t channels, int64_t y, int64_t x,
                       const piece *p, bool accumulate, const float *strip) {
  float *line = planes->tensor + planes->first + channel * planes->stride + y * planes->width;
  for (int64_t range = 0; range < p->ranges; ++range) {
    const int64_t column = x + p->column + range * planes->step_x, inside = planes->width - column;
    const int64_t columns = inside < p->pixels ? inside : p->pixels;
    for (int64_t pixel = column < 0 ? -column : 0; pixel < columns; pixel += PF_LANES) {
      vector square[PF_LANES];
      const float *pixels = strip + (range * p->phases + pixel) * PF_LANES;
      PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(pixels + c * PF_LANES);
      transpose(square);
      store_rows(square, channels, columns - pixel < PF_LANES ? columns - pixel : PF_LANES, planes->stride, accumulate,
                 line + column + pixel);
    }
  }
}

// MARK: Tiles of one row

/// B'd of the windows, or A dY of the tiles, of a row of tiles of m outputs.
PF_INLINE void transform_line(const int32_t m, const bool of_gradient, const pf_winograd_planes *planes, int64_t y,
                              int64_t x, int64_t first, int64_t tiles, const pf_winograd_tiles *result) {
  float strip[strip_row] __attribute__((aligned(64)));
  const int32_t reach = of_gradient ? m : line_points;
  float *data = result->data;
  while (tiles > 0) {
    const piece p = next_piece(m, reach, planes->step_x, first, tiles);
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      read_line(planes, &channels, y, x, &p, strip);
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        vector d[line_points], v[line_points];
        const float *place = strip + strip_place(m, &p, t);
        PF_UNROLL for (int32_t j = 0; j < reach; ++j) d[j] = load(place + j * p.phases * PF_LANES);
        if (of_gradient) {
          winograd_output_gradient(m, line_points, d, v);
        } else {
          winograd_input(line_points, d, v);
        }
        PF_UNROLL for (int32_t j = 0; j < line_points; ++j) store(tile + j * result->point_stride, v[j]);
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
  }
}

PF_INLINE void transform_line_output(const int32_t m, const pf_winograd_block *products,
                                     const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                     int64_t tiles, const pf_winograd_finish *finish) {
  float strip[strip_row] __attribute__((aligned(64)));
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    const float *product = products->data + channel;
    for (int64_t done = 0; done < tiles;) {
      const piece p = next_piece(m, m, planes->step_x, first + done, tiles - done);
      for (int64_t t = 0; t < p.tiles; ++t, product += products->width) {
        vector v[line_points], values[most_line_tile];
        PF_UNROLL for (int32_t j = 0; j < line_points; ++j) v[j] = load(product + j * products->point_stride);
        winograd_output(m, line_points, v, values);
        float *place = strip + strip_place(m, &p, t);
        PF_UNROLL for (int32_t j = 0; j < m; ++j) {
          store(place + j * p.phases * PF_LANES, activate(values[j] + bias, finish->activation));
        }
      }
      write_line(planes, channel, channels, y, x, &p, finish->accumulate, strip);
      done += p.tiles;
    }
  }
}

#define PF_WINOGRAD_LINES(name, m)                                                                                     \
  static void transform_input_##name(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,            \
                                     int64_t tiles, const pf_winograd_tiles *result) {                                 \
    transform_line(m, false, planes, y, x, first, tiles, result);                                                      \
  }                                                                                                                    \
  static void transform_output_gradient_##name(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,  \
                                               int64_t tiles, const pf_winograd_tiles *result) {                       \
    transform_line(m, true, planes, y, x, first, tiles, result);                                                       \
  }                                                                                                                    \
  static void transform_output_##name(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,  \
                                      int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish) {     \
    transform_line_output(m, products, planes, y, x, first, tiles, finish);                                            \
  }

PF_WINOGRAD_LINES(kernel_13, 4)
PF_WINOGRAD_LINES(kernel_15, 2)

#undef PF_WINOGRAD_LINES

// MARK: Whole phases

/// Values of the polynomial with coefficients x at 2 * length - 1 points.
PF_INLINE void evaluate(int32_t length, const vector x[], vector v[]) {
  v[0] = x[0];
  if (length == 2) {
    v[1] = x[0] + x[1];
    v[2] = x[1];
  } else if (length == 3) {
    const vector even_near = multiply_add(broadcast(0.5f), x[2], x[0]);
    const vector even_far = multiply_add(broadcast(2), x[2], x[0]);
    v[1] = multiply_add(broadcast(PF_SQRT_HALF), x[1], even_near);
    v[2] = multiply_add(broadcast(-PF_SQRT_HALF), x[1], even_near);
    v[3] = multiply_add(broadcast(PF_SQRT_2), x[1], even_far);
    v[4] = multiply_add(broadcast(-PF_SQRT_2), x[1], even_far);
  }
}

/// The transpose of evaluate, last value first: a phase of outputs from its products.
PF_INLINE void gather(int32_t length, const vector p[], vector y[]) {
  if (length == 1) {
    y[0] = p[0];
  } else if (length == 2) {
    y[0] = p[1] + p[2];
    y[1] = p[0] + p[1];
  } else {
    const vector even_near = p[1] + p[2], odd_near = p[1] - p[2], even_far = p[3] + p[4], odd_far = p[3] - p[4];
    y[0] = multiply_add(broadcast(2), even_far, broadcast(0.5f) * even_near);
    y[1] = multiply_add(broadcast(PF_SQRT_2), odd_far, broadcast(PF_SQRT_HALF) * odd_near);
    y[2] = p[0] + (even_near + even_far);
  }
}

/// Phases of height x width pixels of the input; or of the output gradient, whose last pixel comes first.
static void transform_phases(bool of_gradient, int32_t height, int32_t width, const pf_winograd_planes *planes,
                             int64_t y, int64_t x, int64_t first, int64_t tiles, const pf_winograd_tiles *result) {
  float strip[longest_phase * strip_row] __attribute__((aligned(64)));
  float *data = result->data;
  while (tiles > 0) {
    piece p = next_piece(width, width, planes->step_x, first, tiles);
    const int64_t span = (p.ranges - 1) * planes->step_x + p.phases;
    if (p.ranges > 1 && span <= strip_pixels && (span - 1) / PF_LANES < p.ranges * ((p.phases - 1) / PF_LANES + 1)) {
      // The pixels between the ranges cost less than the ranges' rests.
      p.pixels = span;
      p.phases = planes->step_x;
      p.ranges = 1;
    }
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      for (int32_t i = 0; i < height; ++i) {
        read_line(planes, &channels, y + i * planes->step_y, x, &p, strip + i * strip_row);
      }
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        vector columns[longest_phase][phase_points];
        const float *place = strip + t * PF_LANES;
        for (int32_t j = 0; j < width; ++j) {
          vector d[longest_phase];
          const float *column = place + (of_gradient ? width - 1 - j : j) * p.phases * PF_LANES;
          for (int32_t i = 0; i < height; ++i) d[i] = load(column + (of_gradient ? height - 1 - i : i) * strip_row);
          evaluate(height, d, columns[j]);
        }
        float *point = tile;
        for (int32_t i = 0; i < 2 * height - 1; ++i) {
          vector d[longest_phase], v[phase_points];
          for (int32_t j = 0; j < width; ++j) d[j] = columns[j][i];
          evaluate(width, d, v);
          for (int32_t j = 0; j < 2 * width - 1; ++j, point += result->point_stride) store(point, v[j]);
        }
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
  }
}

static void transform_phase_output(int32_t height, int32_t width, const pf_winograd_block *products,
                                   const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                   int64_t tiles, const pf_winograd_finish *finish) {
  float strip[longest_phase * strip_row] __attribute__((aligned(64)));
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    const float *product = products->data + channel;
    for (int64_t done = 0; done < tiles;) {
      const piece p = next_piece(width, width, planes->step_x, first + done, tiles - done);
      for (int64_t t = 0; t < p.tiles; ++t, product += products->width) {
        vector rows[phase_points][longest_phase];
        const float *point = product;
        for (int32_t i = 0; i < 2 * height - 1; ++i) {
          vector m[phase_points];
          for (int32_t j = 0; j < 2 * width - 1; ++j, point += products->point_stride) m[j] = load(point);
          gather(width, m, rows[i]);
        }
        float *place = strip + t * PF_LANES;
        for (int32_t j = 0; j < width; ++j) {
          vector m[phase_points], values[longest_phase];
          for (int32_t i = 0; i < 2 * height - 1; ++i) m[i] = rows[i][j];
          gather(height, m, values);
          for (int32_t i = 0; i < height; ++i) {
            store(place + i * strip_row + j * p.phases * PF_LANES, activate(values[i] + bias, finish->activation));
          }
        }
      }
      for (int32_t i = 0; i < height; ++i) {
        write_line(planes, channel, channels, y + i * planes->step_y, x, &p, finish->accumulate,
                   strip + i * strip_row);
      }
      done += p.tiles;
    }
  }
}

#define PF_WINOGRAD_PHASES(height, width)                                                                             \
  static void transform_input_##height##width(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,  \
                                              int64_t tiles, const pf_winograd_tiles *result) {                       \
    transform_phases(false, height, width, planes, y, x, first, tiles, result);                                       \
  }                                                                                                                   \
  static void transform_output_gradient_##height##width(const pf_winograd_planes *planes, int64_t y, int64_t x,       \
                                                        int64_t first, int64_t tiles,                                 \
                                                        const pf_winograd_tiles *result) {                            \
    transform_phases(true, height, width, planes, y, x, first, tiles, result);                                        \
  }                                                                                                                   \
  static void transform_output_##height##width(const pf_winograd_block *products, const pf_winograd_planes *planes,   \
                                               int64_t y, int64_t x, int64_t first, int64_t tiles,                    \
                                               const pf_winograd_finish *finish) {                                    \
    transform_phase_output(height, width, products, planes, y, x, first, tiles, finish);                              \
  }

#define PF_EACH_PHASE(what) \
  what(1, 1) what(1, 2) what(1, 3) what(2, 1) what(2, 2) what(2, 3) what(3, 1) what(3, 2) what(3, 3)

PF_EACH_PHASE(PF_WINOGRAD_PHASES)

#undef PF_WINOGRAD_PHASES
