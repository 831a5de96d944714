// The arena: one free list a size class, four classes a doubling, under one lock. Blocks never split or merge: a
// training loop asks for the same sizes again and again, and finds them.

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/runtime.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PF_POISONING 1
void __asan_poison_memory_region(const volatile void *address, size_t size);
void __asan_unpoison_memory_region(const volatile void *address, size_t size);
#endif
#endif

enum {
  header_bytes = 64,  // in front of every block; a multiple of the alignment promised
  smallest_bytes = 128,
  smallest_logarithm = 7,
  class_count = 4 * (64 - smallest_logarithm),
};

static const size_t huge_page_bytes = (size_t)2 << 20;

typedef struct block_header {
  struct block_header *next;  // in the free list
  size_t bytes;               // of the size class, header included
  int32_t size_class;
} block_header;

_Static_assert(sizeof(block_header) <= header_bytes, "the header must fit in front of the block");

static struct {
  pthread_mutex_t lock;
  block_header *free[class_count];
  pf_memory_statistics statistics;
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

/// The size of a class, header included, so that large ones are whole huge pages: 128, 160, 192, 224, 256, 320, ...
static size_t class_bytes(int32_t size_class) {
  return (smallest_bytes / 4 * (size_t)(4 + size_class % 4)) << (size_class / 4);
}

/// The smallest class that holds a header and `bytes`, or -1.
static int32_t class_of(size_t bytes) {
  if (bytes > SIZE_MAX / 4) return -1;
  bytes += header_bytes;
  if (bytes <= smallest_bytes) return 0;
  const int32_t doubling = 63 - __builtin_clzll((unsigned long long)(bytes - 1)) - smallest_logarithm;
  const size_t step = (size_t)(smallest_bytes / 4) << doubling;
  return 4 * doubling + (int32_t)((bytes - 1) / step) - 3;
}

/// Blocks of whole huge pages are aligned to them and ask for them: a step then faults and misses the TLB far less.
static block_header *system_allocate(size_t bytes) {
  const bool huge = bytes >= 2 * huge_page_bytes;
  void *memory = NULL;
  if (posix_memalign(&memory, huge ? huge_page_bytes : header_bytes, bytes) != 0) return NULL;
#ifdef MADV_HUGEPAGE
  if (huge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

/// Lets AddressSanitizer see the first `bytes` bytes of a block and nothing behind them.
static void expose(block_header *header, size_t bytes) {
#ifdef PF_POISONING
  __asan_unpoison_memory_region((char *)header + header_bytes, bytes);
  __asan_poison_memory_region((char *)header + header_bytes + bytes, header->bytes - header_bytes - bytes);
#else
  (void)header;
  (void)bytes;
#endif
}

/// A block of a class, from its list or else from the system; NULL if that gives none.
static block_header *take(int32_t size_class) {
  const size_t rounded = class_bytes(size_class);
  pthread_mutex_lock(&arena.lock);
  block_header *header = arena.free[size_class];
  if (header != NULL) {
    arena.free[size_class] = header->next;
    arena.statistics.cached_bytes -= rounded;
    arena.statistics.reuses += 1;
  } else {
    header = system_allocate(rounded);
    if (header == NULL) {
      pthread_mutex_unlock(&arena.lock);
      return NULL;
    }
    header->bytes = rounded;
    header->size_class = size_class;
    arena.statistics.system_allocations += 1;
  }
  arena.statistics.live_bytes += rounded;
  if (arena.statistics.live_bytes > arena.statistics.peak_live_bytes) {
    arena.statistics.peak_live_bytes = arena.statistics.live_bytes;
  }
  pthread_mutex_unlock(&arena.lock);
  return header;
}

void *pf_memory_allocate(size_t bytes) {
  const int32_t size_class = class_of(bytes);
  if (size_class < 0) return NULL;
  block_header *header = take(size_class);
  if (header == NULL) {
    pf_memory_trim();
    header = take(size_class);
  }
  if (header == NULL) return NULL;
  expose(header, bytes);
  return (char *)header + header_bytes;
}

void pf_memory_release(void *block) {
  if (block == NULL) return;
  block_header *header = (block_header *)((char *)block - header_bytes);
  expose(header, 0);
  pthread_mutex_lock(&arena.lock);
  header->next = arena.free[header->size_class];
  arena.free[header->size_class] = header;
  arena.statistics.live_bytes -= header->bytes;
  arena.statistics.cached_bytes += header->bytes;
  pthread_mutex_unlock(&arena.lock);
}

pf_memory_statistics pf_memory_read_statistics(void) {
  pthread_mutex_lock(&arena.lock);
  const pf_memory_statistics statistics = arena.statistics;
  pthread_mutex_unlock(&arena.lock);
  return statistics;
}

void pf_memory_trim(void) {
  block_header *released = NULL;
  pthread_mutex_lock(&arena.lock);
  for (int32_t i = 0; i < class_count; ++i) {
    while (arena.free[i] != NULL) {
      block_header *header = arena.free[i];
      arena.free[i] = header->next;
      header->next = released;
      released = header;
    }
  }
  arena.statistics.cached_bytes = 0;
  pthread_mutex_unlock(&arena.lock);
  while (released != NULL) {
    block_header *next = released->next;
#ifdef PF_POISONING
    __asan_unpoison_memory_region((char *)released + header_bytes, released->bytes - header_bytes);
#endif
    free(released);
    released = next;
  }
}
