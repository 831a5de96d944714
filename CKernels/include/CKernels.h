// CKernels: the float32 kernels of a convolutional network's training step, in C with OpenMP.
//
// This header is the whole interface and its manual. Nothing here knows of Swift, tapes, modules or hooks.
//
// Conventions
//   Layout     Activations are NCHW, weights OIHW, both dense and row-major; axis 1 of a grouped weight is
//              input_channels / groups. Matrices are row-major.
//   Context    The first argument of every computing call; NULL means the defaults. It is read once, at entry.
//   Status     Every computing call returns a pf_status. When it isn't PF_OK, no output was written.
//   Sizes      Extents are positive int64_t, except the batch, which may be 0: outputs are then empty and sums zero.
//              Products are checked for overflow before anything is read. A pointer to an empty tensor may be NULL.
//   Aliasing   An output must not overlap an input, except where a function says "in place".
//   Alignment  None is required beyond that of float. Blocks from pf_memory_allocate are aligned to 64 bytes.
//   Masks      `gradient_mask` holds one byte an element of the gradient beside it: 0 = frozen, anything else =
//              trainable; NULL = all trainable. A frozen element of a gradient is +0.0 whatever the inputs hold (it is
//              selected, never multiplied: 0 * NaN is NaN), in both writing modes.
//   Writing    pf_overwrite replaces the gradient; pf_accumulate adds to what is there.
//   Threads    Every call may be made from any thread. Results are equal to the bit at any thread count.
//   Numerics   pf_exact: direct algorithms, their products added up in short chains for the sake of rounding errors;
//              an unmasked element's bits depend on neither mask nor thread count.
//              pf_fast: algorithms with fewer multiplications where they win, within a stated error bound.
//   Workspace  Comes from the process's reusing arena (see Memory) and returns to it before the call ends.

#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Status

typedef enum pf_status : int32_t {
  pf_ok = 0,
  pf_error_null = 1,       // a pointer that must not be NULL is
  pf_error_dimension = 2,  // a size, stride, dilation, padding, group or axis out of its range
  pf_error_overflow = 3,   // a size whose product, in elements or bytes, exceeds what can be addressed
  pf_error_memory = 4,     // the system gave no memory
  pf_error_value = 5,      // a scalar argument, target or enumerator out of its range
  pf_error_isa = 6,        // an instruction set that this machine lacks
} pf_status;

/// A short English description, never NULL; "unknown status" for a value that is none of the above.
const char *pf_status_message(pf_status status);

// MARK: Context and machine

typedef enum pf_isa : int32_t {
  pf_isa_auto = 0,      // PERMAFROST_ISA from the environment if it names a supported one, else the widest supported
  pf_isa_baseline = 1,  // x86-64: SSE2 without FMA; elsewhere: the compiler's portable vectors
  pf_isa_avx2 = 2,      // AVX2 + FMA
  pf_isa_avx512 = 3,    // AVX-512 F, BW, DQ, VL
  pf_isa_neon = 4,      // AArch64
} pf_isa;

typedef enum pf_numerics : int32_t { pf_fast = 0, pf_exact = 1 } pf_numerics;

typedef enum pf_writing : int32_t { pf_overwrite = 0, pf_accumulate = 1 } pf_writing;

typedef struct pf_context {
  int32_t threads;       // at most this many; 0 = as many as the machine offers this process
  pf_numerics numerics;
  pf_isa isa;
} pf_context;

/// Whether this build and this machine can run kernels of `isa`; pf_isa_auto always.
bool pf_isa_supported(pf_isa isa);

/// The instruction set that a call with this context would use: never pf_isa_auto.
pf_isa pf_isa_resolve(const pf_context *context);

/// "auto", "baseline", "avx2", "avx512", "neon"; these are also the values of PERMAFROST_ISA. "unknown" otherwise.
const char *pf_isa_name(pf_isa isa);

/// The inverse of pf_isa_name; false, with *isa untouched, for an unknown name.
bool pf_isa_named(const char *name, pf_isa *isa);

/// Whether this build threads its loops with OpenMP. Without it every call runs on the calling thread.
bool pf_openmp_available(void);

/// The number of threads that threads = 0 stands for: OMP_NUM_THREADS or the processors available to the process; 1
/// without OpenMP.
int32_t pf_available_threads(void);

