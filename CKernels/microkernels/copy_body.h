// Moving data in and out of the tiles: rows into frames, frames into panels, weights into row panels, tiles into
// results.

typedef float quarter __attribute__((ext_vector_type(4), aligned(4)));

PF_INLINE void copy_quarter(const float *source, float *result) { *(quarter *)result = *(const quarter *)source; }

/// As many elements as one vector holds, or fewer.
PF_INLINE void copy_few(int64_t count, const float *source, float *result) {
  if (count >= 4) {
    for (int64_t i = 0; i + 4 < count; i += 4) copy_quarter(source + i, result + i);
    copy_quarter(source + count - 4, result + count - 4);
  } else {
    for (int64_t i = 0; i < count; ++i) result[i] = source[i];
  }
}

PF_INLINE void copy_contiguous(int64_t count, const float *source, float *result) {
  int64_t i = 0;
  for (; i + PF_LANES <= count; i += PF_LANES) store(result + i, load(source + i));
  if (i < count && count >= PF_LANES) {
    store(result + count - PF_LANES, load(source + count - PF_LANES));
  } else {
    copy_few(count - i, source + i, result + i);
  }
}

PF_INLINE void copy_zeros(int64_t count, float *result) {
  for (int64_t i = 0; i < count; ++i) result[i] = 0;
}

/// PF_LANES elements `step` apart, 1, 2 or 4, from each of the first `step` on. Reads PF_LANES * step.
PF_INLINE void load_apart(const int32_t step, const float *source, vector x[pf_most_row_phases]) {
  x[0] = load(source);
  if (step == 1) return;
  const vector y = load(source + PF_LANES), even = even_lanes(x[0], y), odd = odd_lanes(x[0], y);
  x[0] = even;
  x[1] = odd;
  if (step == 2) return;
  const vector z = load(source + 2 * PF_LANES), w = load(source + 3 * PF_LANES);
  x[0] = even_lanes(even, even_lanes(z, w));
  x[1] = even_lanes(odd, odd_lanes(z, w));
  x[2] = odd_lanes(even, even_lanes(z, w));
  x[3] = odd_lanes(odd, odd_lanes(z, w));
}

/// Rows of copy_rows, in whole vectors: what is written behind a row is overwritten by the next ones. With `all` of as
/// many phases as `step`, else of one.
PF_INLINE void copy_whole_rows(const int32_t step, const bool all, int64_t rows, const pf_row_phase *phases,
                               int64_t width, const float *source, int64_t source_pitch, float *result,
                               int64_t result_pitch) {
  const int32_t count = all ? step : 1;
  int64_t longest = 0;
  pf_row_phase sorted[pf_most_row_phases];
  PF_UNROLL for (int32_t p = 0; p < count; ++p) {
    sorted[all ? phases[p].first : 0] = phases[p];
    if (phases[p].count > longest) longest = phases[p].count;
  }
  if (!all) source += phases->first;
  const int64_t last = (longest - 1) / PF_LANES * PF_LANES;  // where the last vector begins
  integers used[pf_most_row_phases];
  float *to[pf_most_row_phases];
  PF_UNROLL for (int32_t p = 0; p < count; ++p) {
    to[p] = result + sorted[p].result;
    PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) used[p][i] = last + i < sorted[p].count ? -1 : 0;
  }
  for (int64_t r = 0; r < rows; ++r) {
    vector x[pf_most_row_phases];
    for (int64_t i = 0; i < last; i += PF_LANES) {
      load_apart(step, source + i * step, x);
      PF_UNROLL for (int32_t p = 0; p < count; ++p) store(to[p] + i, x[p]);
    }
    load_apart(step, source + last * step, x);
    PF_UNROLL for (int32_t p = 0; p < count; ++p) {
      store(to[p] + last, (vector)((integers)x[p] & used[p]));
      // Mostly there is one zero, not worth the call that the loop is compiled to.
      int64_t i = last + PF_LANES;
      if (i < width) to[p][i++] = 0;
      for (; i < width; ++i) to[p][i] = 0;
      to[p] += result_pitch;
    }
    source += source_pitch;
  }
}

