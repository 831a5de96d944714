#include "convolution/winograd.h"

bool pf_winograd_applies(const pf_convolution2d *p) {
  const bool kernel = p->kernel_width == 3 && (p->kernel_height == 3 || p->kernel_height == 1);
  if (p->batch == 0 || !kernel || p->stride_height != 1 || p->stride_width != 1) return false;
  // Nothing that large can be in memory; below, no product of counts overflows.
  const double most = 0x1p44;
  const double height = (double)p->input_height + (double)p->padding_top + (double)p->padding_bottom;
  const double width = (double)p->input_width + (double)p->padding_left + (double)p->padding_right;
  const double channels = (double)p->input_channels, outputs = (double)p->output_channels;
  return (channels + outputs) * (double)p->batch * height * width < most && channels * outputs < most &&
         channels <= INT32_MAX && outputs <= INT32_MAX;
}

bool pf_winograd_whole_applies(const pf_convolution2d *p) {
  enum { longest = 3 };
  const int64_t y = p->dilation_height, x = p->dilation_width, height = p->input_height, width = p->input_width;
  if (p->kernel_height != 3 || p->padding_top != y || p->padding_bottom != y || p->padding_left != x ||
      p->padding_right != x) {
    return false;
  }
  // Where all phases are single pixels, the kernel is a smaller one.
  return y < height && x < width && pf_ceiling_divide(height, y) <= longest && pf_ceiling_divide(width, x) <= longest;
}

// MARK: Tiles

/// Tiles of all phases along an axis; those of the last tile that begin beyond the end are left out.
static int64_t tiles_along(int64_t extent, int64_t tile, int64_t step) {
  return extent / (tile * step) * step + pf_minimum_of(extent % (tile * step), step);
}

pf_winograd_plane pf_winograd_output_plane(const pf_convolution2d *p) {
  const int64_t reach_y = (p->kernel_height - 1) * p->dilation_height;
  const int64_t reach_x = (p->kernel_width - 1) * p->dilation_width;
  return (pf_winograd_plane){
      .height = p->input_height + p->padding_top + p->padding_bottom - reach_y,
      .width = p->input_width + p->padding_left + p->padding_right - reach_x,
  };
}

/// The phases along an axis that are one pixel longer than the others, or the others; their length may be 0.
static int64_t phases_along(int64_t extent, int64_t step, bool longer, int64_t *first, int64_t *length) {
  *first = longer ? 0 : extent % step;
  *length = extent / step + (longer ? 1 : 0);
  return longer ? extent % step : *length == 0 ? 0 : step - extent % step;
}

pf_winograd_grid pf_winograd_tiling(const pf_convolution2d *p, bool of_input, int32_t tile, int32_t kind) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const int64_t height = of_input ? p->input_height : output.height, width = of_input ? p->input_width : output.width;
  pf_winograd_grid grid = {.step_y = p->dilation_height};
  if (tile == pf_winograd_whole) {
    grid.rows = phases_along(height, p->dilation_height, kind & 2, &grid.first_y, &grid.tile_height);
    grid.columns = phases_along(width, p->dilation_width, kind & 1, &grid.first_x, &grid.tile_width);
    grid.points = (2 * grid.tile_height - 1) * (2 * grid.tile_width - 1);
  } else {
    grid.tile_height = p->kernel_height == 1 ? 1 : tile;
    grid.tile_width = tile;
    grid.rows = tiles_along(height, grid.tile_height, p->dilation_height);
    grid.columns = tiles_along(width, tile, p->dilation_width);
    grid.points = (grid.tile_height + p->kernel_height - 1) * (tile + 2);
  }
  grid.tiles = p->batch * grid.rows * grid.columns;
  return grid;
}

pf_winograd_run pf_winograd_next_run(const pf_winograd_grid *grid, int64_t tile, int64_t most) {
  const int64_t all_rows = tile / grid->columns, row = all_rows % grid->rows;
  pf_winograd_run run = {.image = all_rows / grid->rows, .first = tile % grid->columns};
  run.y = grid->first_y + row / grid->step_y * grid->tile_height * grid->step_y + row % grid->step_y;
  run.count = pf_minimum_of(grid->columns - run.first, most);
  return run;
}

int64_t pf_winograd_workspace(const pf_settings *settings, const pf_convolution2d *problem, pf_convolution_pass pass,
                              int32_t tile) {
  if (pass == pf_pass_weight_gradient) return pf_winograd_weight_gradient_workspace(settings, problem, tile);
  return pf_winograd_correlation_workspace(settings, problem, pass == pf_pass_input_gradient, tile);
}