/// Runs independent fused multiply-adds (multiply, then add on baseline x86-64) in registers for about `seconds` on
/// `context`'s threads and instruction set, and stores the rate in floating-point operations a second: the roof
/// that the convolution passes are measured against.
pf_status pf_measure_peak(const pf_context *context, double seconds, double *operations_per_second);

// MARK: Memory

// One arena serves workspaces and tensors. A freed block waits in the list of its size class and is handed out again,
// so that from the third step of a training loop on nothing comes from the system.

/// A block of at least `bytes` bytes, 64-byte aligned, contents undefined; NULL if the system gives none. 0 is legal.
void *pf_memory_allocate(size_t bytes);

/// Returns a block to the arena; NULL is legal.
void pf_memory_release(void *block);

typedef struct pf_memory_statistics {
  uint64_t system_allocations;  // blocks taken from the system so far: the arena's misses
  uint64_t reuses;              // blocks handed out again so far
  uint64_t live_bytes;          // handed out now, rounded up to size classes
  uint64_t peak_live_bytes;     // the most that live_bytes has been
  uint64_t cached_bytes;        // waiting to be handed out again
} pf_memory_statistics;

pf_memory_statistics pf_memory_read_statistics(void);

/// Gives every cached block back to the system.
void pf_memory_trim(void);

// MARK: Activations

/// What an operation makes of its result before it stores it, to the bit what a call of its own would.
typedef enum pf_activation : int32_t {
  pf_activation_none = 0,
  pf_activation_relu = 1,   // as pf_relu
  pf_activation_relu6 = 2,  // as pf_relu6
} pf_activation;

// MARK: Convolution

typedef struct pf_convolution2d {
  int64_t batch;
  int64_t input_channels, input_height, input_width;
  int64_t output_channels, kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t padding_top, padding_bottom, padding_left, padding_right;  // zeros around the input; not negative
  int64_t dilation_height, dilation_width;
  int64_t groups;  // divides input_channels and output_channels
} pf_convolution2d;

typedef enum pf_convolution_pass : int32_t {
  pf_pass_forward = 0,
  pf_pass_input_gradient = 1,
  pf_pass_weight_gradient = 2,
  pf_pass_backward = 3,  // pf_convolution2d_backward, all three gradients
} pf_convolution_pass;

/// Checks a problem and computes its output extents,
///   floor((input + padding on both sides - dilation * (kernel - 1) - 1) / stride) + 1.
/// pf_error_dimension when one is less than 1 or any field is out of range; pf_error_overflow when a tensor of the
/// problem, or its count of multiplications, can't be addressed in int64_t.
pf_status pf_convolution2d_output_size(const pf_convolution2d *problem, int64_t *output_height, int64_t *output_width);

/// The most workspace, in bytes, that one pass of `problem` takes from the arena under `context`. It never exceeds
///   4 * (threads * (5 * 2^18 + 4 * image + 4 * weights) + 16 * image + 40 * weights +
///        min(20 * batch * image, 2^24) + batch * output_channels)
/// where, each group's channels rounded up to a multiple of 32,
///   image   = (input_channels + output_channels) * ((input_height + padding_top + padding_bottom + 2) *
///                                                   (input_width + padding_left + padding_right + 2) + 256)
///   weights = output_channels * (input_channels / groups) * kernel_height * kernel_width.
/// A thread holds what fits its cache and a gap behind it (the constant) or, where the least block is more, a copy of a
/// part of a group's image, which the kernel's reach may make twice as high and wide, the block's sums, and a filter
/// tile. Threads share packed or transformed weights, up to 16 slices of their gradient's sums, or 8 of transformed
/// ones, and transformed tiles: of one block at least, of the batch at most. The last term is pf_pass_backward's. Most
/// problems take a small part of this.
pf_status pf_convolution2d_workspace(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, size_t *bytes);

