#ifndef CHECK_ARGUMENTS_H
#define CHECK_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/// Calls the convolution's passes and the matrix product with `count` random, mostly senseless sets of arguments:
/// each must return a status that fits one of the things wrong with it, and then leave its output as it was. Prints
/// what it did; false after a failure.
bool check_arguments(uint64_t seed, int64_t first, int64_t count);

#endif
