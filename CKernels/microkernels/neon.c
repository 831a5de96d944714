#if defined(__aarch64__)

#define PF_LANES 4
#define PF_FUSED 1
#define PF_TILE_ROWS 8
#define PF_TILE_VECTORS 3
#define PF_DOT_ROWS 4
#define PF_DOT_COLUMNS 6
#define PF_FILL pf_fill_kernels_neon
#include "microkernels/bodies.h"

#endif
