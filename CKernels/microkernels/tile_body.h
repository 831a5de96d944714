// Register tile of outer products: PF_TILE_ROWS x PF_TILE_VECTORS accumulators that never leave registers. One kernel
// for each number of rows, so that rows are shared out evenly instead of leaving a thin last tile.

enum { tile_columns = PF_TILE_VECTORS * PF_LANES };

PF_INLINE void tile(const int32_t rows, int64_t inner, const float *a, const float *b, const int64_t *offsets,
                    const float *bias, float *result, int64_t result_stride, pf_tile_mode mode) {
  vector sum[PF_TILE_ROWS][PF_TILE_VECTORS];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < PF_TILE_VECTORS; ++v) {
      sum[r][v] = mode == pf_tile_continue ? load(result + r * result_stride + v * PF_LANES)
                                           : broadcast(bias == NULL ? 0.0f : bias[r]);
    }
  }
  for (int64_t k = 0; k < inner; ++k) {
    const float *column = b + offsets[k];
    vector x[PF_TILE_VECTORS];
    PF_UNROLL for (int32_t v = 0; v < PF_TILE_VECTORS; ++v) x[v] = load(column + v * PF_LANES);
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      const vector y = broadcast(a[r]);
      PF_UNROLL for (int32_t v = 0; v < PF_TILE_VECTORS; ++v) sum[r][v] = multiply_add(x[v], y, sum[r][v]);
    }
    a += rows;
  }
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t v = 0; v < PF_TILE_VECTORS; ++v) {
      float *address = result + r * result_stride + v * PF_LANES;
      store(address, mode == pf_tile_add ? load(address) + sum[r][v] : sum[r][v]);
    }
  }
}

#define PF_TILE(rows)                                                                                          \
  static void tile_##rows(int64_t inner, const float *a, const float *b, const int64_t *offsets,               \
                          const float *bias, float *result, int64_t result_stride, pf_tile_mode mode) {        \
    tile(rows, inner, a, b, offsets, bias, result, result_stride, mode);                                       \
  }

PF_TILE(1)
PF_TILE(2)
PF_TILE(3)
PF_TILE(4)
#if PF_TILE_ROWS >= 6
PF_TILE(5)
PF_TILE(6)
#endif
#if PF_TILE_ROWS >= 8
PF_TILE(7)
PF_TILE(8)
#endif
#if PF_TILE_ROWS >= 14
PF_TILE(9)
PF_TILE(10)
PF_TILE(11)
PF_TILE(12)
PF_TILE(13)
PF_TILE(14)
#endif
#undef PF_TILE

static void fill_tiles(pf_kernels *kernels) {
  kernels->tile_rows = PF_TILE_ROWS;
  kernels->tile_columns = tile_columns;
  kernels->tile[1] = tile_1;
  kernels->tile[2] = tile_2;
  kernels->tile[3] = tile_3;
  kernels->tile[4] = tile_4;
#if PF_TILE_ROWS >= 6
  kernels->tile[5] = tile_5;
  kernels->tile[6] = tile_6;
#endif
#if PF_TILE_ROWS >= 8
  kernels->tile[7] = tile_7;
  kernels->tile[8] = tile_8;
#endif
#if PF_TILE_ROWS >= 14
  kernels->tile[9] = tile_9;
  kernels->tile[10] = tile_10;
  kernels->tile[11] = tile_11;
  kernels->tile[12] = tile_12;
  kernels->tile[13] = tile_13;
  kernels->tile[14] = tile_14;
#endif
}
