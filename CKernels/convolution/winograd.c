#include "convolution/winograd.h"

bool pf_winograd_applies(const pf_convolution2d *p) {
  return p->batch > 0 && p->kernel_height == 3 && p->kernel_width == 3 && p->stride_height == 1 &&
         p->stride_width == 1 && p->dilation_height == 1 && p->dilation_width == 1;
}

// MARK: Tiles

pf_winograd_grid pf_winograd_tiling(int64_t images, int64_t height, int64_t width, int32_t tile) {
  pf_winograd_grid grid = {.rows = pf_ceiling_divide(height, tile), .columns = pf_ceiling_divide(width, tile)};
  grid.tiles = images * grid.rows * grid.columns;
  return grid;
}

pf_winograd_run pf_winograd_next_run(const pf_winograd_grid *grid, int64_t tile, int64_t most) {
  const int64_t row = tile / grid->columns;
  pf_winograd_run run = {.image = row / grid->rows, .row = row % grid->rows, .column = tile % grid->columns};
  run.count = pf_minimum_of(grid->columns - run.column, most);
  return run;
}

static pf_winograd_grid tiling(const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  if (pass == pf_pass_input_gradient) return pf_winograd_tiling(p->batch, p->input_height, p->input_width, tile);
  return pf_winograd_tiling(p->batch, p->input_height + p->padding_top + p->padding_bottom - 2,
                            p->input_width + p->padding_left + p->padding_right - 2, tile);
}

double pf_winograd_multiplications(const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  const double products = (double)p->input_channels * (double)(p->output_channels / p->groups);
  return (double)tiling(p, pass, tile).tiles * (tile + 2) * (tile + 2) * products;
}

int32_t pf_winograd_tile(const pf_convolution2d *p, pf_convolution_pass pass) {
  return pf_winograd_multiplications(p, pass, 2) <= pf_winograd_multiplications(p, pass, 4) ? 2 : 4;
}

int64_t pf_winograd_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                              int32_t tile) {
  if (pass == pf_pass_weight_gradient) return pf_winograd_weight_gradient_workspace(settings, problem, tile);
  return pf_winograd_correlation_workspace(settings, problem, pass == pf_pass_input_gradient, tile);
}
