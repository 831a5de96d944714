// Winograd's minimal filtering for kernels of 3 or 5 taps along an axis, or of one row, with stride 1, dilated or not,
// in all three passes, and for 3 x 3 and 1 x 3 kernels with stride 2 in the first two (Winograd, Arithmetic Complexity
// of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016).
//
// F(m x m, r x r): an m x m tile of outputs from n^2 products a channel, n = m + r - 1, instead of (m r)^2. With the
// interpolation points p_0 ... p_(n - 2) and infinity, and M(x) the product of the (x - p_k),
//
//   forward           Y  = A'[ sum over c of (G g G') . (B'd B) ] A
//   input gradient    the same of the output gradient, with the weights turned by 180 degrees
//   weight gradient   dg = G'[ sum over tiles of (B'd B) . (A dY A') ] G,  the transpose of the forward form
//
//   A'[i][k] = p_k^i                             column at infinity: 1 in the last row
//   G[k][j]  = p_k^j / M'(p_k)                   row at infinity: 1 in the last column
//   B'[k][.] = coefficients of M(x) / (x - p_k)  row at infinity: those of M(x)
//
// F(2 x 2, 3 x 3) has n = 4, the points 0, 1, -1: 2.25 times fewer multiplications, factors that are powers of 2. The
// others have n = 6, the points 0, sqrt(1/2), -sqrt(1/2), sqrt(2), -sqrt(2): F(4 x 4, 3 x 3) takes 4 times fewer
// multiplications, F(2 x 2, 5 x 5) 2.8 times. Their error is a few times smaller than that of the textbook's 0, 1, -1,
// 2, -2, since the powers of the points and their reciprocals stay closer to 1, and M(x) = x^5 - 5/2 x^3 + x keeps the
// transforms as cheap. The axes don't depend on one another: a 3 x 5 kernel has F(4 x 2), a 5 x 3 kernel F(2 x 4), and
// of a kernel of one row only rows are transformed, a row of 4 outputs from 6 products instead of 12, or of 2 instead
// of 10.
//
// Error. Every value is a sum of monomials, products of two operands and of constants, and with u = 2^-24 each rounding
// multiplies the monomials below it by 1 + d, |d| <= u. Hence (Higham, Accuracy and Stability of Numerical Algorithms,
// 2nd ed., section 3.1) |computed - exact| <= gamma_n * the sum of the monomials' absolute values, gamma_n = n u / (1 -
// n u), where n is the most roundings on a monomial's way: 5 in each one-dimensional transform (its constant, which may
// be a root over 3, the multiplication by it, and two additions), so 30 in all, one for each addition of the sum and 3
// more for the product, a bias and a value accumulated onto. An axis magnifies absolute values by at most
//   q = max over i of the sum over k of |A'|[i][k] (sum over j of |G|[k][j]) (sum over l of |B'|[k][l])
// in the first two passes, and with G' in the place of A' and A in that of G in the third. Therefore
//   |error| <= gamma_(terms + 33) * terms * (q of either axis) * (largest |a|) * (largest |b|),
// terms being the channels summed over, or the tiles; q is
//                      forward, input gradient    weight gradient
//   F(2, 3)                               8.0                6.0
//   F(4, 3)                              24.9               30.8
//   F(2, 5)                              37.3               19.1
// and 1 for a kernel's one row (r and m for a direct algorithm). Measured errors are hundreds of times smaller.
//
// A dilated kernel meets only pixels that are congruent modulo the dilation: dilation_height x dilation_width
// interleaved problems, phases, that have their own tiles.
//
// Whole phases. Where a phase has n = 1, 2 or 3 pixels and zeros around it, its outputs are the product of an n x n
// Toeplitz matrix of the weights with it: the transpose of multiplying two polynomials of n coefficients, one of which
// the phase is. With 2 n - 1 points, E[k][i] = p_k^i, and W[k][.] the coefficients of the k-th polynomial of
// interpolation at the powers that meet the 3 weights, powers n - 2 up,
//   y = E'[ (W g) . (E x) ], last output first,    dg = W'[ sum over phases of (E x) . (E dy) ], dy last value first.
// The points are 0, 1 and infinity for n = 2, and 0, sqrt(1/2), -sqrt(1/2), sqrt(2), -sqrt(2) for n = 3: 3 and 5
// products of two factors where F(2) takes 4 and 8. Lengths along an axis differ by one: each pair of lengths is a kind
// of tiles with weights of its own. The bound above holds, with 341.8 in the place of the two q, 351.2 in the weight
// gradient.
//
// Stride 2. Along an axis the outer two taps meet every other pixel, and the middle one those between: 4 outputs come
// from the 5 products of F(4, 2), of pixels 0, 2, 4, 6, 8 of a window of 9, and 4 plain ones, of pixels 1, 3, 5, 7. 9
// products instead of 12, in two dimensions 81 instead of 144. In the input gradient 9 products of a window of 5 give 8
// pixels: those that meet the outer taps are F(4, 2)'s, and those that meet the middle one, a tile's first among them,
// are the plain products. Where tiles of 4 would end far beyond the last output, some have 3, from 4 + 3 products.
//   The points of F(4, 2) are 0, 3/4, -3/4, 5/2, -5/2, of F(3, 2) the last four, without infinity: of all such points
// they have nearly the least error, in the mean over random data. Weights are divided by the derivative of
// (x^2 - 9/16) (x^2 - 25/4) for both, so that both kinds of tiles have the same ones, the middle tap's once: 36 of 81
// products. Then F(4, 2)'s transform of pixels is divided by the point. The plain product adds 1 to q = 11.34 of
// F(4, 2), and of F(3, 2), in the forward pass: the bound above holds with q = 12.35.
//
// A NaN or an infinity in an operand spreads to the whole tile that it takes part in.

