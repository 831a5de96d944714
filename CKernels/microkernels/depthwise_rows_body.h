// Depthwise convolution with 3 x 3 taps and a pixel a lane. Rows are read from the images as they lie: a vector's
// neighbours to the left and right come from it and the next ones by shuffles, which are cheaper than loads across
// cache lines, and each row is read once for all rows of outputs that it reaches.

// Vectors of a row side by side: sums of two rows of them, and the taps, stay in registers: of 32 in AVX-512 and NEON,
// of 16 elsewhere.
#if PF_LANES == 16 || defined(__aarch64__)
enum { PF_ROW_VECTORS = 4 };
#else
enum { PF_ROW_VECTORS = 2 };
#endif

/// What is rarely run, and would cost the loops around it their registers.
#define PF_COLD __attribute__((noinline, cold))

enum { PF_SPARE_FLOATS = 2 * PF_ROW_VECTORS * PF_LANES + 2 };

/// Some columns of a plane's rows, from `address` on in the first row; rows outside of the plane are zeros.
typedef struct row_strip {
  const float *address;
  int64_t height, width;
  int64_t columns;   // up to the end of the rows
  int64_t readable;  // rows from which whole vectors can be read
  bool first;        // whether the columns are the first ones
} row_strip;

/// Columns from `column` on, of which `count` are read. Nothing from `end` on is.
PF_INLINE row_strip strip_of(const float *plane, const float *end, int64_t height, int64_t width, int64_t column,
                             int64_t count) {
  row_strip strip = {
      .address = plane + column,
      .height = height,
      .width = width,
      .columns = width - column,
      .readable = height,
      .first = column == 0,
  };
  while (strip.readable > 0 && end - strip.address - (strip.readable - 1) * width < count) strip.readable -= 1;
  return strip;
}

static PF_COLD const float *strip_copy(const row_strip *strip, const float *row, float spare[PF_SPARE_FLOATS]) {
  spare[0] = strip->first ? 0 : row[-1];
  PF_SCALAR for (int64_t i = 0; i < strip->columns && i < PF_SPARE_FLOATS - 1; ++i) spare[1 + i] = row[i];
  return spare + 1;
}

/// Row `y`, from which whole vectors may be read, and one column in front of the first unless that is the row's.
PF_INLINE const float *strip_address(const row_strip *strip, int64_t y, float spare[PF_SPARE_FLOATS]) {
  static const float zeros[PF_SPARE_FLOATS];
  const float *row = strip->address + y * strip->width;
  if (y < 0 || y >= strip->height) row = zeros + 1;
  return y < strip->readable || y >= strip->height ? row : strip_copy(strip, row, spare);
}

/// The first `count` lanes.
PF_INLINE integers first_lanes(int64_t count) {
  typedef integers unaligned_integers __attribute__((aligned(4)));
  static const int32_t lanes[2 * PF_LANES] = {
      -1, -1, -1, -1,
#if PF_LANES >= 8
      -1, -1, -1, -1,
#endif
#if PF_LANES == 16
      -1, -1, -1, -1, -1, -1, -1, -1,
#endif
  };
  count = count < 0 ? 0 : count < PF_LANES ? count : PF_LANES;
  return *(const unaligned_integers *)(lanes + PF_LANES - count);
}

/// Which lanes of the last of `vectors` vectors lie in a row of `columns` columns, of every second from `phase` on.
PF_INLINE integers lanes_used(int32_t vectors, int64_t columns, int32_t step, int32_t phase) {
  return first_lanes((columns - phase + step - 1) / step - (vectors - 1) * PF_LANES);
}

PF_INLINE vector keep_lanes(vector x, integers used) { return (vector)((integers)x & used); }

typedef struct strip_lanes {
  integers used, used_odd;
} strip_lanes;

