// How far a float32 result may lie from the exact one.

#include "check.h"

#include <math.h>

// Let u = 2^-24 (round to nearest). Each product a_k * b_k reaches the result through one rounding of the product (none
// with fused multiply-add) and one of each addition above it in the summation tree: at most `terms` roundings in all,
// since a tree over n leaves is at most n - 1 additions deep. Hence (Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., lemma 3.1 and section 3.1)
//
//   computed = sum of a_k * b_k * (1 + theta_k),  |theta_k| <= gamma_n = n * u / (1 - n * u),
//
// so |computed - exact| <= gamma_n * sum of |a_k * b_k|. A bias, or the value accumulated onto, is one more term. A sum
// cut into zero-initialised parts adds exact zeros, which round nothing. Two more roundings are granted: one for the
// reference's own rounding in double (n * 2^-53, far below u for every n used), one for `magnitude`, which is computed
// in floating point as well.
double ref_error_bound(int64_t terms, double magnitude) {
  const double u = 0x1p-24;
  double n = (double)terms + 2;
  return n * u / (1 - n * u) * magnitude;
}

// Winograd's F(m, r) computes m outputs of an r-tap correlation as A'[(G g) * (B' d)], with n = m + r - 1 products; in
// two dimensions each matrix is applied from both sides. In the form of Toom and Cook the matrices follow from n - 1
// points p_k and infinity:
//
//   A_ki = p_k^i,   G_kj = p_k^j / product over l != k of (p_k - p_l),
//   row k of B' = coefficients of the product over l != k of (x - p_l),
//
// and for infinity A = (0 ... 0 1), G = (0 ... 0 1), B' = coefficients of the product over all l. (Blahut, Fast
// Algorithms for Signal Processing, chapter 5.) Scaling a row of one matrix and unscaling it in another changes no
// bound below.
//
// To first order, rounding replaces each matrix by its absolute values: with |g| <= g_max and |d| <= d_max, each
// output's magnitude is at most q^2 * g_max * d_max, where q is the largest element of |A'|[(|G| 1) * (|B'| 1)]. The
// weight gradient transposes: its kernel is the tile of the output gradient, q the largest element of |G'|[(|A| 1) *
// (|B'| 1)]. A term passes at most n + 1 roundings in each one-dimensional transform (n of the sum, one of the
// constant): with 6 of them, 7 each for input and output, and at most 6 for the weights, besides those of the sum over
// channels or tiles. In one dimension there is one of each and q, in two there are two and q^2.
enum { transform_roundings = 7 + 7 + 6 };

enum { taps = 3, most_taps = 5, most_outputs = 4, most_products = most_outputs + taps - 1 };

enum { with_infinity = 1 };

typedef struct growth {
  double output, weight_gradient;  // q
} growth;

/// Of kernels of `width` taps, at finite points, or at infinity besides.
static growth growth_of_winograd(int32_t outputs, int32_t width, const double *points, int32_t infinities) {
  const int32_t products = outputs + width - 1, finite = products - infinities;
  double a[most_products][most_outputs], g[most_products][most_taps] = {{0}}, b[most_products] = {0};
  for (int k = 0; k < products; k++) {
    const bool infinite = k == finite;
    double coefficients[most_products + 1] = {1}, scale = 1;
    int degree = 0;
    for (int l = 0; l < finite; l++) {
      if (l == k) continue;
      if (!infinite) scale *= points[k] - points[l];
      for (int i = ++degree; i >= 0; i--)
        coefficients[i] = (i > 0 ? coefficients[i - 1] : 0) - (i < degree ? points[l] * coefficients[i] : 0);
    }
    for (int i = 0; i <= degree; i++) b[k] += fabs(coefficients[i]);
    for (int i = 0; i < outputs; i++) a[k][i] = infinite ? i == outputs - 1 : pow(fabs(points[k]), i);
    for (int j = 0; j < width; j++) g[k][j] = infinite ? j == width - 1 : pow(fabs(points[k]), j) / fabs(scale);
  }
  growth q = {0};
  for (int i = 0; i < outputs; i++) {
    double sum = 0;
    for (int k = 0; k < products; k++)
      for (int j = 0; j < width; j++) sum += a[k][i] * g[k][j] * b[k];
    q.output = fmax(q.output, sum);
  }
  for (int j = 0; j < width; j++) {
    double sum = 0;
    for (int k = 0; k < products; k++)
      for (int i = 0; i < outputs; i++) sum += g[k][j] * a[k][i] * b[k];
    q.weight_gradient = fmax(q.weight_gradient, sum);
  }
  return q;
}

