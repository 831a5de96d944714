// The UCI optical digits as two IDX files in memory. Source, format and licence: ATTRIBUTION.md.

#ifndef CDIGITS_H
#define CDIGITS_H

#include <stddef.h>

extern const unsigned char *const pf_digits_images;
extern const size_t pf_digits_images_count;

extern const unsigned char *const pf_digits_labels;
extern const size_t pf_digits_labels_count;

#endif