/// What the taps' columns read of row `y`, for `vectors` vectors of outputs.
PF_INLINE void strip_columns(const int32_t step, const int32_t vectors, const row_strip *strip, int64_t y,
                             const strip_lanes *lanes, vector x[3][PF_ROW_VECTORS]) {
  float spare[PF_SPARE_FLOATS];
  const float *row = strip_address(strip, y, spare);
  const vector before = broadcast(strip->first ? 0 : row[-1]);
  if (step == 1) {
    const vector behind = broadcast(strip->columns <= vectors * PF_LANES ? 0 : row[vectors * PF_LANES]);
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      x[1][v] = load(row + v * PF_LANES);
      if (v == vectors - 1) x[1][v] = keep_lanes(x[1][v], lanes->used);
    }
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      x[0][v] = lanes_before(v == 0 ? before : x[1][v == 0 ? 0 : v - 1], x[1][v]);
      x[2][v] = lanes_behind(x[1][v], v == vectors - 1 ? behind : x[1][v == vectors - 1 ? v : v + 1]);
    }
    return;
  }
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    const vector low = load(row + 2 * v * PF_LANES), high = load(row + (2 * v + 1) * PF_LANES);
    x[1][v] = even_lanes(low, high);
    x[2][v] = odd_lanes(low, high);
    if (v == vectors - 1) {
      x[1][v] = keep_lanes(x[1][v], lanes->used);
      x[2][v] = keep_lanes(x[2][v], lanes->used_odd);
    }
    x[0][v] = lanes_before(v == 0 ? before : x[2][v == 0 ? 0 : v - 1], x[2][v]);
  }
}

/// Adds a row's products with a row of taps.
PF_INLINE void add_row(const int32_t vectors, const vector x[3][PF_ROW_VECTORS], const vector weight[3],
                       vector sum[PF_ROW_VECTORS]) {
  PF_UNROLL for (int32_t j = 0; j < 3; ++j) {
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[v] = multiply_add(x[j][v], weight[j], sum[v]);
  }
}

static PF_COLD void add_part(const float part[PF_LANES], int64_t count, float *address) {
  PF_SCALAR for (int64_t i = 0; i < count && i < PF_LANES; ++i) address[i] += part[i];
}

/// Stores vectors of a row, of which `count` elements are results. What else a vector holds is overwritten by the next
/// row, or by columns further to the left, which come later; nothing is written from `end` on.
PF_INLINE void store_row(const int32_t vectors, const vector *x, int64_t count, bool accumulate, const float *end,
                         float *address) {
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    float *to = address + v * PF_LANES;
    const int64_t left = count - v * PF_LANES;
    if (left <= 0) return;
    if (!accumulate && (left >= PF_LANES || end - to >= PF_LANES)) {
      store(to, x[v]);
      continue;
    }
    float part[PF_LANES];
    store(part, x[v]);
    if (accumulate) {
      add_part(part, left, to);
    } else {
      copy_first(left, part, to);
    }
  }
}

PF_INLINE void load_taps(const float taps[9], vector weight[3][3]) {
  PF_UNROLL for (int32_t i = 0; i < 9; ++i) weight[i / 3][i % 3] = broadcast(taps[i]);
}