#ifndef PF_WINOGRAD_H
#define PF_WINOGRAD_H

#include "convolution/gradient_mask.h"
#include "convolution/plane_sums.h"

/// Whether a checked problem is one of Winograd's, not empty: of 3 or 5 columns, and rows, or of one row, with stride
/// 1; or 3 x 3 or 1 x 3, undilated, with stride 2.
bool pf_winograd_applies(const pf_convolution2d *problem);

/// Whether such a problem has stride 2.
static inline bool pf_winograd_is_strided(const pf_convolution2d *problem) { return problem->stride_width == 2; }

/// The tile that stands for whole phases, and that for tiles of stride 2.
enum { pf_winograd_whole = 3, pf_winograd_strided = 5 };

/// Whether such a problem's phases lie between zeros and are short enough to be tiles.
bool pf_winograd_whole_applies(const pf_convolution2d *problem);

/// The workspace that a pass takes from the arena, in bytes.
int64_t pf_winograd_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                              int32_t tile);

/// What a mask leaves to compute of a weight gradient. A group's lists hold all of its input channels, and all of its
/// filters, those with a trainable element first.
typedef struct pf_winograd_selection {
  int64_t channels, outputs;  // from the front of a group's lists, that are to be computed: the most in any group
  const int32_t *channel_list, *output_list;
} pf_winograd_selection;

// The passes, of checked problems to which Winograd applies, with checked pointers: `bias`, `gradient_mask`,
// `plane_sums` and, where everything is to be computed, `selection` may be NULL.

pf_status pf_winograd_forward(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                              pf_activation activation, const float *input, const float *weight, const float *bias,
                              float *output);

pf_status pf_winograd_input_gradient(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                                     const float *output_gradient, const float *weight, pf_writing writing,
                                     float *input_gradient);

pf_status pf_winograd_weight_gradient(const pf_settings *settings, const pf_convolution2d *problem, int32_t tile,
                                      const float *input, const float *output_gradient, const uint8_t *gradient_mask,
                                      const pf_winograd_selection *selection, const pf_plane_sums *plane_sums,
                                      pf_writing writing, float *weight_gradient);

