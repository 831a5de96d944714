// Random shapes. Uniform ones would almost never meet the cases that break kernels, so most problems come from a family
// that aims at one such case, with its other sizes at random.

#include "CReference.h"
#include "random.h"

#define COUNT(list) ((int64_t)(sizeof(list) / sizeof((list)[0])))
#define PICK(random, list) ((list)[ref_random_between(random, 0, COUNT(list) - 1)])

// Around the register tiles' extents (6, 14, 16, 32) and the vectors' (4, 8, 16), and one beyond each.
static const int64_t tile_channels[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 13, 14, 15,
                                        16, 17, 24, 28, 29, 31, 32, 33, 48, 63, 64, 65};
static const int64_t extents[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  11, 13, 14,
                                  15, 16, 17, 23, 28, 31, 32, 33, 47, 48, 49, 65};
static const int64_t deep_channels[] = {96, 127, 128, 129, 192, 255, 256, 257, 320, 384, 511, 513, 640};

static int64_t between(ref_random *r, int64_t low, int64_t high) { return ref_random_between(r, low, high); }

static void set_kernel(ref_convolution *p, int64_t height, int64_t width) {
  p->kernel_height = height;
  p->kernel_width = width;
}

static void set_image(ref_convolution *p, int64_t height, int64_t width) {
  p->input_height = height;
  p->input_width = width;
}

static void set_stride(ref_convolution *p, int64_t height, int64_t width) {
  p->stride_height = height;
  p->stride_width = width;
}

static void set_dilation(ref_convolution *p, int64_t height, int64_t width) {
  p->dilation_height = height;
  p->dilation_width = width;
}

static void set_channels(ref_convolution *p, int64_t groups, int64_t group_inputs, int64_t group_outputs) {
  p->groups = groups;
  p->input_channels = groups * group_inputs;
  p->output_channels = groups * group_outputs;
}

/// Padding between 0 and `most` on each side, half of the time the same on all four.
static void pad(ref_random *r, ref_convolution *p, int64_t most) {
  p->padding_top = p->padding_bottom = p->padding_left = p->padding_right = between(r, 0, most);
  if (ref_random_once_in(r, 2)) {
    p->padding_bottom = between(r, 0, most);
    p->padding_left = between(r, 0, most);
    p->padding_right = between(r, 0, most);
  }
}

static void draw_general(ref_random *r, ref_convolution *p) {
  set_channels(p, ref_random_once_in(r, 3) ? between(r, 1, 4) : 1, between(r, 1, 9), between(r, 1, 9));
  set_kernel(p, between(r, 1, 5), between(r, 1, 5));
  set_image(p, between(r, 1, 14), between(r, 1, 20));
  set_stride(p, between(r, 1, 3), between(r, 1, 3));
  set_dilation(p, between(r, 1, 3), between(r, 1, 3));
  pad(r, p, 4);
}

static void draw_same_3x3(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, PICK(r, tile_channels), PICK(r, tile_channels));
  set_kernel(p, 3, 3);
  set_image(p, PICK(r, extents), PICK(r, extents));
  p->padding_top = p->padding_bottom = p->padding_left = p->padding_right = 1;
}

/// Enough channels for algorithms with fewer multiplications to win, on images that tiles don't divide.
static void draw_wide_3x3(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {12, 13, 14, 15, 16, 17, 24, 31, 32, 33, 40, 48, 64, 65};
  set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
  set_kernel(p, 3, 3);
  set_image(p, between(r, 1, 18), between(r, 1, 26));
  if (ref_random_once_in(r, 2))
    p->padding_top = p->padding_bottom = p->padding_left = p->padding_right = 1;
  else
    pad(r, p, 3);
}