PF_INLINE void forward_strip(const int32_t step, const int32_t vectors, const pf_depthwise_plane *plane,
                             int64_t column) {
  const pf_depthwise_plane p = *plane;
  const row_strip s =
      strip_of(p.source, p.source_end, p.height, p.width, column * step, step * vectors * PF_LANES);
  const strip_lanes lanes = {lanes_used(vectors, s.columns, step, 0), lanes_used(vectors, s.columns, step, 1)};
  const int64_t begin = p.begin, end = p.end, count = p.output_width - column;
  const float bias = p.bias, *result_end = p.result + end * p.output_width;
  float *result = p.result + begin * p.output_width + column;
  vector weight[3][3], x[3][PF_ROW_VECTORS], sum[PF_ROW_VECTORS], next[PF_ROW_VECTORS];
  load_taps(p.weight, weight);
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[v] = next[v] = broadcast(bias);
  strip_columns(step, vectors, &s, begin * step - 1, &lanes, x);
  add_row(vectors, x, weight[0], sum);
  if (step == 1) {
    strip_columns(step, vectors, &s, begin, &lanes, x);
    add_row(vectors, x, weight[1], sum);
    add_row(vectors, x, weight[0], next);
  }
  for (int64_t y = begin; y < end; ++y) {
    if (step == 2) {
      strip_columns(step, vectors, &s, 2 * y, &lanes, x);
      add_row(vectors, x, weight[1], sum);
    }
    strip_columns(step, vectors, &s, y * step + 1, &lanes, x);
    add_row(vectors, x, weight[2], sum);
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[v] = activate(sum[v], p.activation);
    store_row(vectors, sum, count, p.accumulate, result_end, result);
    result += p.output_width;
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      sum[v] = step == 1 ? next[v] : broadcast(bias);
      next[v] = broadcast(bias);
    }
    if (step == 1) add_row(vectors, x, weight[1], sum);
    add_row(vectors, x, weight[0], step == 1 ? next : sum);
  }
}

/// Even and odd columns side by side.
PF_INLINE void store_alternating(const int32_t vectors, const vector even[PF_ROW_VECTORS],
                                 const vector odd[PF_ROW_VECTORS], int64_t count, bool accumulate, const float *end,
                                 float *address) {
  vector x[2 * PF_ROW_VECTORS];
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    x[2 * v] = alternate_low(even[v], odd[v]);
    x[2 * v + 1] = alternate_high(even[v], odd[v]);
  }
  store_row(2 * vectors, x, count, accumulate, end, address);
}

/// A row's vectors, and those one column to the right.
PF_INLINE void strip_pairs(const int32_t vectors, const row_strip *strip, int64_t y, const strip_lanes *lanes,
                           vector at[PF_ROW_VECTORS], vector behind[PF_ROW_VECTORS]) {
  vector x[3][PF_ROW_VECTORS];
  strip_columns(1, vectors, strip, y, lanes, x);
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    at[v] = x[1][v];
    behind[v] = x[2][v];
  }
}

/// Rows of pairs. `step` is 1: the source's.
PF_INLINE void spread_strip(const int32_t step, const int32_t vectors, const pf_depthwise_plane *plane,
                            int64_t column) {
  const pf_depthwise_plane p = *plane;
  const row_strip s =
      strip_of(p.source, p.source_end, p.output_height, p.output_width, column, vectors * PF_LANES);
  const strip_lanes lanes = {.used = lanes_used(vectors, s.columns, step, 0)};
  const int64_t count = p.width - 2 * column, rows = 2 * p.end < p.height ? 2 * p.end : p.height;
  const float *result_end = p.result + rows * p.width;
  float *result = p.result + 2 * p.begin * p.width + 2 * column;
  vector w[3][3], at[PF_ROW_VECTORS], behind[PF_ROW_VECTORS];
  load_taps(p.weight, w);
  strip_pairs(vectors, &s, p.begin, &lanes, at, behind);
  for (int64_t y = p.begin; y < p.end; ++y) {
    vector even[PF_ROW_VECTORS], odd[PF_ROW_VECTORS];
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      even[v] = at[v] * w[1][1];
      odd[v] = multiply_add(behind[v], w[1][0], at[v] * w[1][2]);
    }
    store_alternating(vectors, even, odd, count, p.accumulate, result_end, result);
    if (2 * y + 1 == p.height) return;
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      even[v] = at[v] * w[2][1];
      odd[v] = multiply_add(behind[v], w[2][0], at[v] * w[2][2]);
    }
    strip_pairs(vectors, &s, y + 1, &lanes, at, behind);
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      even[v] = multiply_add(at[v], w[0][1], even[v]);
      odd[v] = multiply_add(behind[v], w[0][0], multiply_add(at[v], w[0][2], odd[v]));
    }
    store_alternating(vectors, even, odd, count, p.accumulate, result_end, result + p.width);
    result += 2 * p.width;
  }
}

