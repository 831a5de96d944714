// The vector type of the instruction set being compiled: PF_LANES floats. Included only by the file of an instruction
// set, through bodies.h.

#include <stdint.h>

// A multiplication and an addition are fused where multiply_add says so and nowhere else: bits must not depend on what
// the compiler finds.
#pragma clang fp contract(off)

typedef float vector __attribute__((ext_vector_type(PF_LANES)));
typedef int32_t integers __attribute__((ext_vector_type(PF_LANES)));  // also a comparison's result: -1 or 0 a lane

/// The same, in memory aligned as float is.
typedef vector unaligned_vector __attribute__((aligned(4)));

#define PF_INLINE static inline __attribute__((always_inline))

/// In front of a loop of constant length: arrays of vectors indexed in it then live in registers.
#define PF_UNROLL _Pragma("clang loop unroll(full)")

/// In front of a loop that must not become gathers or scatters: these are slower than what they replace.
#define PF_SCALAR _Pragma("clang loop vectorize(disable) interleave(disable)")

PF_INLINE vector load(const float *address) { return *(const unaligned_vector *)address; }
PF_INLINE void store(float *address, vector value) { *(unaligned_vector *)address = value; }
PF_INLINE vector broadcast(float value) { return (vector)value; }

/// a * b + c: fused where the instruction set has it, else rounded twice.
PF_INLINE vector multiply_add(vector a, vector b, vector c) {
#if PF_FUSED
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// An activation of each lane; a NaN stays one.
PF_INLINE vector activate(vector x, pf_activation activation) {
  if (activation == pf_activation_none) return x;
  const vector positive = (vector)((integers)x & ~(x <= 0));
  if (activation == pf_activation_relu) return positive;
  const integers over = positive >= 6;
  return (vector)(((integers)positive & ~over) | ((integers)broadcast(6) & over));
}

/// The even lanes of x, then those of y.
PF_INLINE vector even_lanes(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return __builtin_shufflevector(x, y, 0, 2, 4, 6);
#endif
}

/// The odd lanes of x, then those of y.
PF_INLINE vector odd_lanes(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  return __builtin_shufflevector(x, y, 1, 3, 5, 7);
#endif
}

/// The last lane of x and all but the last of y; all but the first lane of x and the first of y.
PF_INLINE vector lanes_before(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 7, 8, 9, 10, 11, 12, 13, 14);
#else
  return __builtin_shufflevector(x, y, 3, 4, 5, 6);
#endif
}
PF_INLINE vector lanes_behind(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 1, 2, 3, 4, 5, 6, 7, 8);
#else
  return __builtin_shufflevector(x, y, 1, 2, 3, 4);
#endif
}

/// The first, or the second, halves of x and y, alternating.
PF_INLINE vector alternate_low(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(x, y, 0, 4, 1, 5);
#endif
}
PF_INLINE vector alternate_high(vector x, vector y) {
#if PF_LANES == 16
  return __builtin_shufflevector(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif PF_LANES == 8
  return __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(x, y, 2, 6, 3, 7);
#endif
}

// Half of the way of summing across lanes: fold_k(x, y) adds the halves of each block of 2k lanes; x's sums come first.
#if PF_LANES == 16
PF_INLINE vector fold_8(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
         __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
PF_INLINE vector fold_4(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
PF_INLINE vector fold_2(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
         __builtin_shufflevector(x, y, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}
#elif PF_LANES == 8
PF_INLINE vector fold_4(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
}
PF_INLINE vector fold_2(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 4, 5, 8, 9, 12, 13) +
         __builtin_shufflevector(x, y, 2, 3, 6, 7, 10, 11, 14, 15);
}
#else
PF_INLINE vector fold_2(vector x, vector y) {
  return __builtin_shufflevector(x, y, 0, 1, 4, 5) + __builtin_shufflevector(x, y, 2, 3, 6, 7);
}
#endif
PF_INLINE vector fold_1(vector x, vector y) { return even_lanes(x, y) + odd_lanes(x, y); }

/// The sums across the lanes of PF_LANES vectors, in their order. Each sum's order of additions is the same.
PF_INLINE vector sums_across(const vector x[PF_LANES]) {
  vector y[PF_LANES];
  PF_UNROLL for (int32_t i = 0; i < PF_LANES; ++i) y[i] = x[i];
#if PF_LANES == 16
  PF_UNROLL for (int32_t i = 0; i < 8; ++i) y[i] = fold_8(y[2 * i], y[2 * i + 1]);
#endif
#if PF_LANES >= 8
  PF_UNROLL for (int32_t i = 0; i < 4; ++i) y[i] = fold_4(y[2 * i], y[2 * i + 1]);
#endif
  PF_UNROLL for (int32_t i = 0; i < 2; ++i) y[i] = fold_2(y[2 * i], y[2 * i + 1]);
  return fold_1(y[0], y[1]);
}

/// The sum across the lanes of one vector, in the order of sums_across.
PF_INLINE float sum_across(vector x) {
#if PF_LANES == 16
  x = fold_8(x, x);
#endif
#if PF_LANES >= 8
  x = fold_4(x, x);
#endif
  x = fold_2(x, x);
  return fold_1(x, x)[0];
}