/// Of `rows` rows, those behind whose beginning `length` elements follow before the last row's first `count` end.
PF_INLINE int64_t rows_followed(int64_t rows, int64_t pitch, int64_t count, int64_t length) {
  if (count >= length) return rows;
  if (pitch <= 0) return 0;
  const int64_t fewer = (length - count + pitch - 1) / pitch;
  return fewer < rows ? rows - fewer : 0;
}

/// Rows of one phase of copy_rows whose surroundings are not to be touched.
static void copy_careful_rows(int64_t rows, int64_t count, int64_t width, const float *source, int64_t source_pitch,
                              int64_t step, float *result, int64_t result_pitch) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *from = source + r * source_pitch;
    float *to = result + r * result_pitch;
    int64_t i = 0;
    if (step == 1) {
      copy_contiguous(count, from, to);
      i = count;
    }
    // Vectors read elements behind those that they use: the last vector's worth is left to the loop below.
    vector x[pf_most_row_phases];
    if (step == 2) {
      for (; i + PF_LANES < count; i += PF_LANES) {
        load_apart(2, from + 2 * i, x);
        store(to + i, x[0]);
      }
    }
    if (step == 4) {
      for (; i + PF_LANES < count; i += PF_LANES) {
        load_apart(4, from + 4 * i, x);
        store(to + i, x[0]);
      }
    }
    PF_SCALAR for (; i < count; ++i) to[i] = from[i * step];
    copy_zeros(width - count, to + count);
  }
}

static void copy_rows(int64_t rows, int64_t phase_count, const pf_row_phase *phases, int64_t width,
                      const float *source, int64_t source_pitch, int64_t step, float *result, int64_t result_pitch) {
  int64_t whole = 0, longest = 0, end = 0;
  for (int64_t p = 0; p < phase_count; ++p) {
    const int64_t phase_end = phases[p].first + (phases[p].count - 1) * step + 1;
    if (phases[p].count > longest) longest = phases[p].count;
    if (phases[p].count > 0 && phase_end > end) end = phase_end;
  }
  if (longest > 0 && result_pitch == width && (step == 1 || step == 2 || step == 4)) {
    const int64_t length = (longest + PF_LANES - 1) / PF_LANES * PF_LANES;
    const int64_t first = phase_count == 1 ? phases->first : 0;
    const int64_t readable = rows_followed(rows, source_pitch, end, first + length * step);
    const int64_t writable = rows_followed(rows, result_pitch, width, length);
    whole = readable < writable ? readable : writable;
#define PF_COPY(step, all) \
  copy_whole_rows(step, all, whole, phases, width, source, source_pitch, result, result_pitch)
    if (phase_count == 1) {
      if (step == 1) PF_COPY(1, false);
      if (step == 2) PF_COPY(2, false);
      if (step == 4) PF_COPY(4, false);
    } else {
      if (step == 2) PF_COPY(2, true);
      if (step == 4) PF_COPY(4, true);
    }
#undef PF_COPY
  }
  for (int64_t p = 0; p < phase_count; ++p) {
    copy_careful_rows(rows - whole, phases[p].count, width, source + phases[p].first + whole * source_pitch,
                      source_pitch, step, result + phases[p].result + whole * result_pitch, result_pitch);
  }
}

static void pack_columns(int64_t inner, const int64_t *offsets, const float *frame, const pf_segment *segments,
                         int64_t count, bool slack, float *panel) {
  const int64_t used = segments[count - 1].column + segments[count - 1].length;
  // Pieces of a vector or less.
  int64_t from[2 * tile_columns], to[2 * tile_columns];
  int64_t pieces = 0;
  for (int64_t s = 0; slack && s < count; ++s) {
    for (int64_t i = 0; i < segments[s].length; i += PF_LANES, ++pieces) {
      from[pieces] = segments[s].frame + i;
      to[pieces] = segments[s].column + i;
    }
  }
  for (int64_t k = 0; k < inner; ++k) {
    const float *plane = frame + offsets[k];
    float *row = panel + k * tile_columns;
    // What comes behind a piece is overwritten by the next one, or by the next row.
    for (int64_t i = 0; i < pieces; ++i) store(row + to[i], load(plane + from[i]));
    for (int64_t s = 0; !slack && s < count; ++s) {
      copy_contiguous(segments[s].length, plane + segments[s].frame, row + segments[s].column);
    }
    for (int64_t i = used; i < tile_columns; i += PF_LANES) store(row + i, broadcast(0));
  }
}

