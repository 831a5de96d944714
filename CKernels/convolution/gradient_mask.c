#include "convolution/gradient_mask.h"

#include <string.h>

// In units of a multiply-add of a tile's row, with its share of the tile's loads.
static const double separate_element_cost = 5, column_cost = 1;

static int64_t most_tiles(int64_t group_filters, int64_t tile_rows) {
  return pf_ceiling_divide(group_filters, tile_rows);
}

int64_t pf_gradient_lists_bytes(int64_t groups, int64_t group_filters, int64_t window_elements, int64_t tile_rows) {
  const int64_t filters = groups * group_filters, index = (int64_t)sizeof(int32_t);
  return pf_aligned_bytes(groups * most_tiles(group_filters, tile_rows) * (int64_t)sizeof(pf_gradient_tile)) +
         pf_aligned_bytes((groups + 2 * filters + filters * window_elements) * index) +
         pf_aligned_bytes((pf_most_dot_rows + 1) * window_elements);
}

/// The bytes other than 0, each of which is 1.
static int64_t count_ones(const uint8_t *bytes, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count;) {
    const int64_t end = pf_minimum_of(count, i + 255);
    uint8_t sum = 0;
    for (; i < end; ++i) sum = (uint8_t)(sum + bytes[i]);
    total += sum;
  }
  return total;
}

typedef struct frozen_count {
  const uint8_t *mask;
  int64_t count, frozen;
} frozen_count;

enum { count_bytes = 16 << 10 };

/// Items: pieces of count_bytes.
static void count_frozen(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  frozen_count *c = argument;
  const int64_t last = pf_minimum_of(end * count_bytes, c->count);
  int64_t total = 0;
  for (int64_t i = begin * count_bytes; i < last;) {
    const int64_t stop = pf_minimum_of(last, i + 240);  // whole vectors, and a sum that fits
    uint8_t sum = 0;
    for (; i < stop; ++i) sum = (uint8_t)(sum + (c->mask[i] == 0));
    total += sum;
  }
  __atomic_fetch_add(&c->frozen, total, __ATOMIC_RELAXED);
}

int64_t pf_count_frozen(const pf_settings *settings, const uint8_t *mask, int64_t count) {
  frozen_count c = {.mask = mask, .count = count};
  pf_parallel(settings, pf_ceiling_divide(count, count_bytes), count_bytes, count_frozen, &c);
  return c.frozen;
}

/// The window of a filter's mask, as bytes of 0 and 1.
static void read_window(const uint8_t *mask, const pf_filter_window *w, uint8_t *bytes) {
  const int64_t elements = pf_window_elements(w);
  if (elements == w->channels * w->kernel_height * w->kernel_width) {
    for (int64_t k = 0; k < elements; ++k) bytes[k] = mask[k] != 0;
    return;
  }
  for (int64_t k = 0; k < elements; k += w->taps_x) {
    const uint8_t *row = mask + pf_window_place(w, k);
    for (int64_t j = 0; j < w->taps_x; ++j) bytes[k + j] = row[j] != 0;
  }
}

/// Lists the ones among `count` bytes; returns how many there are.
static int32_t list_ones(const uint8_t *bytes, int64_t count, int32_t *list) {
  int32_t length = 0;
  int64_t k = 0;
  while (k < count) {
    uint64_t word = 1;
    if (k + 8 <= count) memcpy(&word, bytes + k, 8);
    if (word == 0) {
      k += 8;
      continue;
    }
    for (const int64_t end = pf_minimum_of(count, k + 8); k < end; ++k) {
      if (bytes[k] != 0) list[length++] = (int32_t)k;
    }
  }
  return length;
}

/// Chooses the lists of a tile of `count` filters whose windows are the first rows of `windows`; returns its cost.
static double fill_tile(pf_gradient_tile *tile, int64_t elements, uint8_t *windows, int64_t trainable,
                        bool whole_filters, int32_t *counts, int32_t *lists) {
  const double row_cost = (double)tile->count + column_cost;
  uint8_t *all = windows + pf_most_dot_rows * elements;
  memcpy(all, windows, (size_t)elements);
  for (int32_t r = 1; r < tile->count; ++r) {
    for (int64_t k = 0; k < elements; ++k) all[k] |= windows[r * elements + k];
  }
  const int64_t needed = count_ones(all, elements);
  const double together = (double)needed * row_cost, apart = (double)trainable * separate_element_cost;
  tile->whole = whole_filters || (needed == elements && apart >= together);
  tile->separate = !tile->whole && apart < together;
  if (tile->whole) return (double)elements * row_cost;
  const int32_t rows = tile->separate ? tile->count : 1;
  for (int32_t r = 0; r < rows; ++r) {
    counts[r] = list_ones(tile->separate ? windows + r * elements : all, elements, lists + r * elements);
  }
  return tile->separate ? apart : together;
}

double pf_gradient_lists_fill(pf_gradient_lists *lists, const uint8_t *mask, int64_t groups, int64_t group_filters,
                              const pf_filter_window *window, int64_t tile_rows, bool whole_filters, char *memory) {
  const int64_t elements = pf_window_elements(window), filters = groups * group_filters;
  const int64_t filter_size = window->channels * window->kernel_height * window->kernel_width;
  lists->most_tiles = most_tiles(group_filters, tile_rows);
  lists->tiles = (pf_gradient_tile *)memory;
  lists->tile_counts =
      (int32_t *)(memory + pf_aligned_bytes(groups * lists->most_tiles * (int64_t)sizeof(pf_gradient_tile)));
  lists->rows = lists->tile_counts + groups;
  lists->counts = lists->rows + filters;
  lists->elements = lists->counts + filters;
  uint8_t *windows = (uint8_t *)(lists->elements + filters * elements);
  double cost = 0;
  for (int64_t g = 0; g < groups; ++g) {
    pf_gradient_tile *tiles = lists->tiles + g * lists->most_tiles, tile = {0};
    int32_t tile_count = 0, row = 0;
    int64_t trainable = 0;
    for (int64_t f = 0; f < group_filters; ++f) {
      const int64_t filter = g * group_filters + f;
      uint8_t *bytes = windows + tile.count * elements;
      read_window(mask + filter * filter_size, window, bytes);
      const int64_t ones = count_ones(bytes, elements);
      lists->rows[filter] = ones == 0 ? -1 : row;
      if (ones > 0) {
        tile.filters[tile.count++] = (int32_t)f;
        trainable += ones;
        row += 1;
      }
      if (tile.count == tile_rows || (f + 1 == group_filters && tile.count > 0)) {
        tile.row = row - tile.count;
        const int64_t first = g * group_filters + tile.row;
        cost += fill_tile(&tile, elements, windows, trainable, whole_filters, lists->counts + first,
                          lists->elements + first * elements);
        tiles[tile_count++] = tile;
        tile = (pf_gradient_tile){0};
        trainable = 0;
      }
    }
    lists->tile_counts[g] = tile_count;
  }
  const double full = (double)groups * (double)elements *
                      ((double)group_filters + (double)lists->most_tiles * column_cost);
  return cost / full;
}
