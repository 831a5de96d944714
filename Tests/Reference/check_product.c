#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum block {
  block_a, block_b, block_bias,
  block_masked_a, block_masked_b,  // poisoned where that reaches frozen elements alone
  block_mask,
  block_count,
} block;

typedef struct task {
  ref_checker *checker;
  ref_product problem;
  ref_guarded blocks[block_count];
  bool has_bias;
} task;

static float *floats(const task *t, block which) { return (float *)(void *)t->blocks[which].data; }

/// The elements from a matrix's first to its last, gaps between rows included.
static int64_t span(int64_t rows, int64_t columns, int64_t stride) {
  return rows && columns ? (rows - 1) * stride + columns : 0;
}

static float *place(task *t, block which, int64_t elements) {
  return ref_guarded_place(&t->blocks[which], (size_t)elements * sizeof(float), t->checker->side);
}

/// Fills the rows with values and the gaps between them with NaN.
static void fill_matrix(task *t, float *to, int64_t rows, int64_t columns, int64_t stride, int64_t limit) {
  int64_t elements = span(rows, columns, stride);
  for (int64_t k = 0; k < elements; k++) to[k] = __builtin_nanf("");
  for (int64_t r = 0; r < rows; r++) ref_draw_values(t->checker, to + r * stride, columns, limit);
}

static bool mostly_zero(const ref_product *p, const double *reference) {
  int64_t elements = p->rows * p->columns, nonzero = 0;
  for (int64_t k = 0; k < elements; k++) nonzero += reference[k] != 0;
  return p->inner > 0 && nonzero * 2 < elements;
}

static void draw_operands(task *t, double *reference, double *magnitude) {
  const ref_product *p = &t->problem;
  int64_t rows_a = p->transpose_a ? p->inner : p->rows, columns_a = p->transpose_a ? p->rows : p->inner;
  int64_t rows_b = p->transpose_b ? p->columns : p->inner, columns_b = p->transpose_b ? p->inner : p->columns;
  int64_t limit = ref_exact_limit(p->inner);
  float *a = place(t, block_a, span(rows_a, columns_a, p->stride_a));
  float *b = place(t, block_b, span(rows_b, columns_b, p->stride_b));
  float *bias = place(t, block_bias, p->columns);
  int attempts = 0;
  do {
    fill_matrix(t, a, rows_a, columns_a, p->stride_a, limit);
    fill_matrix(t, b, rows_b, columns_b, p->stride_b, limit);
    ref_draw_values(t->checker, bias, p->columns, ref_initial_limit);
    ref_matrix_multiply(p, a, b, NULL, reference);
  } while (mostly_zero(p, reference) && ++attempts < 32);
  t->checker->report.mistrusted += attempts == 32;
  if (!t->has_bias) bias = NULL;
  ref_matrix_multiply(p, a, b, bias, reference);
  if (t->checker->check->data == ref_data_integers) return;
  float *absolute_a = ref_absolute_values(a, span(rows_a, columns_a, p->stride_a));
  float *absolute_b = ref_absolute_values(b, span(rows_b, columns_b, p->stride_b));
  float *absolute_bias = ref_absolute_values(floats(t, block_bias), p->columns);
  ref_matrix_multiply(p, absolute_a, absolute_b, bias ? absolute_bias : NULL, magnitude);
  free(absolute_a), free(absolute_b), free(absolute_bias);
}

/// Poisons the rows of op(a), or the columns of op(b), whose elements of the result are all frozen.
static void poison(task *t, const uint8_t *mask, bool rows) {
  const ref_product *p = &t->problem;
  ref_random *random = &t->checker->random;
  for (int64_t line = 0; line < (rows ? p->rows : p->columns); line++) {
    bool frozen = true;
    for (int64_t k = 0; k < (rows ? p->columns : p->rows); k++)
      frozen = frozen && !mask[rows ? line * p->columns + k : k * p->columns + line];
    for (int64_t k = 0; frozen && k < p->inner; k++) {
      if (!ref_random_once_in(random, 4)) continue;
      bool along = rows ? p->transpose_a : !p->transpose_b;  // the line runs down the stored columns
      int64_t stride = rows ? p->stride_a : p->stride_b;
      floats(t, rows ? block_masked_a : block_masked_b)[along ? k * stride + line : line * stride + k] =
          ref_draw_poison(random);
      t->checker->report.poisoned++;
    }
  }
}

