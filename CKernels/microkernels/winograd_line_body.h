// Winograd's transforms of tiles of one row, for kernels of one row, with the strips and the one-dimensional arithmetic
// of winograd_transform_body.h.

enum { line_tile = 4, line_points = line_tile + 2 };

/// B'd of the windows, or A dY of the tiles, of a row of tiles.
PF_INLINE void transform_line(const bool of_gradient, const int64_t step_x, const pf_winograd_planes *planes, int64_t y,
                              int64_t x, int64_t first, int64_t tiles, const pf_winograd_tiles *result) {
  float strip[strip_row] __attribute__((aligned(64)));
  const int32_t reach = of_gradient ? line_tile : line_points;
  float *data = result->data;
  while (tiles > 0) {
    const piece p = next_piece(line_tile, reach, step_x, first, tiles);
    for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
      const channel_vector channels = channels_from(planes, channel);
      for (int64_t range = 0; range < p.ranges; ++range) {
        for (int64_t pixel = 0; pixel < p.pixels; pixel += PF_LANES) {
          const row_reader reader = read_rows(1, planes, &channels, y, x + p.column + range * step_x + pixel);
          float *target = strip + (range * p.phases + pixel) * PF_LANES;
          switch (reader.kind) {
            case reads_whole: gradient_columns(1, &reader, reads_whole, target); break;
            case reads_masked: gradient_columns(1, &reader, reads_masked, target); break;
            case reads_careful: gradient_columns(1, &reader, reads_careful, target); break;
          }
        }
      }
      float *tile = data + channel / PF_LANES * result->block_stride;
      for (int64_t t = 0; t < p.tiles; ++t, tile += result->tile_stride) {
        vector d[line_points], v[line_points];
        const float *place = strip + strip_place(line_tile, &p, t);
        PF_UNROLL for (int32_t j = 0; j < reach; ++j) d[j] = load(place + j * p.phases * PF_LANES);
        if (of_gradient) {
          winograd_output_gradient(line_tile, d, v);
        } else {
          winograd_input(line_tile, d, v);
        }
        PF_UNROLL for (int32_t j = 0; j < line_points; ++j) store(tile + j * result->point_stride, v[j]);
      }
    }
    first += p.tiles;
    tiles -= p.tiles;
    data += p.tiles * result->tile_stride;
  }
}

/// A'm of a row of tiles.
PF_INLINE void transform_line_output(const int64_t step_x, const pf_winograd_block *products,
                                     const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                     int64_t tiles, const pf_winograd_finish *finish) {
  float strip[strip_row] __attribute__((aligned(64)));
  for (int64_t channel = 0; channel < planes->channels; channel += PF_LANES) {
    const int64_t left = planes->channels - channel, channels = left < PF_LANES ? left : PF_LANES;
    const vector bias = finish->bias == NULL ? broadcast(0) : load_first(channels, finish->bias + channel);
    const float *product = products->data + channel;
    float *line = planes->tensor + planes->first + channel * planes->stride + y * planes->width + x;
    for (int64_t done = 0; done < tiles;) {
      const piece p = next_piece(line_tile, line_tile, step_x, first + done, tiles - done);
      for (int64_t t = 0; t < p.tiles; ++t, product += products->width) {
        vector m[line_points], values[line_tile];
        PF_UNROLL for (int32_t j = 0; j < line_points; ++j) m[j] = load(product + j * products->point_stride);
        winograd_output(line_tile, m, values);
        float *place = strip + strip_place(line_tile, &p, t);
        PF_UNROLL for (int32_t j = 0; j < line_tile; ++j) {
          store(place + j * p.phases * PF_LANES, activate(values[j] + bias, finish->activation));
        }
      }
      for (int64_t range = 0; range < p.ranges; ++range) {
        const int64_t column = p.column + range * step_x, inside = planes->width - x - column;
        const int64_t columns = inside < p.pixels ? inside : p.pixels;
        for (int64_t pixel = 0; pixel < columns; pixel += PF_LANES) {
          vector square[PF_LANES];
          const float *pixels = strip + (range * p.phases + pixel) * PF_LANES;
          PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) square[c] = load(pixels + c * PF_LANES);
          transpose(square);
          store_rows(square, channels, columns - pixel < PF_LANES ? columns - pixel : PF_LANES, planes->stride,
                     finish->accumulate, line + column + pixel);
        }
      }
      done += p.tiles;
    }
  }
}

static void transform_input_line(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first, int64_t tiles,
                                 const pf_winograd_tiles *result) {
  if (planes->step_x == 1) {
    transform_line(false, 1, planes, y, x, first, tiles, result);
  } else {
    transform_line(false, planes->step_x, planes, y, x, first, tiles, result);
  }
}

static void transform_output_gradient_line(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                           int64_t tiles, const pf_winograd_tiles *result) {
  if (planes->step_x == 1) {
    transform_line(true, 1, planes, y, x, first, tiles, result);
  } else {
    transform_line(true, planes->step_x, planes, y, x, first, tiles, result);
  }
}

static void transform_output_line(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,
                                  int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish) {
  if (planes->step_x == 1) {
    transform_line_output(1, products, planes, y, x, first, tiles, finish);
  } else {
    transform_line_output(planes->step_x, products, planes, y, x, first, tiles, finish);
  }
}