/// Images no larger than the smallest tiles, many of them.
static void draw_small_3x3(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {40, 48, 64, 65};
  p->batch = between(r, 4, 12);
  set_channels(p, 1, PICK(r, channels), PICK(r, channels));
  set_kernel(p, 3, 3);
  set_image(p, between(r, 1, 2), between(r, 2, 4));
  p->padding_top = p->padding_bottom = p->padding_left = p->padding_right = 1;
}

static void draw_pointwise(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, PICK(r, tile_channels), PICK(r, tile_channels));
  set_image(p, between(r, 1, 9), PICK(r, extents));
  if (ref_random_once_in(r, 8)) pad(r, p, 2);
}

/// Images whose points don't fill tiles, side by side, with sums longer than a cache block of the inner dimension.
static void draw_deep_pointwise(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {640, 768, 769, 900, 1024, 1030, 1537};
  bool swap = ref_random_once_in(r, 2);
  int64_t many = PICK(r, channels), few = between(r, 1, 40), groups = ref_random_once_in(r, 6) ? 2 : 1;
  set_channels(p, groups, swap ? few : many, swap ? many : few);
  p->batch = between(r, 1, 9);
  set_image(p, between(r, 1, 9), between(r, 1, 9));
}

/// Several times as many filters as channels on planes that mostly are whole vectors, of one block or several, and more
/// blocks than are summed separately.
static void draw_expanding_pointwise(ref_random *r, ref_convolution *p) {
  int64_t channels = between(r, 24, 60), groups = ref_random_once_in(r, 4) ? 2 : 1;
  set_channels(p, groups, channels, 3 * channels + between(r, 0, 20));
  p->batch = between(r, 1, 3);
  set_image(p, 4 * between(r, 5, 9), 2 * between(r, 12, 20));
  if (ref_random_once_in(r, 3)) {
    set_channels(p, 1, 24, 72);
    set_image(p, 16, 32);
    p->batch = between(r, 17, 40);
  }
}

/// The same with more channels than are read at a time.
static void draw_deep_expanding_pointwise(ref_random *r, ref_convolution *p) {
  int64_t channels = between(r, 257, 270);
  set_channels(p, 1, channels, 3 * channels);
  p->batch = 1;
  set_image(p, 16, between(r, 32, 33));
}

/// The strided 1x1 weight gradient with few channels went wrong in a widely used library.
static void draw_strided_pointwise(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 17), between(r, 1, 17));
  set_image(p, between(r, 1, 19), between(r, 1, 35));
  set_stride(p, between(r, 2, 3), between(r, 2, 3));
}

static void draw_depthwise(ref_random *r, ref_convolution *p) {
  set_channels(p, PICK(r, tile_channels), 1, ref_random_once_in(r, 3) ? between(r, 2, 4) : 1);
  int64_t kernel = between(r, 1, 7);
  set_kernel(p, kernel, ref_random_once_in(r, 3) ? between(r, 1, 7) : kernel);
  set_image(p, between(r, 1, 18), PICK(r, extents));
  if (ref_random_once_in(r, 3)) set_stride(p, between(r, 1, 3), between(r, 1, 3));
  if (ref_random_once_in(r, 3)) set_dilation(p, between(r, 1, 3), between(r, 1, 3));
  pad(r, p, kernel / 2 + 1);
}

/// 3 x 3 taps with zeros around the image: rows of any number of vectors, single ones, single columns, and planes of
/// several blocks of rows.
static void draw_same_depthwise(ref_random *r, ref_convolution *p) {
  set_channels(p, between(r, 2, 35), 1, 1);
  set_kernel(p, 3, 3);
  if (ref_random_once_in(r, 2)) set_stride(p, 2, 2);
  switch (between(r, 0, 9)) {
    case 0: set_image(p, 1, between(r, 1, 150)); break;
    case 1: set_image(p, between(r, 1, 200), 1), set_channels(p, between(r, 2, 5), 1, 1); break;
    case 2:
    case 3: set_image(p, between(r, 60, 140), between(r, 1, 70)); break;
    case 4:
    case 5: set_image(p, between(r, 120, 280), between(r, 1, 70)), set_stride(p, 2, 2); break;
    default: set_image(p, between(r, 2, 20), between(r, 2, 150)); break;
  }
  p->padding_top = p->padding_bottom = p->padding_left = p->padding_right = 1;
}

