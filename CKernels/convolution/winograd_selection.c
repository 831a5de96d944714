#include <string.h>

#include "convolution/winograd.h"

int64_t pf_winograd_selection_bytes(const pf_convolution2d *p) {
  return pf_aligned_bytes((p->input_channels + p->output_channels) * (int64_t)sizeof(int32_t)) +
         pf_aligned_bytes(p->input_channels / p->groups * 9 + p->output_channels / p->groups);
}

/// Lists the places of `count` bytes, those of bytes other than 0 first; returns how many these are.
static int64_t list_first(const uint8_t *bytes, int64_t count, int64_t width, int32_t *list) {
  int64_t first = 0, last = count;
  for (int64_t k = 0; k < count; ++k) {
    uint8_t any = 0;
    for (int64_t i = 0; i < width; ++i) any |= bytes[k * width + i];
    if (any != 0) {
      list[first++] = (int32_t)k;
    } else {
      list[--last] = (int32_t)k;
    }
  }
  return first;
}

pf_winograd_selection pf_winograd_select(const pf_convolution2d *p, const uint8_t *mask, char *memory) {
  const int64_t channels = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const int64_t filter = channels * 9;
  int32_t *channel_list = (int32_t *)memory, *output_list = channel_list + p->input_channels;
  uint8_t *elements =
      (uint8_t *)memory + pf_aligned_bytes((p->input_channels + p->output_channels) * (int64_t)sizeof(int32_t));
  uint8_t *filters = elements + filter;
  pf_winograd_selection selection = {.channel_list = channel_list, .output_list = output_list};
  for (int64_t group = 0; group < p->groups; ++group) {
    memset(elements, 0, (size_t)filter);
    for (int64_t o = 0; o < outputs; ++o, mask += filter) {
      uint8_t any = 0;
      for (int64_t k = 0; k < filter; ++k) {
        elements[k] |= mask[k];
        any |= mask[k];
      }
      filters[o] = any;
    }
    const int64_t group_channels = list_first(elements, channels, 9, channel_list + group * channels);
    const int64_t group_outputs = list_first(filters, outputs, 1, output_list + group * outputs);
    selection.channels = pf_maximum_of(selection.channels, group_channels);
    selection.outputs = pf_maximum_of(selection.outputs, group_outputs);
  }
  return selection;
}
