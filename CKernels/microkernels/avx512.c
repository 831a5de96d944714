#if defined(__x86_64__)

#include "microkernels/kernels.h"

#define PF_LANES 16
#define PF_FUSED 1
#define PF_TILE_ROWS 14
#define PF_TILE_VECTORS 2
#define PF_DOT_ROWS 4
#define PF_DOT_COLUMNS 6
#define PF_FILL pf_fill_kernels_avx512
// Without no-prefer-256-bit clang splits each vector in two, and the register tile spills.
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,no-prefer-256-bit"))), \
                             apply_to = function)
#include "microkernels/bodies.h"
#pragma clang attribute pop

#endif
