// Register tiles of outer products along the points of a grid: PF_TILE_ROWS rows read where they lie, times a half,
// one, one and a half, or two vectors of packed lanes. Their packing, and the way back.

typedef float half_vector __attribute__((ext_vector_type(PF_LANES / 2)));
typedef half_vector unaligned_half __attribute__((aligned(4)));

#define PF_OUTER(rows, vectors, halves, name)                                                                     \
  static void name(const pf_point_runs *runs, const float *a, const int64_t *offsets, const float *b,             \
                   float *result, bool accumulate) {                                                              \
    enum { half_lanes = PF_LANES / 2, width = vectors * PF_LANES + halves * half_lanes };                         \
    const float *row[rows];                                                                                       \
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) row[r] = a + offsets[r];                                         \
    const pf_point_run *run = runs->first, *end = run + runs->count;                                              \
    do {                                                                                                          \
      vector sum[rows][vectors];                                                                                  \
      half_vector half_sum[rows][halves];                                                                         \
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {                                                              \
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][v] = broadcast(0);                                 \
        PF_UNROLL for (int32_t v = 0; v < halves; ++v) half_sum[r][v] = (half_vector)0.0f;                        \
      }                                                                                                           \
      do {                                                                                                        \
        int64_t at = run->start;                                                                                  \
        const float *line = run->ahead;                                                                           \
        for (int64_t i = 0; i < run->length; ++i) {                                                               \
          vector x[vectors];                                                                                      \
          half_vector half_x[halves];                                                                             \
          PF_UNROLL for (int32_t v = 0; v < vectors; ++v) x[v] = load(b + v * PF_LANES);                          \
          PF_UNROLL for (int32_t v = 0; v < halves; ++v) {                                                        \
            half_x[v] = *(const unaligned_half *)(b + vectors * PF_LANES);                                        \
          }                                                                                                       \
          PF_UNROLL for (int32_t r = 0; r < rows; ++r) {                                                          \
            const float y = row[r][at];                                                                           \
            PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {                                                     \
              sum[r][v] = multiply_add(x[v], broadcast(y), sum[r][v]);                                            \
            }                                                                                                     \
            PF_UNROLL for (int32_t v = 0; v < halves; ++v) {                                                      \
              half_sum[r][v] = PF_MULTIPLY_ADD(half_x[v], (half_vector)y, half_sum[r][v]);                        \
            }                                                                                                     \
          }                                                                                                       \
          at += runs->step;                                                                                       \
          b += width;                                                                                             \
          if (vectors == 2) {                                                                                     \
            __builtin_prefetch(line, 0, 2);                                                                       \
            line += runs->ahead_step;                                                                             \
          }                                                                                                       \
        }                                                                                                         \
        run += 1;                                                                                                 \
      } while (!run[-1].ends_chain);                                                                              \
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {                                                              \
        float *address = result + r * width;                                                                      \
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {                                                         \
          store(address, accumulate ? load(address) + sum[r][v] : sum[r][v]);                                     \
          address += PF_LANES;                                                                                    \
        }                                                                                                         \
        PF_UNROLL for (int32_t v = 0; v < halves; ++v) {                                                          \
          unaligned_half *half = (unaligned_half *)address;                                                       \
          *half = accumulate ? *half + half_sum[r][v] : half_sum[r][v];                                           \
        }                                                                                                         \
      }                                                                                                           \
      accumulate = true;                                                                                          \
    } while (run < end);                                                                                          \
  }

#if PF_FUSED
#define PF_MULTIPLY_ADD(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define PF_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