// An element and what lies behind it, or before it, are the low, or the high, half of 64 bits: everything here is
// little-endian.
#define PF_SCATTER_PAIRS(n)                                                                                            \
  typedef float floats_##n __attribute__((ext_vector_type(n), aligned(4)));                                            \
  typedef uint32_t halves_##n __attribute__((ext_vector_type(n), aligned(4)));                                         \
  typedef uint64_t pairs_##n __attribute__((ext_vector_type(n), aligned(4), may_alias));                               \
                                                                                                                       \
  /* Replaces the halves of n pairs from bit `shift` on, or adds to them. */                                           \
  PF_INLINE void scatter_##n(const float *source, pairs_##n *pairs, const int32_t shift, const pf_scatter_mode mode) { \
    floats_##n value = *(const floats_##n *)source;                                                                    \
    if (mode == pf_scatter_add) value += (floats_##n)__builtin_convertvector(*pairs >> shift, halves_##n);             \
    const pairs_##n placed = __builtin_convertvector((halves_##n)value, pairs_##n) << shift;                           \
    *pairs = mode == pf_scatter_pad ? placed : (*pairs & UINT64_C(0xffffffff) << (32 - shift)) | placed;               \
  }                                                                                                                    \
                                                                                                                       \
  /* More than n elements, 2n at most: n from either end, both read before either is written. */                       \
  PF_INLINE void scatter_ends_##n(int64_t count, const float *source, float *address, const pf_scatter_mode mode) {    \
    /* Without zeros of its own the last pair begins before its element: nothing behind it is touched. */              \
    const int32_t shift = mode == pf_scatter_pad ? 0 : 32;                                                             \
    pairs_##n *back = (pairs_##n *)(address + 2 * (count - n) - shift / 32), last = *back;                             \
    scatter_##n(source + count - n, &last, shift, mode);                                                               \
    scatter_##n(source, (pairs_##n *)address, 0, mode);                                                                \
    *back = last;                                                                                                      \
  }

PF_SCATTER_PAIRS(4)
#if PF_LANES >= 8
PF_SCATTER_PAIRS(8)
#endif
#if PF_LANES >= 16
PF_SCATTER_PAIRS(16)
#endif
#undef PF_SCATTER_PAIRS

#define PF_SCATTER_JOIN(name, n) name##n
#define PF_SCATTER_OF(name, n) PF_SCATTER_JOIN(name, n)

/// Every second element of `address`. Rewrites what lies between them: nobody else may be writing there.
PF_INLINE void scatter_alternate(int64_t count, const float *source, float *address, const pf_scatter_mode mode) {
  for (; count > 2 * PF_LANES; count -= PF_LANES) {
    PF_SCATTER_OF(scatter_, PF_LANES)(source, (PF_SCATTER_OF(pairs_, PF_LANES) *)address, 0, mode);
    source += PF_LANES;
    address += 2 * PF_LANES;
  }
#if PF_LANES >= 16
  if (count > 16) return scatter_ends_16(count, source, address, mode);
#endif
#if PF_LANES >= 8
  if (count > 8) return scatter_ends_8(count, source, address, mode);
#endif
  if (count > 4) return scatter_ends_4(count, source, address, mode);
  PF_SCALAR for (int64_t i = 0; i < count; ++i) {
    address[2 * i] = mode == pf_scatter_add ? address[2 * i] + source[i] : source[i];
    if (mode == pf_scatter_pad) address[2 * i + 1] = 0;
  }
}

