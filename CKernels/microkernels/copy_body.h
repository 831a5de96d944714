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

typedef float half __attribute__((ext_vector_type(PF_LANES / 2), aligned(4)));

static void pack_columns(int64_t inner, const int64_t *offsets, const float *frame, const pf_segment *segments,
                         int64_t count, bool slack, float *panel) {
  const int64_t used = segments[count - 1].column + segments[count - 1].length;
  // Pieces of a vector or less. Half a vector is stored across two cache lines more seldom, where it is enough.
  int64_t from[2 * tile_columns], to[2 * tile_columns];
  int64_t pieces = 0, longest = 0;
  for (int64_t s = 0; slack && s < count; ++s) {
    if (segments[s].length > longest) longest = segments[s].length;
    for (int64_t i = 0; i < segments[s].length; i += PF_LANES, ++pieces) {
      from[pieces] = segments[s].frame + i;
      to[pieces] = segments[s].column + i;
    }
  }
  for (int64_t k = 0; k < inner; ++k) {
    const float *plane = frame + offsets[k];
    float *row = panel + k * tile_columns;
    // What comes behind a piece is overwritten by the next one, or by the next row.
    if (longest <= PF_LANES / 2) {
      for (int64_t i = 0; i < pieces; ++i) *(half *)(row + to[i]) = *(const half *)(plane + from[i]);
    } else {
      for (int64_t i = 0; i < pieces; ++i) store(row + to[i], load(plane + from[i]));
    }
    for (int64_t s = 0; !slack && s < count; ++s) {
      copy_contiguous(segments[s].length, plane + segments[s].frame, row + segments[s].column);
    }
    for (int64_t i = used; i < tile_columns; i += PF_LANES) store(row + i, broadcast(0));
  }
}

// n pairs of an element of either source, two vectors of 2n floats.
#define PF_SCATTER_PAIRS(n, ...)                                                                                    \
  typedef float single_##n __attribute__((ext_vector_type(n), aligned(4)));                                         \
  typedef float pairs_##n __attribute__((ext_vector_type(2 * n), aligned(4)));                                      \
                                                                                                                    \
  /* What becomes of 2n floats at `address`. */                                                                      \
  PF_INLINE void pair_##n(const float *even, const float *odd, const float *address, bool accumulate,               \
                          pairs_##n *pairs) {                                                                       \
    *pairs = __builtin_shufflevector(*(const single_##n *)even, *(const single_##n *)odd, __VA_ARGS__);             \
    if (accumulate) *pairs += *(const pairs_##n *)address;                                                          \
  }                                                                                                                 \
                                                                                                                    \
  /* n to 2n pairs: n from either end, both read before either is written. */                                       \
  PF_INLINE void pair_ends_##n(int64_t count, const float *even, const float *odd, float *address,                  \
                               bool accumulate) {                                                                   \
    float *back = address + 2 * (count - n);                                                                        \
    pairs_##n first, last;                                                                                          \
    pair_##n(even, odd, address, accumulate, &first);                                                               \
    pair_##n(even + count - n, odd + count - n, back, accumulate, &last);                                           \
    *(pairs_##n *)address = first;                                                                                  \
    *(pairs_##n *)back = last;                                                                                      \
  }                                                                                                                 \
                                                                                                                    \
  PF_INLINE void pair_next_##n(const float *even, const float *odd, float *address, bool accumulate) {              \
    pairs_##n pairs;                                                                                                \
    pair_##n(even, odd, address, accumulate, &pairs);                                                               \
    *(pairs_##n *)address = pairs;                                                                                  \
  }

PF_SCATTER_PAIRS(2, 0, 2, 1, 3)
PF_SCATTER_PAIRS(4, 0, 4, 1, 5, 2, 6, 3, 7)
#if PF_LANES >= 8
PF_SCATTER_PAIRS(8, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15)
#endif
#if PF_LANES >= 16
PF_SCATTER_PAIRS(16, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                 29, 14, 30, 15, 31)
#endif
#undef PF_SCATTER_PAIRS

PF_INLINE void scatter_pairs_of(int64_t count, const float *even, const float *odd, float *address, bool accumulate) {
#if PF_LANES >= 16
  for (; count > 32; count -= 16, even += 16, odd += 16, address += 32) {
    pair_next_16(even, odd, address, accumulate);
  }
  if (count >= 16) return pair_ends_16(count, even, odd, address, accumulate);
#endif
#if PF_LANES >= 8
  for (; count > 16; count -= 8, even += 8, odd += 8, address += 16) {
    pair_next_8(even, odd, address, accumulate);
  }
  if (count >= 8) return pair_ends_8(count, even, odd, address, accumulate);
#endif
  for (; count > 8; count -= 4, even += 4, odd += 4, address += 8) {
    pair_next_4(even, odd, address, accumulate);
  }
  if (count >= 4) return pair_ends_4(count, even, odd, address, accumulate);
  if (count >= 2) return pair_ends_2(count, even, odd, address, accumulate);
  address[0] = accumulate ? address[0] + *even : *even;
  address[1] = accumulate ? address[1] + *odd : *odd;
}

static void scatter_pairs(int64_t rows, const float *even, const float *odd, const pf_segment *segments,
                          int64_t segment_count, float *result, int64_t result_stride, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t s = 0; s < segment_count; ++s) {
      const int64_t column = segments[s].column;
      float *address = result + segments[s].result;
      if (accumulate) {
        scatter_pairs_of(segments[s].length, even + column, odd + column, address, true);
      } else {
        scatter_pairs_of(segments[s].length, even + column, odd + column, address, false);
      }
    }
    even += tile_columns;
    odd += tile_columns;
    result += result_stride;
  }
}

PF_INLINE void scatter(int64_t count, const float *source, float *address, int64_t step, bool accumulate) {
  if (step == 1 && !accumulate) {
    copy_contiguous(count, source, address);
  } else if (step == 1) {
    for (int64_t i = 0; i < count; ++i) address[i] += source[i];
  } else {
    PF_SCALAR for (int64_t i = 0; i < count; ++i) {
      address[i * step] = accumulate ? address[i * step] + source[i] : source[i];
    }
  }
}

static void scatter_tile(int64_t rows, const float *tile, const pf_segment *segments, int64_t segment_count,
                         float *result, int64_t result_stride, int64_t step, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t s = 0; s < segment_count; ++s) {
      scatter(segments[s].length, tile + segments[s].column, result + segments[s].result, step, accumulate);
    }
    tile += tile_columns;
    result += result_stride;
  }
}

