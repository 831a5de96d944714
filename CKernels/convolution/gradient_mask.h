// What a weight gradient computes, as tiles of outer products: some filters, and the elements that any of these needs.
//
// A frozen filter is in no tile. A frozen input channel or tap is in no list. Where few are frozen, the whole gradient
// is computed and the mask decides what is stored. Where few scattered elements are trainable, these are computed by
// themselves (chain_gradient.h). Each element's sum is the same in all of these. Dot products of planes have tiles
// of their own (plane_gradient.c).

#ifndef PF_GRADIENT_MASK_H
#define PF_GRADIENT_MASK_H

#include "convolution/problem.h"

/// The part of a filter that isn't always zero: channels * taps_y * taps_x elements of channels * taps, in order.
typedef struct pf_filter_window {
  int64_t channels, kernel_height, kernel_width;
  int64_t first_y, taps_y, first_x, taps_x;
} pf_filter_window;

static inline int64_t pf_window_elements(const pf_filter_window *window) {
  return window->channels * window->taps_y * window->taps_x;
}

/// Where element k of a window lies in a filter.
static inline int64_t pf_window_place(const pf_filter_window *w, int64_t k) {
  if (w->taps_y == w->kernel_height && w->taps_x == w->kernel_width) return k;
  const int64_t row = k / w->taps_x, channel = row / w->taps_y;
  return (channel * w->kernel_height + w->first_y + row % w->taps_y) * w->kernel_width + w->first_x + k % w->taps_x;
}

typedef struct pf_gradient_tile {
  int32_t first, filters;   // among the group's filters that are in tiles
  int32_t width;            // of the kernels
  int32_t length;           // of the list
  const int32_t *elements;  // the list, ascending; NULL: all, from 0 on
  int64_t sums;             // where the sums lie in a slice's: element by element, one for each of the kernels' lanes
} pf_gradient_tile;

typedef struct pf_gradient_tiles {
  pf_gradient_tile *tiles;  // by group, `most` each
  int32_t *counts;          // by group
  int32_t *filters;         // by group, group_filters each: those in tiles, ascending; NULL: all
  int64_t most, group_filters;
} pf_gradient_tiles;

static inline int64_t pf_gradient_filter(const pf_gradient_tiles *tiles, int64_t group, int64_t index) {
  return tiles->filters == NULL ? index : tiles->filters[group * tiles->group_filters + index];
}

/// The most tiles of a group, with lists or without.
int64_t pf_gradient_most_tiles(const pf_kernels *kernels, int64_t group_filters);

/// Bytes of tiles without lists, and with.
int64_t pf_gradient_tiles_bytes(const pf_kernels *kernels, int64_t groups, int64_t group_filters);
int64_t pf_gradient_lists_bytes(const pf_settings *settings, int64_t groups, int64_t group_filters,
                                const pf_filter_window *window);

/// Tiles of everything, in pf_gradient_tiles_bytes of memory.
void pf_gradient_tiles_fill(pf_gradient_tiles *tiles, const pf_kernels *kernels, int64_t groups,
                            int64_t group_filters, int64_t elements, char *memory);

/// A mask, and how many elements of each filter and of all are trainable.
typedef struct pf_gradient_mask {
  const uint8_t *bytes;
  const int64_t *counts;
  int64_t trainable;
} pf_gradient_mask;

/// Bytes of the counts.
static inline int64_t pf_gradient_mask_bytes(const pf_convolution2d *problem) {
  return problem->output_channels * (int64_t)sizeof(int64_t);
}

/// Reads a mask once, and writes +0.0 to the gradients of frozen filters, which no algorithm then has to.
pf_gradient_mask pf_gradient_mask_scan(const pf_settings *settings, const uint8_t *mask, int64_t filters,
                                       int64_t elements, int64_t *counts, float *gradient);

/// Bytes of scratch for pf_gradient_list, and as many behind them for a whole filter's mask.
static inline int64_t pf_scan_bytes(const pf_filter_window *w) {
  return 2 * pf_round_up(w->channels * w->kernel_height * w->kernel_width, 64);
}

/// Lists the trainable elements in the window of a filter's mask, ascending; returns how many there are. `bytes` is
/// scratch.
int32_t pf_gradient_list(const uint8_t *mask, const pf_filter_window *window, uint8_t *bytes, int32_t *list);

/// Tiles of what a mask leaves, in pf_gradient_lists_bytes of memory. Returns the work relative to that without a mask.
double pf_gradient_lists_fill(pf_gradient_tiles *tiles, const pf_settings *settings, const pf_gradient_mask *mask,
                              int64_t groups, int64_t group_filters, const pf_filter_window *window, char *memory);

#endif
