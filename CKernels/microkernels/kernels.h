// The table of leaf functions that are compiled once an instruction set.
//
// A body is written once, in `*_body.h`, in clang's vector extensions on the type `vector` of microkernels/vector.h.
// The file of an instruction set (avx512.c, avx2.c, baseline.c, neon.c) says its target, vector length and tiles, and
// includes the bodies through bodies.h. A new kernel: a member here, a body, an assignment in bodies.h. A new
// instruction set: a file here, and its detection in runtime/context.c.

#ifndef PF_KERNELS_H
#define PF_KERNELS_H

#include "include/CKernels.h"
#include "microkernels/depthwise.h"
#include "microkernels/depthwise_rows.h"
#include "microkernels/operation_kernels.h"
#include "microkernels/winograd.h"

/// What a tile kernel does with the elements of its result.
typedef enum pf_tile_mode : int32_t {
  pf_tile_store = 0,  // result = the first chain's sum; the others are added to it
  pf_tile_add = 1,    // each chain's sum is added to result
} pf_tile_mode;

enum {
  pf_most_chain = 128,   // products that are added up one after another
  pf_single_chain = 32,  // up to so many are one chain with pf_exact too
  pf_most_tile_rows = 14,
  pf_most_tile_vectors = 3,
  pf_most_dot_rows = 4,
  pf_most_dot_columns = 6,
  pf_most_dot_sums = 32,  // of a dot kernel, in whole vectors
  pf_dot_pairs = 8,
  pf_most_outer_widths = 4,
  pf_most_outer_lanes = 32,
  pf_most_lanes = 16,
  pf_most_plane_rows = 8,
  pf_most_run_taps = 4,
  pf_most_row_phases = 4,
};

/// A register tile of outer products: for each of the kernel's rows r, the tile's vectors of columns v and lanes j,
///   bias[r] + a[0][r] * b[offsets[0] + v * vector_step + j] + a[1][r] * b[offsets[1] + v * vector_step + j] + ...
/// in chains of `chain` products, the last of what is left: a chain is one sequence of multiply-adds, which for the
/// first begins with the bias and for the others with 0, and their sums are added up in order. Rounding errors then
/// grow with the length of a chain and the number of chains, not with the number of products.
/// The sums that the result then holds pass through the activation.
/// a        inner x rows, packed
/// fetch    what is needed soon: a cache line for each product, `fetch_step` floats apart, comes into the second-level
///          cache. With a step of 0, anything that is near
/// bias     rows elements, or NULL for zeros
/// result   rows x tile_columns, `result_stride` floats from one row to the next
typedef void (*pf_tile_kernel)(int64_t inner, int64_t chain, const float *a, const float *b, int64_t vector_step,
                               const int64_t *offsets, const float *fetch, int64_t fetch_step, const float *bias,
                               float *result, int64_t result_stride, pf_tile_mode mode, pf_activation activation);

/// A register tile with the result's channels in the lanes: for each of the kernel's rows r, vectors of channels v and
/// points p of a row, lane by lane,
///   bias[v] + weight[0][v] * source[offsets[0] + r * row_step + p * step] + weight[1][v] * source[offsets[1] + ...
/// in chains, while it fetches, as a tile kernel does.
/// weight   inner x vectors, packed
/// bias     vectors, or NULL for zeros
/// sums     a vector of channels of a point at sums[v * vector_stride + r * row_stride + p * lanes]
typedef void (*pf_filter_tile_kernel)(int64_t inner, int64_t chain, const float *weight, const float *source,
                                      const int64_t *offsets, int64_t step, int64_t row_step, const float *fetch,
                                      int64_t fetch_step, const float *bias, float *sums, int64_t vector_stride,
                                      int64_t row_stride, pf_tile_mode mode, pf_activation activation);

