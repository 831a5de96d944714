// Depthwise convolution with a channel a lane: planes to pixels and back by transposing squares in registers, and one
// multiply-add a tap and pixel between.

// MARK: Planes to pixels and back

/// Up to PF_LANES pixels of PF_LANES planes from pixel `begin` on; reads further pixels where the tensor has them.
PF_INLINE void depthwise_load(const pf_depthwise_planes *planes, int64_t begin, int64_t count, vector x[PF_LANES]) {
  const float *row = planes->first + begin;
  int64_t stride = planes->stride;
  float part[PF_LANES * PF_LANES];
  if (planes->count < PF_LANES || planes->end - row < (PF_LANES - 1) * stride + PF_LANES) {
    for (int64_t c = 0; c < PF_LANES; ++c) {
      vector y = broadcast(0);
      if (c < planes->count) {
        const float *address = row + c * stride;
        y = planes->end - address >= PF_LANES ? load(address) : load_first(count, address);
      }
      store(part + c * PF_LANES, y);
    }
    row = part;
    stride = PF_LANES;
  }
  PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) {
    x[c] = load(row + c * stride);
  }
}

/// So few pixels that a square isn't worth it.
enum { PF_FEW_PIXELS = PF_LANES / 8 };

PF_INLINE void depthwise_spread_few(const pf_depthwise_planes *planes, int64_t begin, int64_t count, int64_t width,
                                    int64_t column, int64_t gap, float *address) {
  for (int64_t k = 0; k < count; ++k) {
    PF_SCALAR for (int64_t c = 0; c < PF_LANES; ++c) {
      address[c] = c < planes->count ? planes->first[c * planes->stride + begin + k] : 0;
    }
    address += PF_LANES + (column + k + 1 == width ? gap : 0);
  }
}

static void depthwise_spread(const pf_depthwise_planes *planes, int64_t count, int64_t width, int64_t pitch,
                             float *pixels) {
  const int64_t gap = (pitch - width) * PF_LANES;
  int64_t column = 0;
  float *address = pixels;
  for (int64_t i = 0; i < count; i += PF_LANES) {
    int64_t pixel_count = count - i;
    if (pixel_count <= PF_FEW_PIXELS) {
      depthwise_spread_few(planes, i, pixel_count, width, column, gap, address);
      return;
    }
    if (pixel_count >= PF_LANES) pixel_count = PF_LANES;
    vector x[PF_LANES];
    depthwise_load(planes, i, pixel_count, x);
    transpose(x);
    if (pixel_count == PF_LANES && column + PF_LANES < width) {
      PF_UNROLL for (int32_t k = 0; k < PF_LANES; ++k) store(address + k * PF_LANES, x[k]);
      address += PF_LANES * PF_LANES;
      column += PF_LANES;
      continue;
    }
    PF_UNROLL for (int32_t k = 0; k < PF_LANES; ++k) {
      if (k == pixel_count) return;
      store(address, x[k]);
      column += 1;
      const bool last = column == width;
      address += last ? PF_LANES + gap : PF_LANES;
      column = last ? 0 : column;
    }
  }
}

static void depthwise_collect(int64_t planes, int64_t count, const float *pixels, bool accumulate, float *result,
                              int64_t stride) {
  for (int64_t i = 0; i < count; i += PF_LANES) {
    if (count - i <= PF_FEW_PIXELS && !accumulate) {
      for (; i < count; ++i) {
        PF_SCALAR for (int64_t c = 0; c < planes; ++c) result[c * stride + i] = pixels[i * PF_LANES + c];
      }
      return;
    }
    // The last vector goes back over pixels that are done already rather than being cut.
    if (count - i < PF_LANES && count >= PF_LANES && !accumulate) i = count - PF_LANES;
    vector x[PF_LANES];
    PF_UNROLL for (int32_t k = 0; k < PF_LANES; ++k) x[k] = load(pixels + (i + k) * PF_LANES);
    transpose(x);
    float *address = result + i;
    if (planes == PF_LANES && count - i >= PF_LANES) {
      if (accumulate) {
        PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) x[c] = load(address + c * stride) + x[c];
      }
      PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(address + c * stride, x[c]);
      continue;
    }
    float part[PF_LANES * PF_LANES];
    PF_UNROLL for (int32_t c = 0; c < PF_LANES; ++c) store(part + c * PF_LANES, x[c]);
    const int64_t rest = count - i < PF_LANES ? count - i : PF_LANES;
    for (int64_t c = 0; c < planes; ++c) {
      if (accumulate) {
        for (int64_t k = 0; k < rest; ++k) address[c * stride + k] += part[c * PF_LANES + k];
      } else {
        copy_first(rest, part + c * PF_LANES, address + c * stride);
      }
    }
  }
}

// MARK: Sums over taps

enum { PF_DEPTHWISE_PIXELS = 8, PF_DEPTHWISE_TAPS = 4 };