// MARK: The weight gradient

/// Row `y` of the output gradient; zeros from row `end` on.
PF_INLINE void gradient_row(const int32_t vectors, const row_strip *strip, int64_t y, int64_t end, integers used,
                            vector g[PF_ROW_VECTORS]) {
  float spare[PF_SPARE_FLOATS];
  const float *row = strip_address(strip, y < end ? y : -1, spare);
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    g[v] = load(row + v * PF_LANES);
    if (v == vectors - 1) g[v] = keep_lanes(g[v], used);
  }
}

PF_INLINE void add_products(const int32_t vectors, const vector x[3][PF_ROW_VECTORS], const vector g[PF_ROW_VECTORS],
                            vector sum[3]) {
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
    PF_UNROLL for (int32_t j = 0; j < 3; ++j) sum[j] = multiply_add(x[j][v], g[v], sum[j]);
  }
}

/// A chain: the products of rows `begin` up to `end` of the gradient.
PF_INLINE void products_chain(const int32_t step, const int32_t vectors, const row_strip *source,
                              const row_strip *gradient, int64_t begin, int64_t end, float *sums) {
  const row_strip s = *source, t = *gradient;
  const strip_lanes lanes = {lanes_used(vectors, s.columns, step, 0), lanes_used(vectors, s.columns, step, 1)};
  const integers used = lanes_used(vectors, t.columns, 1, 0);
  vector sum[3][3], x[3][PF_ROW_VECTORS], g[3][PF_ROW_VECTORS];  // by tap; of the last three rows
  PF_UNROLL for (int32_t i = 0; i < 9; ++i) sum[i / 3][i % 3] = broadcast(0);
  PF_UNROLL for (int32_t v = 0; v < vectors; ++v) g[0][v] = g[1][v] = broadcast(0);
  gradient_row(vectors, &t, begin, end, used, g[0]);
  strip_columns(step, vectors, &s, begin * step - 1, &lanes, x);
  add_products(vectors, x, g[0], sum[0]);
  for (int64_t y = begin; y < end; ++y) {
    // Row y of the gradient meets source rows step * y - 1, step * y and step * y + 1.
    if (step == 2) {
      strip_columns(step, vectors, &s, 2 * y, &lanes, x);
      add_products(vectors, x, g[0], sum[1]);
      strip_columns(step, vectors, &s, 2 * y + 1, &lanes, x);
      add_products(vectors, x, g[0], sum[2]);
      gradient_row(vectors, &t, y + 1, end, used, g[0]);
      add_products(vectors, x, g[0], sum[0]);
      continue;
    }
    PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
      g[2][v] = g[1][v];
      g[1][v] = g[0][v];
    }
    gradient_row(vectors, &t, y + 1, end, used, g[0]);
    strip_columns(step, vectors, &s, y, &lanes, x);
    PF_UNROLL for (int32_t i = 0; i < 3; ++i) {
      if (i < 2 || y > begin) add_products(vectors, x, g[i], sum[i]);
    }
  }
  if (step == 1) {
    strip_columns(step, vectors, &s, end, &lanes, x);
    add_products(vectors, x, g[1], sum[2]);
  }
  PF_UNROLL for (int32_t i = 0; i < 9; ++i) {
    store(sums + i * PF_LANES, load(sums + i * PF_LANES) + sum[i / 3][i % 3]);
  }
}

