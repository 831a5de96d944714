// What every kernel driver stands on: argument checks, settings of a call, threads, workspace.
//
// Drivers are compiled for the baseline instruction set and own the threads; code for a wider one sits in leaf
// functions that drivers reach through the table in microkernels/kernels.h. The split is forced: the outlined body of
// an OpenMP region doesn't inherit a function's target attribute.

#ifndef PF_RUNTIME_H
#define PF_RUNTIME_H

#include "include/CKernels.h"
#include "microkernels/kernels.h"

// MARK: Arguments

/// Stores the product of `count` extents. pf_error_dimension when one is negative; pf_error_overflow when the product
/// of the others than 0, as a number of 4-byte elements, is too large to address.
pf_status pf_multiply_extents(const int64_t *extents, int32_t count, int64_t *product);

/// pf_extents(&elements, batch, channels, height): pf_multiply_extents of the listed extents.
#define pf_extents(product, ...)                                             \
  pf_multiply_extents((const int64_t[]){__VA_ARGS__},                        \
                      (int32_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (product))

/// Returns from the calling function, which returns a pf_status, unless `expression` is pf_ok.
#define PF_TRY(expression)                         \
  do {                                             \
    const pf_status pf_try_status = (expression);  \
    if (pf_try_status != pf_ok) return pf_try_status; \
  } while (0)

/// Returns `status` from the calling function unless `condition` holds.
#define PF_REQUIRE(condition, status)  \
  do {                                 \
    if (!(condition)) return (status); \
  } while (0)

static inline bool pf_writing_is_valid(pf_writing writing) {
  return writing == pf_overwrite || writing == pf_accumulate;
}

static inline int64_t pf_minimum_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pf_maximum_of(int64_t a, int64_t b) { return a > b ? a : b; }

/// ceil(a / b) and the least multiple of b that isn't below a, for a >= 0 and b > 0.
static inline int64_t pf_ceiling_divide(int64_t a, int64_t b) { return a / b + (a % b != 0); }  // a + b may overflow
static inline int64_t pf_round_up(int64_t a, int64_t b) { return pf_ceiling_divide(a, b) * b; }

/// The longest of as few even pieces as parts of at most `most` take.
static inline int64_t pf_balanced(int64_t extent, int64_t most) {
  return extent == 0 ? 0 : pf_ceiling_divide(extent, pf_ceiling_divide(extent, most < 1 ? 1 : most));
}

/// The fewest even pieces that are all shorter than `length`; more than there can be, where none are.
static inline int64_t pf_shorter_pieces(int64_t extent, int64_t length) {
  return length > 1 ? pf_ceiling_divide(extent, length - 1) : extent + 1;
}

static inline int64_t pf_power_of_two_up_to(int64_t most) {
  int64_t power = 1;
  while (2 * power <= most) power *= 2;
  return power;
}

static inline int64_t pf_greatest_common_divisor(int64_t a, int64_t b) {
  return b == 0 ? a : pf_greatest_common_divisor(b, a % b);
}

// MARK: Settings of a call

typedef struct pf_settings {
  int32_t threads;            // at least 1
  pf_numerics numerics;
  const pf_kernels *kernels;  // of the instruction set in use
} pf_settings;

/// Reads a context, once, at the entry of a call. pf_error_value for a field out of range, pf_error_isa for an
/// instruction set that this machine lacks.
pf_status pf_read_context(const pf_context *context, pf_settings *settings);

/// The most of a sum's products that are added up one after another. Rounding errors are least in chains as long as the
/// square root of the whole; with pf_exact they are three times that, which costs little time, or half of the whole,
/// or 64. Up to `single` products, at most pf_most_chain, are one chain anyway.
int64_t pf_longest_chain(const pf_settings *settings, int64_t products, int64_t single);

// MARK: Threads

/// Work on the items begin ..< end of a range. `part` numbers the pieces from 0: two pieces that run at the same time
/// have different numbers, so it may index scratch memory.
typedef void (*pf_range_function)(void *argument, int64_t begin, int64_t end, int32_t part);

/// How many pieces pf_parallel cuts `count` items into: as many as there are threads, fewer where a piece would come to
/// less than about 20 microseconds; at least 1. `operations` is the cost of one item in floating-point operations, with
/// eight for each float that comes from or goes to memory beyond the caches.
int32_t pf_parallel_parts(const pf_settings *settings, int64_t count, double operations);

/// Cuts 0 ..< count into `parts` contiguous pieces as even as possible and runs each once, in parallel where there are
/// threads. No result may depend on `parts`: an item's result must be a function of the item alone.
void pf_parallel_in(int32_t parts, int64_t count, pf_range_function function, void *argument);

/// pf_parallel_in with pf_parallel_parts.
void pf_parallel(const pf_settings *settings, int64_t count, double operations, pf_range_function function,
                 void *argument);

/// The first item of piece `part` of `parts`.
static inline int64_t pf_piece_begin(int64_t count, int64_t part, int64_t parts) {
  const int64_t quotient = count / parts, remainder = count % parts;
  return quotient * part + pf_minimum_of(part, remainder);
}

/// Items first ..< first + count of a range.
typedef struct pf_piece {
  int64_t first, count;
} pf_piece;

static inline pf_piece pf_piece_of(int64_t count, int64_t part, int64_t parts) {
  const int64_t first = pf_piece_begin(count, part, parts);
  return (pf_piece){first, pf_piece_begin(count, part + 1, parts) - first};
}

// MARK: Workspace

enum { pf_line_floats = 16, pf_page_floats = 1024 };  // of a cache line, and of a page

/// Rounds a size in bytes up so that what follows is 64-byte aligned.
static inline int64_t pf_aligned_bytes(int64_t bytes) { return pf_round_up(bytes, 64); }

/// A block of `count` items of `size` bytes in a workspace that begins at `memory`, or NULL where that is NULL; `*used`
/// grows by it.
static inline void *pf_reserve(char *memory, int64_t *used, int64_t count, size_t size) {
  void *block = memory == NULL ? NULL : memory + *used;
  *used += pf_aligned_bytes(count * (int64_t)size);
  return block;
}

/// Bytes from one part's scratch memory to the next one's, where each needs `bytes`. A gap lies between them: on some
/// machines, cores that write within some 64 KB of each other slow each other down, though they share no cache line: on
/// two of a Zen 5 server in some minutes, by up to 1.7 times. A gap of a page changes nothing there.
static inline int64_t pf_part_bytes(int64_t bytes) {
  return pf_aligned_bytes(bytes + pf_minimum_of(bytes, (int64_t)256 << 10));
}

/// The same in floats.
static inline int64_t pf_part_floats(int64_t floats) {
  return pf_part_bytes(floats * (int64_t)sizeof(float)) / (int64_t)sizeof(float);
}

/// pf_memory_allocate for `count` floats (at least 1); NULL if the system gives none.
static inline float *pf_allocate_floats(int64_t count) {
  return (float *)pf_memory_allocate((size_t)count * sizeof(float));
}

#endif
