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

/// Of `rows` rows, those behind whose beginning `length` elements of `room` follow.
PF_INLINE int64_t rows_followed(int64_t rows, int64_t pitch, int64_t room, int64_t length) {
  if (room >= (rows - 1) * pitch + length) return rows;
  return room < length ? 0 : (room - length) / pitch + 1;
}

/// One row of a phase whose surroundings are not to be touched.
PF_INLINE void copy_careful_row(int64_t count, const float *source, int64_t step, float *result) {
  int64_t i = 0;
  if (step == 1) {
    copy_contiguous(count, source, result);
    return;
  }
  // Vectors read elements behind those that they use: the last vector's worth is left to the loop below.
  vector x[pf_most_row_phases];
  if (step == 2) {
    for (; i + PF_LANES < count; i += PF_LANES) {
      load_apart(2, source + 2 * i, x);
      store(result + i, x[0]);
    }
  }
  if (step == 4) {
    for (; i + PF_LANES < count; i += PF_LANES) {
      load_apart(4, source + 4 * i, x);
      store(result + i, x[0]);
    }
  }
  PF_SCALAR for (; i < count; ++i) result[i] = source[i * step];
}

static void copy_careful_rows(const pf_row_copy *copy, int64_t begin, const float *source, float *result) {
  for (int64_t r = begin; r < copy->rows; ++r) {
    for (int64_t p = 0; p < copy->phase_count; ++p) {
      const pf_row_phase *phase = copy->phases + p;
      float *row = result + r * copy->result_row + phase->result;
      copy_careful_row(phase->count, source + r * copy->source_row + phase->first, copy->step, row);
      for (int64_t i = phase->count; i < copy->width; ++i) row[i] = 0;
    }
  }
}

/// copy_rows with a step of 1, 2 or 4, rows in whole vectors where there is room. With `all` of as many phases as
/// `step`, else of one; the longest has `longest` elements.
PF_INLINE void copy_vectors(const int32_t step, const bool all, int64_t longest, const pf_row_copy *copy,
                            const float *source, int64_t readable, float *result, int64_t writable) {
  const int32_t count = all ? step : 1;
  const int64_t first = all ? 0 : copy->phases->first;
  const int64_t last = (longest - 1) / PF_LANES * PF_LANES;  // where the last vector begins
  const int64_t source_row = copy->source_row, result_row = copy->result_row, width = copy->width;
  integers lane, used[pf_most_row_phases];
  PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) lane[i] = i;
  PF_UNROLL for (int32_t p = 0; p < count; ++p) used[p] = lane < (int32_t)(copy->phases[p].count - last);
  for (int64_t n = 0; n < copy->images; ++n) {
    const int64_t readable_rows = rows_followed(copy->rows, source_row, readable, first + (last + PF_LANES) * step);
    const int64_t writable_rows = rows_followed(copy->rows, result_row, writable, last + PF_LANES);
    const int64_t rows = readable_rows < writable_rows ? readable_rows : writable_rows;
    const float *from = source + first;
    float *to[pf_most_row_phases];
    PF_UNROLL for (int32_t p = 0; p < count; ++p) to[p] = result + copy->phases[p].result;
    for (int64_t r = 0; r < rows; ++r) {
      vector x[pf_most_row_phases];
      for (int64_t i = 0; i < last; i += PF_LANES) {
        load_apart(step, from + i * step, x);
        PF_UNROLL for (int32_t p = 0; p < count; ++p) store(to[p] + i, x[p]);
      }
      load_apart(step, from + last * step, x);
      PF_UNROLL for (int32_t p = 0; p < count; ++p) {
        store(to[p] + last, (vector)((integers)x[p] & used[p]));
        // Mostly there is one zero, not worth the call that the loop is compiled to.
        int64_t i = last + PF_LANES;
        if (i < width) to[p][i++] = 0;
        for (; i < width; ++i) to[p][i] = 0;
        to[p] += result_row;
      }
      from += source_row;
    }
    if (rows < copy->rows) copy_careful_rows(copy, rows, source, result);
    source += copy->source_image;
    readable -= copy->source_image;
    result += copy->result_image;
    writable -= copy->result_image;
  }
}

static void copy_rows(const pf_row_copy *copy, const float *source, int64_t readable, float *result,
                      int64_t writable) {
  int64_t longest = 0;
  for (int64_t p = 0; p < copy->phase_count; ++p) {
    if (copy->phases[p].count > longest) longest = copy->phases[p].count;
  }
  const bool all = copy->phase_count > 1;
#define PF_COPY(step, all) return copy_vectors(step, all, longest, copy, source, readable, result, writable)
  if (longest > 0 && copy->step == 1) PF_COPY(1, false);
  if (longest > 0 && copy->step == 2 && all) PF_COPY(2, true);
  if (longest > 0 && copy->step == 2) PF_COPY(2, false);
  if (longest > 0 && copy->step == 4 && all) PF_COPY(4, true);
  if (longest > 0 && copy->step == 4) PF_COPY(4, false);
#undef PF_COPY
  for (int64_t n = 0; n < copy->images; ++n) {
    copy_careful_rows(copy, 0, source + n * copy->source_image, result + n * copy->result_image);
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
      // The rows behind these are packed next.
      __builtin_prefetch(column + 2 * rows - 1, 0, 2);
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