PF_INLINE void products_strip(const int32_t step, const int32_t vectors, const pf_depthwise_plane *plane,
                              int64_t column) {
  const pf_depthwise_plane p = *plane;
  const row_strip source =
      strip_of(p.source, p.source_end, p.height, p.width, column * step, step * vectors * PF_LANES);
  const row_strip gradient =
      strip_of(p.gradient, p.gradient_end, p.output_height, p.output_width, column, vectors * PF_LANES);
  const int64_t chain = 128 / vectors;  // rows
  for (int64_t begin = p.begin; begin < p.end; begin += chain) {
    products_chain(step, vectors, &source, &gradient, begin, p.end - begin < chain ? p.end : begin + chain, p.result);
  }
}

// MARK: Planes in strips

// Each number of vectors is a function of its own: one for all would run out of registers.
#define PF_STRIP(strip, name, step, vectors) \
  static void name##_##vectors(const pf_depthwise_plane *plane, int64_t column) { strip(step, vectors, plane, column); }

#if PF_LANES == 16 || defined(__aarch64__)
#define PF_STRIPS(strip, name, step) \
  PF_STRIP(strip, name, step, 1)     \
  PF_STRIP(strip, name, step, 2)     \
  PF_STRIP(strip, name, step, 3)     \
  PF_STRIP(strip, name, step, 4)     \
  static void (*const name##_strips[])(const pf_depthwise_plane *, int64_t) = {name##_1, name##_2, name##_3, name##_4};
#else
#define PF_STRIPS(strip, name, step) \
  PF_STRIP(strip, name, step, 1)     \
  PF_STRIP(strip, name, step, 2)     \
  static void (*const name##_strips[])(const pf_depthwise_plane *, int64_t) = {name##_1, name##_2};
#endif

/// A plane's strips from right to left, as store_row wants it.
#define PF_PLANE_OF_STRIPS(strip, name, step)                                                                    \
  PF_STRIPS(strip, name, step)                                                                                   \
  static void name(const pf_depthwise_plane *plane) {                                                            \
    const int64_t vectors = (plane->output_width + PF_LANES - 1) / PF_LANES;                                     \
    for (int64_t first = (vectors - 1) / PF_ROW_VECTORS * PF_ROW_VECTORS; first >= 0; first -= PF_ROW_VECTORS) { \
      const int64_t left = vectors - first;                                                                      \
      name##_strips[left < PF_ROW_VECTORS ? left - 1 : PF_ROW_VECTORS - 1](plane, first * PF_LANES);             \
    }                                                                                                            \
  }

PF_PLANE_OF_STRIPS(forward_strip, depthwise_forward, 1)
PF_PLANE_OF_STRIPS(forward_strip, depthwise_forward_apart, 2)
PF_PLANE_OF_STRIPS(spread_strip, depthwise_spread_apart, 1)
#if PF_LANES == 16 || defined(__aarch64__)
PF_PLANE_OF_STRIPS(products_strip, depthwise_products, 1)
#else
// Nine sums and three rows of a vector, and what is loaded, don't fit in 16 registers.
#define depthwise_products NULL
#endif
PF_PLANE_OF_STRIPS(products_strip, depthwise_products_apart, 2)
#undef PF_STRIP
#undef PF_STRIPS
#undef PF_PLANE_OF_STRIPS

static void sum_vectors(int64_t count, const float *vectors, float *result) {
  int64_t i = 0;
  for (; i + PF_LANES <= count; i += PF_LANES) {
    vector x[PF_LANES];
    PF_UNROLL for (int32_t k = 0; k < PF_LANES; ++k) x[k] = load(vectors + (i + k) * PF_LANES);
    store(result + i, sums_across(x));
  }
  for (; i < count; ++i) result[i] = sum_across(load(vectors + i * PF_LANES));
}

static void fill_depthwise_rows(pf_kernels *kernels) {
  kernels->depthwise_rows = (pf_depthwise_rows_kernels){
      .forward = {depthwise_forward, depthwise_forward_apart},
      .spread = depthwise_spread_apart,
      .products = {depthwise_products, depthwise_products_apart},
      .sum_vectors = sum_vectors,
  };
}