/// Depthwise images of several blocks, along either axis; and more channels than two vectors hold.
static void draw_large_depthwise(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {2, 3, 4, 5, 8, 15, 16, 17, 24, 31, 33, 40};
  set_channels(p, PICK(r, channels), 1, ref_random_once_in(r, 4) ? 2 : 1);
  const int64_t kernel = between(r, 1, 5);
  if (ref_random_once_in(r, 2)) {
    const int64_t height = ref_random_once_in(r, 2) ? 1 : between(r, 2, 9);
    set_kernel(p, height == 1 ? 1 : kernel, between(r, 1, 9));
    set_image(p, height, between(r, 230, 600));
  } else {
    set_kernel(p, kernel, kernel);
    set_image(p, between(r, 40, 90), between(r, 30, 70));
  }
  if (ref_random_once_in(r, 3)) set_stride(p, between(r, 1, 3), between(r, 1, 3));
  if (ref_random_once_in(r, 4)) set_dilation(p, p->input_height == 1 ? 1 : between(r, 1, 2), between(r, 1, 3));
  pad(r, p, kernel / 2);
}

static void draw_grouped(ref_random *r, ref_convolution *p) {
  static const int64_t sizes[] = {1, 2, 3, 4, 5, 8, 13, 16, 17};
  set_channels(p, between(r, 2, 9), PICK(r, sizes), PICK(r, sizes));
  set_kernel(p, between(r, 1, 3), between(r, 1, 3));
  set_image(p, between(r, 1, 12), PICK(r, extents));
  if (ref_random_once_in(r, 3)) set_stride(p, 2, 2);
  pad(r, p, 2);
}

static void draw_one_dimensional(ref_random *r, ref_convolution *p) {
  set_channels(p, ref_random_once_in(r, 4) ? between(r, 2, 4) : 1, between(r, 1, 17), between(r, 1, 17));
  int64_t kernel = between(r, 1, 9), length = between(r, 1, 150), stride = between(r, 1, 3);
  int64_t dilation = between(r, 1, 4), before = between(r, 0, kernel), after = between(r, 0, kernel);
  if (ref_random_once_in(r, 2)) {
    set_kernel(p, 1, kernel), set_image(p, 1, length), set_stride(p, 1, stride), set_dilation(p, 1, dilation);
    p->padding_left = before, p->padding_right = after;
  } else {
    const int64_t width = ref_random_once_in(r, 2) ? between(r, 2, 5) : 1;
    set_kernel(p, kernel, 1), set_image(p, length, width), set_stride(p, stride, 1), set_dilation(p, dilation, 1);
    p->padding_top = before, p->padding_bottom = after;
  }
}

/// The same with enough channels for algorithms with fewer multiplications to win.
static void draw_wide_one_dimensional(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {12, 15, 16, 17, 31, 32, 33, 48, 64, 65};
  set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
  const int64_t length = between(r, 1, 120), dilation = ref_random_once_in(r, 3) ? between(r, 2, 40) : 1;
  const int64_t before = ref_random_once_in(r, 3) ? between(r, 0, dilation + 2) : dilation;
  const int64_t after = ref_random_once_in(r, 3) ? between(r, 0, dilation + 2) : dilation;
  const int64_t lines = ref_random_once_in(r, 3) ? between(r, 2, 5) : 1;
  if (ref_random_once_in(r, 3)) {
    set_kernel(p, 3, 1), set_image(p, length, lines), set_dilation(p, dilation, 1);
    p->padding_top = before, p->padding_bottom = after;
  } else {
    set_kernel(p, 1, 3), set_image(p, lines, length), set_dilation(p, between(r, 1, 3), dilation);
    p->padding_left = before, p->padding_right = after;
    p->padding_top = lines > 1 ? between(r, 0, 2) : 0, p->padding_bottom = p->padding_top;
  }
}

