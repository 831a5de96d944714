#include "convolution/winograd.h"

static bool is_transformed(int64_t taps) { return taps == 3 || taps == 5; }

bool pf_winograd_applies(const pf_convolution2d *p) {
  const bool line = p->kernel_height == 1;
  const bool kernel = is_transformed(p->kernel_width) && (line || is_transformed(p->kernel_height));
  const bool plain = p->stride_height == 1 && p->stride_width == 1;
  const bool strided = p->kernel_width == 3 && p->kernel_height <= 3 && p->stride_width == 2 &&
                       p->stride_height == (line ? 1 : 2) && p->dilation_width == 1 &&
                       (p->dilation_height == 1 || line);
  if (p->batch == 0 || !kernel || !(plain || strided)) return false;
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
  if (pf_winograd_is_strided(p)) return false;
  const int64_t y = p->dilation_height, x = p->dilation_width, height = p->input_height, width = p->input_width;
  if (p->kernel_height != 3 || p->kernel_width != 3) return false;
  if (p->padding_top != y || p->padding_bottom != y || p->padding_left != x || p->padding_right != x) return false;
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
      .height = (p->input_height + p->padding_top + p->padding_bottom - reach_y - 1) / p->stride_height + 1,
      .width = (p->input_width + p->padding_left + p->padding_right - reach_x - 1) / p->stride_width + 1,
  };
}

/// The phases along an axis that are one pixel longer than the others, or the others; their length may be 0.
static int64_t phases_along(int64_t extent, int64_t step, bool longer, int64_t *first, int64_t *length) {
  *first = longer ? 0 : extent % step;
  *length = extent / step + (longer ? 1 : 0);
  return longer ? extent % step : *length == 0 ? 0 : step - extent % step;
}

/// Tiles of stride 2 along an axis of `extent` pixels of the output, or of the input, of 4 outputs each or of 3; those
/// of the input have twice as many pixels, of which the first meets the middle tap.
static int64_t strided_along(int64_t extent, bool of_input, int64_t padding, bool shorter, int64_t *first,
                             int64_t *length) {
  enum { longest = 4, worthwhile = 16 };
  const int64_t before = of_input ? 1 - padding % 2 : 0, unit = of_input ? 2 : 1;
  const int64_t outputs = pf_ceiling_divide(extent + before, unit), tiles = pf_ceiling_divide(outputs, longest);
  int64_t short_tiles = pf_minimum_of(tiles * longest - outputs, tiles);
  // A few are not worth their products' being apart.
  if (short_tiles * worthwhile < outputs) short_tiles = 0;
  const int64_t long_tiles = tiles - short_tiles;
  *first = (shorter ? long_tiles * longest : 0) * unit - before;
  *length = (shorter ? longest - 1 : longest) * unit;
  return shorter ? short_tiles : long_tiles;
}

pf_winograd_grid pf_winograd_tiling(const pf_convolution2d *p, bool of_input, int32_t tile, int32_t kind) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const int64_t height = of_input ? p->input_height : output.height, width = of_input ? p->input_width : output.width;
  const bool line = p->kernel_height == 1;
  pf_winograd_grid grid = {.kind = kind, .step_y = p->dilation_height};
  if (tile == pf_winograd_whole) {
    grid.rows = phases_along(height, p->dilation_height, kind & 2, &grid.first_y, &grid.tile_height);
    grid.columns = phases_along(width, p->dilation_width, kind & 1, &grid.first_x, &grid.tile_width);
    grid.points = grid.weights = (2 * grid.tile_height - 1) * (2 * grid.tile_width - 1);
  } else if (tile == pf_winograd_strided) {
    enum { axis_weights = 6 };
    if (line) {
      grid.tile_height = 1;
      grid.rows = kind / 2 == 0 ? height : 0;
    } else {
      grid.rows = strided_along(height, of_input, p->padding_top, kind & 2, &grid.first_y, &grid.tile_height);
    }
    grid.columns = strided_along(width, of_input, p->padding_left, kind & 1, &grid.first_x, &grid.tile_width);
    // A product for each of twice as many pixels as a tile has outputs, and one more.
    const int64_t unit = of_input ? 2 : 1;
    grid.points = (line ? 1 : 2 * grid.tile_height / unit + 1) * (2 * grid.tile_width / unit + 1);
    grid.weights = (line ? 1 : axis_weights) * axis_weights;
  } else {
    const int64_t points = tile == 2 ? 4 : 6;
    grid.tile_height = line ? 1 : points - p->kernel_height + 1;
    grid.tile_width = points - p->kernel_width + 1;
    grid.rows = tiles_along(height, grid.tile_height, p->dilation_height);
    grid.columns = tiles_along(width, grid.tile_width, p->dilation_width);
    grid.points = grid.weights = line ? points : points * points;
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