static void scatter_rows(int64_t rows, int64_t count, const float *source, int64_t source_pitch, float *result,
                         int64_t result_pitch, int64_t step, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    scatter(count, source + r * source_pitch, result + r * result_pitch, step, accumulate);
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

static void pack_taps(int64_t channels, int64_t rows, int64_t taps, const float *weight, int64_t channel_stride,
                      const float *end, const pf_tap_place *places, float *const *packed) {
  enum { blocks = (PF_TILE_ROWS + PF_LANES - 1) / PF_LANES };
  for (int64_t c = 0; c < channels; ++c) {
    const float *first = weight + c * channel_stride;
    if (taps == 1) {
      // Few stores in whole vectors would keep the loads behind them waiting, where channels lie whole pages apart.
      copy_contiguous(rows, first, packed[places->phase] + c * rows);
      continue;
    }
    for (int64_t tap = 0; tap < taps; tap += PF_LANES) {
      vector x[blocks][PF_LANES];
      const bool readable = end - first - tap >= (rows - 1) * taps + PF_LANES;
      PF_UNROLL for (int32_t b = 0; b < blocks; ++b) {
        PF_UNROLL for (int32_t r = 0; r < PF_LANES; ++r) {
          const float *row = first + (b * PF_LANES + r < rows ? b * PF_LANES + r : 0) * taps + tap;
          x[b][r] = readable ? load(row) : load_first(taps - tap, row);
        }
        transpose(x[b]);
      }
      PF_UNROLL for (int32_t t = 0; t < PF_LANES; ++t) {
        if (tap + t >= taps) break;
        const pf_tap_place *place = places + tap + t;
        if (place->phase < 0) continue;
        const int64_t k = c * place->taps + place->index;
        float *result = packed[place->phase] + k * rows;
        PF_UNROLL for (int32_t b = 0; b < blocks; ++b) {
          const int64_t left = rows - b * PF_LANES, room = left + (channels * place->taps - k - 1) * rows;
          if (left > 0 && room >= PF_LANES) {
            // What is written behind the rows is overwritten by the next ones.
            store(result + b * PF_LANES, x[b][t]);
          } else if (left > 0) {
            float last[PF_LANES];
            store(last, x[b][t]);
            copy_first(left, last, result + b * PF_LANES);
          }
        }
      }
    }
  }
}