/// Kernels of 3 taps with stride 2, and enough channels for algorithms with fewer multiplications to win.
static void draw_wide_strided(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {80, 96, 97, 112, 127, 128, 129};
  set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
  const int64_t length = between(r, 200, 1200), padding = between(r, 0, 3);
  switch (between(r, 0, 5)) {
    case 0:
      set_kernel(p, 3, 1), set_image(p, length, 1), set_stride(p, 2, between(r, 1, 3));
      p->padding_top = padding, p->padding_bottom = between(r, 0, 3);
      break;
    case 1:
      p->batch = between(r, 1, 2);
      set_kernel(p, 1, 3), set_image(p, between(r, 1, 3), length), set_stride(p, 1, 2);
      p->padding_left = padding, p->padding_right = between(r, 0, 3);
      break;
    default:
      set_kernel(p, 3, 3), set_image(p, between(r, 1, 40), between(r, 9, 60)), set_stride(p, 2, 2);
      pad(r, p, 3);
      break;
  }
}

/// A kernel of one column, with zeros on one side of the rows at most: on the right those that steps reach may make as
/// many columns as the image has.
static void draw_one_column(ref_random *r, ref_convolution *p) {
  set_channels(p, ref_random_once_in(r, 4) ? 2 : 1, between(r, 1, 17), between(r, 1, 17));
  set_kernel(p, between(r, 2, 5), 1);
  set_image(p, between(r, 1, 20), between(r, 1, 12));
  set_stride(p, ref_random_once_in(r, 4) ? 2 : 1, between(r, 1, 3));
  set_dilation(p, between(r, 1, 2), 1);
  p->padding_top = between(r, 0, p->kernel_height), p->padding_bottom = between(r, 0, p->kernel_height);
  switch (between(r, 0, 3)) {
    case 0: p->padding_left = between(r, 0, 3); break;
    case 1: p->padding_right = between(r, 1, 3); break;
    default: p->padding_right = p->input_width * (p->stride_width - 1) - between(r, 0, p->stride_width - 1); break;
  }
}

static void draw_first_layer(ref_random *r, ref_convolution *p) {
  static const int64_t kernels[] = {3, 5, 7, 11};
  int64_t kernel = PICK(r, kernels), stride = between(r, 1, 4);
  set_channels(p, 1, between(r, 1, 4), PICK(r, tile_channels));
  set_kernel(p, kernel, kernel);
  set_image(p, between(r, 5, 24), between(r, 5, 40));
  set_stride(p, stride, stride);
  pad(r, p, kernel / 2);
}

static void draw_kernel_over_image(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 17), between(r, 1, 17));
  set_image(p, between(r, 1, 4), between(r, 1, 4));
  set_kernel(p, p->input_height + between(r, 1, 3), p->input_width + between(r, 1, 3));
  p->padding_top = between(r, 1, 3), p->padding_bottom = between(r, 2, 3);
  p->padding_left = between(r, 1, 3), p->padding_right = between(r, 2, 3);
}

/// Output planes twice as wide as the image: what lies between two of its rows in a frame of the output gradient is as
/// wide as the rows of the other phases between them in the input gradient.
static void draw_wide_gaps(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 17), between(r, 1, 17));
  set_kernel(p, between(r, 2, 5), between(r, 1, 3));
  set_image(p, between(r, 4, 20), between(r, 1, 9));
  set_stride(p, 2, 1);
  set_dilation(p, 1, between(r, 1, 2));
  p->padding_top = between(r, 0, 3), p->padding_bottom = between(r, 0, 3);
  const int64_t padding = p->input_width + p->dilation_width * (p->kernel_width - 1);
  p->padding_left = between(r, 0, padding), p->padding_right = padding - p->padding_left;
}

