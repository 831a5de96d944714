// Prints a line for each result of CKernels' operations but convolution and matrix product: its name and a hash of its
// bits, on fixed inputs with special values among them. Tests/check-operations.sh compares the lines of different
// instruction sets.
//
//   fingerprints baseline|avx2|avx512|neon
//
// Exits with 3 when the machine lacks the instruction set.

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

enum { count = 4099 };  // whole vectors of any length, and a rest

static pf_context context;
static float x[count], y[count], special[count], result[count];
static uint8_t mask[count];

// MARK: Inputs

static uint64_t state = 1;

/// SplitMix64 (Steele, Lea and Flood, 2014).
static uint64_t next_word(void) {
  uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

static int64_t next_between(int64_t low, int64_t high) {
  return low + (int64_t)(next_word() % (uint64_t)(high - low + 1));
}

static void draw_inputs(void) {
  static const float values[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 0x1p-149f, -0x1p-133f, 0x1p-126f, 6, 0.6f,
                                 88.7f, 88.8f, -87.4f, -103.9f, -104, 3e38f, -3e38f, 1e30f};
  for (int i = 0; i < count; i++) {
    x[i] = (float)next_between(-(1 << 23), 1 << 23) * 0x1p-21f;
    y[i] = (float)next_between(-(1 << 23), 1 << 23) * 0x1p-21f;
    special[i] = i % 16 == 0 ? values[i / 16 % (int)(sizeof values / sizeof values[0])] : x[i];
    mask[i] = (uint8_t)next_between(0, 2);
  }
}

// MARK: Results

/// Prints the name and the FNV-1a hash of 32-bit words, one pattern for every NaN.
static void print_words(const char *name, const void *words, int64_t words_count) {
  uint64_t hash = 0xCBF29CE484222325;
  for (int64_t i = 0; i < words_count; i++) {
    uint32_t word;
    memcpy(&word, (const char *)words + 4 * i, sizeof word);
    if ((word & 0x7F800000) == 0x7F800000 && (word & 0x007FFFFF) != 0) word = 0x7FC00000;
    for (int byte = 0; byte < 4; byte++) hash = (hash ^ (word >> 8 * byte & 0xFF)) * 0x100000001B3;
  }
  printf("%-36s %016" PRIx64 "\n", name, hash);
}

static void require(const char *name, pf_status status) {
  if (status == pf_ok) return;
  fprintf(stderr, "fingerprints: %s: %s\n", name, pf_status_message(status));
  exit(1);
}

/// Makes the call, which fills `result`, and prints its first `words_count` elements.
#define PRINT(name, words_count, call)        \
  do {                                        \
    require(name, call);                      \
    print_words(name, result, (words_count)); \
  } while (0)

// MARK: Operations

static void elementwise(void) {
  static const char *const unary[] = {"negate", "absolute", "exp", "log", "sqrt",
                                      "reciprocal", "relu", "relu6", "sigmoid", "tanh"};
  for (int i = 0; i <= pf_tanh; i++) {
    PRINT(unary[i], count, pf_elementwise_unary(&context, (pf_unary)i, count, special, result));
  }
  static const char *const binary[] = {"add", "subtract", "multiply", "divide",
                                       "maximum", "minimum", "relu backward", "relu6 backward"};
  const int64_t shape[] = {64, 64}, rows[] = {64, 1}, columns[] = {1, 64}, across[] = {0, 1};
  for (int i = 0; i <= pf_relu6_backward; i++) {
    PRINT(binary[i], 4096,
          pf_elementwise_binary(&context, (pf_binary)i, 2, shape, special, rows, y, rows, result));
    PRINT(binary[i], 4096,
          pf_elementwise_binary(&context, (pf_binary)i, 2, shape, special, columns, y, across, result));
  }
  PRINT("scale", count, pf_scale(&context, count, 0.3f, 2, special, result));
  memcpy(result, y, sizeof result);
  PRINT("add scaled", count, pf_add_scaled(&context, count, 0.3f, special, result));
  memcpy(result, special, sizeof result);
  PRINT("mask gradient", count, pf_mask_gradient(&context, count, mask, result));
  PRINT("copy strided", 4096, pf_copy_strided(&context, 2, shape, special, columns, pf_overwrite, result, rows));
}

static void reductions(void) {
  PRINT("sum", 1, pf_reduce(&context, pf_sum, 1, count, 1, y, NULL, pf_overwrite, result));
  PRINT("sum of columns", 100, pf_reduce(&context, pf_sum, 1, 40, 100, y, mask, pf_overwrite, result));
  PRINT("largest", 4, pf_reduce(&context, pf_max, 4, 1000, 1, y, NULL, pf_overwrite, result));
  PRINT("smallest", 1000, pf_reduce(&context, pf_min, 1, 4, 1000, special, NULL, pf_overwrite, result));
  int32_t indices[40];
  require("argmax", pf_argmax(&context, 40, 100, special, indices));
  print_words("argmax", indices, 40);
  double squares;
  require("sum of squares", pf_sum_of_squares(&context, count, y, mask, &squares));
  print_words("sum of squares", &squares, 2);
}

static void pooling(void) {
  static int32_t indices[count];
  static float output[count];
  for (int i = 0; i < 60; i++) {
    pf_pooling2d p = {.batch = 1, .channels = 2,
                      .input_height = next_between(4, 30), .input_width = next_between(4, 30),
                      .kernel_height = next_between(1, 4), .kernel_width = next_between(1, 4),
                      .stride_height = next_between(1, 3), .stride_width = next_between(1, 3),
                      .dilation_height = 1, .dilation_width = 1,
                      .ceil_mode = next_between(0, 1) == 1, .count_include_pad = next_between(0, 1) == 1};
    if (i % 2 == 0) p.kernel_height = p.kernel_width = 2 + i / 2 % 2, p.stride_width = 2;
    p.padding_height = next_between(0, p.kernel_height / 2), p.padding_width = next_between(0, p.kernel_width / 2);
    int64_t height, width;
    require("pooling", pf_pooling2d_output_size(&p, &height, &width));
    const int64_t inputs = 2 * p.input_height * p.input_width, outputs = 2 * height * width;
    require("max pool", pf_max_pool2d_forward(&context, &p, special, output, indices));
    print_words("max pool", output, outputs);
    print_words("max pool indices", indices, outputs);
    PRINT("max pool backward", inputs, pf_max_pool2d_backward(&context, &p, y, indices, result));
    PRINT("average pool", outputs, pf_average_pool2d_forward(&context, &p, special, result));
    PRINT("average pool backward", inputs, pf_average_pool2d_backward(&context, &p, y, result));
  }
  PRINT("adaptive average pool", 210, pf_adaptive_average_pool2d_forward(&context, 10, 20, 20, 3, 7, y, result));
  PRINT("adaptive average pool backward", 4000,
        pf_adaptive_average_pool2d_backward(&context, 10, 20, 20, 3, 7, y, result));
}

static void batch_normalization(void) {
  static const int64_t planes[] = {1, 5, 16, 50, 200};
  for (int i = 0; i < 5; i++) {
    const pf_batch_normalization p = {4, 5, planes[i], 1e-5f};
    const int64_t elements = 20 * planes[i];
    float mean[5], remainder[5], variance[5], scale[5], shift[5];
    require("batch statistics", pf_batch_normalization_statistics(&context, &p, y, mean, remainder, variance));
    print_words("mean", mean, 5);
    print_words("mean's remainder", remainder, 5);
    print_words("variance", variance, 5);
    for (int activation = 0; activation < 3; activation++) {
      PRINT("batch normalization", elements,
            pf_batch_normalization_apply(&context, &p, activation, y, x, x + 5, mean, remainder, variance,
                                         activation == 2 ? x : NULL, result));
      for (int depends = 0; depends < 2; depends++) {
        PRINT("batch normalization backward", elements,
              pf_batch_normalization_backward(&context, &p, depends, activation, y, x, x, x + 5, mean, remainder,
                                              variance, NULL, mask, result, scale, shift));
        print_words("scale gradient", scale, 5);
        print_words("shift gradient", shift, 5);
      }
    }
  }
}

static void softmax(void) {
  enum { rows = 40, columns = 100 };
  static float normalized[rows * columns];
  int32_t targets[rows];
  float log_normalizer[rows];
  for (int i = 0; i < rows; i++) targets[i] = (int32_t)next_between(0, columns - 1);
  for (int logarithm = 0; logarithm < 2; logarithm++) {
    const float smoothing = 0.1f * (float)logarithm;
    require("softmax", pf_softmax(&context, rows, columns, logarithm, y, normalized));
    print_words("softmax", normalized, rows * columns);
    PRINT("softmax backward", rows * columns,
          pf_softmax_backward(&context, rows, columns, logarithm, normalized, x, result));
    PRINT("cross-entropy", rows,
          pf_cross_entropy_forward(&context, rows, columns, smoothing, y, targets, result, log_normalizer));
    print_words("log normalizer", log_normalizer, rows);
    PRINT("cross-entropy backward", rows * columns,
          pf_cross_entropy_backward(&context, rows, columns, smoothing, y, targets, log_normalizer, x, result));
  }
}

static void random_numbers(void) {
  static uint32_t words[count];
  require("random bits", pf_random_bits(&context, 1, 2, 3, count, words));
  print_words("random bits", words, count);
  PRINT("random uniform", count, pf_random_uniform(&context, 1, 2, 3, count, -1, 3, result));
  PRINT("random normal", count, pf_random_normal(&context, 1, 2, 3, count, 0.5f, 3, result));
  PRINT("dropout", count, pf_dropout(&context, 1, 2, count, 0.3f, special, result));
}

static void optimizers(void) {
  static float a[count], b[count], c[count];
  for (int i = 0; i < 8; i++) {
    const bool one = i & 1, two = i & 2, four = i & 4;
    const uint8_t *frozen = two ? mask : NULL;
    // States: y and two sequences that aren't negative.
    memcpy(a, y, sizeof a);
    for (int j = 0; j < count; j++) b[j] = fabsf(x[j]), c[j] = fabsf(y[j]);
    memcpy(result, x, sizeof result);
    const pf_sgd sgd = {.learning_rate = 0.1f, .momentum = one ? 0.9f : 0, .dampening = two ? 0.1f : 0,
                        .weight_decay = four ? 0.01f : 0, .nesterov = one, .maximize = two};
    PRINT("SGD", count, pf_sgd_update(&context, count, &sgd, special, frozen, a, result));
    print_words("momentum", a, count);
    memcpy(a, y, sizeof a);
    const pf_adam adam = {.learning_rate = 0.01, .beta1 = one ? 0.9 : 0.3, .beta2 = 0.999, .epsilon = 1e-8,
                          .weight_decay = two ? 0.1 : 0, .decoupled = four, .maximize = one, .step = 3};
    PRINT("Adam", count, pf_adam_update(&context, count, &adam, y, frozen, a, b, one ? c : NULL, result));
    print_words("first moment", a, count);
    print_words("second moment", b, count);
    const pf_rmsprop rmsprop = {.learning_rate = 0.01, .alpha = one ? 0.99 : 0.4, .epsilon = 1e-8,
                                .weight_decay = two ? 0.1 : 0, .momentum = four ? 0.9 : 0, .maximize = one};
    PRINT("RMSprop", count,
          pf_rmsprop_update(&context, count, &rmsprop, y, frozen, b, NULL, four ? a : NULL, result));
    const pf_adagrad adagrad = {.learning_rate = 0.01, .learning_rate_decay = 0.1, .epsilon = 1e-10,
                                .weight_decay = two ? 0.1 : 0, .maximize = one, .step = 3};
    PRINT("Adagrad", count, pf_adagrad_update(&context, count, &adagrad, y, frozen, c, result));
  }
}

int main(int arguments, char **argument) {
  pf_isa isa = pf_isa_auto;
  if (arguments != 2 || !pf_isa_named(argument[1], &isa) || isa == pf_isa_auto) {
    fputs("usage: fingerprints baseline|avx2|avx512|neon\n", stderr);
    return 2;
  }
  if (!pf_isa_supported(isa)) return 3;
  context = (pf_context){.threads = 1, .numerics = pf_exact, .isa = isa};
  draw_inputs();
  elementwise();
  reductions();
  pooling();
  batch_normalization();
  softmax();
  random_numbers();
  optimizers();
  return 0;
}