/// Adds `taps` neighbouring taps of a row to neighbouring results' sums. Windows `step` pixels apart share what they
/// load; with 0 they are `distance` floats apart, and there is one tap.
PF_INLINE void depthwise_taps(const int32_t pixels, const int32_t taps, const int32_t step, int64_t distance,
                              const float *source, const float *weight, int64_t weight_column,
                              vector sum[PF_DEPTHWISE_PIXELS]) {
  vector w[PF_DEPTHWISE_TAPS];
  PF_UNROLL for (int32_t t = 0; t < taps; ++t) w[t] = load(weight + t * weight_column);
  if (step == 0) {
    PF_UNROLL for (int32_t p = 0; p < pixels; ++p) sum[p] = multiply_add(load(source + p * distance), w[0], sum[p]);
    return;
  }
  PF_UNROLL for (int32_t q = 0; q < step * (pixels - 1) + taps; ++q) {
    const vector x = load(source + q * PF_LANES);
    PF_UNROLL for (int32_t t = 0; t < taps; ++t) {
      const int32_t p = step == 0 ? 0 : (q - t) / (step == 0 ? 1 : step);
      if (q >= t && p * step == q - t && p < pixels) sum[p] = multiply_add(x, w[t], sum[p]);
    }
  }
}

/// The results `first` up to `first + pixels` of each row.
PF_INLINE void depthwise_strip(const int32_t pixels, const pf_depthwise_window *w, int64_t row_count,
                               const pf_depthwise_row *rows, const float *source, const float *weight, vector bias,
                               float *result, int64_t result_row) {
  // Neighbouring taps share loads where windows are one or two pixels apart.
  const bool shared = w->column == PF_LANES && (w->step == PF_LANES || w->step == 2 * PF_LANES);
  const bool twice = shared && w->step != PF_LANES;
  const int64_t column = w->column, weight_column = w->weight_column;
  for (int64_t r = 0; r < row_count; ++r) {
    vector sum[PF_DEPTHWISE_PIXELS];
    PF_UNROLL for (int32_t p = 0; p < pixels; ++p) sum[p] = bias;
    for (int64_t plane = 0; plane < w->planes; ++plane) {
      const float *row = source + (rows[r].source + w->first + plane * w->plane);
      const float *row_weight = weight + (rows[r].weight + w->weight_first + plane * w->weight_plane);
      for (int64_t i = 0; i < rows[r].rows; ++i) {
        const float *x = row, *y = row_weight;
        int64_t left = w->columns;
        while (left > 0) {
          int32_t taps = 1;
          if (!shared || left == 1) {
            depthwise_taps(pixels, 1, 0, w->step, x, y, 0, sum);
          } else if (twice) {
            taps = left == 2 || left == 4 ? 2 : 3;
            if (taps == 2) {
              depthwise_taps(pixels, 2, 2, 0, x, y, weight_column, sum);
            } else {
              depthwise_taps(pixels, 3, 2, 0, x, y, weight_column, sum);
            }
          } else if (left == 2 || left == 5) {
            taps = 2;
            depthwise_taps(pixels, 2, 1, 0, x, y, weight_column, sum);
          } else if (left == 3 || left == 6 || left == 9) {
            taps = 3;
            depthwise_taps(pixels, 3, 1, 0, x, y, weight_column, sum);
          } else {
            taps = 4;
            depthwise_taps(pixels, 4, 1, 0, x, y, weight_column, sum);
          }
          left -= taps;
          x += taps * column;
          y += taps * weight_column;
        }
        row += rows[r].row;
        row_weight += rows[r].weight_row;
      }
    }
    PF_UNROLL for (int32_t p = 0; p < pixels; ++p) {
      store(result + p * w->result_step, activate(sum[p], w->activation));
    }
    result += result_row;
  }
}

static void depthwise_sum(const pf_depthwise_window *window, int64_t row_count, const pf_depthwise_row *rows,
                          const float *source, const float *weight, const float *bias, float *result,
                          int64_t result_row) {
  const pf_depthwise_window w = *window;
  const vector b = load(bias);
  float *address = result + w.result_first;
  // Strips as even as possible: a narrow one waits for its own sums.
  const int64_t strips = (w.pixels + PF_DEPTHWISE_PIXELS - 1) / PF_DEPTHWISE_PIXELS;
  const int64_t pixels = w.pixels / strips, wider = w.pixels % strips;
  for (int64_t s = 0; s < strips; ++s) {
    const int64_t count = pixels + (s < wider);
    switch (count) {
#define PF_STRIP(pixels)                                                                      \
  case pixels: depthwise_strip(pixels, &w, row_count, rows, source, weight, b, address, result_row); break;
      PF_STRIP(1)
      PF_STRIP(2)
      PF_STRIP(3)
      PF_STRIP(4)
      PF_STRIP(5)
      PF_STRIP(6)
      PF_STRIP(7)
      PF_STRIP(8)
#undef PF_STRIP
    }
    source += count * w.step;
    address += count * w.result_step;
  }
}

// MARK: The weight gradient

