// Multiply-adds in registers, nothing else. As many chains as hide the latency of two units.

static float multiply_add_loop(int64_t iterations, int64_t *operations) {
  enum { chains = 14 };  // with two operands they fit the 16 registers of the smallest set
  vector a = broadcast(0.999f), b = broadcast(0.001f), sum[chains];
  PF_UNROLL for (int32_t c = 0; c < chains; ++c) sum[c] = broadcast((float)c);
  for (int64_t i = 0; i < iterations; ++i) {
    PF_UNROLL for (int32_t c = 0; c < chains; ++c) sum[c] = multiply_add(sum[c], a, b);
  }
  *operations = iterations * chains * PF_LANES * 2;
  vector total = sum[0];
  PF_UNROLL for (int32_t c = 1; c < chains; ++c) total += sum[c];
  return sum_across(total);
}
