// The part of the checker that doesn't know what is computed: values, one result against its reference, failures.

#ifndef REF_CHECK_H
#define REF_CHECK_H

#include "CReference.h"
#include "guard.h"
#include "random.h"

/// One result of a kernel: `rows` rows of `columns` elements, `stride` elements apart.
typedef struct ref_result {
  const char *name;
  int64_t rows, columns, stride;
  int axes;                 // the extents of `shape` name an element in messages; their product is rows * columns
  int64_t shape[4];
  const double *reference;  // dense
  // The error that is allowed: none, or ref_error_bound of `terms` and, for each element, the sum of the absolute
  // values of its terms; where `magnitude` is NULL, of `largest_magnitude`.
  bool exact;
  int64_t terms;
  const double *magnitude;  // dense
  double largest_magnitude;
  bool frozen_only;         // poison has reached the trainable elements: only the frozen ones are looked at
  /// Calls the kernel. `mask` is NULL or the result's; data that is poisoned for that mask comes with it.
  int32_t (*invoke)(const void *state, const ref_context *context, const uint8_t *mask, bool accumulate, float *result);
  const void *state;
} ref_result;

typedef struct ref_checker {
  const ref_kernels *kernels;
  const ref_check *check;
  ref_report report;
  // The problem at hand.
  int64_t index;
  ref_random random;
  ref_side side;
  int32_t threads;          // for integers
  bool failed;
  char shape[512];
  char announcement[1024];  // what a crash prints
  ref_guarded output;
  float *first, *dense;     // copies of results: at the first thread count, and without a mask
  int64_t copies;           // elements that these hold
} ref_checker;

ref_checker ref_checker_make(const ref_kernels *kernels, const ref_check *check);
ref_report ref_checker_finish(ref_checker *checker);

/// Whether to go on to the next problem.
bool ref_checker_continues(const ref_checker *checker, int64_t done);

/// Whether the check runs on instruction set `isa`.
bool ref_checker_includes(const ref_checker *checker, int32_t isa);

/// Starts problem `index`, described by `shape`.
void ref_checker_begin(ref_checker *checker, int64_t index, const char *shape);

/// Fills with integers of absolute value at most `limit`, few of them 0, or with fractions, as the check asks.
void ref_draw_values(ref_checker *checker, float *values, int64_t count, int64_t limit);

/// The largest absolute value of operands with which a sum of `terms` products stays exact, beside one more term of
/// up to ref_initial_limit.
int64_t ref_exact_limit(int64_t terms);
enum { ref_initial_limit = 256 };

/// Which elements of a mask are frozen.
typedef enum ref_scatter {
  ref_scatter_none, ref_scatter_all, ref_scatter_some, ref_scatter_one, ref_scatter_all_but_one,
  ref_scatter_few  // some of a hundred: kernels may turn to single ones
} ref_scatter;
void ref_draw_mask(ref_random *random, ref_scatter scatter, uint8_t *mask, int64_t count);

/// A NaN, an infinity or a number near the largest, for places that reach frozen elements alone.
float ref_draw_poison(ref_random *random);

/// Runs `result` on instruction set `isa` (and, with fractions, at each thread count), and compares. `initial` has
/// rows * columns values to accumulate onto. A masked result is held against the unmasked one computed before it.
void ref_check_result(ref_checker *checker, const ref_result *result, int32_t isa, const uint8_t *mask,
                      bool accumulate, const float *initial);

/// Notes a failure of the problem at hand, in printf's manner; only the problem's first counts.
void ref_checker_fail(ref_checker *checker, int32_t isa, const char *format, ...) __attribute__((format(printf, 3, 4)));

/// malloc that ends the process rather than returning NULL.
void *ref_allocate(size_t bytes);

/// A copy of the absolute values; the caller frees it.
float *ref_absolute_values(const float *values, int64_t count);

#endif
