#include "CDigits.h"

#if defined(__clang__) && __STDC_VERSION__ < 202311L
// clang takes #embed in every language mode, and says so.
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

const unsigned char pf_digits_images[] = {
#embed "images.idx3-ubyte"
};
const size_t pf_digits_images_count = sizeof pf_digits_images;

const unsigned char pf_digits_labels[] = {
#embed "labels.idx1-ubyte"
};
const size_t pf_digits_labels_count = sizeof pf_digits_labels;
