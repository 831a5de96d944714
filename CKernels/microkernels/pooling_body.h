// Pooling of one plane. The inner loops run along an output row.

/// A range of an output row.
typedef struct pooling_span {
  int64_t begin, end;
} pooling_span;

/// The part of `span` whose elements o have 0 <= o * stride + offset < extent.
PF_INLINE pooling_span span_inside(pooling_span span, int64_t stride, int64_t offset, int64_t extent) {
  const int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t end = offset >= extent ? 0 : (extent - 1 - offset) / stride + 1;
  return (pooling_span){begin > span.begin ? begin : span.begin, end < span.end ? end : span.end};
}

/// The first tap, of those at start, start + dilation, ..., whose position isn't negative.
PF_INLINE int64_t first_tap(int64_t start, int64_t dilation) {
  return start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
}

// MARK: Maximum

/// One output: any problem.
static void max_pool_one(const pf_pooling2d *p, int64_t top, int64_t left, const float *input, float *output,
                         int32_t *index) {
  const int64_t bottom = top + (p->kernel_height - 1) * p->dilation_height + 1;
  const int64_t right = left + (p->kernel_width - 1) * p->dilation_width + 1;
  const int64_t last_row = bottom < p->input_height ? bottom : p->input_height;
  const int64_t last_column = right < p->input_width ? right : p->input_width;
  float best = -INFINITY;
  int64_t position = -1;  // stays where dilation leaves a window without any element
  for (int64_t row = first_tap(top, p->dilation_height); row < last_row; row += p->dilation_height) {
    for (int64_t column = first_tap(left, p->dilation_width); column < last_column; column += p->dilation_width) {
      const float candidate = input[row * p->input_width + column];
      if (candidate > best || candidate != candidate || position < 0) {
        best = candidate;
        position = row * p->input_width + column;
      }
    }
  }
  *output = best;
  *index = (int32_t)position;
}

PF_INLINE void take_maxima(int64_t count, int64_t stride, const float *x, int32_t position, float *best,
                           int32_t *indices) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const float candidate = x[i * stride];
    const bool taken = candidate > best[i] || candidate != candidate || indices[i] < 0;
    best[i] = taken ? candidate : best[i];
    indices[i] = taken ? position + (int32_t)(i * stride) : indices[i];
  }
}

/// A whole output row, one pass a tap: any problem.
static void max_pool_by_taps(const pf_pooling_plan *plan, int64_t top, const float *input, float *best,
                             int32_t *indices) {
  const pf_pooling2d *p = &plan->problem;
  const pooling_span row = {0, plan->output_width};
  for (int64_t x = 0; x < row.end; ++x) best[x] = -INFINITY, indices[x] = -1;
  for (int64_t i = 0; i < p->kernel_height; ++i) {
    const int64_t y = top + i * p->dilation_height;
    if (y < 0 || y >= p->input_height) continue;
    for (int64_t j = 0; j < p->kernel_width; ++j) {
      const int64_t offset = j * p->dilation_width - p->padding_width;
      const pooling_span inside = span_inside(row, p->stride_width, offset, p->input_width);
      if (inside.begin >= inside.end) continue;
      const int64_t position = y * p->input_width + inside.begin * p->stride_width + offset;
      const int64_t count = inside.end - inside.begin;
      if (p->stride_width == 1) {
        take_maxima(count, 1, input + position, (int32_t)position, best + inside.begin, indices + inside.begin);
      } else {
        take_maxima(count, p->stride_width, input + position, (int32_t)position, best + inside.begin,
                    indices + inside.begin);
      }
    }
  }
}