/// Rows of the output of whole vectors, with gaps between what they read: a register tile's vectors lie apart.
static void draw_whole_vectors(ref_random *r, ref_convolution *p) {
  static const int64_t widths[] = {8, 16, 16, 16, 24, 32, 48, 48, 64, 80, 112};
  const int64_t groups = ref_random_once_in(r, 4) ? 2 : 1;
  set_channels(p, groups, between(r, 1, 9), between(r, 1, 18));
  set_kernel(p, between(r, 1, 4), between(r, 1, 5));
  set_stride(p, between(r, 1, 2), between(r, 1, 4));
  set_dilation(p, between(r, 1, 2), between(r, 1, 2));
  pad(r, p, 2);
  const int64_t width = (PICK(r, widths) - 1) * p->stride_width + p->dilation_width * (p->kernel_width - 1) + 1;
  set_image(p, between(r, 1, 20), width - p->padding_left - p->padding_right);
}

/// Strided kernels whose columns overlap, with filters for most lanes of some vectors, and sums of several steps.
static void draw_strided_overlapping(ref_random *r, ref_convolution *p) {
  static const int64_t outputs[] = {4, 7, 8, 13, 15, 16, 17, 24, 29, 31, 32, 33, 47, 48, 64};
  const int64_t stride = between(r, 2, 4), kernel = stride + between(r, 1, 2);
  const int64_t channels = ref_random_once_in(r, 3) ? between(r, 65, 160) : between(r, 2, 24);
  set_channels(p, ref_random_once_in(r, 4) ? 2 : 1, channels, PICK(r, outputs));
  set_kernel(p, between(r, 2, kernel), kernel);
  set_stride(p, between(r, 1, stride), stride);
  set_image(p, between(r, 5, 24), between(r, 5, 40));
  if (ref_random_once_in(r, 6)) set_dilation(p, 1, 2);
  if (ref_random_once_in(r, 2)) pad(r, p, kernel / 2);
}

static void draw_padding_over_kernel(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 17), between(r, 1, 17));
  set_image(p, between(r, 1, 9), between(r, 1, 18));
  set_kernel(p, between(r, 1, 3), between(r, 1, 3));
  p->padding_top = p->kernel_height + between(r, 0, 3), p->padding_bottom = between(r, 0, 5);
  p->padding_left = between(r, 0, 5), p->padding_right = p->kernel_width + between(r, 0, 3);
  set_stride(p, between(r, 1, 2), between(r, 1, 2));
}

static void draw_stride_over_kernel(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 17), between(r, 1, 17));
  set_kernel(p, between(r, 1, 3), between(r, 1, 3));
  set_stride(p, p->kernel_height + between(r, 1, 3), p->kernel_width + between(r, 1, 3));
  set_image(p, between(r, 3, 20), between(r, 3, 40));
  pad(r, p, 2);
}

static void draw_dilated(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, PICK(r, tile_channels), PICK(r, tile_channels));
  set_kernel(p, 3, 3);
  set_dilation(p, between(r, 1, 6), between(r, 2, 6));
  set_image(p, between(r, 2, 17), PICK(r, extents));
  if (ref_random_once_in(r, 4)) set_stride(p, 2, 2);
  pad(r, p, p->dilation_width);
}

/// The same with enough channels for algorithms with fewer multiplications to win.
static void draw_wide_dilated(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {16, 17, 24, 31, 32, 33, 48};
  set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
  set_kernel(p, 3, 3);
  set_dilation(p, between(r, 1, 4), between(r, 1, 4));
  if (ref_random_once_in(r, 6)) set_dilation(p, between(r, 1, 30), between(r, 1, 30));
  p->padding_top = p->padding_bottom = p->dilation_height;
  p->padding_left = p->padding_right = p->dilation_width;
  if (ref_random_once_in(r, 2)) pad(r, p, p->dilation_height + 2);
  set_image(p, between(r, 1, 26), between(r, 1, 40));
}

