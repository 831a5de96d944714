#include "convolution/winograd.h"

#include <math.h>

bool pf_winograd_applies(const pf_convolution2d *p) {
  return p->batch > 0 && p->kernel_height == 3 && p->kernel_width == 3 && p->stride_height == 1 &&
         p->stride_width == 1 && p->dilation_height == 1 && p->dilation_width == 1;
}

// MARK: Tiles

pf_winograd_grid pf_winograd_tiling(int64_t images, int64_t height, int64_t width, int32_t tile) {
  pf_winograd_grid grid = {.rows = pf_ceiling_divide(height, tile), .columns = pf_ceiling_divide(width, tile)};
  grid.tiles = images * grid.rows * grid.columns;
  return grid;
}

pf_winograd_run pf_winograd_next_run(const pf_winograd_grid *grid, int64_t tile, int64_t most) {
  const int64_t row = tile / grid->columns;
  pf_winograd_run run = {.image = row / grid->rows, .row = row % grid->rows, .column = tile % grid->columns};
  run.count = pf_minimum_of(grid->columns - run.column, most);
  return run;
}

static pf_winograd_grid tiling(const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  if (pass == pf_pass_input_gradient) return pf_winograd_tiling(p->batch, p->input_height, p->input_width, tile);
  return pf_winograd_tiling(p->batch, p->input_height + p->padding_top + p->padding_bottom - 2,
                            p->input_width + p->padding_left + p->padding_right - 2, tile);
}

double pf_winograd_multiplications(const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  const double products = (double)p->input_channels * (double)(p->output_channels / p->groups);
  return (double)tiling(p, pass, tile).tiles * (tile + 2) * (tile + 2) * products;
}

int32_t pf_winograd_tile(const pf_convolution2d *p, pf_convolution_pass pass) {
  return pf_winograd_multiplications(p, pass, 2) <= pf_winograd_multiplications(p, pass, 4) ? 2 : 4;
}

int64_t pf_winograd_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                              int32_t tile) {
  if (pass == pf_pass_weight_gradient) return pf_winograd_weight_gradient_workspace(settings, problem, tile);
  return pf_winograd_correlation_workspace(settings, problem, pass == pf_pass_input_gradient, tile);
}

// MARK: Error

enum { most_points = 5 };  // infinity aside

/// The sum of the absolute values of the coefficients of the product of the (x - points[k]) without the one of `left_out`.
static double coefficient_sum(int32_t count, const double *points, int32_t left_out) {
  double coefficients[most_points + 1] = {1};
  for (int32_t k = 0; k < count; ++k) {
    if (k == left_out) continue;
    for (int32_t i = most_points; i >= 0; --i) {
      coefficients[i] = (i > 0 ? coefficients[i - 1] : 0) - points[k] * coefficients[i];
    }
  }
  double sum = 0;
  for (int32_t i = 0; i <= most_points; ++i) sum += fabs(coefficients[i]);
  return sum;
}

/// The largest absolute value that one dimension of a pass can make of operands of absolute value 1, when every
/// subtraction in it is an addition instead:
///   forward          max over i of the sum over k of |A'|[i][k] (sum over j of |G|[k][j]) (sum over l of |B'|[k][l])
///   weight gradient  max over j of the sum over k of |G'|[j][k] (sum over i of |A|[k][i]) (sum over l of |B'|[k][l])
static double magnification(int32_t tile, bool weight_gradient) {
  const double near = sqrt(0.5), far = sqrt(2);
  const double points_2[] = {0, 1, -1}, points_4[] = {0, near, -near, far, -far};
  const double *points = tile == 2 ? points_2 : points_4;
  const int32_t count = tile + 1;
  const int32_t results = weight_gradient ? 3 : tile, others = weight_gradient ? tile : 3;
  double largest = 0;
  for (int32_t r = 0; r < results; ++r) {
    // Infinity: A and G have a single 1 there, in the last place.
    double sum = r == results - 1 ? coefficient_sum(count, points, -1) : 0;
    for (int32_t k = 0; k < count; ++k) {
      double derivative = 1, powers = 0;
      for (int32_t l = 0; l < count; ++l) derivative *= l == k ? 1 : points[k] - points[l];
      for (int32_t j = 0; j < others; ++j) powers += pow(fabs(points[k]), j);
      sum += pow(fabs(points[k]), r) * powers * coefficient_sum(count, points, k) / fabs(derivative);
    }
    largest = fmax(largest, sum);
  }
  return largest;
}

// Every value that a pass computes is a sum of monomials: a product of two operands and of constants. With u = 2^-24, each
// rounding, those of constants included, multiplies the monomials below it by 1 + d, |d| <= u, so that (Higham, Accuracy and
// Stability of Numerical Algorithms, 2nd ed., section 3.1)
//   |computed - exact| <= gamma_n * the sum of the monomials' absolute values,  gamma_n = n u / (1 - n u),
// where n is the most roundings on a monomial's way. A one-dimensional transform has at most 5: of a constant (2, where it
// is a root divided by 3), of multiplying by it, and of at most 3 additions, 2 where constants aren't powers of 2. There are
// three two-dimensional transforms, so 30; then 1 for the product, 1 for each addition of the sum, 2 for bias and value
// accumulated onto. The sum of absolute values in one dimension is `magnification` times those of the operands; in two
// dimensions its square. A bias, and what is accumulated onto, are monomials by themselves, for the caller to add.
double pf_winograd_error_bound(const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile, double largest_a,
                               double largest_b) {
  double terms = (double)(p->input_channels / p->groups);
  if (pass == pf_pass_input_gradient) terms = (double)(p->output_channels / p->groups);
  if (pass == pf_pass_weight_gradient) terms = (double)tiling(p, pass, tile).tiles;
  const double factor = magnification(tile, pass == pf_pass_weight_gradient);
  const double n = (terms + 33) * 0x1p-24;
  return n / (1 - n) * terms * factor * factor * largest_a * largest_b;
}
