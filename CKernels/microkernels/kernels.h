// The table of leaf functions that are compiled once an instruction set.
//
// A body is written once, in `*_body.h`, in clang's vector extensions on the type `vector` of microkernels/vector.h. The
// file of an instruction set (avx512.c, avx2.c, baseline.c, neon.c) says its target, vector length and tile, and includes
// the bodies through bodies.h. A new kernel: a member here, a body, an assignment in bodies.h. A new instruction set: a file
// here, and its detection in runtime/context.c.

#ifndef PF_KERNELS_H
#define PF_KERNELS_H

#include "include/CKernels.h"
#include "microkernels/operation_kernels.h"

typedef struct pf_kernels {
  pf_isa isa;
  int32_t lanes;  // floats in a vector

  /// Runs `iterations` rounds of independent multiply-adds in registers; returns a value that depends on all of them, and
  /// stores the number of floating-point operations done.
  float (*multiply_add_loop)(int64_t iterations, int64_t *operations);

  pf_operation_kernels operations;
} pf_kernels;

void pf_fill_kernels_baseline(pf_kernels *kernels);
#if defined(__x86_64__)
void pf_fill_kernels_avx2(pf_kernels *kernels);
void pf_fill_kernels_avx512(pf_kernels *kernels);
#elif defined(__aarch64__)
void pf_fill_kernels_neon(pf_kernels *kernels);
#endif

#endif
