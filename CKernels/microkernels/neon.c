#if defined(__aarch64__)

#define PF_LANES 4
#define PF_FUSED 1
#define PF_FILL pf_fill_kernels_neon
#include "microkernels/bodies.h"

#endif
