// What a mask leaves of a weight gradient to compute: tiles of filters that aren't frozen whole, and for each tile the
// elements that any of its filters, or each filter by itself, needs.
//
// A frozen filter is in no tile. A frozen input channel or tap is in no list. Where few scattered elements are
// trainable, filters have lists of their own; where few are frozen, the whole gradient is computed and the mask decides
// what is stored. Each element's dot product is the same in all of these.

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
  int32_t filters[pf_most_dot_rows];  // of the group
  int32_t count;
  int32_t row;     // of the first filter among the group's filters that are in tiles
  bool whole;      // all elements: there is no list
  bool separate;   // each filter has a list; otherwise that of the first serves all
} pf_gradient_tile;

typedef struct pf_gradient_lists {
  pf_gradient_tile *tiles;  // by group, most_tiles each
  int32_t *tile_counts;     // by group
  int32_t *rows;            // by filter: its row among those in tiles, or -1
  int32_t *counts;          // by filter in the order of rows, group_filters a group: the length of its list
  int32_t *elements;        // likewise, window elements each: the lists, ascending
  int64_t most_tiles;
} pf_gradient_lists;

/// Bytes of lists.
int64_t pf_gradient_lists_bytes(int64_t groups, int64_t group_filters, int64_t window_elements, int64_t tile_rows);

/// The elements of a mask that are 0.
int64_t pf_count_frozen(const pf_settings *settings, const uint8_t *mask, int64_t count);

/// Lists what is to be computed in `memory`, a block of pf_gradient_lists_bytes. With `whole_filters` only frozen
/// filters are left out. Returns the work relative to that without a mask.
double pf_gradient_lists_fill(pf_gradient_lists *lists, const uint8_t *mask, int64_t groups, int64_t group_filters,
                              const pf_filter_window *window, int64_t tile_rows, bool whole_filters, char *memory);

#endif