PF_INLINE void scatter(int64_t count, const float *source, float *address, int64_t step, pf_scatter_mode mode) {
  if (step == 1 && mode != pf_scatter_add) {
    copy_contiguous(count, source, address);
  } else if (step == 1) {
    for (int64_t i = 0; i < count; ++i) address[i] += source[i];
  } else if (step == 2 && mode == pf_scatter_add) {
    scatter_alternate(count, source, address, pf_scatter_add);
  } else if (step == 2 && mode == pf_scatter_pad) {
    scatter_alternate(count, source, address, pf_scatter_pad);
  } else if (step == 2) {
    scatter_alternate(count, source, address, pf_scatter_store);
  } else {
    PF_SCALAR for (int64_t i = 0; i < count; ++i) {
      address[i * step] = mode == pf_scatter_add ? address[i * step] + source[i] : source[i];
    }
  }
}

static void scatter_tile(int64_t rows, const float *tile, const pf_segment *segments, int64_t segment_count,
                         float *result, int64_t result_stride, int64_t step, pf_scatter_mode mode) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t s = 0; s < segment_count; ++s) {
      scatter(segments[s].length, tile + segments[s].column, result + segments[s].result, step, mode);
    }
    tile += tile_columns;
    result += result_stride;
  }
}

static void scatter_rows(int64_t rows, int64_t count, const float *source, int64_t source_pitch, float *result,
                         int64_t result_pitch, int64_t step, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    scatter(count, source + r * source_pitch, result + r * result_pitch, step,
            accumulate ? pf_scatter_add : pf_scatter_store);
  }
}

/// Packs `count` <= PF_LANES neighbouring elements of up to PF_LANES rows. Reads whole vectors, and writes them where
/// they fit into `room` floats: what comes behind a packed row is overwritten by the next.
PF_INLINE void pack_block(int64_t count, int64_t rows, const float *matrix, int64_t row_stride, float *packed,
                          int64_t packed_stride, int64_t room) {
  enum { ahead = 64 };  // of more rows than hardware fetches ahead
  vector x[PF_LANES];
  for (int64_t r = 0; r < PF_LANES; ++r) {
    x[r] = r < rows ? load(matrix + r * row_stride) : broadcast(0);
    if (r < rows) __builtin_prefetch(matrix + r * row_stride + ahead);
  }
  transpose(x);
  for (int64_t k = 0; k < count; ++k) {
    float *result = packed + k * packed_stride;
    if (k * packed_stride + PF_LANES <= room) {
      store(result, x[k]);
    } else {
      for (int64_t r = 0; r < rows; ++r) result[r] = matrix[r * row_stride + k];
    }
  }
}

/// Packs rows of `run` neighbouring elements, PF_LANES rows at a time. `room` floats may be written from `packed` on.
PF_INLINE void pack_run(int64_t run, int64_t rows, const float *matrix, int64_t row_stride, float *packed,
                        int64_t packed_stride, int64_t room) {
  for (int64_t r = 0; r < rows; r += PF_LANES) {
    const int64_t count = rows - r < PF_LANES ? rows - r : PF_LANES;
    if (r == 0 || r + PF_LANES <= packed_stride) {
      pack_block(run, count, matrix + r * row_stride, row_stride, packed + r, packed_stride, room - r);
    } else {
      // A whole vector would spoil the beginning of the next packed row, which is there already.
      for (int64_t i = 0; i < run; ++i) {
        for (int64_t q = r; q < rows; ++q) packed[i * packed_stride + q] = matrix[q * row_stride + i];
      }
    }
  }
}

static void pack_rows(int64_t inner, int64_t rows, const float *matrix, int64_t row_stride, const int64_t *offsets,
                      float *packed, int64_t packed_stride) {
  enum { shortest_run = 4 };
  for (int64_t k = 0; k < inner;) {
    const float *column = matrix + offsets[k];
    float *result = packed + k * packed_stride;
    int64_t run = 1;
    while (run < PF_LANES && k + run < inner && offsets[k + run] == offsets[k] + run) run += 1;
    const bool readable = offsets[inner - 1] - offsets[k] >= PF_LANES - 1;
    if (row_stride == 1) {
      run = 1;
      copy_contiguous(rows, column, result);
    } else if (run >= shortest_run && rows >= shortest_run && readable) {
      pack_run(run, rows, column, row_stride, result, packed_stride, (inner - k) * packed_stride);
    } else {
      run = 1;
      for (int64_t r = 0; r < rows; ++r) result[r] = column[r * row_stride];
    }
    k += run;
  }
}
