#include "convolution/gradient_mask.h"

#include <string.h>

/// The time of the narrowest kernels for a lane, in that of the others.
static const double narrow_cost = 1.25;

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

/// The kernels' width for the next tile of `left` lanes: the narrowest that holds them, or the widest.
static int32_t width_of(const pf_kernels *kernels, int64_t left) {
  int32_t width = kernels->outer_widths - 1;
  while (width > 0 && left <= kernels->outer_lanes[width - 1]) width -= 1;
  return width;
}

int64_t pf_gradient_most_tiles(const pf_kernels *kernels, int64_t group_filters) {
  return pf_ceiling_divide(group_filters, kernels->outer_lanes[0]);
}

int64_t pf_gradient_tiles_bytes(const pf_kernels *kernels, int64_t groups, int64_t group_filters) {
  const int64_t tiles = groups * pf_gradient_most_tiles(kernels, group_filters);
  return pf_aligned_bytes(tiles * (int64_t)sizeof(pf_gradient_tile)) +
         pf_aligned_bytes(groups * (int64_t)sizeof(int32_t));
}

int64_t pf_gradient_lists_bytes(const pf_kernels *kernels, int64_t groups, int64_t group_filters, int64_t elements) {
  const int64_t tiles = groups * pf_gradient_most_tiles(kernels, group_filters), index = (int64_t)sizeof(int32_t);
  return pf_gradient_tiles_bytes(kernels, groups, group_filters) + pf_aligned_bytes(groups * group_filters * index) +
         pf_aligned_bytes(tiles * elements * index) + pf_aligned_bytes((group_filters + 1) * elements);
}

static char *place_tiles(pf_gradient_tiles *tiles, const pf_kernels *kernels, int64_t groups, int64_t group_filters,
                         char *memory) {
  tiles->most = pf_gradient_most_tiles(kernels, group_filters);
  tiles->group_filters = group_filters;
  tiles->tiles = (pf_gradient_tile *)memory;
  tiles->counts = (int32_t *)(memory + pf_aligned_bytes(groups * tiles->most * (int64_t)sizeof(pf_gradient_tile)));
  tiles->filters = NULL;
  return memory + pf_gradient_tiles_bytes(kernels, groups, group_filters);
}

/// Cuts a group's filters, or `count` that are left of them, into tiles of all elements, none wider than `widest`.
static void cut(pf_gradient_tiles *tiles, const pf_kernels *kernels, int64_t group, int64_t count, int64_t elements,
                int32_t widest) {
  const int64_t sums = group * pf_round_up(tiles->group_filters, kernels->outer_lanes[0]) * elements;
  pf_gradient_tile *tile = tiles->tiles + group * tiles->most;
  for (int64_t first = 0; first < count; ++tile) {
    int32_t width = width_of(kernels, count - first);
    if (width > widest) width = widest;
    *tile = (pf_gradient_tile){
        .first = (int32_t)first,
        .filters = (int32_t)pf_minimum_of(kernels->outer_lanes[width], count - first),
        .width = width,
        .length = (int32_t)elements,
        .sums = sums + first * elements,
    };
    first += kernels->outer_lanes[width];
  }
  tiles->counts[group] = (int32_t)(tile - (tiles->tiles + group * tiles->most));
}

void pf_gradient_tiles_fill(pf_gradient_tiles *tiles, const pf_kernels *kernels, int64_t groups,
                            int64_t group_filters, int64_t elements, char *memory) {
  place_tiles(tiles, kernels, groups, group_filters, memory);
  for (int64_t g = 0; g < groups; ++g) cut(tiles, kernels, g, group_filters, elements, kernels->outer_widths - 1);
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

/// all[k] = whether any of a tile's filters needs element k. `windows` holds those of the filters in tiles.
static void unite(const pf_gradient_tile *tile, int64_t elements, const uint8_t *windows, uint8_t *all) {
  const uint8_t *window = windows + tile->first * elements;
  memcpy(all, window, (size_t)elements);
  for (int32_t f = 1; f < tile->filters; ++f) {
    window += elements;
    for (int64_t k = 0; k < elements; ++k) all[k] |= window[k];
  }
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

/// The work of a tile with `length` elements.
static double tile_work(const pf_kernels *kernels, const pf_gradient_tile *tile, int64_t length) {
  return (double)length * (double)kernels->outer_lanes[tile->width];
}

double pf_gradient_lists_fill(pf_gradient_tiles *tiles, const pf_kernels *kernels, const uint8_t *mask, int64_t groups,
                              int64_t group_filters, const pf_filter_window *window, char *memory) {
  const int64_t elements = pf_window_elements(window), index = (int64_t)sizeof(int32_t);
  const int64_t filter_size = window->channels * window->kernel_height * window->kernel_width;
  memory = place_tiles(tiles, kernels, groups, group_filters, memory);
  tiles->filters = (int32_t *)memory;
  int32_t *lists = (int32_t *)(memory + pf_aligned_bytes(groups * group_filters * index));
  uint8_t *windows = (uint8_t *)lists + pf_aligned_bytes(groups * tiles->most * elements * index);
  uint8_t *all = windows + group_filters * elements;
  double work = 0;
  for (int64_t g = 0; g < groups; ++g) {
    int32_t *filters = tiles->filters + g * group_filters;
    int64_t count = 0;
    for (int64_t f = 0; f < group_filters; ++f) {
      read_window(mask + (g * group_filters + f) * filter_size, window, windows + count * elements);
      if (memchr(windows + count * elements, 1, (size_t)elements) != NULL) filters[count++] = (int32_t)f;
    }
    // Tiles with as many filters as possible, or with as few.
    pf_gradient_tile *group_tiles = tiles->tiles + g * tiles->most;
    const int32_t widths[2] = {kernels->outer_widths - 1, 0};
    double works[2] = {0, 0};
    for (int32_t i = 0; i < 2; ++i) {
      cut(tiles, kernels, g, count, elements, widths[i]);
      for (int32_t t = 0; t < tiles->counts[g]; ++t) {
        unite(group_tiles + t, elements, windows, all);
        works[i] += tile_work(kernels, group_tiles + t, count_ones(all, elements));
      }
    }
    const int32_t chosen = narrow_cost * works[1] < works[0] ? 1 : 0;
    work += chosen == 1 ? narrow_cost * works[1] : works[0];
    cut(tiles, kernels, g, count, elements, widths[chosen]);
    for (int32_t t = 0; t < tiles->counts[g]; ++t) {
      int32_t *list = lists + (g * tiles->most + t) * elements;
      unite(group_tiles + t, elements, windows, all);
      group_tiles[t].length = list_ones(all, elements, list);
      group_tiles[t].elements = list;
    }
  }
  return work / ((double)groups * (double)elements * (double)pf_round_up(group_filters, kernels->outer_lanes[0]));
}
