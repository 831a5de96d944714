// Matrix products on the outer-product tile of the convolutions. An element's chains of products are added up in the
// order of the inner dimension, behind its bias, however the product is cut: the blocks of the inner dimension are of
// whole chains.

#include <string.h>

#include "runtime/runtime.h"

enum {
  inner_budget = 512,       // of the inner dimension at a time
  panel_budget = 64 << 10,  // floats of packed columns
  most_block_tiles = 10,    // row tiles that share packed columns
};

typedef struct product_plan {
  pf_matrix_product product;
  const pf_kernels *kernels;
  const float *a, *b, *bias;
  const uint8_t *mask;
  bool accumulate;
  float *result;
  int64_t chain, inner_block;         // of the inner dimension: added up one after another; packed at a time
  int64_t row_tiles, column_tiles;
  int64_t row_blocks, column_blocks;  // of these tiles; a task is a pair of blocks
  int64_t most_rows, most_columns;    // tiles of a block
  float *packed_a;                    // by row tile: inner x rows of the tile
  const int64_t *a_offsets, *b_offsets;  // by k
  const int64_t *panel_offsets;          // by k, in a block
  float *scratch;                        // scratch_floats a part: panels, tiles
  int64_t scratch_floats;
} product_plan;

/// The rows of the tiles of a block are written straight to the result when nothing but the sum goes there.
static bool writes_result(const product_plan *plan, int64_t columns) {
  const bool whole = columns == plan->kernels->tile_columns && plan->mask == NULL;
  return whole && (!plan->accumulate || plan->product.inner <= plan->chain);
}

static void pack_panel(const product_plan *plan, int64_t column, int64_t columns, int64_t k, int64_t inner,
                       float *panel) {
  const int64_t tile = plan->kernels->tile_columns;
  if (columns < tile) memset(panel, 0, (size_t)(inner * tile) * sizeof(float));
  const int64_t stride = plan->product.transpose_b ? plan->product.stride_b : 1;
  plan->kernels->pack_rows(inner, columns, plan->b + column * stride, stride, plan->b_offsets + k, panel, tile);
}

/// One tile, one block of the inner dimension. `tile` holds its sums between blocks when they don't go to the result.
static void run_tile(const product_plan *plan, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t k,
                     int64_t inner, const float *panel, float *tile) {
  const pf_matrix_product *p = &plan->product;
  const int64_t tile_columns = plan->kernels->tile_columns;
  float *result = plan->result + row * p->stride_result + column;
  const bool direct = writes_result(plan, columns);
  float *sums = direct ? result : tile;
  const int64_t stride = direct ? p->stride_result : tile_columns;
  pf_tile_mode mode = k > 0 ? pf_tile_add : pf_tile_store;
  if (k == 0 && plan->bias != NULL) {
    for (int64_t r = 0; r < rows; ++r) {
      memcpy(sums + r * stride, plan->bias + column, (size_t)columns * sizeof(float));
      memset(sums + r * stride + columns, 0, (size_t)(tile_columns - columns) * sizeof(float));
    }
    mode = pf_tile_add;
  }
  if (direct && plan->accumulate) mode = pf_tile_add;
  plan->kernels->tile[rows](inner, plan->chain, plan->packed_a + row * p->inner + k * rows, panel, plan->kernels->lanes,
                            plan->panel_offsets, panel, 0, NULL, sums, stride, mode, pf_activation_none);
  if (!direct && k + inner == p->inner) {
    for (int64_t r = 0; r < rows; ++r) {
      const uint8_t *mask = plan->mask == NULL ? NULL : plan->mask + (row + r) * p->columns + column;
      plan->kernels->finish_gradient(columns, 1, sums + r * stride, 0, mask, plan->accumulate,
                                     result + r * p->stride_result);
    }
  }
}