/// Kernels of five taps along an axis, likewise.
static void draw_wide_five_taps(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {12, 15, 16, 17, 31, 32, 33, 48, 64}, rows[] = {1, 1, 3, 5, 5};
  set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
  const int64_t height = PICK(r, rows);
  set_kernel(p, height, height == 5 && ref_random_once_in(r, 2) ? 3 : 5);
  if (ref_random_once_in(r, 3)) set_dilation(p, between(r, 1, 3), between(r, 1, 3));
  p->padding_top = p->padding_bottom = p->kernel_height / 2 * p->dilation_height;
  p->padding_left = p->padding_right = p->kernel_width / 2 * p->dilation_width;
  if (ref_random_once_in(r, 3)) pad(r, p, 2 * p->dilation_height + 1);
  set_image(p, between(r, 1, 20), between(r, 1, 40));
  if (height > 1) return;
  set_channels(p, 1, between(r, 31, 65), between(r, 31, 65));
  set_image(p, between(r, 1, 5), between(r, 1, 150));
  if (!ref_random_once_in(r, 3)) return;
  set_kernel(p, 5, 1);
  set_image(p, between(r, 1, 150), between(r, 1, 5));
  p->padding_top = p->padding_bottom = between(r, 0, 4);
  p->padding_left = p->padding_right = 0;
}

/// Dilated so far that a kernel meets no more than three pixels along either axis; half of the time, three everywhere.
static void draw_far_dilated(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {31, 32, 33, 48, 64, 65};
  const bool full = ref_random_once_in(r, 2);
  if (full) {
    set_channels(p, 1, between(r, 31, 33), between(r, 31, 33));
    set_dilation(p, between(r, 5, 12), between(r, 5, 20));
    set_image(p, 3 * p->dilation_height, 3 * p->dilation_width);
  } else {
    set_channels(p, ref_random_once_in(r, 6) ? 2 : 1, PICK(r, channels), PICK(r, channels));
    set_dilation(p, between(r, 1, 12), between(r, 1, 20));
    set_image(p, between(r, 1, 3 * p->dilation_height), between(r, 1, 3 * p->dilation_width));
  }
  set_kernel(p, 3, 3);
  p->padding_top = p->padding_bottom = p->dilation_height;
  p->padding_left = p->padding_right = p->dilation_width;
}

/// So many tiles that their order of summation or the sharing out of their work changes.
static void draw_many_tiles(ref_random *r, ref_convolution *p) {
  static const int64_t channels[] = {12, 16, 17, 32};
  set_channels(p, 1, PICK(r, channels), PICK(r, channels));
  set_kernel(p, ref_random_once_in(r, 4) ? 1 : 3, 3);
  if (ref_random_once_in(r, 3)) set_dilation(p, between(r, 1, 3), between(r, 1, 3));
  p->padding_top = p->padding_bottom = p->kernel_height == 1 ? 0 : p->dilation_height;
  p->padding_left = p->padding_right = p->dilation_width;
  const int64_t height = between(r, 60, 160);
  set_image(p, height, between(r, 4000, 12000) / height);
}

/// Sums longer than a cache block of the inner dimension.
static void draw_deep(ref_random *r, ref_convolution *p) {
  bool swap = ref_random_once_in(r, 2);
  int64_t many = PICK(r, deep_channels), few = between(r, 1, 40);
  set_channels(p, 1, swap ? few : many, swap ? many : few);
  if (ref_random_once_in(r, 2)) set_kernel(p, 3, 3), pad(r, p, 1);
  set_image(p, between(r, 1, 8), between(r, 1, 9));
}

/// More pixels than one block or one thread takes.
static void draw_many_pixels(ref_random *r, ref_convolution *p) {
  set_channels(p, 1, between(r, 1, 9), between(r, 1, 9));
  int64_t kernel = between(r, 1, 3);
  set_kernel(p, kernel, kernel);
  set_image(p, between(r, 24, 70), between(r, 24, 70));
  if (ref_random_once_in(r, 3)) set_stride(p, 2, 2);
  pad(r, p, kernel / 2);
}

