// Multiply-adds in registers, nothing else. As many chains as hide the latency of two units.

PF_INLINE float peak_sum(vector value) {
  float sum = 0;
  for (int32_t i = 0; i < PF_LANES; ++i) sum += value[i];
  return sum;
}

static float multiply_add_loop(int64_t iterations, int64_t *operations) {
  enum { chains = 10 };  // 10 accumulators and 2 operands fit the 16 registers of the smallest set
  vector a = broadcast(0.999f), b = broadcast(0.001f);
  vector c0 = b, c1 = b, c2 = b, c3 = b, c4 = b, c5 = b, c6 = b, c7 = b, c8 = b, c9 = b;
  for (int64_t i = 0; i < iterations; ++i) {
    c0 = multiply_add(c0, a, b), c1 = multiply_add(c1, a, b), c2 = multiply_add(c2, a, b);
    c3 = multiply_add(c3, a, b), c4 = multiply_add(c4, a, b), c5 = multiply_add(c5, a, b);
    c6 = multiply_add(c6, a, b), c7 = multiply_add(c7, a, b), c8 = multiply_add(c8, a, b);
    c9 = multiply_add(c9, a, b);
  }
  *operations = iterations * chains * PF_LANES * 2;
  return peak_sum(((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + (c8 + c9));
}
