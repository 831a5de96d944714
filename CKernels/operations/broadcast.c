// Binary elementwise operations with broadcasting.

#include "operations/strided.h"

typedef struct binary_work {
  void (*leaf)(int64_t count, const float *a, int64_t step_a, const float *b, int64_t step_b, float *result);
  const pf_views *views;
  const float *a, *b;
  float *result;
} binary_work;

/// A run along the last axis. An operand that the leaf can't walk is gathered, a piece at a time.
static void run_row(const binary_work *work, int64_t count, const float *a, int64_t stride_a, const float *b,
                    int64_t stride_b, float *result) {
  const bool walks_a = stride_a == 0 || stride_a == 1, walks_b = stride_b == 0 || stride_b == 1;
  if (walks_a && walks_b) {
    work->leaf(count, a, stride_a, b, stride_b, result);
    return;
  }
  enum { piece = 256 };
  float gathered_a[piece], gathered_b[piece];
  for (int64_t done = 0; done < count; done += piece) {
    const int64_t length = pf_minimum_of(piece, count - done);
    const float *piece_a = a + done * stride_a, *piece_b = b + done * stride_b;
    if (!walks_a) {
      for (int64_t i = 0; i < length; ++i) gathered_a[i] = piece_a[i * stride_a];
      piece_a = gathered_a;
    }
    if (!walks_b) {
      for (int64_t i = 0; i < length; ++i) gathered_b[i] = piece_b[i * stride_b];
      piece_b = gathered_b;
    }
    work->leaf(length, piece_a, stride_a != 0, piece_b, stride_b != 0, result + done);
  }
}

static void binary_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const binary_work *work = argument;
  const pf_views *views = work->views;
  const int32_t last = views->rank - 1;
  const int64_t length = views->shape[last], stride_a = views->strides[0][last], stride_b = views->strides[1][last];
  while (begin < end) {
    const int64_t column = begin % length, count = pf_minimum_of(length - column, end - begin);
    int64_t offsets[pf_most_operands];
    pf_locate(views, last, begin / length, offsets);
    run_row(work, count, work->a + offsets[0] + column * stride_a, stride_a,
            work->b + offsets[1] + column * stride_b, stride_b, work->result + begin);
    begin += count;
  }
}

pf_status pf_elementwise_binary(const pf_context *context, pf_binary operation, int32_t rank, const int64_t *shape,
                                const float *a, const int64_t *strides_a, const float *b, const int64_t *strides_b,
                                float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_REQUIRE(operation >= 0 && operation < (pf_binary)pf_binary_count, pf_error_value);
  pf_views views;
  PF_TRY(pf_read_views(rank, shape, 2, (const int64_t *const[]){strides_a, strides_b}, &views));
  if (views.count == 0) return pf_ok;
  PF_REQUIRE(a != NULL && b != NULL && result != NULL, pf_error_null);
  binary_work work = {settings.kernels->operations.binary[operation], &views, a, b, result};
  pf_parallel(&settings, views.count, 24, binary_range, &work);
  return pf_ok;
}