/// A register tile of dot products of whole vectors: for each of the kernel's rows r and columns j,
///   sums[r * columns + j] = sum over i in 0 ..< vectors * lanes of a[a_offsets[r] + i] * b[b_offsets[j] + i]
/// lane by lane, then by halves across lanes: an order that doesn't depend on the tile or the place in it. `sums` has
/// room for pf_most_dot_sums.
typedef void (*pf_dot_kernel)(int64_t vectors, const float *a, const int64_t *a_offsets, const float *b,
                              const int64_t *b_offsets, float *sums);

/// `length` points of a grid, from one on.
typedef struct pf_point_run {
  int64_t start, length;
  const float *ahead;
  bool ends_chain;
} pf_point_run;

/// Points of a grid, `step` floats apart in each run. The widest kernels fetch something else into the second-level
/// cache meanwhile: for point i of a run what is at ahead + i * ahead_step.
typedef struct pf_point_runs {
  pf_point_run *first;
  int64_t count, step, ahead_step;
} pf_point_runs;

/// A register tile of outer products along points: for each of the kernel's rows r and lanes l,
///   sum[r][l] = sum over the points p, the i-th of all, in this order, of a[offsets[r] + p] * b[i * lanes + l]
/// in chains of runs, the last of which ends one too. A chain is one sequence of multiply-adds that begins with 0. The
/// first one's sum is stored in result[r * lanes + l], or added to it with `accumulate`; the others' are added to it in
/// order. An element is the same sequence in every kernel.
typedef void (*pf_outer_kernel)(const pf_point_runs *runs, const float *a, const int64_t *offsets, const float *b,
                                float *result, bool accumulate);

/// A run of columns of a tile that is contiguous in the tile, in the frame it is read from and in the result.
typedef struct pf_segment {
  int32_t column, length;  // in the tile
  int64_t frame;           // where it begins in a plane of the frame
  int64_t result;          // where it begins in a plane of the result
} pf_segment;

/// A phase of rows: `count` elements a step apart from `first` on, copied to where `result` says.
typedef struct pf_row_phase {
  int64_t first, count, result;
} pf_row_phase;

/// Rows to copy: for each image n, row r, phase p and i < p.count
///   result[p.result + n * result_image + r * result_row + i] =
///       source[n * source_image + r * source_row + p.first + i * step]
/// and zeros behind them up to `width`. One phase, or as many as `step`, 2 or 4: those with first 0, 1, ..., in this
/// order, with counts that differ by 1 at most.
typedef struct pf_row_copy {
  int64_t images, rows, width, phase_count;
  int64_t source_image, source_row, step;
  int64_t result_image, result_row;
  pf_row_phase phases[pf_most_row_phases];
} pf_row_copy;

/// Which of a phase's `taps` a tap of a kernel is; none of any if the phase is -1.
typedef struct pf_tap_place {
  int64_t phase, index, taps;
} pf_tap_place;

/// 1 to pf_most_run_taps taps of a column of a kernel, one row of the plane kernel's tile apart.
typedef struct pf_tap_run {
  int64_t offset;  // of the first tap
  int64_t taps;
} pf_tap_run;

/// A tile of one plane of a result: for each of the kernel's rows r and each column j < columns,
///   sum[r][j] = bias + weight[0] * frame[runs[0].offset + r * frame_step + j]
///                    + weight[1] * frame[runs[0].offset + (r + 1) * frame_step + j] + ... over the run's taps,
/// then over those of the other runs, in this order, in chains of at most `chain` products, a run or more, whose sums
/// are added up in order. `weight` holds the runs' weights one behind the other.
/// result[r * result_step + j] = activation(sum), or += sum with `accumulate`. Reads up to a vector behind a row of the
/// frame.
typedef void (*pf_plane_kernel)(int64_t run_count, const pf_tap_run *runs, int64_t chain, const float *weight,
                                const float *frame, int64_t frame_step, int64_t columns, float bias, float *result,
                                int64_t result_step, bool accumulate, pf_activation activation);