static void draw_mask(task *t) {
  const ref_product *p = &t->problem;
  ref_random *random = &t->checker->random;
  int64_t elements = p->rows * p->columns;
  uint8_t *mask = ref_guarded_place(&t->blocks[block_mask], (size_t)elements, t->checker->side);
  if (elements > 0) {
    ref_draw_mask(random, (ref_scatter)ref_random_between(random, ref_scatter_none, ref_scatter_all_but_one), mask,
                  elements);
    if (ref_random_once_in(random, 3))  // whole rows
      for (int64_t r = 0; r < p->rows; r++)
        memset(mask + r * p->columns, ref_random_once_in(random, 2), (size_t)p->columns);
    else if (ref_random_once_in(random, 2))  // whole columns
      for (int64_t c = 0; c < p->columns; c++) {
        uint8_t trainable = ref_random_once_in(random, 2);
        for (int64_t r = 0; r < p->rows; r++) mask[r * p->columns + c] = trainable;
      }
  }
  for (block b = block_a; b <= block_b; b++) {
    size_t bytes = t->blocks[b].bytes;
    block to = b == block_a ? block_masked_a : block_masked_b;
    memcpy(ref_guarded_place(&t->blocks[to], bytes, t->checker->side), t->blocks[b].data, bytes);
  }
  poison(t, mask, true);
  poison(t, mask, false);
}

static int32_t invoke(const void *state, const ref_context *context, const uint8_t *mask, bool accumulate,
                      float *result) {
  const task *t = state;
  return t->checker->kernels->multiply(context, &t->problem, floats(t, mask ? block_masked_a : block_a),
                                       floats(t, mask ? block_masked_b : block_b),
                                       t->has_bias ? floats(t, block_bias) : NULL, mask, accumulate, result);
}

static void check_problem(task *t, int64_t index) {
  ref_checker *checker = t->checker;
  t->problem = ref_random_product(checker->check->seed, index);
  const ref_product *p = &t->problem;
  char shape[512];
  snprintf(shape, sizeof shape,
           "product: rows %lld, columns %lld, inner %lld, a%s stride %lld, b%s stride %lld, result stride %lld",
           (long long)p->rows, (long long)p->columns, (long long)p->inner, p->transpose_a ? " transposed" : "",
           (long long)p->stride_a, p->transpose_b ? " transposed" : "", (long long)p->stride_b,
           (long long)p->stride_result);
  ref_checker_begin(checker, index, shape);
  int64_t elements = p->rows * p->columns;
  double *reference = ref_allocate((size_t)elements * sizeof *reference);
  double *magnitude = ref_allocate((size_t)elements * sizeof *magnitude);
  float *initial = ref_allocate((size_t)elements * sizeof *initial);
  bool accumulate = ref_random_once_in(&checker->random, 2);
  t->has_bias = !accumulate && ref_random_once_in(&checker->random, 2);
  draw_operands(t, reference, magnitude);
  ref_draw_values(checker, initial, elements, ref_initial_limit);
  draw_mask(t);
  for (block b = 0; b < block_count; b++) ref_guarded_seal(&t->blocks[b]);
  ref_result result = {.name = "product", .rows = p->rows, .columns = p->columns, .stride = p->stride_result,
                       .axes = 2, .shape = {p->rows, p->columns}, .reference = reference, .magnitude = magnitude,
                       .exact = checker->check->data == ref_data_integers, .terms = p->inner + 1,
                       .invoke = invoke, .state = t};
  for (int32_t isa = 1; isa < ref_isa_limit; isa++)
    if (ref_checker_includes(checker, isa)) {
      ref_check_result(checker, &result, isa, NULL, accumulate, initial);
      ref_check_result(checker, &result, isa, t->blocks[block_mask].data, accumulate, initial);
    }
  free(reference), free(magnitude), free(initial);
}

ref_report ref_check_products(const ref_kernels *kernels, const ref_check *check) {
  ref_checker checker = ref_checker_make(kernels, check);
  task t = {.checker = &checker};
  for (int64_t done = 0; ref_checker_continues(&checker, done); done++) check_problem(&t, check->first + done);
  for (block b = 0; b < block_count; b++) ref_guarded_free(&t.blocks[b]);
  return ref_checker_finish(&checker);
}
