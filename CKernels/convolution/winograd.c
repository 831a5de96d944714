#include "convolution/winograd.h"

bool pf_winograd_applies(const pf_convolution2d *p) {
  if (p->batch == 0 || p->kernel_height != 3 || p->kernel_width != 3 || p->stride_height != 1 || p->stride_width != 1 ||
      p->dilation_height != 1 || p->dilation_width != 1) {
    return false;
  }
  // Nothing that large can be in memory; below, no product of counts overflows.
  const double most = 0x1p44;
  const double height = (double)p->input_height + (double)p->padding_top + (double)p->padding_bottom;
  const double width = (double)p->input_width + (double)p->padding_left + (double)p->padding_right;
  const double channels = (double)p->input_channels, outputs = (double)p->output_channels;
  return (channels + outputs) * (double)p->batch * height * width < most && channels * outputs < most;
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

int64_t pf_winograd_tiles_of(const pf_convolution2d *problem, pf_convolution_pass pass, int32_t tile) {
  return tiling(problem, pass, tile).tiles;
}

int64_t pf_winograd_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                              int32_t tile) {
  if (pass == pf_pass_weight_gradient) return pf_winograd_weight_gradient_workspace(settings, problem, tile);
  return pf_winograd_correlation_workspace(settings, problem, pass == pf_pass_input_gradient, tile);
}