/// Defines `lanes` outputs of whole windows of kernel x kernel elements, 2 or 3, at a stride of 2. Nothing beyond the
/// windows is read.
#define PF_MAX_POOL_LANES(lanes, evens, odds, iota)                                                                \
  typedef float pool_floats##lanes __attribute__((ext_vector_type(lanes)));                                        \
  typedef int32_t pool_integers##lanes __attribute__((ext_vector_type(lanes)));                                    \
                                                                                                                   \
  PF_INLINE void take_maxima##lanes(pool_floats##lanes candidate, pool_integers##lanes index,                      \
                                    pool_floats##lanes *best, pool_integers##lanes *best_index) {                  \
    const pool_integers##lanes taken = (candidate > *best) | (candidate != candidate);                             \
    *best = (pool_floats##lanes)((taken & (pool_integers##lanes)candidate) | (~taken & (pool_integers##lanes)*best)); \
    *best_index = (taken & index) | (~taken & *best_index);                                                        \
  }                                                                                                                \
                                                                                                                   \
  PF_INLINE void max_pool_windows##lanes(int32_t kernel, const float *x, int64_t width, int32_t position,          \
                                         float *best, int32_t *indices) {                                          \
    const pool_integers##lanes first = position + 2 * (pool_integers##lanes)iota;                                  \
    pool_floats##lanes maximum = -INFINITY;                                                                        \
    pool_integers##lanes index = first;                                                                            \
    for (int32_t row = 0; row < kernel; ++row) {                                                                   \
      const float *source = x + row * width;                                                                       \
      const pool_integers##lanes start = first + (int32_t)(row * width);                                           \
      pool_floats##lanes low, high;                                                                                \
      memcpy(&low, source, sizeof low);                                                                            \
      memcpy(&high, source + lanes, sizeof high);                                                                  \
      take_maxima##lanes(__builtin_shufflevector(low, high, evens), start, &maximum, &index);                      \
      take_maxima##lanes(__builtin_shufflevector(low, high, odds), start + 1, &maximum, &index);                   \
      if (kernel == 3) {                                                                                           \
        memcpy(&low, source + 1, sizeof low);                                                                      \
        memcpy(&high, source + 1 + lanes, sizeof high);                                                            \
        take_maxima##lanes(__builtin_shufflevector(low, high, odds), start + 2, &maximum, &index);                 \
      }                                                                                                            \
    }                                                                                                              \
    memcpy(best, &maximum, sizeof maximum);                                                                        \
    memcpy(indices, &index, sizeof index);                                                                         \
  }

#define PF_EVENS8 0, 2, 4, 6, 8, 10, 12, 14
#define PF_ODDS8 1, 3, 5, 7, 9, 11, 13, 15
#define PF_EVENS4 0, 2, 4, 6
#define PF_ODDS4 1, 3, 5, 7
PF_MAX_POOL_LANES(8, PF_EVENS8, PF_ODDS8, ((pool_integers8){0, 1, 2, 3, 4, 5, 6, 7}))
PF_MAX_POOL_LANES(4, PF_EVENS4, PF_ODDS4, ((pool_integers4){0, 1, 2, 3}))
#undef PF_MAX_POOL_LANES
#undef PF_EVENS8
#undef PF_ODDS8
#undef PF_EVENS4
#undef PF_ODDS4

/// At least four outputs. The last vector overlaps the one before it: it writes the same values again.
PF_INLINE void max_pool_windows(int64_t count, int32_t kernel, const float *x, int64_t width, int32_t position,
                                float *best, int32_t *indices) {
  const int64_t lanes = count >= 8 ? 8 : 4;
  for (int64_t done = 0; done < count; done += lanes) {
    const int64_t i = done + lanes <= count ? done : count - lanes;
    if (lanes == 8) {
      max_pool_windows8(kernel, x + 2 * i, width, position + (int32_t)(2 * i), best + i, indices + i);
    } else {
      max_pool_windows4(kernel, x + 2 * i, width, position + (int32_t)(2 * i), best + i, indices + i);
    }
  }
}

static bool indices_fit(int64_t count, const int32_t *indices, int32_t limit) {
  int32_t wrong = 0;
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) wrong |= indices[i] < -1 || indices[i] >= limit ? 1 : 0;
  return wrong == 0;
}

static void max_pool(const pf_pooling_plan *plan, const float *input, float *output, int32_t *indices) {
  const pf_pooling2d *p = &plan->problem;
  const int64_t outputs = plan->output_width;
  const bool common = p->dilation_height == 1 && p->dilation_width == 1 && p->stride_width == 2 &&
                      p->kernel_height == p->kernel_width && (p->kernel_width == 2 || p->kernel_width == 3);
  // The outputs of a row whose windows lie between the left and the right edge.
  pooling_span whole = {0, 0};
  if (common) {
    whole = span_inside((pooling_span){0, outputs}, 2, -p->padding_width, p->input_width - p->kernel_width + 1);
  }
  for (int64_t y = 0; y < plan->output_height; ++y, output += outputs, indices += outputs) {
    const int64_t top = y * p->stride_height - p->padding_height;
    pooling_span done = {0, 0};
    if (whole.end - whole.begin >= 4 && top >= 0 && top + p->kernel_height <= p->input_height) {
      done = whole;
      const int64_t position = top * p->input_width + whole.begin * 2 - p->padding_width;
      if (p->kernel_width == 2) {
        max_pool_windows(whole.end - whole.begin, 2, input + position, p->input_width, (int32_t)position,
                         output + whole.begin, indices + whole.begin);
      } else {
        max_pool_windows(whole.end - whole.begin, 3, input + position, p->input_width, (int32_t)position,
                         output + whole.begin, indices + whole.begin);
      }
    } else if (outputs >= 16) {
      max_pool_by_taps(plan, top, input, output, indices);
      continue;
    }
    for (int64_t x = 0; x < outputs; ++x) {
      if (x == done.begin) x = done.end;
      if (x < outputs) {
        max_pool_one(p, top, x * p->stride_width - p->padding_width, input, output + x, indices + x);
      }
    }
  }
}

