// The vector type of the instruction set being compiled: PF_LANES floats. Included only by the file of an instruction set.

#include <stdint.h>

// A multiplication and an addition are fused where multiply_add says so and nowhere else: bits must not depend on what the
// compiler finds.
#pragma clang fp contract(off)

typedef float vector __attribute__((ext_vector_type(PF_LANES)));
typedef int32_t integers __attribute__((ext_vector_type(PF_LANES)));  // also a comparison's result: -1 or 0 a lane

/// The same, in memory aligned as float is.
typedef vector unaligned_vector __attribute__((aligned(4)));

#define PF_INLINE static inline __attribute__((always_inline))

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
