#include "convolution/gradient_mask.h"

#include <string.h>

// What a byte of a mask that is read is worth in floating-point operations.
static const double scan_operations = 4;

typedef struct scan {
  const uint8_t *mask;
  int64_t elements;  // of a filter
  int64_t *counts;
  float *gradient;
} scan;

static int64_t count_trainable(const uint8_t *mask, int64_t elements) {
  // Most filters of most masks are all one value, which the C library finds out in the widest vectors there are.
  if (memcmp(mask, mask + 1, (size_t)elements - 1) == 0) return mask[0] != 0 ? elements : 0;
  int64_t total = 0;
  for (int64_t i = 0; i < elements;) {
    const int64_t stop = pf_minimum_of(elements, i + 240);  // whole vectors, and a sum that fits
    uint8_t sum = 0;
    for (; i < stop; ++i) sum = (uint8_t)(sum + (mask[i] != 0));
    total += sum;
  }
  return total;
}

/// Items: filters.
static void scan_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const scan *s = argument;
  for (int64_t filter = begin; filter < end; ++filter) {
    s->counts[filter] = count_trainable(s->mask + filter * s->elements, s->elements);
    if (s->counts[filter] == 0) memset(s->gradient + filter * s->elements, 0, (size_t)s->elements * sizeof(float));
  }
}

pf_gradient_mask pf_gradient_mask_scan(const pf_settings *settings, const uint8_t *mask, int64_t filters,
                                       int64_t elements, int64_t *counts, float *gradient) {
  scan s = {.mask = mask, .elements = elements, .counts = counts, .gradient = gradient};
  pf_parallel(settings, filters, scan_operations * (double)elements, scan_range, &s);
  pf_gradient_mask result = {.bytes = mask, .counts = counts};
  for (int64_t f = 0; f < filters; ++f) result.trainable += counts[f];
  return result;
}

/// The kernels' width for the next tile of `left` lanes: the narrowest that holds them, or the widest.
static int32_t width_of(const pf_kernels *kernels, int64_t left) {
  int32_t width = kernels->outer_widths - 1;
  while (width > 0 && left <= kernels->outer_lanes[width - 1]) width -= 1;
  return width;
}

int64_t pf_gradient_most_tiles(const pf_kernels *kernels, int64_t group_filters) {
  return pf_ceiling_divide(group_filters, kernels->outer_lanes[kernels->outer_widths - 1]);
}

int64_t pf_gradient_tiles_bytes(const pf_kernels *kernels, int64_t groups, int64_t group_filters) {
  const int64_t tiles = groups * pf_gradient_most_tiles(kernels, group_filters);
  return pf_aligned_bytes(tiles * (int64_t)sizeof(pf_gradient_tile)) +
         pf_aligned_bytes(groups * (int64_t)sizeof(int32_t));
}

