// x86-64: SSE2, without fused multiply-add. Elsewhere: whatever the compiler makes of vectors of four.

#define PF_LANES 4
#define PF_FUSED 0
#define PF_TILE_ROWS 4
#define PF_TILE_VECTORS 2
#define PF_DOT_ROWS 3
#define PF_DOT_COLUMNS 3
#define PF_FILL pf_fill_kernels_baseline
#include "microkernels/bodies.h"