/// Items: column blocks, in each the row blocks.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const product_plan *plan = argument;
  const pf_matrix_product *p = &plan->product;
  const int64_t tile_columns = plan->kernels->tile_columns, tile_floats = plan->kernels->tile_rows * tile_columns;
  const int64_t panel_floats = pf_minimum_of(plan->inner_block, p->inner) * tile_columns;
  float *panels = plan->scratch + part * plan->scratch_floats;
  float *tiles = panels + plan->most_columns * panel_floats;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row_block = item % plan->row_blocks, column_block = item / plan->row_blocks;
    const int64_t row_begin = pf_piece_begin(plan->row_tiles, row_block, plan->row_blocks);
    const int64_t row_end = pf_piece_begin(plan->row_tiles, row_block + 1, plan->row_blocks);
    const int64_t column_begin = pf_piece_begin(plan->column_tiles, column_block, plan->column_blocks);
    const int64_t column_end = pf_piece_begin(plan->column_tiles, column_block + 1, plan->column_blocks);
    int64_t k = 0;
    do {
      const int64_t inner = pf_minimum_of(plan->inner_block, p->inner - k);
      for (int64_t j = column_begin; j < column_end; ++j) {
        const int64_t columns = pf_minimum_of(tile_columns, p->columns - j * tile_columns);
        pack_panel(plan, j * tile_columns, columns, k, inner, panels + (j - column_begin) * panel_floats);
      }
      for (int64_t i = row_begin; i < row_end; ++i) {
        const pf_piece rows = pf_piece_of(p->rows, i, plan->row_tiles);
        for (int64_t j = column_begin; j < column_end; ++j) {
          const int64_t columns = pf_minimum_of(tile_columns, p->columns - j * tile_columns);
          const int64_t index = (i - row_begin) * plan->most_columns + j - column_begin;
          run_tile(plan, rows.first, rows.count, j * tile_columns, columns, k, inner,
                   panels + (j - column_begin) * panel_floats, tiles + index * tile_floats);
        }
      }
      k += inner;
    } while (k < p->inner);
  }
}

/// Items: row tiles.
static void pack_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  (void)part;
  const product_plan *plan = argument;
  const pf_matrix_product *p = &plan->product;
  const int64_t stride = p->transpose_a ? 1 : p->stride_a;
  for (int64_t i = begin; i < end; ++i) {
    const pf_piece rows = pf_piece_of(p->rows, i, plan->row_tiles);
    plan->kernels->pack_rows(p->inner, rows.count, plan->a + rows.first * stride, stride, plan->a_offsets,
                             plan->packed_a + rows.first * p->inner, rows.count);
  }
}

static pf_status check(const pf_matrix_product *p) {
  PF_REQUIRE(p != NULL, pf_error_null);
  PF_REQUIRE(p->rows >= 0 && p->columns >= 1 && p->inner >= 0, pf_error_dimension);
  PF_REQUIRE(p->stride_a >= (p->transpose_a ? p->rows : p->inner), pf_error_dimension);
  PF_REQUIRE(p->stride_b >= (p->transpose_b ? p->inner : p->columns), pf_error_dimension);
  PF_REQUIRE(p->stride_result >= p->columns, pf_error_dimension);
  int64_t count;
  PF_TRY(pf_extents(&count, p->transpose_a ? p->inner : p->rows, p->stride_a));
  PF_TRY(pf_extents(&count, p->transpose_b ? p->columns : p->inner, p->stride_b));
  PF_TRY(pf_extents(&count, p->rows, p->stride_result));
  return pf_extents(&count, p->rows, p->columns, p->inner);
}