// Sums stay in registers: of 32 in AVX-512 and NEON, of 16 elsewhere.
#if PF_LANES == 16 || defined(__aarch64__)
enum { PF_PATCH_TAPS = 14, PF_PATCH_PIXELS = 4 };
#else
enum { PF_PATCH_TAPS = 12, PF_PATCH_PIXELS = 2 };
#endif
enum { PF_PATCH_ROWS = 3, PF_PATCH_COLUMNS = 8 };

/// Adds the products of `pixels` neighbouring pixels. With `neighbours` the source's are neighbours too, and so are the
/// taps: these share what they load.
PF_INLINE void depthwise_patch_pixels(const int32_t pixels, const bool neighbours, const int32_t rows,
                                      const int32_t columns, const float *source, int64_t row, int64_t column,
                                      const float *gradient, vector sum[PF_PATCH_ROWS][PF_PATCH_COLUMNS]) {
  vector g[PF_PATCH_PIXELS];
  PF_UNROLL for (int32_t p = 0; p < pixels; ++p) g[p] = load(gradient + p * PF_LANES);
  PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
    const float *x = source + i * row;
    if (!neighbours) {
      PF_UNROLL for (int32_t j = 0; j < columns; ++j) sum[i][j] = multiply_add(load(x + j * column), g[0], sum[i][j]);
      continue;
    }
    PF_UNROLL for (int32_t q = 0; q < pixels + columns - 1; ++q) {
      const vector y = load(x + q * PF_LANES);
      PF_UNROLL for (int32_t p = 0; p < pixels; ++p) {
        if (q >= p && q - p < columns) sum[i][q - p] = multiply_add(y, g[p], sum[i][q - p]);
      }
    }
  }
}

PF_INLINE void depthwise_patch(const bool neighbours, const int32_t rows, const int32_t columns,
                               const pf_depthwise_patch *p, const float *source, const float *gradient, float *sums) {
  vector sum[PF_PATCH_ROWS][PF_PATCH_COLUMNS];
  PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
    PF_UNROLL for (int32_t j = 0; j < columns; ++j) sum[i][j] = broadcast(0);
  }
  const int64_t row = p->row, column = p->column, step = p->source_step;
  for (int64_t y = 0; y < p->height; ++y) {
    const float *x = source + y * p->source_row, *end = gradient + p->width * PF_LANES;
    if (neighbours) {
      for (; end - gradient >= PF_PATCH_PIXELS * PF_LANES; gradient += PF_PATCH_PIXELS * PF_LANES) {
        depthwise_patch_pixels(PF_PATCH_PIXELS, true, rows, columns, x, row, 0, gradient, sum);
        x += PF_PATCH_PIXELS * PF_LANES;
      }
    }
    for (; gradient < end; gradient += PF_LANES) {
      depthwise_patch_pixels(1, neighbours, rows, columns, x, row, column, gradient, sum);
      x += step;
    }
  }
  PF_UNROLL for (int32_t i = 0; i < rows; ++i) {
    PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
      float *address = sums + i * p->sum_row + j * PF_LANES;
      store(address, load(address) + sum[i][j]);
    }
  }
}

static void depthwise_accumulate(const pf_depthwise_patch *p, const float *source, const float *gradient,
                                 float *sums) {
  const bool neighbours = p->source_step == PF_LANES && (p->column == PF_LANES || p->columns == 1);
  switch (p->rows * 10 + p->columns) {
#define PF_PATCH(rows, columns)                                                  \
  case rows * 10 + columns:                                                      \
    if (neighbours) {                                                            \
      depthwise_patch(true, rows, columns, p, source, gradient, sums);           \
    } else {                                                                     \
      depthwise_patch(false, rows, columns, p, source, gradient, sums);          \
    }                                                                            \
    break;
    PF_PATCH(1, 1)
    PF_PATCH(1, 2)
    PF_PATCH(1, 3)
    PF_PATCH(1, 4)
    PF_PATCH(1, 5)
    PF_PATCH(1, 6)
    PF_PATCH(1, 7)
    PF_PATCH(1, 8)
    PF_PATCH(2, 1)
    PF_PATCH(2, 2)
    PF_PATCH(2, 3)
    PF_PATCH(2, 4)
    PF_PATCH(2, 5)
    PF_PATCH(2, 6)
    PF_PATCH(2, 7)
    PF_PATCH(3, 1)
    PF_PATCH(3, 2)
    PF_PATCH(3, 3)
    PF_PATCH(3, 4)
#undef PF_PATCH
  }
}

static void fill_depthwise(pf_kernels *kernels) {
  kernels->depthwise = (pf_depthwise_kernels){
      .patch_taps = PF_PATCH_TAPS,
      .patch_rows = PF_PATCH_ROWS,
      .patch_columns = PF_PATCH_COLUMNS,
      .spread = depthwise_spread,
      .collect = depthwise_collect,
      .sum = depthwise_sum,
      .accumulate = depthwise_accumulate,
  };
}
