// Reductions. Sums are kept in double, in a number of lanes that is the same for every instruction set: so are their
// bits.

enum { reduction_lanes = pf_reduction_lanes };
typedef float float_lanes __attribute__((ext_vector_type(reduction_lanes)));
typedef double double_lanes __attribute__((ext_vector_type(reduction_lanes)));
typedef int32_t integer_lanes __attribute__((ext_vector_type(reduction_lanes)));

/// The elements x[0 ..< min(count, lanes)] and `filling` behind them.
PF_INLINE float_lanes load_lanes(const float *x, int64_t count, float filling) {
  float_lanes lanes = filling;
  if (count >= reduction_lanes) {
    memcpy(&lanes, x, sizeof lanes);
  } else {
    memcpy(&lanes, x, (size_t)count * sizeof(float));
  }
  return lanes;
}

PF_INLINE double_lanes widen(float_lanes lanes) { return __builtin_convertvector(lanes, double_lanes); }

/// a * b + c, as multiply_add of a vector.
PF_INLINE float_lanes multiply_add_lanes(float_lanes a, float_lanes b, float_lanes c) {
#if PF_FUSED
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// The same in double precision.
PF_INLINE double_lanes multiply_add_wide(double_lanes a, double_lanes b, double_lanes c) {
#if PF_FUSED
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

PF_INLINE double sum_of_lanes(double_lanes lanes) {
  double sums[reduction_lanes];
  memcpy(sums, &lanes, sizeof sums);
  for (int32_t width = reduction_lanes / 2; width > 0; width /= 2) {
    for (int32_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

static double rows_sum(pf_rows shape, const float *x) {
  double_lanes sums = 0, others = 0;  // two chains of additions hide each other's latency
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride) {
    int64_t i = 0;
    for (; i + 2 * reduction_lanes <= shape.columns; i += 2 * reduction_lanes) {
      sums += widen(load_lanes(x + i, reduction_lanes, 0));
      others += widen(load_lanes(x + i + reduction_lanes, reduction_lanes, 0));
    }
    for (; i < shape.columns; i += reduction_lanes) sums += widen(load_lanes(x + i, shape.columns - i, 0));
  }
  return sum_of_lanes(sums + others);
}

PF_INLINE double_lanes squared_deviations(float_lanes x, double mean) {
  const double_lanes deviations = widen(x) - mean;
  return deviations * deviations;
}

PF_INLINE double_lanes load_sums(const double *sums) {
  double_lanes lanes;
  memcpy(&lanes, sums, sizeof lanes);
  return lanes;
}

PF_INLINE void store_sums(double *sums, double_lanes lanes) { memcpy(sums, &lanes, sizeof lanes); }

static void rows_moments(pf_rows shape, int64_t ahead, double origin, const float *x, pf_lane_sums *sums) {
  double_lanes deviations = load_sums(sums->lanes[0]), squares = load_sums(sums->lanes[1]);
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride) {
    int64_t i = 0;
    for (; i + reduction_lanes <= shape.columns; i += reduction_lanes) {
      if (ahead != 0) __builtin_prefetch(x + i + ahead);
      const double_lanes deviation = widen(load_lanes(x + i, reduction_lanes, 0)) - origin;
      deviations += deviation;
      squares = multiply_add_wide(deviation, deviation, squares);
    }
    const int64_t rest = shape.columns - i;
    if (rest > 0) {
      const double_lanes deviation = widen(load_lanes(x + i, rest, (float)origin)) - origin;
      deviations += deviation;
      squares = multiply_add_wide(deviation, deviation, squares);
    }
  }
  store_sums(sums->lanes[0], deviations);
  store_sums(sums->lanes[1], squares);
}

static double sum_elements(int64_t count, const float *x) { return rows_sum((pf_rows){1, count, count}, x); }

static void add_rows(pf_rows shape, const float *x, double *sums) {
  for (int64_t row = 0; row < shape.rows; ++row, x += shape.stride) {
    PF_VECTORIZE
    for (int64_t i = 0; i < shape.columns; ++i) sums[i] += (double)x[i];
  }
}

static double sum_of_squares(int64_t count, const float *x, const uint8_t *gradient_mask) {
  double_lanes sums = 0;
  for (int64_t i = 0; i < count; i += reduction_lanes) {
    const int64_t rest = count - i < reduction_lanes ? count - i : reduction_lanes;
    float selected[reduction_lanes] = {0};
    if (gradient_mask == NULL) {
      for (int64_t lane = 0; lane < rest; ++lane) selected[lane] = x[i + lane];
    } else {
      for (int64_t lane = 0; lane < rest; ++lane) selected[lane] = gradient_mask[i + lane] != 0 ? x[i + lane] : 0.0f;
    }
    sums += squared_deviations(load_lanes(selected, reduction_lanes, 0), 0);
  }
  return sum_of_lanes(sums);
}

// A lane that holds a NaN keeps it: no comparison with it is true.
#define PF_EXTREMUM(name, comparison)                                                   \
  static float name(int64_t count, const float *x) {                                    \
    float_lanes best = x[0];                                                            \
    for (int64_t i = 0; i < count; i += reduction_lanes) {                              \
      const float_lanes candidate = load_lanes(x + i, count - i, x[0]);                 \
      const integer_lanes taken = (candidate comparison best) | (candidate != candidate); \
      best = (float_lanes)((taken & (integer_lanes)candidate) | (~taken & (integer_lanes)best)); \
    }                                                                                   \
    float result = best[0];                                                             \
    for (int32_t lane = 1; lane < reduction_lanes; ++lane) {                            \
      const float candidate = best[lane];                                               \
      result = candidate comparison result || candidate != candidate ? candidate : result; \
    }                                                                                   \
    return result;                                                                      \
  }

PF_EXTREMUM(maximum_element, >)
PF_EXTREMUM(minimum_element, <)

#undef PF_EXTREMUM

static int64_t argmax(int64_t count, const float *x) {
  const float maximum = maximum_element(count, x);
  int64_t i = 0;
  if (maximum != maximum) {
    while (x[i] == x[i]) ++i;
  } else {
    while (x[i] != maximum) ++i;
  }
  return i;
}
