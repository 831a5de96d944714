// The system's zlib, for data sets that come as gzip files.

#include <zlib.h>
