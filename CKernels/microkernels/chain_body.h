// Chains of products along points, a chain in each lane: packing them, register tiles of them, and the way back.

enum { chain_rows = 8 };

static void pack_chains(int64_t count, const float *const *rows, int64_t ahead, float *packed) {
  for (int64_t k = 0; k < count; k += PF_LANES) {
    vector x[PF_LANES];
    PF_UNROLL for (int32_t l = 0; l < PF_LANES; ++l) x[l] = load(rows[l] + k);
    PF_UNROLL for (int32_t l = 0; l < PF_LANES; ++l) __builtin_prefetch(rows[l] + k + ahead, 0, 2);
    transpose(x);
    PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) store(packed + (k + i) * PF_LANES, x[i]);
  }
}

PF_INLINE void chains(const int32_t rows, const pf_point_runs *runs, const float *a, const int64_t *offsets,
                      const float *b, bool resume, float *sums) {
  vector sum[chain_rows];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) sum[r] = resume ? load(sums + r * PF_LANES) : broadcast(0);
  const float *row[chain_rows];
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) row[r] = a + offsets[r];
  for (const pf_point_run *run = runs->first; run < runs->first + runs->count; ++run) {
    int64_t at = run->start;
    for (int64_t i = 0; i < run->length; ++i) {
      const vector x = load(b);
      PF_UNROLL for (int32_t r = 0; r < rows; ++r) sum[r] = multiply_add(x, load(row[r] + at), sum[r]);
      at += runs->step;
      b += PF_LANES;
    }
  }
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) store(sums + r * PF_LANES, sum[r]);
}

#define PF_CHAINS(rows)                                                                                       \
  static void chains_##rows(const pf_point_runs *runs, const float *a, const int64_t *offsets, const float *b, \
                            bool resume, float *sums) {                                                       \
    chains(rows, runs, a, offsets, b, resume, sums);                                                          \
  }
#define PF_CHAINS_ENTER(rows) kernels->chains[rows] = chains_##rows;
#define PF_CHAINS_EACH(what) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8)

PF_CHAINS_EACH(PF_CHAINS)

static void add_chains(int64_t count, const float *sums, int64_t begin, int64_t end, bool accumulate, float *totals) {
  for (int64_t k = 0; k < count; k += PF_LANES) {
    const int64_t block = count - k < PF_LANES ? count - k : PF_LANES;
    vector x[PF_LANES];
    for (int64_t i = 0; i < PF_LANES; ++i) x[i] = i < block ? load(sums + (k + i) * PF_LANES) : broadcast(0);
    transpose(x);
    float lanes[PF_LANES][PF_LANES];
    for (int64_t l = 0; l < PF_LANES; ++l) store(lanes[l], x[l]);
    float row[PF_LANES];
    vector total = load(lanes[begin]);
    if (accumulate) total = load_first(block, totals + k) + total;
    for (int64_t l = begin + 1; l < end; ++l) total += load(lanes[l]);
    store(row, total);
    for (int64_t i = 0; i < block; ++i) totals[k + i] = row[i];
  }
}

static void fill_chains(pf_kernels *kernels) {
  kernels->chain_rows = chain_rows;
  kernels->pack_chains = pack_chains;
  kernels->add_chains = add_chains;
  PF_CHAINS_EACH(PF_CHAINS_ENTER)
}

#undef PF_CHAINS
#undef PF_CHAINS_ENTER
#undef PF_CHAINS_EACH
