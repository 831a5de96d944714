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

PF_INLINE void take_maxima(int64_t count, int64_t stride, const float *x, int32_t position, float *best,
                           int32_t *indices) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    const float candidate = x[i * stride];
    const bool taken = candidate > best[i] || candidate != candidate;
    best[i] = taken ? candidate : best[i];
    indices[i] = taken ? position + (int32_t)(i * stride) : indices[i];
  }
}

/// Part of an output row, one pass a tap: any problem.
static void max_pool_by_taps(const pf_pooling_plan *plan, int64_t y, pooling_span span, const float *input, float *best,
                             int32_t *indices) {
  const pf_pooling2d *p = &plan->problem;
  const int64_t top = y * p->stride_height - p->padding_height;
  // A window of nothing but minus infinity gives its first element; one that holds no element at all, -1.
  const int64_t first_row = first_tap(top, p->dilation_height);
  const bool any_row = first_row < p->input_height && first_row <= top + (p->kernel_height - 1) * p->dilation_height;
  for (int64_t x = span.begin; x < span.end; ++x) {
    const int64_t left = x * p->stride_width - p->padding_width;
    const int64_t column = first_tap(left, p->dilation_width);
    const bool any = any_row && column < p->input_width && column <= left + (p->kernel_width - 1) * p->dilation_width;
    best[x] = -INFINITY;
    indices[x] = any ? (int32_t)(first_row * p->input_width + column) : -1;
  }
  for (int64_t i = 0; i < p->kernel_height; ++i) {
    const int64_t row = top + i * p->dilation_height;
    if (row < 0 || row >= p->input_height) continue;
    for (int64_t j = 0; j < p->kernel_width; ++j) {
      const int64_t offset = j * p->dilation_width - p->padding_width;
      const pooling_span inside = span_inside(span, p->stride_width, offset, p->input_width);
      if (inside.begin >= inside.end) continue;
      const int64_t position = row * p->input_width + inside.begin * p->stride_width + offset;
      const int64_t count = inside.end - inside.begin;
      if (p->stride_width == 1) {
        take_maxima(count, 1, input + position, (int32_t)position, best + inside.begin, indices + inside.begin);
      } else if (p->stride_width == 2) {
        take_maxima(count, 2, input + position, (int32_t)position, best + inside.begin, indices + inside.begin);
      } else {
        take_maxima(count, p->stride_width, input + position, (int32_t)position, best + inside.begin,
                    indices + inside.begin);
      }
    }
  }
}

/// Whole windows of kernel x kernel elements at a stride of 2, in one sweep.
PF_INLINE void max_pool_windows(int64_t count, int32_t kernel, const float *x, int64_t width, int32_t position,
                                float *best, int32_t *indices) {
  PF_VECTORIZE
  for (int64_t i = 0; i < count; ++i) {
    float maximum = -INFINITY;
    int32_t index = position + (int32_t)(i * 2);
#pragma clang loop unroll(full)
    for (int32_t row = 0; row < kernel; ++row) {
#pragma clang loop unroll(full)
      for (int32_t column = 0; column < kernel; ++column) {
        const float candidate = x[row * width + i * 2 + column];
        const bool taken = candidate > maximum || candidate != candidate;
        maximum = taken ? candidate : maximum;
        index = taken ? position + (int32_t)(row * width + i * 2) + column : index;
      }
    }
    best[i] = maximum;
    indices[i] = index;
  }
}

static void max_pool(const pf_pooling_plan *plan, const float *input, float *output, int32_t *indices) {
  const pf_pooling2d *p = &plan->problem;
  const bool common = p->dilation_height == 1 && p->dilation_width == 1 && p->stride_width == 2 &&
                      p->kernel_height == p->kernel_width && (p->kernel_width == 2 || p->kernel_width == 3);
  const pooling_span row = {0, plan->output_width};
  for (int64_t y = 0; y < plan->output_height; ++y, output += plan->output_width, indices += plan->output_width) {
    const int64_t top = y * p->stride_height - p->padding_height;
    pooling_span whole = {0, 0};
    if (common && top >= 0 && top + p->kernel_height <= p->input_height) {
      whole = span_inside(row, 2, -p->padding_width, p->input_width - p->kernel_width + 1);
    }
    if (whole.begin >= whole.end) {
      max_pool_by_taps(plan, y, row, input, output, indices);
      continue;
    }
    const int64_t position = top * p->input_width + whole.begin * 2 - p->padding_width;
    const int64_t count = whole.end - whole.begin;
    if (p->kernel_width == 2) {
      max_pool_windows(count, 2, input + position, p->input_width, (int32_t)position, output + whole.begin,
                       indices + whole.begin);
    } else {
      max_pool_windows(count, 3, input + position, p->input_width, (int32_t)position, output + whole.begin,
                       indices + whole.begin);
    }
    max_pool_by_taps(plan, y, (pooling_span){0, whole.begin}, input, output, indices);
    max_pool_by_taps(plan, y, (pooling_span){whole.end, row.end}, input, output, indices);
  }
}

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
    const int64_t rows = averaged_taps(top, p->kernel_height, p->padding_height, p->input_height, p->count_include_pad);
    for (int64_t x = 0; x < plan->output_width; ++x) {
      const int64_t left = x * p->stride_width - p->padding_width;
      output[x] /= (float)(rows * averaged_taps(left, p->kernel_width, p->padding_width, p->input_width,
                                                p->count_include_pad));
    }
  }
}

static void average_pool_backward(const pf_pooling_plan *plan, const float *output_gradient, float *input_gradient) {
  const pf_pooling2d *p = &plan->problem;
  memset(input_gradient, 0, (size_t)(p->input_height * p->input_width) * sizeof(float));
  for (int64_t y = 0; y < plan->output_height; ++y) {
    const int64_t top = y * p->stride_height - p->padding_height;
    const int64_t rows = averaged_taps(top, p->kernel_height, p->padding_height, p->input_height, p->count_include_pad);
    for (int64_t x = 0; x < plan->output_width; ++x) {
      const int64_t left = x * p->stride_width - p->padding_width;
      const int64_t columns = averaged_taps(left, p->kernel_width, p->padding_width, p->input_width,
                                            p->count_include_pad);
      const float share = *output_gradient++ / (float)(rows * columns);
      for (int64_t i = top < 0 ? -top : 0; i < p->kernel_height && top + i < p->input_height; ++i) {
        float *row = input_gradient + (top + i) * p->input_width;
        for (int64_t j = left < 0 ? -left : 0; j < p->kernel_width && left + j < p->input_width; ++j) {
          row[left + j] += share;
        }
      }
    }
  }
}