/// The weight gradient under a mask, or NULL; plane sums only without one. Where the direct algorithm is faster because
/// the mask leaves little to compute, only *done = false is stored.
pf_status pf_winograd_masked_gradient(const pf_context *context, const pf_settings *settings,
                                      const pf_convolution2d *problem, const pf_convolution_shape *shape, int32_t tile,
                                      const float *input, const float *output_gradient, const pf_gradient_mask *mask,
                                      const pf_plane_sums *plane_sums, pf_writing writing, float *weight_gradient,
                                      bool *done);

/// The gradient of one tap alone as a problem of its own, a 1x1 kernel's, where that tap may read the input as it is.
pf_convolution2d pf_winograd_tap_problem(const pf_convolution2d *problem);

/// What it takes from the arena besides the algorithm's workspace, in bytes.
int64_t pf_winograd_mask_bytes(const pf_convolution2d *problem);

// MARK: Between winograd*.c

int64_t pf_winograd_correlation_workspace(const pf_settings *settings, const pf_convolution2d *problem, bool turned,
                                          int32_t tile);
int64_t pf_winograd_weight_gradient_workspace(const pf_settings *settings, const pf_convolution2d *problem,
                                              int32_t tile);

/// A tiling of some planes. Rows of tiles are in the order of image, tile, phase; tiles of a row in that of tile,
/// phase.
typedef struct pf_winograd_grid {
  int32_t kind;
  int64_t rows, columns;  // of tiles, in an image
  int64_t tiles;          // in all images
  int64_t points;         // of a tile
  int64_t weights;        // of a transformed kernel
  int64_t tile_height, tile_width;
  int64_t step_y;
  int64_t first_y, first_x;  // where the first tile begins
} pf_winograd_grid;

/// The planes of the output.
typedef struct pf_winograd_plane {
  int64_t height, width;
} pf_winograd_plane;

pf_winograd_plane pf_winograd_output_plane(const pf_convolution2d *problem);

/// The kinds of tiles that a pass has: along either axis whole phases may have two lengths, and tiles of stride 2 are
/// shorter where that leaves less of them beyond the end.
enum { pf_winograd_most_kinds = 4 };
static inline int32_t pf_winograd_kinds(int32_t tile) {
  return tile == pf_winograd_whole || tile == pf_winograd_strided ? pf_winograd_most_kinds : 1;
}

/// The tiling of the output, or for the input gradient of the input, with tiles of one kind; there may be none.
pf_winograd_grid pf_winograd_tiling(const pf_convolution2d *problem, bool of_input, int32_t tile, int32_t kind);

/// Neighbouring tiles in one row of one image.
typedef struct pf_winograd_run {
  int64_t image, y, first;  // the row of pixels where they begin; the first tile of the row
  int64_t count;
} pf_winograd_run;

/// The run that begins with tile `tile` of all images, with at most `most` tiles.
pf_winograd_run pf_winograd_next_run(const pf_winograd_grid *grid, int64_t tile, int64_t most);

/// Floats from one point's matrix of `count` floats to the next: whole cache lines, an odd number of them, because
/// powers of two put all points into the same few sets of a cache.
static inline int64_t pf_winograd_point_stride(int64_t count) { return (pf_ceiling_divide(count, 16) | 1) * 16; }

static inline const pf_winograd_kernels *pf_winograd_kernels_of(const pf_settings *settings,
                                                                const pf_convolution2d *problem, int32_t tile,
                                                                const pf_winograd_grid *grid) {
  if (tile == pf_winograd_whole) {
    return &settings->kernels->winograd_phase[grid->tile_height - 1][grid->tile_width - 1];
  }
  if (tile == pf_winograd_strided) {
    return problem->kernel_height == 1 ? &settings->kernels->winograd_strided_line[grid->kind]
                                       : &settings->kernels->winograd_strided[grid->kind / 2][grid->kind % 2];
  }
  if (tile == 2) return &settings->kernels->winograd_2;
  return &settings->kernels->winograd_6[problem->kernel_height / 2][problem->kernel_width / 2 - 1];
}

#endif
