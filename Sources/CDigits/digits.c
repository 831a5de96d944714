#include "CDigits.h"

#if defined(__clang__) && __STDC_VERSION__ < 202311L
// clang takes #embed in every language mode, and says so.
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

static const unsigned char images[] = {
#embed "images.idx3-ubyte"
};
const unsigned char *const pf_digits_images = images;
const size_t pf_digits_images_count = sizeof images;

static const unsigned char labels[] = {
#embed "labels.idx1-ubyte"
};
const unsigned char *const pf_digits_labels = labels;
const size_t pf_digits_labels_count = sizeof labels;