// MARK: Average

/// The number that the sum of a window is divided by: how many of its `kernel` taps from `start` on count.
PF_INLINE int64_t averaged_taps(int64_t start, int64_t kernel, int64_t padding, int64_t extent, bool count_padding) {
  const int64_t end = start + kernel;
  if (count_padding) return (end < extent + padding ? end : extent + padding) - start;
  return (end < extent ? end : extent) - (start > 0 ? start : 0);
}

PF_INLINE void add_taps(int64_t count, int64_t stride, const float *x, float *sums) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) sums[i] += x[i * stride];
}

/// One row of outputs, whose windows start at row `top`: to[x] = from[x] / the number of elements averaged.
static void divide_by_windows(const pf_pooling_plan *plan, int64_t top, const float *from, float *to) {
  const pf_pooling2d *p = &plan->problem;
  const int64_t rows = averaged_taps(top, p->kernel_height, p->padding_height, p->input_height, p->count_include_pad);
  const int64_t outputs = plan->output_width;
  pooling_span whole = span_inside((pooling_span){0, outputs}, p->stride_width, -p->padding_width,
                                   p->input_width - p->kernel_width + 1);
  if (whole.begin >= whole.end) whole = (pooling_span){outputs, outputs};
  const float divisor = (float)(rows * p->kernel_width);
  PF_VECTORIZE
  for (int64_t x = whole.begin; x < whole.end; ++x) to[x] = from[x] / divisor;
  for (int64_t x = 0; x < outputs; ++x) {
    if (x == whole.begin) x = whole.end;
    if (x == outputs) break;
    const int64_t left = x * p->stride_width - p->padding_width;
    to[x] = from[x] / (float)(rows * averaged_taps(left, p->kernel_width, p->padding_width, p->input_width,
                                                   p->count_include_pad));
  }
}

static void average_pool(const pf_pooling_plan *plan, const float *input, float *output) {
  const pf_pooling2d *p = &plan->problem;
  const pooling_span row = {0, plan->output_width};
  for (int64_t y = 0; y < plan->output_height; ++y, output += plan->output_width) {
    const int64_t top = y * p->stride_height - p->padding_height;
    memset(output, 0, (size_t)plan->output_width * sizeof(float));
    for (int64_t i = 0; i < p->kernel_height; ++i) {
      if (top + i < 0 || top + i >= p->input_height) continue;
      const float *input_row = input + (top + i) * p->input_width;
      for (int64_t j = 0; j < p->kernel_width; ++j) {
        const int64_t offset = j - p->padding_width;
        const pooling_span inside = span_inside(row, p->stride_width, offset, p->input_width);
        if (inside.begin >= inside.end) continue;
        const float *x = input_row + inside.begin * p->stride_width + offset;
        const int64_t count = inside.end - inside.begin;
        if (p->stride_width == 1) {
          add_taps(count, 1, x, output + inside.begin);
        } else if (p->stride_width == 2) {
          add_taps(count, 2, x, output + inside.begin);
        } else {
          add_taps(count, p->stride_width, x, output + inside.begin);
        }
      }
    }
    divide_by_windows(plan, top, output, output);
  }
}

static void average_pool_backward(const pf_pooling_plan *plan, const float *output_gradient, float *scratch,
                                  float *input_gradient) {
  const pf_pooling2d *p = &plan->problem;
  const int64_t width = p->input_width, outputs = plan->output_width;
  float *shares = scratch, *row = scratch + outputs;
  memset(input_gradient, 0, (size_t)(p->input_height * width) * sizeof(float));
  for (int64_t y = 0; y < plan->output_height; ++y, output_gradient += outputs) {
    const int64_t top = y * p->stride_height - p->padding_height;
    divide_by_windows(plan, top, output_gradient, shares);
    // Every row under the windows receives the same sums.
    memset(row, 0, (size_t)width * sizeof(float));
    for (int64_t j = p->kernel_width - 1; j >= 0; --j) {
      const int64_t offset = j - p->padding_width;
      const pooling_span inside = span_inside((pooling_span){0, outputs}, p->stride_width, offset, width);
      for (int64_t x = inside.begin; x < inside.end; ++x) row[x * p->stride_width + offset] += shares[x];
    }
    for (int64_t i = 0; i < p->kernel_height; ++i) {
      if (top + i < 0 || top + i >= p->input_height) continue;
      add_taps(width, 1, row, input_gradient + (top + i) * width);
    }
  }
}
