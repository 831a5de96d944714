// Register tile of dot products along contiguous pixels: PF_DOT_ROWS x PF_DOT_COLUMNS accumulators, one vector each,
// summed across lanes at the end; and single products, whose lanes are summed elsewhere.

PF_INLINE void dot(const int32_t rows, const int32_t columns, int64_t vectors, const float *a,
                   const int64_t *a_offsets, const float *b, const int64_t *b_offsets, float *sums) {
  enum { groups = (PF_DOT_ROWS * PF_DOT_COLUMNS + PF_LANES - 1) / PF_LANES };
  _Static_assert(groups * PF_LANES <= pf_most_dot_sums, "a tile's sums");
  vector sum[groups * PF_LANES];
  PF_UNROLL for (int32_t i = 0; i < groups * PF_LANES; ++i) sum[i] = broadcast(0);
  const float *row[PF_DOT_ROWS], *column[PF_DOT_COLUMNS];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) row[r] = a + a_offsets[r];
  PF_UNROLL for (int32_t j = 0; j < columns; ++j) column[j] = b + b_offsets[j];
  for (int64_t i = 0; i < vectors * PF_LANES; i += PF_LANES) {
    vector x[PF_DOT_ROWS];
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) x[r] = load(row[r] + i);
    PF_UNROLL for (int32_t j = 0; j < columns; ++j) {
      const vector y = load(column[j] + i);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
        sum[r * columns + j] = multiply_add(x[r], y, sum[r * columns + j]);
      }
    }
  }
  PF_UNROLL for (int32_t g = 0; g < groups; ++g) {
    if (g * PF_LANES < rows * columns) store(sums + g * PF_LANES, sums_across(sum + g * PF_LANES));
  }
}

static void dot_pairs(int64_t vectors, const float *a, const int64_t *a_offsets, const float *b,
                      const int64_t *b_offsets, float *sums, bool accumulate) {
  vector sum[pf_dot_pairs];
  PF_UNROLL for (int32_t k = 0; k < pf_dot_pairs; ++k) sum[k] = accumulate ? load(sums + k * PF_LANES) : broadcast(0);
  for (int64_t i = 0; i < vectors * PF_LANES; i += PF_LANES) {
    PF_UNROLL for (int32_t k = 0; k < pf_dot_pairs; ++k) {
      sum[k] = multiply_add(load(a + a_offsets[k] + i), load(b + b_offsets[k] + i), sum[k]);
    }
  }
  PF_UNROLL for (int32_t k = 0; k < pf_dot_pairs; ++k) store(sums + k * PF_LANES, sum[k]);
}

#define PF_DOT(rows, columns)                                                                                       \
  static void dot_##rows##x##columns(int64_t vectors, const float *a, const int64_t *a_offsets, const float *b,     \
                                     const int64_t *b_offsets, float *sums) {                                       \
    dot(rows, columns, vectors, a, a_offsets, b, b_offsets, sums);                                                  \
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
  kernels->dot_pairs = dot_pairs;
}

#undef PF_DOT
#undef PF_DOT_ENTER
#undef PF_DOT_EACH
#undef PF_DOT_EACH_COLUMN
