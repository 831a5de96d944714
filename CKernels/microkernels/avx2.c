#if defined(__x86_64__)

#include "microkernels/kernels.h"

#define PF_LANES 8
#define PF_FUSED 1
#define PF_TILE_ROWS 6
#define PF_TILE_VECTORS 2
#define PF_DOT_ROWS 3
#define PF_DOT_COLUMNS 4
#define PF_FILL pf_fill_kernels_avx2
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#include "microkernels/bodies.h"
#pragma clang attribute pop

#endif
