// Winograd's leaf functions, a table of them for each tile. See convolution/winograd.h for the algorithm. A tile's
// window is what the kernel reads for it; the windows of whole phases are the phases.

#ifndef PF_WINOGRAD_KERNELS_H
#define PF_WINOGRAD_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "include/CKernels.h"

/// The planes of some channels of one image. Nothing outside of elements 0 ..< count of the tensor is touched; what
/// lies outside of a plane reads as 0 and is not written. A tile's pixels lie step_y rows and step_x columns apart. In
/// a row of tiles, those of all step_x phases stand side by side: tile t begins at column t / step_x * tile * step_x +
/// t % step_x.
typedef struct pf_winograd_planes {
  float *tensor;          // only read from by the transforms of the input and of the output gradient
  int64_t count;
  int64_t first;          // where the first channel's plane begins in the tensor
  int64_t stride;         // from one channel's plane to the next
  int64_t height, width;
  int64_t channels;
  const int32_t *list;    // which planes the channels are, or NULL: 0 ..< channels; only of what is read from
  int64_t step_y, step_x;
} pf_winograd_planes;

/// Where transformed tiles lie: channel c of tile t at point p is
///   data[p * point_stride + c / lanes * block_stride + t * tile_stride + c % lanes].
/// Channels are filled up with zeros to whole vectors.
typedef struct pf_winograd_tiles {
  float *data;
  int64_t point_stride, block_stride, tile_stride;
} pf_winograd_tiles;

/// Transformed weights, or products, of one block of outputs: element (row r, output o) at point p is
/// data[p * point_stride + r * width + o]; width is 1 ... vectors times the vector length.
typedef struct pf_winograd_block {
  float *data;
  int64_t point_stride, width;
} pf_winograd_block;

/// What the store of an output tile does besides.
typedef struct pf_winograd_finish {
  const float *bias;  // one a channel of the planes, or NULL
  bool accumulate;    // add to what is there
  pf_activation activation;
} pf_winograd_finish;

enum { pf_most_winograd_points = 81, pf_most_winograd_taps = 25 };

typedef struct pf_winograd_kernels {
  int32_t points;   // of a tile
  int32_t weights;  // of a transformed kernel
  int32_t taps;     // of a kernel
  int32_t rows;     // the largest register tile of the two products
  int32_t vectors;
  uint8_t weight_of[pf_most_winograd_points];  // the transformed weight that a point's pixels are multiplied by

  /// B'dB of the windows of tiles first ..< first + tiles of a row of tiles, the first of which, that of tile 0,
  /// begins at (y, x).
  void (*transform_input)(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first, int64_t tiles,
                          const pf_winograd_tiles *result);

  /// The same of the output gradient, for the input gradient.
  void (*transform_gradient_window)(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                    int64_t tiles, const pf_winograd_tiles *result);

  /// A dY A' of the tiles themselves, likewise. With stride 2 this and the last two functions are NULL: the weight
  /// gradient has too few products a transformed pixel to gain by them.
  void (*transform_output_gradient)(const pf_winograd_planes *planes, int64_t y, int64_t x, int64_t first,
                                    int64_t tiles, const pf_winograd_tiles *result);

  /// G g G' of `channels` rows of a block of `outputs` outputs: g(c, o) is the kernel at weight + o * output_stride + c
  /// * taps.
  void (*transform_weight)(const float *weight, int64_t output_stride, int64_t channels, int64_t outputs,
                           const pf_winograd_block *result);

  /// The same of weights turned by 180 degrees, g(c, o) at weight + c * channel_stride + o * taps: for the input
  /// gradient.
  void (*transform_turned_weight)(const float *weight, int64_t channel_stride, int64_t channels, int64_t outputs,
                                  const pf_winograd_block *result);

  /// result(t, o) = the sum over c of input(c, t) * weight(c, o), in order, for points 0 ..< points, of which point p
  /// has the weights weight_of[p]; with `resume` the sums go on from result as if they had not been interrupted. The
  /// input's tile_stride is the vector length.
  void (*multiply)(int64_t points, const uint8_t *weight_of, int64_t tiles, int64_t channels,
                   const pf_winograd_tiles *input, const pf_winograd_block *weight, const pf_winograd_block *result,
                   bool resume);

  /// A'mA of tiles first ..< first + tiles of a row of tiles, whose tile 0 begins at (y, x); the products are in their
  /// order.
  void (*transform_output)(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y, int64_t x,
                           int64_t first, int64_t tiles, const pf_winograd_finish *finish);

  /// The same of the input's gradient; with stride 2 the tiles of the first row, or column, may begin one before it.
  void (*transform_input_gradient)(const pf_winograd_block *products, const pf_winograd_planes *planes, int64_t y,
                                   int64_t x, int64_t first, int64_t tiles, const pf_winograd_finish *finish);

  /// result(c, o) = (or +=) the sum over t in 0 ..< tiles, in order, of input(c, t) * gradient(o, t), for points
  /// 0 ..< points, and channels 0 ..< channels. The block_stride of both operands is the vector length.
  void (*multiply_transposed)(int64_t points, int64_t tiles, int64_t channels, const pf_winograd_tiles *input,
                              const pf_winograd_tiles *gradient, const pf_winograd_block *result, bool accumulate);

  /// The gradient of weight(c, o) at gradient + o * output_stride + c * taps: G' s G, where s is the sum, in order, of
  /// `parts` blocks of products, part_stride apart. `mask` lies beside `gradient`, or is NULL.
  void (*transform_weight_gradient)(const pf_winograd_block *products, int64_t parts, int64_t part_stride,
                                    int64_t channels, int64_t outputs, const uint8_t *mask, bool accumulate,
                                    float *gradient, int64_t output_stride);
} pf_winograd_kernels;

#endif