/// Stores the name of the algorithm that one of the first three passes of `problem` runs under `context`: "direct";
/// "depthwise" for a direct one with a channel or a pixel a lane, where a group has one input channel; or Winograd's
/// minimal filtering on tiles of so many outputs, which pf_fast may choose. For kernels of stride 1, dilated or not: an
/// axis of 3 taps has 4 outputs, one of 5 taps 2: "winograd 4x4" for 3x3 kernels, "winograd 4x2" for 3x5, "winograd
/// 2x4" for 5x3, "winograd 2x2" for 5x5; "winograd 1x4" for 1x3, "winograd 1x2" for 1x5, whose tiles stand upright for
/// 3x1 and 5x1; 3x3 kernels have "winograd 2x2" as well, and "winograd 3x3" where dilated ones, padded to keep the
/// image's size, meet at most 3x3 pixels, which make a tile. And, but in the weight gradient, for undilated kernels of
/// stride 2: "winograd 4x4 stride 2" for 3x3 ones, "winograd 1x4 stride 2" for 1x3 ones stepped along the row alone,
/// and 3x1 ones on images of one column, with tiles of 3 outputs along an axis among those of 4. With Winograd's, the
/// error of an element is at most gamma * terms * q * (largest |a|) * (largest |b|), with a and b the operands, gamma =
/// n u / (1 - n u), n = terms + 33, u = 2^-24. `terms` is the number of channels summed over, and q the product of a
/// factor for each axis of 3 taps, 24.9, or 12.4 with stride 2, or of 5 taps, 37.3; but 64 for the 2x2 tiles of 3x3
/// kernels and 341.8 for 3x3 tiles. In the weight gradient `terms` is the number of tiles, and instead of 24.9, 37.3,
/// 64 and 341.8 it is 30.8, 19.1, 36 and 351.2. (Dilated, the pixels that a kernel meets make tiles of their own.)
/// Measured errors are hundreds of times smaller: less than 1e-5 of the largest output.
pf_status pf_convolution2d_algorithm(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, const char **name);

enum { pf_most_algorithms = 4 };  // that one pass of a problem can run

typedef struct pf_algorithm_estimate {
  const char *name;
  double time;  // estimated, in that of the direct algorithm
} pf_algorithm_estimate;

/// Stores in `estimates`, pf_most_algorithms of them, what that function chooses from, the least time first: which is
/// what it chooses. A single one, with a time of 1, where there is no choice: a group has one input channel, pf_exact
/// asks for the direct algorithm, or the kernel, its stride or an empty batch leaves no other.
pf_status pf_convolution2d_estimates(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, pf_algorithm_estimate *estimates, int32_t *count);

/// output[n,o,y,x] = activation(bias[o] + sum over c,i,j of
///                              weight[o,c,i,j] * input[n, g(o)+c, y*stride+i*dilation-padding, ...]).
/// input   batch x input_channels x input_height x input_width
/// weight  output_channels x (input_channels / groups) x kernel_height x kernel_width
/// bias    output_channels, or NULL
/// output  batch x output_channels x output_height x output_width
pf_status pf_convolution2d_forward(const pf_context *context, const pf_convolution2d *problem,
                                   pf_activation activation, const float *input, const float *weight,
                                   const float *bias, float *output);

/// The gradient with respect to the input, from that with respect to the output.
pf_status pf_convolution2d_input_gradient(const pf_context *context, const pf_convolution2d *problem,
                                          const float *output_gradient, const float *weight, pf_writing writing,
                                          float *input_gradient);

/// The gradient with respect to the weight. `gradient_mask` has the weight's shape, or is NULL. An infinity or NaN in a
/// channel of the input, or of the output's gradient, may make any trainable element that reads that channel NaN.
pf_status pf_convolution2d_weight_gradient(const pf_context *context, const pf_convolution2d *problem,
                                           const float *input, const float *output_gradient,
                                           const uint8_t *gradient_mask, pf_writing writing, float *weight_gradient);

/// The gradient with respect to the bias. `gradient_mask` has output_channels elements, or is NULL.
pf_status pf_convolution2d_bias_gradient(const pf_context *context, const pf_convolution2d *problem,
                                         const float *output_gradient, const uint8_t *gradient_mask,
                                         pf_writing writing, float *bias_gradient);

/// The three gradients in one call: to the bit what the calls above give one by one. What is NULL isn't computed.
/// The bias's sums are taken where the weight gradient, unless it is masked, reads the output gradient, so that this
/// comes from memory once less. With pf_error_memory some gradients may be written already.
pf_status pf_convolution2d_backward(const pf_context *context, const pf_convolution2d *problem, const float *input,
                                    const float *weight, const float *output_gradient,
                                    const uint8_t *weight_gradient_mask, const uint8_t *bias_gradient_mask,
                                    pf_writing input_writing, pf_writing parameter_writing, float *input_gradient,
                                    float *weight_gradient, float *bias_gradient);

// MARK: Matrices

typedef struct pf_matrix_product {
  int64_t rows, columns, inner;          // op(a): rows x inner, op(b): inner x columns, result: rows x columns
  bool transpose_a, transpose_b;         // stored as inner x rows, columns x inner
  int64_t stride_a, stride_b, stride_result;  // elements from one stored row to the next; at least its length
} pf_matrix_product;

