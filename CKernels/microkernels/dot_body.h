// Register tile of dot products along contiguous pixels: PF_DOT_ROWS x PF_DOT_COLUMNS accumulators, one vector each,
// summed across lanes at the end.

PF_INLINE void dot(const int32_t rows, const int32_t columns, int64_t vectors, const float *a, int64_t a_stride,
                   const float *b, const int64_t *offsets, float *result, int64_t result_stride, bool accumulate) {
  enum { groups = (PF_DOT_ROWS * PF_DOT_COLUMNS + PF_LANES - 1) / PF_LANES };
  vector sum[groups * PF_LANES];
  PF_UNROLL for (int32_t i = 0; i < groups * PF_LANES; ++i) sum[i] = broadcast(0);
  const float *column[PF_DOT_COLUMNS];
  PF_UNROLL for (int32_t j = 0; j < columns; ++j) column[j] = b + offsets[j];
  for (int64_t i = 0; i < vectors * PF_LANES; i += PF_LANES) {
    vector x[PF_DOT_ROWS];
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) x[r] = load(a + r * a_stride + i);
    PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
      const vector y = load(column[j] + i);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
        sum[r * columns + j] = multiply_add(x[r], y, sum[r * columns + j]);
      }
    }
  }
  float total[groups * PF_LANES];
  PF_UNROLL for (int32_t g = 0; g < groups; ++g) {
    if (g * PF_LANES < rows * columns) store(total + g * PF_LANES, sums_across(sum + g * PF_LANES));
  }
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
      float *address = result + r * result_stride + j;
      *address = accumulate ? *address + total[r * columns + j] : total[r * columns + j];
    }
  }
}

#define PF_DOT(rows, columns)                                                                                       \
  static void dot_##rows##x##columns(int64_t vectors, const float *a, int64_t a_stride, const float *b,             \
                                     const int64_t *offsets, float *result, int64_t result_stride,                  \
                                     bool accumulate) {                                                             \
    dot(rows, columns, vectors, a, a_stride, b, offsets, result, result_stride, accumulate);                        \
  }
#define PF_DOT_ENTER(rows, columns) kernels->dot[rows][columns] = dot_##rows##x##columns;

#if PF_DOT_COLUMNS == 6
#define PF_DOT_EACH_COLUMN(what, rows) \
  what(rows, 1) what(rows, 2) what(rows, 3) what(rows, 4) what(rows, 5) what(rows, 6)
#elif PF_DOT_COLUMNS == 4
#define PF_DOT_EACH_COLUMN(what, rows) what(rows, 1) what(rows, 2) what(rows, 3) what(rows, 4)
#else
#define PF_DOT_EACH_COLUMN(what, rows) what(rows, 1) what(rows, 2) what(rows, 3)
#endif

#if PF_DOT_ROWS == 4
#define PF_DOT_EACH(what)                                    \
  PF_DOT_EACH_COLUMN(what, 1) PF_DOT_EACH_COLUMN(what, 2) \
  PF_DOT_EACH_COLUMN(what, 3) PF_DOT_EACH_COLUMN(what, 4)
#else
#define PF_DOT_EACH(what) PF_DOT_EACH_COLUMN(what, 1) PF_DOT_EACH_COLUMN(what, 2) PF_DOT_EACH_COLUMN(what, 3)
#endif

PF_DOT_EACH(PF_DOT)

static void fill_dots(pf_kernels *kernels) {
  kernels->dot_rows = PF_DOT_ROWS;
  kernels->dot_columns = PF_DOT_COLUMNS;
  PF_DOT_EACH(PF_DOT_ENTER)
}

#undef PF_DOT
#undef PF_DOT_ENTER
#undef PF_DOT_EACH
#undef PF_DOT_EACH_COLUMN