int64_t pf_gradient_lists_bytes(const pf_settings *settings, int64_t groups, int64_t group_filters,
                                const pf_filter_window *window) {
  const int64_t tiles = groups * pf_gradient_most_tiles(settings->kernels, group_filters);
  const int64_t index = (int64_t)sizeof(int32_t);
  return pf_gradient_tiles_bytes(settings->kernels, groups, group_filters) +
         pf_aligned_bytes(groups * group_filters * index) +
         pf_aligned_bytes(tiles * pf_window_elements(window) * index) + settings->threads * pf_scan_bytes(window);
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

/// Cuts a group's filters, or `count` that are left of them, into tiles of all elements.
static void cut(pf_gradient_tiles *tiles, const pf_kernels *kernels, int64_t group, int64_t count, int64_t elements) {
  const int64_t sums = group * pf_round_up(tiles->group_filters, kernels->outer_lanes[0]) * elements;
  pf_gradient_tile *tile = tiles->tiles + group * tiles->most;
  for (int64_t first = 0; first < count; ++tile) {
    const int32_t width = width_of(kernels, count - first);
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
  for (int64_t g = 0; g < groups; ++g) cut(tiles, kernels, g, group_filters, elements);
}

int32_t pf_gradient_list(const uint8_t *mask, const pf_filter_window *w, uint8_t *bytes, int32_t *list) {
  const int64_t elements = pf_window_elements(w);
  if (elements == w->channels * w->kernel_height * w->kernel_width) {
    for (int64_t k = 0; k < elements; ++k) bytes[k] = mask[k] != 0;
  } else {
    for (int64_t k = 0; k < elements; k += w->taps_x) {
      const uint8_t *row = mask + pf_window_place(w, k);
      for (int64_t j = 0; j < w->taps_x; ++j) bytes[k + j] = row[j] != 0;
    }
  }
  memset(bytes + elements, 0, (size_t)(pf_round_up(elements, 64) - elements));
  int32_t length = 0;
  for (int64_t k = 0; k < elements; k += 64) {
    uint64_t bits = 0;
    for (int32_t i = 0; i < 8; ++i) {
      uint64_t word;
      memcpy(&word, bytes + k + 8 * i, 8);
      // The lowest bits of eight bytes, in the first one's place and those behind it.
      bits |= (word * 0x0102040810204080u >> 56) << (8 * i);
    }
    for (; bits != 0; bits &= bits - 1) list[length++] = (int32_t)k + __builtin_ctzll(bits);
  }
  return length;
}

typedef struct filling {
  const pf_gradient_tiles *tiles;
  const pf_gradient_mask *mask;
  const pf_filter_window *window;
  int32_t *lists;  // by tile
  uint8_t *bytes;  // by part
} filling;

/// Items: tiles.
static void fill_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const filling *f = argument;
  const pf_filter_window *w = f->window;
  const int64_t filter = w->channels * w->kernel_height * w->kernel_width;
  uint8_t *bytes = f->bytes + part * pf_scan_bytes(w), *all = bytes + pf_scan_bytes(w) / 2;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t group = item / f->tiles->most;
    if (item % f->tiles->most >= f->tiles->counts[group]) continue;
    pf_gradient_tile *tile = f->tiles->tiles + item;
    memset(all, 0, (size_t)filter);
    for (int32_t i = 0; i < tile->filters; ++i) {
      const int64_t index = group * f->tiles->group_filters + pf_gradient_filter(f->tiles, group, tile->first + i);
      const uint8_t *mask = f->mask->bytes + index * filter;
      for (int64_t k = 0; k < filter; ++k) all[k] |= mask[k];
    }
    int32_t *list = f->lists + item * pf_window_elements(w);
    tile->length = pf_gradient_list(all, w, bytes, list);
    tile->elements = list;
  }
}

double pf_gradient_lists_fill(pf_gradient_tiles *tiles, const pf_settings *settings, const pf_gradient_mask *mask,
                              int64_t groups, int64_t group_filters, const pf_filter_window *window, char *memory) {
  const pf_kernels *kernels = settings->kernels;
  const int64_t elements = pf_window_elements(window), index = (int64_t)sizeof(int32_t);
  memory = place_tiles(tiles, kernels, groups, group_filters, memory);
  tiles->filters = (int32_t *)memory;
  for (int64_t g = 0; g < groups; ++g) {
    int64_t count = 0;
    for (int64_t f = 0; f < group_filters; ++f) {
      if (mask->counts[g * group_filters + f] != 0) tiles->filters[g * group_filters + count++] = (int32_t)f;
    }
    cut(tiles, kernels, g, count, elements);
  }
  filling f = {.tiles = tiles, .mask = mask, .window = window};
  f.lists = (int32_t *)(memory + pf_aligned_bytes(groups * group_filters * index));
  f.bytes = (uint8_t *)f.lists + pf_aligned_bytes(groups * tiles->most * elements * index);
  const int64_t tile_bytes = kernels->outer_lanes[kernels->outer_widths - 1] * elements;
  pf_parallel(settings, groups * tiles->most, scan_operations * (double)tile_bytes, fill_range, &f);
  double work = 0;
  for (int64_t g = 0; g < groups; ++g) {
    for (int32_t t = 0; t < tiles->counts[g]; ++t) {
      const pf_gradient_tile *tile = tiles->tiles + g * tiles->most + t;
      work += (double)tile->length * (double)kernels->outer_lanes[tile->width];
    }
  }
  return work / ((double)groups * (double)elements * (double)pf_round_up(group_filters, kernels->outer_lanes[0]));
}