typedef struct pf_kernels {
  pf_isa isa;
  int32_t lanes;  // floats in a vector

  int32_t tile_rows, tile_columns;              // of the largest tile kernel
  pf_tile_kernel tile[pf_most_tile_rows + 1];       // by rows, from 1 to tile_rows
  pf_tile_kernel thin_tile[pf_most_tile_rows + 1];  // the same with a single vector of columns
  // By rows - 1, vectors from 1 to those of tile_columns, and points from 1 to tile_rows. NULL: two rows are too many.
  pf_filter_tile_kernel filter_tile[2][pf_most_tile_vectors + 1][pf_most_tile_rows + 1];
  int32_t dot_rows, dot_columns;                // of the largest dot kernel
  pf_dot_kernel dot[pf_most_dot_rows + 1][pf_most_dot_columns + 1];  // by rows and columns, from 1

  /// The lanes' sums of pf_dot_pairs dot products, in a dot kernel's order: lane l of vector k of `sums` =, or with
  /// `accumulate` +=, the sum over i of a[a_offsets[k] + i * lanes + l] * b[b_offsets[k] + i * lanes + l].
  void (*dot_pairs)(int64_t vectors, const float *a, const int64_t *a_offsets, const float *b,
                    const int64_t *b_offsets, float *sums, bool accumulate);

  int32_t outer_widths;                                              // how many numbers of lanes there are
  int32_t outer_lanes[pf_most_outer_widths];                         // ascending multiples of the first
  pf_outer_kernel outer[pf_most_outer_widths][pf_most_tile_rows + 1];  // by width and rows, from 1 to tile_rows
  pf_plane_kernel plane[pf_most_plane_rows + 1];                     // by rows, from 1

  /// Copies what pf_row_copy says. With room it is faster: `readable` elements from `source` on may be read, and behind
  /// a row zeros be written up to `writable` elements from a phase's first one on: before the rows that follow.
  void (*copy_rows)(const pf_row_copy *copy, const float *source, int64_t readable, float *result, int64_t writable);

  /// Packs the columns of a tile: panel[k * tile_columns + s.column + i] = frame[offsets[k] + s.frame + i] for each of
  /// the `count` segments s; zero behind the last. Writes up to a vector behind the panel's inner * tile_columns
  /// floats. With `slack` a vector's length may be read behind a segment.
  void (*pack_columns)(int64_t inner, const int64_t *offsets, const float *frame, const pf_segment *segments,
                       int64_t count, bool slack, float *panel);

  /// result[r * result_stride + s.result + i * step] = (or +=) tile[r * tile_columns + s.column + i] for each row r and
  /// segment s.
  void (*scatter_tile)(int64_t rows, const float *tile, const pf_segment *segments, int64_t segment_count,
                       float *result, int64_t result_stride, int64_t step, bool accumulate);

  /// The same with a step of 2 for two tiles, whose elements alternate in the result.
  void (*scatter_pairs)(int64_t rows, const float *even, const float *odd, const pf_segment *segments,
                        int64_t segment_count, float *result, int64_t result_stride, bool accumulate);

  /// result[r * result_pitch + i * step] = (or +=) source[r * source_pitch + i] for r < rows and i < count.
  void (*scatter_rows)(int64_t rows, int64_t count, const float *source, int64_t source_pitch, float *result,
                       int64_t result_pitch, int64_t step, bool accumulate);

  /// packed[k * packed_stride + r] = matrix[r * row_stride + offsets[k]] for k < inner and r < rows. A row
  /// stride of 1 and runs of neighbouring offsets are fast. The last offset is the largest.
  void (*pack_rows)(int64_t inner, int64_t rows, const float *matrix, int64_t row_stride, const int64_t *offsets,
                    float *packed, int64_t packed_stride);

  /// Packs the weights of all phases of a strided kernel: for each channel c, tap t and row r
  ///   packed[p.phase][(c * p.taps + p.index) * rows + r] = weight[c * channel_stride + r * taps + t], p = places[t],
  /// Nothing is read from `end` on.
  void (*pack_taps)(int64_t channels, int64_t rows, int64_t taps, const float *weight, int64_t channel_stride,
                    const float *end, const pf_tap_place *places, float *const *packed);

  /// Packs up to pf_most_outer_lanes rows for tiles of `width` lanes, one of outer_lanes, tile_stride floats apart:
  /// packed[r / width * tile_stride + k * width + r % width] = source[offsets[r] + k] for k < count and r < rows. The
  /// last tile's other lanes are copies of the first row. Fast from a vector's length on.
  void (*pack_lanes)(int64_t count, int64_t rows, const float *source, const int64_t *offsets, int64_t width,
                     float *packed, int64_t tile_stride);

  /// result[r * result_stride + k] = the sum over p in 0 ..< parts, in this order, of
  /// sums[p * part_stride + k * width + r] for k < count and r < rows.
  void (*sum_lanes)(int64_t count, int64_t rows, int64_t parts, const float *sums, int64_t part_stride, int64_t width,
                    float *result, int64_t result_stride);

  /// packed[k * lanes + l] = rows[l][k] for k < count and each lane l. Reads and writes up to whole vectors of k.
  /// What lies `ahead` floats behind what is read is fetched into the caches.
  void (*pack_chains)(int64_t count, const float *const *rows, int64_t ahead, float *packed);

  /// Chains of products along points, one a lane: for each element e and lane l,
  ///   sums[e * lanes + l] = the sum over i < count of a[offsets[e] + i * step + l] * rows[l][first + i]
  /// as one sequence of multiply-adds, as in an outer kernel. It begins with 0, or with what is there to `resume` it.
  /// 1 <= count <= lanes. Reads whole vectors of the rows; what lies `ahead` floats behind these is fetched.
  void (*chains)(int64_t count, const float *const *rows, int64_t first, int64_t ahead, const float *a, int64_t step,
                 int64_t elements, const int64_t *offsets, bool resume, float *sums);

  /// totals[k] = (or +=) sums[k * lanes + begin], then += sums[k * lanes + l] for each l in begin + 1 ..< end in order.
  void (*add_chains)(int64_t count, const float *sums, int64_t begin, int64_t end, bool accumulate, float *totals);

  /// result[i] = (or +=) the sum over p in 0 ..< parts, in this order, of partials[p * part_stride + i], or +0.0 where
  /// the mask (NULL: none) is 0.
  void (*finish_gradient)(int64_t count, int64_t parts, const float *partials, int64_t part_stride,
                          const uint8_t *mask, bool accumulate, float *result);

  /// The sum of `count` elements: lane by lane in four vectors, then by halves.
  float (*sum)(int64_t count, const float *x);

  /// Runs `iterations` rounds of independent multiply-adds in registers; returns a value that depends on all of them,
  /// and stores the number of floating-point operations done.
  float (*multiply_add_loop)(int64_t iterations, int64_t *operations);

  pf_operation_kernels operations;

  pf_depthwise_kernels depthwise;
  pf_depthwise_rows_kernels depthwise_rows;

  pf_winograd_kernels winograd_2;        // of tiles of 2x2 outputs of 3x3 kernels
  pf_winograd_kernels winograd_6[3][2];  // of tiles with 6 points, by kernel height 1, 3, 5 and width 3, 5
  pf_winograd_kernels winograd_phase[3][3];                   // of whole phases, by height - 1 and width - 1
  // Of stride 2, with 4 outputs, or 3, along the height and along the width; for kernels of one row along the width.
  pf_winograd_kernels winograd_strided[2][2], winograd_strided_line[2];
} pf_kernels;

void pf_fill_kernels_baseline(pf_kernels *kernels);
#if defined(__x86_64__)
void pf_fill_kernels_avx2(pf_kernels *kernels);
void pf_fill_kernels_avx512(pf_kernels *kernels);
#elif defined(__aarch64__)
void pf_fill_kernels_neon(pf_kernels *kernels);
#endif

#endif
