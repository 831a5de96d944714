// Threads: a static partition by hand. A dynamic schedule would need entry points that older OpenMP runtimes lack, and
// gain nothing where pieces are even.

#include "runtime/runtime.h"

#ifdef PF_OPENMP
// The toolchain ships no omp.h. These are the OpenMP API's own prototypes.
extern int omp_get_max_threads(void);
extern int omp_get_num_threads(void);
extern int omp_get_thread_num(void);
#endif

bool pf_openmp_available(void) {
#ifdef PF_OPENMP
  return true;
#else
  return false;
#endif
}

int32_t pf_available_threads(void) {
#ifdef PF_OPENMP
  const int threads = omp_get_max_threads();
  return threads < 1 ? 1 : threads;
#else
  return 1;
#endif
}

int32_t pf_parallel_parts(const pf_settings *settings, int64_t count, double operations) {
  // A region costs a few microseconds while the workers spin and tens when they sleep.
  const double operations_worth_a_thread = 1 << 20;
  int64_t parts = pf_minimum_of(settings->threads, count);
  const double affordable = (double)count * operations / operations_worth_a_thread;
  if (affordable < (double)parts) parts = (int64_t)affordable;
  return (int32_t)pf_maximum_of(parts, 1);
}

void pf_parallel_in(int32_t parts, int64_t count, pf_range_function function, void *argument) {
  if (count <= 0) return;
  if (parts <= 1) {
    function(argument, 0, count, 0);
    return;
  }
#ifdef PF_OPENMP
#pragma omp parallel num_threads(parts)
  {
    // The runtime may give fewer threads than asked for, as inside another parallel region.
    const int threads = omp_get_num_threads();
    for (int32_t part = omp_get_thread_num(); part < parts; part += threads) {
      const int64_t begin = pf_piece_begin(count, part, parts), end = pf_piece_begin(count, part + 1, parts);
      if (begin < end) function(argument, begin, end, part);
    }
  }
#else
  for (int32_t part = 0; part < parts; ++part) {
    const int64_t begin = pf_piece_begin(count, part, parts), end = pf_piece_begin(count, part + 1, parts);
    if (begin < end) function(argument, begin, end, part);
  }
#endif
}

void pf_parallel(const pf_settings *settings, int64_t count, double operations, pf_range_function function,
                 void *argument) {
  pf_parallel_in(pf_parallel_parts(settings, count, operations), count, function, argument);
}
