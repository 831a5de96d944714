// Every kernel body, compiled for the instruction set whose file includes this, and the function that enters them in a
// table. The includer defines PF_LANES, PF_FUSED and PF_FILL, and has set the target.

#include "microkernels/kernels.h"
#include "microkernels/vector.h"
#include "microkernels/peak_body.h"
#include "microkernels/operations_body.h"

void PF_FILL(pf_kernels *kernels) {
  kernels->lanes = PF_LANES;
  kernels->multiply_add_loop = multiply_add_loop;
  kernels->operations = operation_kernels;
}
