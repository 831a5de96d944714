// Sums in a fixed order.

static float sum(int64_t count, const float *x) {
  vector sum0 = broadcast(0), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t i = 0;
  for (; i + 4 * PF_LANES <= count; i += 4 * PF_LANES) {
    sum0 += load(x + i);
    sum1 += load(x + i + PF_LANES);
    sum2 += load(x + i + 2 * PF_LANES);
    sum3 += load(x + i + 3 * PF_LANES);
  }
  for (; i + PF_LANES <= count; i += PF_LANES) sum0 += load(x + i);
  float total = sum_across((sum0 + sum1) + (sum2 + sum3));
  for (; i < count; ++i) total += x[i];
  return total;
}

static void finish_gradient(int64_t count, int64_t parts, const float *partials, int64_t part_stride,
                            const uint8_t *mask, bool accumulate, float *result) {
  typedef uint8_t bytes __attribute__((ext_vector_type(PF_LANES)));
  typedef bytes unaligned_bytes __attribute__((aligned(1)));
  int64_t i = 0;
  for (; i + PF_LANES <= count; i += PF_LANES) {
    vector total = parts == 0 ? broadcast(0) : load(partials + i);
    for (int64_t p = 1; p < parts; ++p) total += load(partials + p * part_stride + i);
    if (accumulate) total = load(result + i) + total;
    if (mask != NULL) {
      const integers kept = __builtin_convertvector(*(const unaligned_bytes *)(mask + i), integers);
      total = kept != 0 ? total : broadcast(0);
    }
    store(result + i, total);
  }
  PF_SCALAR for (; i < count; ++i) {
    float total = parts == 0 ? 0 : partials[i];
    for (int64_t p = 1; p < parts; ++p) total += partials[p * part_stride + i];
    if (accumulate) total = result[i] + total;
    result[i] = mask == NULL || mask[i] != 0 ? total : 0.0f;
  }
}
