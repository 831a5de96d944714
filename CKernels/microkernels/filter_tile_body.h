// Register tile of result channels x points, channels in the lanes: up to PF_TILE_VECTORS vectors of channels for up to
// PF_TILE_ROWS neighbouring points, or for those of two rows where their sums fit into registers too. Points are read
// one float each, wherever they lie, so that strided ones need no copy.

PF_INLINE void filter_tile(const int32_t rows, const int32_t vectors, const int32_t points, int64_t inner,
                           int64_t chain, const float *weight, const float *source, const int64_t *offsets,
                           int64_t step, int64_t row_step, const float *fetch, int64_t fetch_step, const float *bias,
                           float *sums, int64_t vector_stride, int64_t row_stride, pf_tile_mode mode,
                           pf_activation activation) {
  enum { neighbours = 3 };  // points that are reached from one address: 0, 1 and 2 steps behind it
  int64_t k = 0;
  do {
    const int64_t end = inner - k < chain ? inner : k + chain;
    vector sum[2][PF_TILE_ROWS][PF_TILE_VECTORS];
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      PF_UNROLL for (int32_t p = 0; p < points; ++p) {
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
          sum[r][p][v] = bias == NULL ? broadcast(0) : load(bias + v * PF_LANES);
        }
      }
    }
    for (; k < end; ++k) {
      __builtin_prefetch(fetch, 0, 2);
      fetch += fetch_step;
      vector x[PF_TILE_VECTORS];
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) x[v] = load(weight + v * PF_LANES);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
        const float *address = source + offsets[k] + r * row_step;
        PF_UNROLL for (int32_t p = 0; p < points; ++p) {
          if (p > 0 && p % neighbours == 0) address += neighbours * step;
          const vector y = broadcast(address[p % neighbours * step]);
          PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][p][v] = multiply_add(x[v], y, sum[r][p][v]);
        }
      }
      weight += vectors * PF_LANES;
    }
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      PF_UNROLL for (int32_t p = 0; p < points; ++p) {
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
          float *address = sums + v * vector_stride + r * row_stride + p * PF_LANES;
          const vector total = mode == pf_tile_add ? load(address) + sum[r][p][v] : sum[r][p][v];
          store(address, k < inner ? total : activate(total, activation));
        }
      }
    }
    // The other chains are added to what the first one left.
    bias = NULL;
    mode = pf_tile_add;
  } while (k < inner);
}

#define PF_FILTER_TILE(rows, vectors, points)                                                                      \
  static void filter_tile_##rows##_##vectors##_##points(                                                           \
      int64_t inner, int64_t chain, const float *weight, const float *source, const int64_t *offsets, int64_t step, \
      int64_t row_step, const float *fetch, int64_t fetch_step, const float *bias, float *sums,                    \
      int64_t vector_stride, int64_t row_stride, pf_tile_mode mode, pf_activation activation) {                    \
    filter_tile(rows, vectors, points, inner, chain, weight, source, offsets, step, row_step, fetch, fetch_step,   \
                bias, sums, vector_stride, row_stride, mode, activation);                                          \
  }
// Two rows where their sums fit into registers; otherwise the kernel isn't compiled, since nothing calls it.
#define PF_FILTER_TILE_ENTER(vectors, points)                                     \
  kernels->filter_tile[0][vectors][points] = filter_tile_1_##vectors##_##points;  \
  if (2 * vectors * points <= PF_TILE_ROWS * PF_TILE_VECTORS) {                   \
    kernels->filter_tile[1][vectors][points] = filter_tile_2_##vectors##_##points; \
  }

#define PF_FILTER_TILES_1(points) PF_FILTER_TILE(1, 1, points) PF_FILTER_TILE(2, 1, points)
#define PF_FILTER_TILES_2(points) PF_FILTER_TILE(1, 2, points) PF_FILTER_TILE(2, 2, points)
#define PF_FILTER_TILES_3(points) PF_FILTER_TILE(1, 3, points) PF_FILTER_TILE(2, 3, points)
#define PF_FILTER_ENTER_1(points) PF_FILTER_TILE_ENTER(1, points)
#define PF_FILTER_ENTER_2(points) PF_FILTER_TILE_ENTER(2, points)
#define PF_FILTER_ENTER_3(points) PF_FILTER_TILE_ENTER(3, points)

PF_TILE_EACH(PF_FILTER_TILES_1)
PF_TILE_EACH(PF_FILTER_TILES_2)
#if PF_TILE_VECTORS == 3
PF_TILE_EACH(PF_FILTER_TILES_3)
#endif

static void fill_filter_tiles(pf_kernels *kernels) {
  PF_TILE_EACH(PF_FILTER_ENTER_1)
  PF_TILE_EACH(PF_FILTER_ENTER_2)
#if PF_TILE_VECTORS == 3
  PF_TILE_EACH(PF_FILTER_ENTER_3)
#endif
}

#undef PF_FILTER_TILE
#undef PF_FILTER_TILE_ENTER
#undef PF_FILTER_TILES_1
#undef PF_FILTER_TILES_2
#undef PF_FILTER_TILES_3
#undef PF_FILTER_ENTER_1
#undef PF_FILTER_ENTER_2
#undef PF_FILTER_ENTER_3
#undef PF_TILE_EACH