/// A weight gradient too large for the caches, or an output gradient.
static void draw_large(ref_random *r, ref_convolution *p) {
  p->batch = 1;
  if (ref_random_once_in(r, 2)) {
    set_channels(p, 1, between(r, 728, 760), between(r, 728, 760));
    set_image(p, between(r, 1, 2), between(r, 1, 3));
  } else {
    set_channels(p, 1, 1, 64);
    if (ref_random_once_in(r, 2)) set_kernel(p, 1, 3);
    set_image(p, between(r, 256, 260), between(r, 258, 262));
  }
}

/// So many filters and points that few scattered weights' gradients are computed one by one.
static void draw_many_filters_and_pixels(ref_random *r, ref_convolution *p) {
  int64_t kernel = between(r, 1, 3), channels = kernel == 1 ? between(r, 40, 70) : between(r, 10, 20);
  set_channels(p, 1, channels, between(r, 80, 130));
  if (ref_random_once_in(r, 3)) set_channels(p, 2, channels, between(r, 50, 90));
  set_kernel(p, kernel, kernel == 1 ? 1 : between(r, 2, 3));
  p->batch = between(r, 1, 2);
  switch (between(r, 0, 2)) {
    case 0:  // pieces of rows
      set_image(p, between(r, 5, 9), between(r, 130, 220));
      break;
    case 1:  // rows
      set_image(p, between(r, 20, 50), between(r, 20, 60));
      break;
    default:  // images
      p->batch = between(r, 30, 80);
      set_image(p, between(r, 3, 7), between(r, 3, 7));
      break;
  }
  if (ref_random_once_in(r, 3)) set_stride(p, between(r, 1, 2), between(r, 1, 2));
  if (ref_random_once_in(r, 3)) set_dilation(p, between(r, 1, 2), between(r, 1, 3));
  pad(r, p, 2);
}

static void draw_empty_batch(ref_random *r, ref_convolution *p) {
  static void (*const draw[])(ref_random *, ref_convolution *) = {draw_general, draw_wide_3x3, draw_wide_strided,
                                                                  draw_large_depthwise, draw_expanding_pointwise};
  PICK(r, draw)(r, p);
  p->batch = 0;
}

typedef struct family {
  void (*draw)(ref_random *, ref_convolution *);
  int64_t least_work;  // multiplications that its problems may always have
} family;

static bool acceptable(const ref_convolution *p, int64_t work) {
  return ref_output_height(p) > 0 && ref_output_width(p) > 0 && ref_multiplications(p) <= work;
}

