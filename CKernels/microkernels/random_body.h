// Random numbers. Integer arithmetic, and double arithmetic without fused multiply-add: the same bits on every
// instruction set.

enum { philox_batch = 8 };  // counters worked on side by side; each gives four words

// A word of each counter, in 64 bits: a product of two words then is one instruction.
typedef uint64_t philox_words __attribute__((ext_vector_type(philox_batch)));
typedef uint64_t philox_pairs __attribute__((ext_vector_type(2 * philox_batch)));

/// The words of counters block ..< block + philox_batch: Philox 4x32-10 of counter (block, stream) and key seed, in the
/// order of the original's four words.
PF_INLINE void philox(uint64_t seed, uint64_t stream, uint64_t block, uint32_t words[4 * philox_batch]) {
  const philox_words low_half = 0xFFFFFFFF;
  const philox_words counters = block + (philox_words){0, 1, 2, 3, 4, 5, 6, 7};
  philox_words x0 = counters & low_half, x1 = counters >> 32, x2 = stream & 0xFFFFFFFF, x3 = stream >> 32;
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  for (int32_t round = 0; round < 10; ++round) {
    const philox_words product0 = (x0 & low_half) * 0xD2511F53, product1 = (x2 & low_half) * 0xCD9E8D57;
    x0 = (product1 >> 32) ^ x1 ^ (uint64_t)key0;
    x1 = product1 & low_half;
    x2 = (product0 >> 32) ^ x3 ^ (uint64_t)key1;
    x3 = product0 & low_half;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  // in memory: the low word of a 64-bit lane first
  const philox_words front = x0 | x1 << 32, back = x2 | x3 << 32;
  const philox_pairs pairs = __builtin_shufflevector(front, back, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  memcpy(words, &pairs, sizeof pairs);
}

/// A stretch of a stream: words[begin ..< end] are those of consecutive elements.
typedef struct random_words {
  uint32_t words[4 * philox_batch];
  int64_t begin, end;
} random_words;

/// The words from `element` on, at most `count`, at least 1.
PF_INLINE void draw_words(uint64_t seed, uint64_t stream, uint64_t element, int64_t count, random_words *drawn) {
  const int64_t batch_words = 4 * philox_batch;
  drawn->begin = (int64_t)(element % (uint64_t)batch_words);
  drawn->end = count < batch_words - drawn->begin ? drawn->begin + count : batch_words;
  philox(seed, stream, element / (uint64_t)batch_words * philox_batch, drawn->words);
}

static void random_bits(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *result) {
  random_words drawn;
  for (int64_t done = 0; done < count; done += drawn.end - drawn.begin) {
    draw_words(seed, stream, first + (uint64_t)done, count - done, &drawn);
    memcpy(result + done, drawn.words + drawn.begin, (size_t)(drawn.end - drawn.begin) * sizeof(uint32_t));
  }
}

PF_INLINE float next_below(float x) {
  // bits of a float are ordered as integers are, downwards for negative ones
  if (x == 0) return -0x1p-149f;
  return from_bits(x > 0 ? to_bits(x) - 1 : to_bits(x) + 1);
}

static void random_uniform(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float low, float high,
                           float *result) {
  const double start = (double)low, width = (double)high - (double)low;
  const float largest = low < high ? next_below(high) : low;  // rounding must not reach high
  random_words drawn;
  for (int64_t done = 0; done < count; done += drawn.end - drawn.begin) {
    draw_words(seed, stream, first + (uint64_t)done, count - done, &drawn);
    float *target = result + done - drawn.begin;
    PF_VECTORIZE
    for (int64_t i = drawn.begin; i < drawn.end; ++i) {
      const float value = (float)(start + (double)(int32_t)(drawn.words[i] >> 8) * 0x1p-24 * width);
      target[i] = value > largest ? largest : value;
    }
  }
}

PF_INLINE double double_from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// sqrt(-2 ln u) for u = (word + 1) / 2^32, which is in (0, 1].
PF_INLINE double normal_radius(uint32_t word) {
  // word + 1 exactly, through the mantissa of 2^52
  const double n = double_from_bits(0x4330000000000000u | ((uint64_t)word + 1)) - 0x1p52;
  uint64_t bits;
  memcpy(&bits, &n, sizeof bits);
  // n = 2^k m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m - 1) / (m + 1))
  const uint64_t offset = bits - 0x3fe6a09e667f3bcdu;
  const double k = double_from_bits(0x4330000000000000u | (offset >> 52)) - 0x1p52;
  const double m = double_from_bits((offset & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
  const double s = (m - 1) / (m + 1), z = s * s;
  double series = 1.0 / 13;
  series = series * z + 1.0 / 11;
  series = series * z + 1.0 / 9;
  series = series * z + 1.0 / 7;
  series = series * z + 1.0 / 5;
  series = series * z + 1.0 / 3;
  const double logarithm = (k - 32) * 0x1.62e42fefa39efp-1 + 2 * (s + s * z * series);
  // 0 at u = 1, not below by a rounding
  return __builtin_sqrt(logarithm < 0 ? -2 * logarithm : 0.0);
}

/// Cosine and sine of 2 pi word / 2^32.
PF_INLINE void normal_direction(uint32_t word, double *cosine, double *sine) {
  const uint32_t quarter = (word + 0x20000000u) >> 30;
  const double angle = (double)(int32_t)(word - (quarter << 30)) * (0x1.921fb54442d18p+2 * 0x1p-32);  // within pi / 4
  const double z = angle * angle;
  double s = -1.0 / 39916800;
  s = s * z + 1.0 / 362880;
  s = s * z - 1.0 / 5040;
  s = s * z + 1.0 / 120;
  s = s * z - 1.0 / 6;
  s = angle + angle * z * s;
  double c = 1.0 / 479001600;
  c = c * z - 1.0 / 3628800;
  c = c * z + 1.0 / 40320;
  c = c * z - 1.0 / 720;
  c = c * z + 1.0 / 24;
  c = c * z - 0.5;
  c = 1 + z * c;
  const bool swapped = (quarter & 1) != 0;
  const double along = swapped ? s : c, across = swapped ? c : s;
  *cosine = quarter == 1 || quarter == 2 ? -along : along;
  *sine = (quarter & 2) != 0 ? -across : across;
}

static void random_normal(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float mean,
                          float standard_deviation, float *result) {
  const double center = (double)mean, deviation = (double)standard_deviation;
  random_words drawn;
  for (int64_t done = 0; done < count; done += drawn.end - drawn.begin) {
    draw_words(seed, stream, first + (uint64_t)done, count - done, &drawn);
    // Box and Muller make two numbers of two words.
    float values[4 * philox_batch];
    PF_VECTORIZE
    for (int32_t i = 0; i < 2 * philox_batch; ++i) {
      const double radius = normal_radius(drawn.words[2 * i]);
      double cosine, sine;
      normal_direction(drawn.words[2 * i + 1], &cosine, &sine);
      values[2 * i] = (float)(center + deviation * (radius * cosine));
      values[2 * i + 1] = (float)(center + deviation * (radius * sine));
    }
    memcpy(result + done, values + drawn.begin, (size_t)(drawn.end - drawn.begin) * sizeof(float));
  }
}

static void dropout(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float probability, const float *x,
                    float *result) {
  const float kept = 1.0f - probability;
  random_words drawn;
  for (int64_t done = 0; done < count; done += drawn.end - drawn.begin) {
    draw_words(seed, stream, first + (uint64_t)done, count - done, &drawn);
    const float *source = x + done - drawn.begin;
    float *target = result + done - drawn.begin;
    PF_VECTORIZE
    for (int64_t i = drawn.begin; i < drawn.end; ++i) {
      const float uniform = (float)(int32_t)(drawn.words[i] >> 8) * 0x1p-24f;
      target[i] = uniform >= probability ? source[i] / kept : 0.0f;
    }
  }
}