/// result = op(a) op(b) + bias, or result += with pf_accumulate. rows may be 0; inner may be 0 (the sum is then 0).
/// column_bias    columns elements added to every row, or NULL; must be NULL with pf_accumulate
/// gradient_mask  rows x columns, dense, or NULL
pf_status pf_matrix_multiply(const pf_context *context, const pf_matrix_product *product, const float *a,
                             const float *b, const float *column_bias, const uint8_t *gradient_mask,
                             pf_writing writing, float *result);

// MARK: Elementwise

typedef enum pf_unary : int32_t {
  pf_negate = 0, pf_absolute = 1, pf_exp = 2, pf_log = 3, pf_sqrt = 4, pf_reciprocal = 5,
  pf_relu = 6,     // max(x, 0), NaN stays NaN
  pf_relu6 = 7,    // min(max(x, 0), 6), NaN stays NaN
  pf_sigmoid = 8, pf_tanh = 9,
} pf_unary;

typedef enum pf_binary : int32_t {
  pf_add = 0, pf_subtract = 1, pf_multiply = 2, pf_divide = 3,
  pf_maximum = 4, pf_minimum = 5,  // a NaN wins
  pf_relu_backward = 6,   // a where b > 0, else +0.0: gradient a, result b of relu
  pf_relu6_backward = 7,  // a where 0 < b < 6, else +0.0
} pf_binary;

enum { pf_maximum_rank = 8 };

/// result[i] = op(x[i]); in place allowed. Largest errors over all floats, in units in the last place: exp 1.01,
/// log 0.83, tanh 1.34, sigmoid 2.41; the others are correctly rounded.
pf_status pf_elementwise_unary(const pf_context *context, pf_unary operation, int64_t count, const float *x,
                               float *result);

/// result[i...] = op(a[i...], b[i...]) over `rank` axes of extents `shape`. Strides are in elements, 0 along an axis
/// that an operand is broadcast over; the result is dense. In place on an operand whose strides are dense.
pf_status pf_elementwise_binary(const pf_context *context, pf_binary operation, int32_t rank, const int64_t *shape,
                                const float *a, const int64_t *strides_a, const float *b, const int64_t *strides_b,
                                float *result);

/// result[i] = scale * x[i] + shift; in place allowed.
pf_status pf_scale(const pf_context *context, int64_t count, float scale, float shift, const float *x, float *result);

/// result[i] += scale * x[i].
pf_status pf_add_scaled(const pf_context *context, int64_t count, float scale, const float *x, float *result);

/// result[i] = value.
pf_status pf_fill(const pf_context *context, int64_t count, float value, float *result);

/// Copies (or adds) between strided views: to[strides_to . i] = from[strides_from . i]. Strides are in elements and may
/// be negative, and 0 in `from`; distinct i must reach distinct elements of `to`.
pf_status pf_copy_strided(const pf_context *context, int32_t rank, const int64_t *shape, const float *from,
                          const int64_t *strides_from, pf_writing writing, float *to, const int64_t *strides_to);

/// gradient[i] = +0.0 wherever gradient_mask[i] is 0.
pf_status pf_mask_gradient(const pf_context *context, int64_t count, const uint8_t *gradient_mask, float *gradient);

// MARK: Reductions

typedef enum pf_reduction : int32_t { pf_sum = 0, pf_max = 1, pf_min = 2 } pf_reduction;

/// result[o,i] = reduction over m of x[o,m,i]; x: outer x middle x inner, result: outer x inner. Sums are formed in
/// double, in an order that depends on the shape alone; a NaN is the largest and the smallest. middle may be 0 for
/// pf_sum, whose result is then 0. `gradient_mask` has the result's shape, or is NULL; it and pf_accumulate need
/// pf_sum.
pf_status pf_reduce(const pf_context *context, pf_reduction reduction, int64_t outer, int64_t middle, int64_t inner,
                    const float *x, const uint8_t *gradient_mask, pf_writing writing, float *result);

/// result[r] = the first index of the largest element of row r (a NaN counts as largest); x: rows x columns.
pf_status pf_argmax(const pf_context *context, int64_t rows, int64_t columns, const float *x, int32_t *result);

/// The sum of squares, in double, of the trainable elements.
pf_status pf_sum_of_squares(const pf_context *context, int64_t count, const float *x, const uint8_t *gradient_mask,
                            double *result);

