// The roof: what the multiply-add units do when nothing else holds them back.

#include <stdlib.h>
#include <time.h>

#include "runtime/runtime.h"

enum { most_samples = 4096 };

typedef struct peak_measurement {
  const pf_kernels *kernels;
  double seconds;
  double *samples;  // most_samples a thread
  double *rates;    // one a thread
  float *sinks;     // one a thread: keeps the sums alive
} peak_measurement;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/// Times short runs until `seconds` have passed; their median is the rate, so that a run during which another process
/// had the core doesn't lower the roof.
static void measure(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const peak_measurement *measurement = argument;
  const int64_t iterations = 20000;
  for (int64_t thread = begin; thread < end; ++thread) {
    double *samples = measurement->samples + thread * most_samples;
    size_t count = 0;
    float sink = 0;
    const double start = now();
    double before = start;
    do {
      int64_t operations;
      sink += measurement->kernels->multiply_add_loop(iterations, &operations);
      const double after = now();
      samples[count++ % most_samples] = (double)operations / (after - before);
      before = after;
    } while (before - start < measurement->seconds);
    if (count > most_samples) count = most_samples;
    qsort(samples, count, sizeof(double), ascending);
    measurement->rates[thread] = samples[count / 2];
    measurement->sinks[thread] = sink;
  }
}

pf_status pf_measure_peak(const pf_context *context, double seconds, double *operations_per_second) {
  PF_REQUIRE(operations_per_second != NULL, pf_error_null);
  PF_REQUIRE(seconds > 0 && seconds < 3600, pf_error_value);
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  const size_t threads = (size_t)settings.threads;
  double *memory = pf_memory_allocate(threads * (most_samples + 2) * sizeof(double));
  PF_REQUIRE(memory != NULL, pf_error_memory);
  peak_measurement measurement = {
      .kernels = settings.kernels,
      .seconds = seconds,
      .samples = memory,
      .rates = memory + threads * most_samples,
      .sinks = (float *)(memory + threads * (most_samples + 1)),
  };
  pf_parallel_in(settings.threads, settings.threads, measure, &measurement);
  double sum = 0;
  for (size_t i = 0; i < threads; ++i) sum += measurement.rates[i];
  *operations_per_second = sum;
  pf_memory_release(memory);
  return pf_ok;
}