// With stride 2, the outer two taps meet every other pixel, and the middle one those between. Tiles have m = 4 or 3
// outputs: F(m, 2) gives the outer taps' share from m + 1 points; the middle tap's is m plain products. In the input
// gradient each pixel gets one of the two shares. The weight gradient is direct: a tile is a pixel.
static growth growth_of_strided(void) {
  const double points[] = {0, 0.75, -0.75, 2.5, -2.5};
  const growth longer = growth_of_winograd(4, 2, points, 0), shorter = growth_of_winograd(3, 2, points + 1, 0);
  return (growth){1 + fmax(longer.output, shorter.output), 1};
}

// A phase of n pixels between zeros gives n outputs, y_j = sum over i of t_(n-1-j+i) x_i with t_(n-2) ... t_n the three
// weights and zeros around them: transposed multiplication of polynomials of n coefficients, t being what the product's
// coefficients meet. With 2n - 1 points, y = E'[(W g) * (E x)] in reversed order, E_ki = p_k^i, and W has, of the
// polynomials that interpolate, the coefficients that meet weights. The weight gradient is W'[(E x) * (E y)].
static growth growth_of_phase(int64_t length) {
  enum { longest = 3, most_points = 2 * longest - 1 };
  const double root = sqrt(0.5), points[][most_points] = {{0}, {0, 1}, {0, root, -root, 2 * root, -2 * root}};
  const int n = (int)length, products = 2 * n - 1, finite = n == 2 ? 2 : products;
  double e[most_points][longest], w[most_points][taps], e_sum[most_points] = {0}, w_sum[most_points] = {0};
  for (int k = 0; k < products; k++) {
    const bool infinite = k == finite;
    double coefficients[most_points + 1] = {1}, scale = 1;
    int degree = 0;
    for (int l = 0; l < finite; l++) {
      if (l == k) continue;
      if (!infinite) scale *= points[n - 1][k] - points[n - 1][l];
      for (int i = ++degree; i >= 0; i--)
        coefficients[i] = (i > 0 ? coefficients[i - 1] : 0) - (i < degree ? points[n - 1][l] * coefficients[i] : 0);
    }
    for (int i = 0; i < n; i++) e_sum[k] += e[k][i] = infinite ? i == n - 1 : pow(fabs(points[n - 1][k]), i);
    for (int j = 0; j < taps; j++) {
      const int power = n - 2 + j;
      w_sum[k] += w[k][j] = power < 0 || power >= products ? 0 : fabs(coefficients[power] / scale);
    }
  }
  growth q = {0};
  for (int i = 0; i < n; i++) {
    double sum = 0;
    for (int k = 0; k < products; k++) sum += e[k][i] * w_sum[k] * e_sum[k];
    q.output = fmax(q.output, sum);
  }
  for (int j = 0; j < taps; j++) {
    double sum = 0;
    for (int k = 0; k < products; k++) sum += w[k][j] * e_sum[k] * e_sum[k];
    q.weight_gradient = fmax(q.weight_gradient, sum);
  }
  return q;
}

/// The larger growth of the phases along an axis, whose lengths differ by one at most.
static growth growth_of_phases(int64_t extent, int64_t dilation) {
  const growth longer = growth_of_phase((extent - 1) / dilation + 1);
  const growth shorter = growth_of_phase(extent < dilation ? 1 : extent / dilation);
  return (growth){fmax(longer.output, shorter.output), fmax(longer.weight_gradient, shorter.weight_gradient)};
}

static bool has_short_phases(const ref_convolution *p) {
  return p->kernel_height == 3 && p->kernel_width == 3 && p->padding_top == p->dilation_height &&
         p->padding_bottom == p->dilation_height && p->padding_left == p->dilation_width &&
         p->padding_right == p->dilation_width && (p->input_height - 1) / p->dilation_height < 3 &&
         (p->input_width - 1) / p->dilation_width < 3;
}

