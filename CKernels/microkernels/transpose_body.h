// A square of PF_LANES x PF_LANES floats transposed in registers, and vectors that are partly outside of their row.

// unpack_k: the lower (upper) halves of each four lanes of x and y, alternating by k lanes.
#if PF_LANES == 16
#define PF_UNPACK(x, y, a, b, c, d)                                                                            \
  __builtin_shufflevector(x, y, a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, \
                          c + 12, d + 12)
#elif PF_LANES == 8
#define PF_UNPACK(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d, a + 4, b + 4, c + 4, d + 4)
#else
#define PF_UNPACK(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#endif

/// Lane j of vector i becomes lane i of vector j.
PF_INLINE void transpose(vector x[PF_LANES]) {
  // Squares of 4 x 4 within each four lanes.
  PF_UNROLL for (int32_t i = 0; i < PF_LANES; i += 4) {
    const vector low01 = PF_UNPACK(x[i], x[i + 1], 0, PF_LANES, 1, PF_LANES + 1);
    const vector high01 = PF_UNPACK(x[i], x[i + 1], 2, PF_LANES + 2, 3, PF_LANES + 3);
    const vector low23 = PF_UNPACK(x[i + 2], x[i + 3], 0, PF_LANES, 1, PF_LANES + 1);
    const vector high23 = PF_UNPACK(x[i + 2], x[i + 3], 2, PF_LANES + 2, 3, PF_LANES + 3);
    x[i] = PF_UNPACK(low01, low23, 0, 1, PF_LANES, PF_LANES + 1);
    x[i + 1] = PF_UNPACK(low01, low23, 2, 3, PF_LANES + 2, PF_LANES + 3);
    x[i + 2] = PF_UNPACK(high01, high23, 0, 1, PF_LANES, PF_LANES + 1);
    x[i + 3] = PF_UNPACK(high01, high23, 2, 3, PF_LANES + 2, PF_LANES + 3);
  }
  // Then whole fours of lanes change places.
#if PF_LANES == 8
  PF_UNROLL for (int32_t i = 0; i < 4; ++i) {
    const vector a = x[i], b = x[i + 4];
    x[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    x[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#elif PF_LANES == 16
  PF_UNROLL for (int32_t i = 0; i < 4; ++i) {
    const vector a = x[i], b = x[i + 4], c = x[i + 8], d = x[i + 12];
    const vector low_ab = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    const vector high_ab = __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    const vector low_cd = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    const vector high_cd = __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    x[i] = __builtin_shufflevector(low_ab, low_cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    x[i + 4] = __builtin_shufflevector(low_ab, low_cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    x[i + 8] = __builtin_shufflevector(high_ab, high_cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    x[i + 12] = __builtin_shufflevector(high_ab, high_cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
#endif
}

#undef PF_UNPACK

/// Copies 0 <= count <= PF_LANES floats. The source may be read, and nothing else is written, up to PF_LANES.
PF_INLINE void copy_first(int64_t count, const float *source, float *result) {
  typedef float four __attribute__((ext_vector_type(4), aligned(4)));
#if PF_LANES == 16
  typedef float eight __attribute__((ext_vector_type(8), aligned(4)));
  if (count == 16) {
    store(result, load(source));
    return;
  }
  if (count >= 8) {
    *(eight *)result = *(const eight *)source;
    *(eight *)(result + count - 8) = *(const eight *)(source + count - 8);
    return;
  }
#elif PF_LANES == 8
  if (count == 8) {
    store(result, load(source));
    return;
  }
#endif
  if (count >= 4) {
    *(four *)result = *(const four *)source;
    *(four *)(result + count - 4) = *(const four *)(source + count - 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) result[i] = source[i];
}

/// The first `count` floats, then zeros.
PF_INLINE vector load_first(int64_t count, const float *source) {
  if (count >= PF_LANES) return load(source);
  float lanes[PF_LANES] = {0};
  for (int64_t i = 0; i < count; ++i) lanes[i] = source[i];
  return load(lanes);
}
