// Matrix multiplication as a textbook writes it, in double precision.

#include "CReference.h"

void ref_matrix_multiply(const ref_product *p, const float *a, const float *b, const float *column_bias,
                         double *result) {
  for (int64_t r = 0; r < p->rows; r++)
    for (int64_t c = 0; c < p->columns; c++) {
      double sum = column_bias ? (double)column_bias[c] : 0;
      for (int64_t k = 0; k < p->inner; k++) {
        float left = p->transpose_a ? a[k * p->stride_a + r] : a[r * p->stride_a + k];
        float right = p->transpose_b ? b[c * p->stride_b + k] : b[k * p->stride_b + c];
        sum += (double)left * (double)right;
      }
      result[r * p->columns + c] = sum;
    }
}