/// Tiles along an axis: pixels that are congruent modulo the dilation make tiles of their own.
static double tiles_along(int64_t extent, int64_t dilation, int32_t tile) {
  double tiles = 0;
  for (int64_t phase = 0; phase < dilation && phase < extent; phase++) {
    const int64_t pixels = (extent - 1 - phase) / dilation + 1;
    tiles += (double)((pixels - 1) / tile + 1);
  }
  return tiles;
}

ref_fast_bound ref_winograd_bound_of(const ref_convolution *p, int32_t rows, int32_t columns) {
  const double root = sqrt(0.5);
  const double points_4[] = {0, 1, -1}, points_6[] = {0, root, -root, 2 * root, -2 * root};
  const bool upright = p->kernel_width == 1;
  const int64_t kernel_rows = upright ? 1 : p->kernel_height;
  const int64_t kernel_columns = upright ? p->kernel_height : p->kernel_width;
  const bool three = kernel_rows == 3 && kernel_columns == 3;
  const bool four_points = three && rows == 2 && columns == 2;
  const bool line = kernel_rows == 1, tall = kernel_rows == 3 || kernel_rows == 5;
  const bool six_points = (kernel_columns == 3 || kernel_columns == 5) && columns == 7 - kernel_columns &&
                          (line ? rows == 1 : tall && rows == 7 - kernel_rows);
  const bool whole = rows == 3 && columns == 3 && has_short_phases(p);
  // A single column isn't stepped along.
  const int64_t stride_down = !upright ? p->stride_height : p->input_width == 1 ? 1 : p->stride_width;
  const int64_t stride_across = upright ? p->stride_height : p->stride_width;
  const bool dilated = upright ? p->dilation_height > 1 : p->dilation_width > 1 || (!line && p->dilation_height > 1);
  const bool strided = six_points && (three || line) && kernel_columns == 3 && stride_across == 2 &&
                       stride_down == (line ? 1 : 2) && !dilated;
  const bool plain = stride_across == 1 && stride_down == 1;
  if (!strided && !(plain && (four_points || six_points || whole))) return (ref_fast_bound){0};
  growth q;
  if (whole) {
    const growth down = growth_of_phases(p->input_height, p->dilation_height);
    const growth across = growth_of_phases(p->input_width, p->dilation_width);
    q = (growth){down.output * across.output, down.weight_gradient * across.weight_gradient};
  } else {
    const double *points = four_points ? points_4 : points_6;
    q = strided ? growth_of_strided() : growth_of_winograd(columns, (int32_t)kernel_columns, points, with_infinity);
    if (!line) {
      const growth down = strided ? q : growth_of_winograd(rows, (int32_t)kernel_rows, points, with_infinity);
      q = (growth){down.output * q.output, down.weight_gradient * q.weight_gradient};
    }
  }
  const int32_t length = strided ? 1 : columns, lines = strided ? 1 : rows;
  const double tiles_down = tiles_along(ref_output_height(p), p->dilation_height, upright ? length : lines);
  const double tiles_across = tiles_along(ref_output_width(p), p->dilation_width, upright ? lines : length);
  const int64_t inputs = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const double tiles = (double)p->batch * tiles_down * tiles_across;
  return (ref_fast_bound){
      .roundings = line ? transform_roundings : 2 * transform_roundings,
      .forward_terms = inputs,
      .input_gradient_terms = outputs,
      .weight_gradient_terms = (int64_t)tiles,
      .forward = q.output * (double)inputs,
      .input_gradient = q.output * (double)outputs,
      .weight_gradient = q.weight_gradient * tiles,
  };
}

// With four points there are at most four times as many tiles, each magnifying 26 times less; whole phases are as many
// and magnify less.
ref_fast_bound ref_fast_bound_of(const ref_convolution *p) {
  const int64_t rows = p->kernel_width == 1 ? 1 : p->kernel_height;
  const int64_t columns = p->kernel_width == 1 ? p->kernel_height : p->kernel_width;
  return ref_winograd_bound_of(p, rows == 1 ? 1 : 7 - (int32_t)rows, 7 - (int32_t)columns);
}