// MARK: Pooling

typedef struct pf_pooling2d {
  int64_t batch, channels, input_height, input_width;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t padding_height, padding_width;    // each side; at most half of the kernel
  int64_t dilation_height, dilation_width;  // average pooling: must be 1
  bool ceil_mode;          // round output extents up; a window that starts beyond input and left padding is dropped
  bool count_include_pad;  // average pooling: divide by the window's size, padding included
} pf_pooling2d;

pf_status pf_pooling2d_output_size(const pf_pooling2d *problem, int64_t *output_height, int64_t *output_width);

/// Padding counts as minus infinity; a NaN wins; ties go to the first. `indices` (one per output) receives the chosen
/// element's position in its input plane, which may have INT32_MAX elements at most; -1 where a dilated window holds no
/// element, whose maximum is minus infinity.
pf_status pf_max_pool2d_forward(const pf_context *context, const pf_pooling2d *problem, const float *input,
                                float *output, int32_t *indices);
/// Indices as forward stored them; one that is out of range: pf_error_value.
pf_status pf_max_pool2d_backward(const pf_context *context, const pf_pooling2d *problem, const float *output_gradient,
                                 const int32_t *indices, float *input_gradient);
pf_status pf_average_pool2d_forward(const pf_context *context, const pf_pooling2d *problem, const float *input,
                                    float *output);
pf_status pf_average_pool2d_backward(const pf_context *context, const pf_pooling2d *problem,
                                     const float *output_gradient, float *input_gradient);

/// Output cell y averages input rows floor(y * in / out) to ceil((y + 1) * in / out) - 1, likewise columns.
pf_status pf_adaptive_average_pool2d_forward(const pf_context *context, int64_t planes, int64_t input_height,
                                             int64_t input_width, int64_t output_height, int64_t output_width,
                                             const float *input, float *output);
pf_status pf_adaptive_average_pool2d_backward(const pf_context *context, int64_t planes, int64_t input_height,
                                              int64_t input_width, int64_t output_height, int64_t output_width,
                                              const float *output_gradient, float *input_gradient);

// MARK: Batch normalisation (Ioffe and Szegedy, 2015)

typedef struct pf_batch_normalization {
  int64_t batch, channels, spatial;  // x: batch x channels x spatial
  float epsilon;
} pf_batch_normalization;

/// Each channel's own mean and biased variance, and what is left of the mean when it was rounded to float (channels
/// elements each). batch * spatial must be at least 1.
pf_status pf_batch_normalization_statistics(const pf_context *context, const pf_batch_normalization *problem,
                                            const float *x, float *mean, float *mean_remainder, float *variance);

/// y = activation((x - mean) / sqrt(variance + epsilon) * scale + shift + addend), rounded as if the activation and the
/// addition were calls of their own. scale and shift may be NULL (1 and 0); mean_remainder is a part of the mean, or
/// NULL (0); addend has the shape of x, or is NULL; y may be addend.
pf_status pf_batch_normalization_apply(const pf_context *context, const pf_batch_normalization *problem,
                                       pf_activation activation, const float *x, const float *scale,
                                       const float *shift, const float *mean, const float *mean_remainder,
                                       const float *variance, const float *addend, float *y);

/// Gradients from `y_gradient`, that of the activation's result; there was no addend. With statistics_depend_on_x
/// (training) the mean and variance are functions of x; without, they are constants. Each of the three outputs may be
/// NULL: it isn't computed. Scale and shift gradients overwrite. x_gradient may be y_gradient.
pf_status pf_batch_normalization_backward(const pf_context *context, const pf_batch_normalization *problem,
                                          bool statistics_depend_on_x, pf_activation activation, const float *x,
                                          const float *y_gradient, const float *scale, const float *shift,
                                          const float *mean, const float *mean_remainder, const float *variance,
                                          const uint8_t *scale_gradient_mask, const uint8_t *shift_gradient_mask,
                                          float *x_gradient, float *scale_gradient, float *shift_gradient);

// MARK: Softmax and losses

/// Softmax, or its logarithm, along the last axis; x: rows x columns; in place allowed.
pf_status pf_softmax(const pf_context *context, int64_t rows, int64_t columns, bool logarithm, const float *x,
                     float *result);

/// The gradient with respect to x from that with respect to the result of pf_softmax.
pf_status pf_softmax_backward(const pf_context *context, int64_t rows, int64_t columns, bool logarithm,
                              const float *result, const float *result_gradient, float *x_gradient);