pf_status pf_matrix_multiply(const pf_context *context, const pf_matrix_product *product, const float *a,
                             const float *b, const float *column_bias, const uint8_t *gradient_mask,
                             pf_writing writing, float *result) {
  pf_settings settings;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(check(product));
  PF_REQUIRE(pf_writing_is_valid(writing), pf_error_value);
  PF_REQUIRE(column_bias == NULL || writing == pf_overwrite, pf_error_value);
  const pf_matrix_product *p = product;
  if (p->rows == 0) return pf_ok;
  PF_REQUIRE(result != NULL && (p->inner == 0 || (a != NULL && b != NULL)), pf_error_null);
  if (p->inner == 0) a = b = result;  // neither is read; an offset from NULL would be undefined all the same
  product_plan plan = {
      .product = *product,
      .kernels = settings.kernels,
      .a = a,
      .b = b,
      .bias = column_bias,
      .mask = gradient_mask,
      .accumulate = writing == pf_accumulate,
      .result = result,
  };
  const int64_t tile_columns = plan.kernels->tile_columns, tile_rows = plan.kernels->tile_rows;
  const int64_t longest = pf_longest_chain(&settings, p->inner, pf_most_chain);
  plan.chain = pf_ceiling_divide(p->inner, pf_maximum_of(pf_ceiling_divide(p->inner, longest), 1));
  plan.inner_block = plan.chain * pf_maximum_of(inner_budget / pf_maximum_of(plan.chain, 1), 1);
  plan.row_tiles = pf_ceiling_divide(p->rows, tile_rows);
  plan.column_tiles = pf_ceiling_divide(p->columns, tile_columns);
  const int64_t inner = pf_minimum_of(plan.inner_block, p->inner);
  const int64_t affordable = pf_maximum_of(1, panel_budget / pf_maximum_of(inner * tile_columns, 1));
  plan.column_blocks = pf_ceiling_divide(plan.column_tiles, affordable);
  plan.row_blocks = pf_ceiling_divide(plan.row_tiles, most_block_tiles);
  // Few blocks: finer ones, of columns first, because row blocks pack the same columns again.
  if (plan.column_blocks * plan.row_blocks < 2 * settings.threads) {
    const int64_t wanted = pf_ceiling_divide(2 * settings.threads, plan.row_blocks);
    plan.column_blocks = pf_maximum_of(plan.column_blocks, pf_minimum_of(plan.column_tiles, wanted));
  }
  if (plan.column_blocks * plan.row_blocks < 2 * settings.threads) {
    const int64_t wanted = pf_ceiling_divide(2 * settings.threads, plan.column_blocks);
    plan.row_blocks = pf_maximum_of(plan.row_blocks, pf_minimum_of(plan.row_tiles, wanted));
  }
  plan.most_columns = pf_ceiling_divide(plan.column_tiles, plan.column_blocks);
  plan.most_rows = pf_ceiling_divide(plan.row_tiles, plan.row_blocks);
  const int64_t tasks = plan.row_blocks * plan.column_blocks;
  const double operations = 2.0 * (double)p->rows * (double)p->columns * (double)p->inner;
  const int32_t parts = pf_parallel_parts(&settings, tasks, operations / (double)tasks);

  plan.scratch_floats = pf_part_floats(plan.most_columns * tile_columns * (inner + plan.most_rows * tile_rows));
  const int64_t scratch_bytes = parts * plan.scratch_floats * (int64_t)sizeof(float);
  const int64_t packed_bytes = pf_aligned_bytes(p->rows * p->inner * (int64_t)sizeof(float));
  char *workspace =
      pf_memory_allocate((size_t)(scratch_bytes + packed_bytes + (2 * p->inner + inner) * (int64_t)sizeof(int64_t)));
  PF_REQUIRE(workspace != NULL, pf_error_memory);
  plan.scratch = (float *)workspace;
  plan.packed_a = (float *)(workspace + scratch_bytes);
  int64_t *a_offsets = (int64_t *)(workspace + scratch_bytes + packed_bytes);
  int64_t *b_offsets = a_offsets + p->inner, *panel_offsets = b_offsets + p->inner;
  for (int64_t k = 0; k < p->inner; ++k) {
    a_offsets[k] = p->transpose_a ? k * p->stride_a : k;
    b_offsets[k] = p->transpose_b ? k : k * p->stride_b;
  }
  for (int64_t k = 0; k < inner; ++k) panel_offsets[k] = k * tile_columns;
  plan.a_offsets = a_offsets;
  plan.b_offsets = b_offsets;
  plan.panel_offsets = panel_offsets;
  pf_parallel_in((int32_t)pf_minimum_of(parts, plan.row_tiles), plan.row_tiles, pack_range, &plan);
  pf_parallel_in(parts, tasks, run_range, &plan);
  pf_memory_release(workspace);
  return pf_ok;
}
