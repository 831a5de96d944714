// Register tile of outer products: PF_TILE_ROWS x PF_TILE_VECTORS accumulators that never leave registers. One kernel
// for each number of rows, so that rows are shared out evenly instead of leaving a thin last tile; and one for each of
// a single vector of columns, for what columns are left over.

enum { tile_columns = PF_TILE_VECTORS * PF_LANES };

PF_INLINE void tile(const int32_t rows, const int32_t vectors, int64_t inner, int64_t chain, const float *a,
                    const float *b, int64_t vector_step, const int64_t *offsets, const float *fetch,
                    int64_t fetch_step, const float *bias, float *result, int64_t result_stride, pf_tile_mode mode,
                    pf_activation activation) {
  int64_t k = 0;
  do {
    const int64_t end = inner - k < chain ? inner : k + chain;
    vector sum[PF_TILE_ROWS][PF_TILE_VECTORS];
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][v] = broadcast(bias == NULL ? 0.0f : bias[r]);
    }
    for (; k < end; ++k) {
      const float *column = b + offsets[k];
      __builtin_prefetch(fetch, 0, 2);
      fetch += fetch_step;
      vector x[PF_TILE_VECTORS];
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) x[v] = load(column + v * vector_step);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
        const vector y = broadcast(a[r]);
        PF_UNROLL for (int32_t v = 0; v < vectors; ++v) sum[r][v] = multiply_add(x[v], y, sum[r][v]);
      }
      a += rows;
    }
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      PF_UNROLL for (int32_t v = 0; v < vectors; ++v) {
        float *address = result + r * result_stride + v * PF_LANES;
        const vector total = mode == pf_tile_add ? load(address) + sum[r][v] : sum[r][v];
        store(address, k < inner ? total : activate(total, activation));
      }
    }
    // The other chains are added to what the first one left.
    bias = NULL;
    mode = pf_tile_add;
  } while (k < inner);
}

#define PF_TILE_KERNEL(name, rows, vectors)                                                                         \
  static void name##_##rows(int64_t inner, int64_t chain, const float *a, const float *b, int64_t vector_step,      \
                            const int64_t *offsets, const float *fetch, int64_t fetch_step, const float *bias,      \
                            float *result, int64_t result_stride, pf_tile_mode mode, pf_activation activation) {    \
    tile(rows, vectors, inner, chain, a, b, vector_step, offsets, fetch, fetch_step, bias, result, result_stride,   \
         mode, activation);                                                                                         \
  }
#define PF_TILE(rows) PF_TILE_KERNEL(tile, rows, PF_TILE_VECTORS) PF_TILE_KERNEL(thin_tile, rows, 1)
#define PF_TILE_ENTER(rows)            \
  kernels->tile[rows] = tile_##rows;   \
  kernels->thin_tile[rows] = thin_tile_##rows;

// For filter_tile_body.h too, which undefines it.
#if PF_TILE_ROWS == 14
#define PF_TILE_EACH(what) \
  what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) what(11) what(12) what(13) what(14)
#elif PF_TILE_ROWS == 8
#define PF_TILE_EACH(what) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8)
#elif PF_TILE_ROWS == 6
#define PF_TILE_EACH(what) what(1) what(2) what(3) what(4) what(5) what(6)
#else
#define PF_TILE_EACH(what) what(1) what(2) what(3) what(4)
#endif

PF_TILE_EACH(PF_TILE)

static void fill_tiles(pf_kernels *kernels) {
  kernels->tile_rows = PF_TILE_ROWS;
  kernels->tile_columns = tile_columns;
  PF_TILE_EACH(PF_TILE_ENTER)
}

#undef PF_TILE
#undef PF_TILE_KERNEL
#undef PF_TILE_ENTER