#if PF_LANES >= 8
#define PF_OUTER_WIDTHS(rows)         \
  PF_OUTER(rows, 0, 1, outer_0_##rows) \
  PF_OUTER(rows, 1, 0, outer_1_##rows) \
  PF_OUTER(rows, 1, 1, outer_2_##rows) \
  PF_OUTER(rows, 2, 0, outer_3_##rows)
#define PF_OUTER_ENTER(rows)             \
  kernels->outer[0][rows] = outer_0_##rows; \
  kernels->outer[1][rows] = outer_1_##rows; \
  kernels->outer[2][rows] = outer_2_##rows; \
  kernels->outer[3][rows] = outer_3_##rows;
#else
#define PF_OUTER_WIDTHS(rows)          \
  PF_OUTER(rows, 1, 0, outer_0_##rows) \
  PF_OUTER(rows, 2, 0, outer_1_##rows)
#define PF_OUTER_ENTER(rows)             \
  kernels->outer[0][rows] = outer_0_##rows; \
  kernels->outer[1][rows] = outer_1_##rows;
#endif

#define PF_OUTER_EACH_4(what) what(1) what(2) what(3) what(4)
#define PF_OUTER_EACH_6(what) PF_OUTER_EACH_4(what) what(5) what(6)
#define PF_OUTER_EACH_8(what) PF_OUTER_EACH_6(what) what(7) what(8)
#define PF_OUTER_EACH_14(what) PF_OUTER_EACH_8(what) what(9) what(10) what(11) what(12) what(13) what(14)
#if PF_TILE_ROWS == 14
#define PF_OUTER_EACH PF_OUTER_EACH_14
#elif PF_TILE_ROWS == 8
#define PF_OUTER_EACH PF_OUTER_EACH_8
#elif PF_TILE_ROWS == 6
#define PF_OUTER_EACH PF_OUTER_EACH_6
#else
#define PF_OUTER_EACH PF_OUTER_EACH_4
#endif

PF_OUTER_EACH(PF_OUTER_WIDTHS)

static void fill_outers(pf_kernels *kernels) {
#if PF_LANES >= 8
  kernels->outer_widths = 4;
  for (int32_t i = 0; i < 4; ++i) kernels->outer_lanes[i] = (i + 1) * PF_LANES / 2;
#else
  kernels->outer_widths = 2;
  kernels->outer_lanes[0] = PF_LANES;
  kernels->outer_lanes[1] = 2 * PF_LANES;
#endif
  PF_OUTER_EACH(PF_OUTER_ENTER)
}

#undef PF_OUTER
#undef PF_OUTER_WIDTHS
#undef PF_OUTER_ENTER
#undef PF_OUTER_EACH
#undef PF_OUTER_EACH_4
#undef PF_OUTER_EACH_6
#undef PF_OUTER_EACH_8
#undef PF_OUTER_EACH_14
#undef PF_MULTIPLY_ADD

/// The first `lanes` lanes, a vector or half of one; others are 0.
PF_INLINE vector load_whole_or_half(int64_t lanes, const float *source) {
#if PF_LANES >= 8
  if (lanes < PF_LANES) {
    vector x = broadcast(0);
    x.lo = *(const unaligned_half *)source;
    return x;
  }
#endif
  (void)lanes;
  return load(source);
}

/// Stores a vector of lanes, or its halves to two tiles `tile_stride` apart, the second one only where it is wanted.
PF_INLINE void store_whole_or_halves(vector x, float *result, bool halves, bool second, int64_t tile_stride) {
#if PF_LANES >= 8
  if (halves) {
    *(unaligned_half *)result = x.lo;
    if (second) *(unaligned_half *)(result + tile_stride) = x.hi;
    return;
  }
#endif
  (void)halves, (void)second, (void)tile_stride;
  store(result, x);
}

static void pack_lanes(int64_t count, int64_t rows, const float *source, const int64_t *offsets, int64_t width,
                       float *packed, int64_t tile_stride) {
  enum { ahead = 128 };  // floats: about as long as memory takes
  for (int64_t first = 0; first < rows; first += PF_LANES) {
    const bool halves = first % width + PF_LANES > width, second = rows - first > width;
    float *result = packed + first / width * tile_stride + first % width;
    const float *row[PF_LANES];
    for (int64_t r = 0; r < PF_LANES; ++r) row[r] = source + offsets[first + r < rows ? first + r : 0];
    if (count < PF_LANES) {
      for (int64_t k = 0; k < count; ++k) {
        vector x;
        PF_UNROLL for (int32_t r = 0; r < PF_LANES; ++r) x[r] = row[r][k];
        store_whole_or_halves(x, result + k * width, halves, second, tile_stride);
      }
      continue;
    }
    for (int64_t k = 0; k < count;) {
      vector x[PF_LANES];
      PF_UNROLL for (int32_t r = 0; r < PF_LANES; ++r) x[r] = load(row[r] + k);
      PF_UNROLL for (int32_t r = 0; r < PF_LANES; ++r) __builtin_prefetch(row[r] + k + ahead, 0, 2);
      transpose(x);
      PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) {
        store_whole_or_halves(x[i], result + (k + i) * width, halves, second, tile_stride);
      }
      // The last ones overlap those before.
      k = k + 2 * PF_LANES > count && k + PF_LANES < count ? count - PF_LANES : k + PF_LANES;
    }
  }
}

static void sum_lanes(int64_t count, int64_t rows, int64_t parts, const float *sums, int64_t part_stride,
                      int64_t width, float *result, int64_t result_stride) {
  for (int64_t first = 0; first < rows; first += PF_LANES) {
    const int64_t lanes = width - first < PF_LANES ? width - first : PF_LANES;
    const int64_t most = rows - first < PF_LANES ? rows - first : PF_LANES;
    for (int64_t k = 0; k < count; k += PF_LANES) {
      const int64_t block = count - k < PF_LANES ? count - k : PF_LANES;
      vector x[PF_LANES];
      for (int64_t i = 0; i < PF_LANES; ++i) x[i] = broadcast(0);
      for (int64_t i = 0; i < block; ++i) {
        const float *address = sums + (k + i) * width + first;
        vector total = load_whole_or_half(lanes, address);
        for (int64_t p = 1; p < parts; ++p) total += load_whole_or_half(lanes, address + p * part_stride);
        x[i] = total;
      }
      transpose(x);
      for (int64_t r = 0; r < most; ++r) {
        float *address = result + (first + r) * result_stride + k;
        if (block == PF_LANES) {
          store(address, x[r]);
        } else {
          float row[PF_LANES];
          store(row, x[r]);
          copy_first(block, row, address);
        }
      }
    }
  }
}
