// The error of a float32 sum of products, whatever its order.

#include "CReference.h"

// Let u = 2^-24 (round to nearest). Each product a_k * b_k reaches the result through one rounding of the product (none
// with fused multiply-add) and one of each addition above it in the summation tree: at most `terms` roundings in all,
// since a tree over n leaves is at most n - 1 additions deep. Hence (Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., lemma 3.1 and section 3.1)
//
//   computed = sum of a_k * b_k * (1 + theta_k),  |theta_k| <= gamma_n = n * u / (1 - n * u),
//
// so |computed - exact| <= gamma_n * sum of |a_k * b_k|. A bias, or the value accumulated onto, is one more term. A sum
// cut into zero-initialised parts adds exact zeros, which round nothing. Two more roundings are granted: one for the
// reference's own conversion to double arithmetic (n * 2^-53, far below u for every n used), one for `magnitude`, which
// is computed in floating point as well.
double ref_error_bound(int64_t terms, double magnitude) {
  const double u = 0x1p-24;
  double n = (double)terms + 2;
  return n * u / (1 - n * u) * magnitude;
}
