// Exponential, logarithm and hyperbolic tangent of a float as straight-line code that the compiler vectorises: a loop's
// vector body and its scalar remainder give the same bits. Special values are C's. Included by operations_body.h once
// for each instruction set.
//
// The polynomials are minimax fits (Remez) of this project. Largest errors, over all floats, with and without fused
// multiply-add: exp1 1.01 ulp, log1 0.83 ulp, tanh1 1.34 ulp, sigmoid1 2.41 ulp.

/// a * b + c, as multiply_add of a vector.
PF_INLINE float multiply_add1(float a, float b, float c) {
#if PF_FUSED
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

PF_INLINE float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

PF_INLINE uint32_t to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

PF_INLINE float exp1(float x) {
  // Beyond these the result is infinite or zero; comparisons are false for a NaN, which passes.
  x = x > 100.0f ? 100.0f : x;
  x = x < -110.0f ? -110.0f : x;
  // Cody and Waite: x = n ln 2 + r. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const float shifted = x * 0x1.715476p+0f + 0x1.8p23f;
  const float n = shifted - 0x1.8p23f;
  const float r = multiply_add1(n, 0x1.bd0106p-13f, multiply_add1(n, -0x1.63p-1f, x));
  float q = 0x1.6a1a72p-10f;
  q = multiply_add1(q, r, 0x1.123fc6p-7f);
  q = multiply_add1(q, r, 0x1.555916p-5f);
  q = multiply_add1(q, r, 0x1.55548ap-3f);
  q = multiply_add1(q, r, 0x1.fffffcp-2f);
  const float p = multiply_add1(r * r, q, r) + 1.0f;
  // 2^n in two factors: n reaches -159 and 144. Unsigned, so that a NaN's n overflows harmlessly.
  const uint32_t integer = to_bits(shifted) - to_bits(0x1.8p23f);
  const uint32_t half = (uint32_t)((int32_t)integer >> 1);
  return p * from_bits((half + 127) << 23) * from_bits((integer - half + 127) << 23);
}

PF_INLINE float log1(float x) {
  const bool tiny = x < 0x1p-126f;  // denormals are scaled up; zero and negative numbers are replaced at the end
  const float scaled = tiny ? x * 0x1p23f : x;
  // scaled = 2^k m with m in [sqrt(1/2), sqrt(2))
  const uint32_t bits = to_bits(scaled) - 0x3f3504f3u;
  const int32_t k = ((int32_t)bits >> 23) - (tiny ? 23 : 0);
  const float f = from_bits((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float q = 0x1.1b423ep-4f;
  q = multiply_add1(q, f, -0x1.e2e946p-4f);
  q = multiply_add1(q, f, 0x1.e650a0p-4f);
  q = multiply_add1(q, f, -0x1.fb433cp-4f);
  q = multiply_add1(q, f, 0x1.2332c2p-3f);
  q = multiply_add1(q, f, -0x1.5562e2p-3f);
  q = multiply_add1(q, f, 0x1.99a546p-3f);
  q = multiply_add1(q, f, -0x1.ffffeep-3f);
  q = multiply_add1(q, f, 0x1.555546p-2f);
  const float square = f * f;
  const float exponent = (float)k;
  float tail = multiply_add1(exponent, -0x1.bd0106p-13f, square * f * q);
  tail = multiply_add1(square, -0.5f, tail);
  float result = multiply_add1(exponent, 0x1.63p-1f, f + tail);
  result = x == 0 ? -INFINITY : result;
  result = x < 0 ? NAN : result;
  return x < INFINITY ? result : x;  // infinity and NaN
}

/// 1 / (1 + e^-x), from the exponential of -|x|, which can't overflow: the left tail keeps its relative accuracy.
PF_INLINE float sigmoid1(float x) {
  const float e = exp1(-__builtin_fabsf(x));
  return (x >= 0 ? 1.0f : e) / (1.0f + e);
}

PF_INLINE float tanh1(float x) {
  const float magnitude = __builtin_fabsf(x);
  const float z = x * x;
  float q = -0x1.830c1ep-8f;
  q = multiply_add1(q, z, 0x1.54e020p-6f);
  q = multiply_add1(q, z, -0x1.b89edap-5f);
  q = multiply_add1(q, z, 0x1.1109dcp-3f);
  q = multiply_add1(q, z, -0x1.55553ep-2f);
  const float small = multiply_add1(x * z, q, x);
  const float large = 1.0f - 2.0f / (exp1(magnitude + magnitude) + 1.0f);
  return __builtin_copysignf(magnitude < 0.6f ? small : large, x);  // also of -0
}
