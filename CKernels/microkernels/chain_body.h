// Chains of products along points, a chain in each lane: packing them, multiplying them, and the way back.

static void pack_chains(int64_t count, const float *const *rows, int64_t ahead, float *packed) {
  for (int64_t k = 0; k < count; k += PF_LANES) {
    vector x[PF_LANES];
    PF_UNROLL for (int32_t l = 0; l < PF_LANES; ++l) {
      x[l] = load(rows[l] + k);
      __builtin_prefetch(rows[l] + (k + ahead), 0, 3);
    }
    transpose(x);
    PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) store(packed + (k + i) * PF_LANES, x[i]);
  }
}

/// Continues the chains of elements whose first of `count` points lies at a + offset; points lie `step` apart.
PF_INLINE void continue_chains(int64_t count, const vector x[PF_LANES], const float *a, int64_t step, int64_t elements,
                               const int64_t *offsets, bool resume, float *sums) {
  // The output gradient stays in registers; that elements come one after the other leaves enough to do at once.
  for (int64_t e = 0; e < elements; ++e) {
    const float *point = a + offsets[e];
    vector sum = resume ? load(sums + e * PF_LANES) : broadcast(0);
    PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) {
      if (i == count) break;
      sum = multiply_add(x[i], load(point + i * step), sum);
    }
    store(sums + e * PF_LANES, sum);
  }
}

static void chains(int64_t count, const float *const *rows, int64_t first, int64_t ahead, const float *a, int64_t step,
                   int64_t elements, const int64_t *offsets, bool resume, float *sums) {
  vector x[PF_LANES];
  PF_UNROLL for (int32_t l = 0; l < PF_LANES; ++l) {
    x[l] = load(rows[l] + first);
    __builtin_prefetch(rows[l] + (first + ahead), 0, 3);
  }
  transpose(x);
  if (count == PF_LANES && step == PF_LANES) {
    continue_chains(PF_LANES, x, a, PF_LANES, elements, offsets, resume, sums);
  } else {
    continue_chains(count, x, a, step, elements, offsets, resume, sums);
  }
}

static void add_chains(int64_t count, const float *sums, int64_t begin, int64_t end, bool accumulate, float *totals) {
  if (count < PF_LANES / 4) {
    for (int64_t k = 0; k < count; ++k, sums += PF_LANES) {
      float total = accumulate ? totals[k] + sums[begin] : sums[begin];
      for (int64_t l = begin + 1; l < end; ++l) total += sums[l];
      totals[k] = total;
    }
    return;
  }
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
  kernels->pack_chains = pack_chains;
  kernels->chains = chains;
  kernels->add_chains = add_chains;
}
