// Sums over taps for one plane of a result: up to PF_PLANE_ROWS rows, one vector each, at a time. A vector of the
// source is loaded once for all rows that a tap of it reaches, so that multiply-adds outnumber loads.

enum { PF_PLANE_ROWS = pf_most_plane_rows };

PF_INLINE void plane_run(const int32_t rows, const int32_t taps, const float *x, int64_t step, const float *weight,
                         vector sum[PF_PLANE_ROWS]) {
  vector w[pf_most_run_taps];
  PF_UNROLL for (int32_t t = 0; t < taps; ++t) w[t] = broadcast(weight[t]);
  PF_UNROLL for (int32_t q = 0; q < rows + taps - 1; ++q) {
    const vector y = load(x + q * step);
    PF_UNROLL for (int32_t t = 0; t < taps; ++t) {
      if (q - t >= 0 && q - t < rows) sum[q - t] = multiply_add(y, w[t], sum[q - t]);
    }
  }
}

/// Stores fewer than PF_LANES columns of up to all rows.
PF_INLINE void plane_store_narrow(const int32_t rows, int64_t columns, const vector sum[PF_PLANE_ROWS], float *result,
                                  int64_t result_step, bool accumulate, bool dense) {
  PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
    float *address = result + r * result_step;
    if (dense && (rows - 1 - r) * result_step + columns >= PF_LANES) {
      // What comes behind the row is overwritten by the next ones.
      store(address, sum[r]);
      continue;
    }
    float part[PF_LANES];
    store(part, sum[r]);
    if (accumulate) {
      for (int64_t i = 0; i < columns; ++i) address[i] += part[i];
    } else {
      copy_few(columns, part, address);
    }
  }
}

PF_INLINE void plane(const int32_t rows, int64_t run_count, const pf_tap_run *runs, int64_t chain, const float *weight,
                     const float *frame, int64_t frame_step, int64_t columns, float bias, float *result,
                     int64_t result_step, bool accumulate, pf_activation activation) {
  for (int64_t j = 0; j < columns; j += PF_LANES) {
    // The last vector goes back over columns that are done already rather than being cut.
    if (columns - j < PF_LANES && columns >= PF_LANES && !accumulate) j = columns - PF_LANES;
    vector sum[PF_PLANE_ROWS], chains[PF_PLANE_ROWS];
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      sum[r] = broadcast(bias);
      chains[r] = broadcast(0);
    }
    const float *w = weight;
    int64_t products = 0;
    for (int64_t i = 0; i < run_count; ++i) {
      products += runs[i].taps;
      if (products > chain) {
        PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
          chains[r] += sum[r];
          sum[r] = broadcast(0);
        }
        products = runs[i].taps;
      }
      const float *x = frame + runs[i].offset + j;
      switch (runs[i].taps) {
        case 1: plane_run(rows, 1, x, frame_step, w, sum); break;
        case 2: plane_run(rows, 2, x, frame_step, w, sum); break;
        case 3: plane_run(rows, 3, x, frame_step, w, sum); break;
        default: plane_run(rows, 4, x, frame_step, w, sum); break;
      }
      w += runs[i].taps;
    }
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) sum[r] = activate(sum[r] + chains[r], activation);
    if (columns - j < PF_LANES) {
      plane_store_narrow(rows, columns - j, sum, result + j, result_step, accumulate,
                         !accumulate && result_step == columns);
      return;
    }
    PF_UNROLL for (int32_t r = 0; r < rows; ++r) {
      float *address = result + r * result_step + j;
      store(address, accumulate ? load(address) + sum[r] : sum[r]);
    }
  }
}

#define PF_PLANE(rows)                                                                                             \
  static void plane_##rows(int64_t run_count, const pf_tap_run *runs, int64_t chain, const float *weight,          \
                           const float *frame, int64_t frame_step, int64_t columns, float bias, float *result,     \
                           int64_t result_step, bool accumulate, pf_activation activation) {                       \
    plane(rows, run_count, runs, chain, weight, frame, frame_step, columns, bias, result, result_step, accumulate, \
          activation);                                                                                             \
  }

PF_PLANE(1)
PF_PLANE(2)
PF_PLANE(3)
PF_PLANE(4)
PF_PLANE(5)
PF_PLANE(6)
PF_PLANE(7)
PF_PLANE(8)
#undef PF_PLANE

static void fill_planes(pf_kernels *kernels) {
  const pf_plane_kernel planes[] = {NULL, plane_1, plane_2, plane_3, plane_4, plane_5, plane_6, plane_7, plane_8};
  for (int32_t r = 0; r <= PF_PLANE_ROWS; ++r) kernels->plane[r] = planes[r];
}
