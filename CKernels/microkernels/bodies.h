// Every kernel body, compiled for the instruction set whose file includes this, and the function that enters them in a
// table. The includer has set the target and defines
//   PF_LANES                           floats in a vector
//   PF_FUSED                           1 when there is a fused multiply-add
//   PF_TILE_ROWS, PF_TILE_VECTORS      the largest outer-product tile
//   PF_DOT_ROWS, PF_DOT_COLUMNS        the largest dot-product tile
//   PF_FILL                            the name of the function

#include "microkernels/kernels.h"
#include "microkernels/vector.h"
#include "microkernels/transpose_body.h"
#include "microkernels/tile_body.h"
#include "microkernels/filter_tile_body.h"
#include "microkernels/dot_body.h"
#include "microkernels/outer_body.h"
#include "microkernels/chain_body.h"
#include "microkernels/copy_body.h"
#include "microkernels/plane_body.h"
#include "microkernels/depthwise_body.h"
#include "microkernels/depthwise_rows_body.h"
#include "microkernels/peak_body.h"
#include "microkernels/reduce_body.h"
#include "microkernels/operations_body.h"
#include "microkernels/winograd_transform_body.h"
#include "microkernels/winograd_line_body.h"
#include "microkernels/winograd_strided_body.h"
#include "microkernels/winograd_weight_body.h"
#include "microkernels/winograd_product_body.h"

void PF_FILL(pf_kernels *kernels) {
  kernels->lanes = PF_LANES;
  fill_tiles(kernels);
  fill_filter_tiles(kernels);
  fill_dots(kernels);
  fill_outers(kernels);
  fill_chains(kernels);
  fill_planes(kernels);
  fill_depthwise(kernels);
  fill_depthwise_rows(kernels);
  kernels->copy_rows = copy_rows;
  kernels->pack_columns = pack_columns;
  kernels->scatter_tile = scatter_tile;
  kernels->scatter_pairs = scatter_pairs;
  kernels->scatter_rows = scatter_rows;
  kernels->pack_rows = pack_rows;
  kernels->pack_taps = pack_taps;
  kernels->pack_lanes = pack_lanes;
  kernels->sum_lanes = sum_lanes;
  kernels->finish_gradient = finish_gradient;
  kernels->sum = sum;
  kernels->multiply_add_loop = multiply_add_loop;
  kernels->operations = operation_kernels;
  fill_winograd(kernels);
}
