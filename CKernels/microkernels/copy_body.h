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

/// As copy_contiguous where up to a vector's length may be read behind the source, and `room` elements written: what
/// comes behind the copy is overwritten later.
PF_INLINE void copy_within(int64_t count, int64_t room, const float *source, float *result) {
  int64_t i = 0;
  for (; i < count && i + PF_LANES <= room; i += PF_LANES) store(result + i, load(source + i));
  if (i >= count) return;
  if (count >= PF_LANES) {
    store(result + count - PF_LANES, load(source + count - PF_LANES));
  } else {
    for (; i < count; ++i) result[i] = source[i];
  }
}

/// Every second element of 2 * count - 1.
PF_INLINE void copy_alternate(int64_t count, const float *source, float *result) {
  int64_t i = 0;
  // Reads one element more than it uses: the last vector's worth is left to the loop below.
  for (; i + PF_LANES < count; i += PF_LANES) {
    store(result + i, even_lanes(load(source + 2 * i), load(source + 2 * i + PF_LANES)));
  }
  PF_SCALAR for (; i < count; ++i) result[i] = source[2 * i];
}

/// Whether a whole vector at the beginning of a row ends before the last of the `rows` rows behind it does.
PF_INLINE bool follows(int64_t rows, int64_t pitch, int64_t count) { return rows * pitch + count >= PF_LANES; }

static void copy_rows(int64_t rows, int64_t count, int64_t width, const float *source, int64_t source_pitch,
                      int64_t step, float *result, int64_t result_pitch) {
  for (int64_t r = 0; r < rows; ++r) {
    if (step == 1 && count < PF_LANES && result_pitch == width && follows(rows - 1 - r, source_pitch, count) &&
        follows(rows - 1 - r, result_pitch, width)) {
      // What comes behind the row is overwritten by the next ones.
      store(result, load(source));
    } else if (step == 1) {
      copy_contiguous(count, source, result);
    } else if (step == 2) {
      copy_alternate(count, source, result);
    } else {
      PF_SCALAR for (int64_t i = 0; i < count; ++i) result[i] = source[i * step];
    }
    copy_zeros(width - count, result + count);
    source += source_pitch;
    result += result_pitch;
  }
}

static void pack_columns(int64_t inner, const int64_t *offsets, const float *frame, const pf_segment *segments,
                         const int64_t *first, int64_t tiles, bool slack, float *panel) {
  // All tiles of a row together: what is read is then long runs of the frame, which hardware fetches ahead.
  for (int64_t k = 0; k < inner; ++k) {
    const float *plane = frame + offsets[k];
    for (int64_t t = 0; t < tiles; ++t) {
      float *row = panel + (t * inner + k) * tile_columns;
      int64_t used = 0;
      for (int64_t s = first[t]; s < first[t + 1]; ++s) {
        const float *source = plane + segments[s].frame;
        float *result = row + segments[s].column;
        const int64_t length = segments[s].length;
        used = segments[s].column + length;
        if (slack) {
          copy_within(length, tile_columns - segments[s].column, source, result);
        } else {
          copy_contiguous(length, source, result);
        }
      }
      copy_zeros(tile_columns - used, row + used);
    }
  }
}

/// address[2 * i] = (or +=) source[i]. Rewrites what lies between the elements: nobody else may be writing there.
PF_INLINE void scatter_alternate(int64_t count, const float *source, float *address, bool accumulate) {
  int64_t i = 0;
  // Touches one element behind the last: the last vector's worth is left to the loop below.
  for (; i + PF_LANES < count; i += PF_LANES) {
    float *low = address + 2 * i, *high = low + PF_LANES;
    const vector x = load(low), y = load(high);
    const vector value = accumulate ? even_lanes(x, y) + load(source + i) : load(source + i);
    store(low, replace_even_low(x, value));
    store(high, replace_even_high(y, value));
  }
  PF_SCALAR for (; i < count; ++i) address[2 * i] = accumulate ? address[2 * i] + source[i] : source[i];
}

PF_INLINE void scatter(int64_t count, const float *source, float *address, int64_t step, bool accumulate) {
  if (step == 1 && !accumulate) {
    copy_contiguous(count, source, address);
  } else if (step == 1) {
    for (int64_t i = 0; i < count; ++i) address[i] += source[i];
  } else if (step == 2) {
    scatter_alternate(count, source, address, accumulate);
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
  vector x[PF_LANES];
  for (int64_t r = 0; r < PF_LANES; ++r) x[r] = r < rows ? load(matrix + r * row_stride) : broadcast(0);
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