ref_convolution ref_random_convolution(uint64_t seed, int64_t index) {
  static const family families[] = {
      {draw_general, 0}, {draw_general, 0}, {draw_general, 0}, {draw_same_3x3, 0}, {draw_same_3x3, 0},
      {draw_wide_3x3, 600000}, {draw_wide_3x3, 1500000}, {draw_wide_dilated, 600000}, {draw_wide_dilated, 1500000},
      {draw_far_dilated, 2500000}, {draw_far_dilated, 15000000}, {draw_far_dilated, 15000000},
      {draw_small_3x3, 1500000}, {draw_wide_five_taps, 1500000}, {draw_wide_five_taps, 6000000},
      {draw_wide_five_taps, 6000000}, {draw_wide_one_dimensional, 4000000}, {draw_pointwise, 0}, {draw_pointwise, 0},
      {draw_deep_pointwise, 6000000}, {draw_expanding_pointwise, 20000000}, {draw_strided_pointwise, 0},
      {draw_depthwise, 0}, {draw_depthwise, 0},
      {draw_same_depthwise, 150000}, {draw_same_depthwise, 1500000}, {draw_same_depthwise, 1500000},
      {draw_large_depthwise, 1500000}, {draw_grouped, 0}, {draw_one_dimensional, 0}, {draw_one_column, 0},
      {draw_one_column, 0}, {draw_wide_one_dimensional, 600000}, {draw_wide_one_dimensional, 1500000},
      {draw_first_layer, 0}, {draw_kernel_over_image, 0}, {draw_strided_overlapping, 1500000},
      {draw_strided_overlapping, 4000000}, {draw_padding_over_kernel, 0}, {draw_wide_gaps, 0},
      {draw_whole_vectors, 600000}, {draw_stride_over_kernel, 0}, {draw_wide_strided, 6000000},
      {draw_wide_strided, 12000000}, {draw_dilated, 0}, {draw_deep, 0},
      {draw_many_pixels, 0}, {draw_many_filters_and_pixels, 25000000}, {draw_many_filters_and_pixels, 25000000}};
  static const family empty_batch = {draw_empty_batch, 0}, many_tiles = {draw_many_tiles, 30000000},
                      large = {draw_large, 30000000}, deep = {draw_deep_expanding_pointwise, 120000000};
  ref_random random = ref_random_for(seed, index, 0);
  // Half of the problems are small, so that there can be many; a few are large enough for several blocks and threads.
  static const int64_t work[] = {30000, 30000, 30000, 30000, 30000, 30000, 30000, 30000,
                                 150000, 150000, 150000, 150000, 400000, 400000, 1200000, 4000000};
  const family family = ref_random_once_in(&random, 64)    ? empty_batch
                        : ref_random_once_in(&random, 128) ? many_tiles
                        : ref_random_once_in(&random, 128) ? large
                        : ref_random_once_in(&random, 512) ? deep
                                                           : PICK(&random, families);
  int64_t most_work = PICK(&random, work);
  if (most_work < family.least_work) most_work = family.least_work;
  for (;;) {
    for (int attempt = 0; attempt < 100; attempt++) {
      ref_convolution p = {.batch = ref_random_once_in(&random, 2) ? 1 : between(&random, 2, 6), .groups = 1};
      set_kernel(&p, 1, 1);
      set_stride(&p, 1, 1);
      set_dilation(&p, 1, 1);
      family.draw(&random, &p);
      if (acceptable(&p, most_work)) return p;
    }
    most_work *= 4;  // no problem of this family is that small
  }
}

ref_product ref_random_product(uint64_t seed, int64_t index) {
  static const int64_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 13, 14, 15,
                                  16, 17, 27, 28, 31, 32, 33, 48, 63, 64, 65, 100};
  static const int64_t large[] = {127, 128, 129, 255, 256, 257, 300, 511, 513, 1025};
  ref_random random = ref_random_for(seed, index, 0);
  int64_t *extent[3];
  ref_product p = {0};
  extent[0] = &p.rows, extent[1] = &p.columns, extent[2] = &p.inner;
  do {
    for (int axis = 0; axis < 3; axis++) *extent[axis] = PICK(&random, sizes);
    if (ref_random_once_in(&random, 3)) *extent[between(&random, 0, 2)] = PICK(&random, large);
    if (ref_random_once_in(&random, 32)) p.rows = 0;
    if (ref_random_once_in(&random, 32)) p.inner = 0;
  } while (p.rows * p.columns * p.inner > 600000);
  p.transpose_a = ref_random_once_in(&random, 2);
  p.transpose_b = ref_random_once_in(&random, 2);
  bool gaps = ref_random_once_in(&random, 2);
  p.stride_a = (p.transpose_a ? p.rows : p.inner) + (gaps ? between(&random, 0, 5) : 0);
  p.stride_b = (p.transpose_b ? p.inner : p.columns) + (gaps ? between(&random, 0, 5) : 0);
  p.stride_result = p.columns + (gaps ? between(&random, 0, 5) : 0);
  return p;
}
