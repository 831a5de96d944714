// The sums of the output gradient's planes, of which the bias gradient is made. A weight gradient takes them on its
// way, when it comes to an image: the planes that it is about to read are then in a cache close by.

#ifndef PF_PLANE_SUMS_H
#define PF_PLANE_SUMS_H

#include "runtime/runtime.h"

typedef struct pf_plane_sums {
  const pf_kernels *kernels;
  const float *output_gradient;
  int64_t channels, plane;  // the output's channels, and elements of one in an image
  float *sums;              // by image, channel
  bool complete;            // set by a weight gradient that takes them all
} pf_plane_sums;

/// Takes those of `channels` neighbouring planes of each of `images` images. NULL: nothing is wanted.
static inline void pf_plane_sums_take(const pf_plane_sums *s, int64_t image, int64_t images, int64_t channel,
                                      int64_t channels) {
  for (int64_t i = image; s != NULL && i < image + images; ++i) {
    const int64_t first = i * s->channels + channel;
    for (int64_t k = first; k < first + channels; ++k) {
      s->sums[k] = s->kernels->sum(s->plane, s->output_gradient + k * s->plane);
    }
  }
}

#endif
