// A small random number generator of the harness's own: SplitMix64 (Steele, Lea, Flood, 2014).

#ifndef REF_RANDOM_H
#define REF_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ref_random {
  uint64_t state;
} ref_random;

static inline uint64_t ref_random_next(ref_random *random) {
  uint64_t z = (random->state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// A generator for one purpose (`stream`) of problem `index` of the sequence `seed`.
static inline ref_random ref_random_for(uint64_t seed, int64_t index, uint64_t stream) {
  ref_random random = {seed};
  random.state = ref_random_next(&random) ^ (uint64_t)index;
  random.state = ref_random_next(&random) ^ stream;
  random.state = ref_random_next(&random);
  return random;
}

/// An integer in low ... high.
static inline int64_t ref_random_between(ref_random *random, int64_t low, int64_t high) {
  return low + (int64_t)(ref_random_next(random) % (uint64_t)(high - low + 1));
}

/// True once in `times` on average.
static inline bool ref_random_once_in(ref_random *random, int64_t times) {
  return ref_random_next(random) % (uint64_t)times == 0;
}

#endif