/// loss[r] = -sum over c of q[c] * log softmax(logits[r])[c], where q is 1 - smoothing + smoothing / classes at
/// targets[r] and smoothing / classes elsewhere. Stores log_normalizer[r] = log of the sum of exponentials, which the
/// gradient needs. A target outside 0 ..< classes: pf_error_value.
pf_status pf_cross_entropy_forward(const pf_context *context, int64_t rows, int64_t classes, float smoothing,
                                   const float *logits, const int32_t *targets, float *loss, float *log_normalizer);

/// logits_gradient[r,c] = loss_gradient[r] * (softmax(logits[r])[c] - q[c]).
pf_status pf_cross_entropy_backward(const pf_context *context, int64_t rows, int64_t classes, float smoothing,
                                    const float *logits, const int32_t *targets, const float *log_normalizer,
                                    const float *loss_gradient, float *logits_gradient);

// MARK: Random numbers

// Philox 4x32-10 (Salmon et al., 2011): element i of a stream depends on (seed, stream, i) alone, never on threads, the
// instruction set or how a range was cut into calls.

/// Uniform in [low, high), or low where the two are equal: 24 random bits an element, elements first ..< first + count
/// of the stream. Both are finite.
pf_status pf_random_uniform(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                            float low, float high, float *result);

/// Normal by Box-Muller.
pf_status pf_random_normal(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                           float mean, float standard_deviation, float *result);

/// Raw 32-bit words, for shuffles and integers.
pf_status pf_random_bits(const pf_context *context, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                         uint32_t *result);

/// result[i] = x[i] / (1 - probability) where uniform element i of the stream is >= probability, else +0.0; probability
/// in [0, 1]. The gradient is the same call on the output's gradient. In place allowed.
pf_status pf_dropout(const pf_context *context, uint64_t seed, uint64_t stream, int64_t count, float probability,
                     const float *x, float *result);

// MARK: Optimizer updates

// One pass over memory a parameter. `gradient_mask` as everywhere; a frozen element's value is not written, whatever
// its gradient and state hold, and its state becomes +0.0. The arithmetic is PyTorch's, element by element.

typedef struct pf_sgd {
  float learning_rate, momentum, dampening, weight_decay;
  bool nesterov;
  bool maximize;
  bool first_step;  // the momentum buffer is set to the gradient instead of updated
} pf_sgd;

/// momentum_buffer may be NULL when momentum is 0. A fused update of `value` from `gradient`.
pf_status pf_sgd_update(const pf_context *context, int64_t count, const pf_sgd *settings, const float *gradient,
                        const uint8_t *gradient_mask, float *momentum_buffer, float *value);

typedef struct pf_adam {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  bool decoupled;   // AdamW: weight decay multiplies the value by 1 - learning_rate * weight_decay
  bool maximize;
  int64_t step;     // 1 on the first update
} pf_adam;

/// Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019). `largest_second_moment` for AMSGrad (Reddi et
/// al., 2018), or NULL.
pf_status pf_adam_update(const pf_context *context, int64_t count, const pf_adam *settings, const float *gradient,
                         const uint8_t *gradient_mask, float *first_moment, float *second_moment,
                         float *largest_second_moment, float *value);

typedef struct pf_rmsprop {
  double learning_rate, alpha, epsilon, weight_decay, momentum;
  bool maximize;
} pf_rmsprop;

/// RMSprop (Hinton, 2012; epsilon outside the root). `mean_gradient` centres the second moment (Graves, 2013), or is
/// NULL: it isn't centred; `momentum_buffer` may be NULL when momentum is 0.
pf_status pf_rmsprop_update(const pf_context *context, int64_t count, const pf_rmsprop *settings,
                            const float *gradient, const uint8_t *gradient_mask, float *mean_square,
                            float *mean_gradient, float *momentum_buffer, float *value);

typedef struct pf_adagrad {
  double learning_rate, learning_rate_decay, epsilon, weight_decay;
  bool maximize;
  int64_t step;  // 1 on the first update
} pf_adagrad;

/// Adagrad (Duchi et al., 2011).
pf_status pf_adagrad_update(const pf_context *context, int64_t count, const pf_adagrad *settings,
                            const float *gradient, const uint8_t *gradient_mask, float *sum_of_squares,
                            float *value);

#ifdef __cplusplus
}
#endif

#endif
