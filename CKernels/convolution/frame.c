#include "convolution/frame.h"

#include <string.h>

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

int64_t pf_axis_trim(pf_axis *axis) {
  int64_t begin = 0, end = axis->taps;
  const int64_t reach = (axis->grid - 1) * axis->step;
  // Positions grow or fall with the tap: those that read something are neighbours.
  while (begin < end) {
    const int64_t position = axis->first + begin * axis->tap_step;
    if (position < axis->source && position + reach >= 0) break;
    begin += 1;
  }
  while (end > begin) {
    const int64_t position = axis->first + (end - 1) * axis->tap_step;
    if (position < axis->source && position + reach >= 0) break;
    end -= 1;
  }
  axis->first += begin * axis->tap_step;
  axis->taps = end - begin;
  return begin;
}

static int64_t position_of(const pf_axis *axis, int64_t tap) { return axis->first + tap * axis->tap_step; }

static int64_t shift_of(const pf_axis *axis, int64_t tap) { return floor_divide(position_of(axis, tap), axis->step); }

/// The remainder of a phase; the first taps have the phases in order.
static int64_t remainder_of(const pf_axis *axis, int64_t phase) {
  return position_of(axis, phase) - shift_of(axis, phase) * axis->step;
}

/// The source elements of a phase.
static int64_t phase_extent(const pf_axis *axis, int64_t phase) {
  const int64_t remainder = remainder_of(axis, phase);
  return remainder < axis->source ? pf_ceiling_divide(axis->source - remainder, axis->step) : 0;
}

static pf_axis_taps analyse(const pf_axis *axis) {
  pf_axis_taps taps = {0};
  if (axis->taps == 0) return taps;
  const int64_t stride = axis->tap_step < 0 ? -axis->tap_step : axis->tap_step;
  taps.phases = pf_minimum_of(axis->taps, axis->step / pf_greatest_common_divisor(axis->step, stride));
  const int64_t front = shift_of(axis, 0), back = shift_of(axis, axis->taps - 1);
  taps.least = pf_minimum_of(front, back);
  taps.most = pf_maximum_of(front, back);
  for (int64_t phase = 0; phase < taps.phases; ++phase) {
    taps.valid = pf_maximum_of(taps.valid, phase_extent(axis, phase));
  }
  taps.valid = pf_maximum_of(0, pf_minimum_of(taps.valid, axis->grid + taps.most));
  return taps;
}

pf_status pf_frame_analyse(pf_frame *frame, int64_t channels) {
  const pf_axis *y = &frame->y, *x = &frame->x;
  frame->y_taps = analyse(y);
  frame->x_taps = analyse(x);
  frame->pitch_unit = 1;
  // More floats than a block takes in any layout; their sizes in bytes can then be computed without overflow.
  const double rows = 4.0 * ((double)y->grid + (double)y->source);
  const double columns = 4.0 * ((double)x->grid + (double)x->source);
  const double phases = (double)frame->y_taps.phases * (double)frame->x_taps.phases;
  return rows * columns * phases * (double)channels < 0x1p59 ? pf_ok : pf_error_overflow;
}

/// The distance of repeated grids of an axis: no shift may reach beyond the zeros between two of them.
static int64_t shared_pitch(const pf_axis *axis, const pf_axis_taps *taps) {
  const int64_t after = axis->grid + pf_maximum_of(taps->most, 0);
  const int64_t before = taps->valid - pf_minimum_of(taps->least, 0);
  return pf_maximum_of(after, before);
}

void pf_frame_shape(pf_frame *frame, int64_t images, int64_t rows, int64_t columns, int64_t vector_columns) {
  const pf_axis_taps *y = &frame->y_taps, *x = &frame->x_taps;
  frame->most = (pf_block){.images = images, .rows = rows, .columns = columns};
  frame->shared_x = columns == frame->x.grid;
  frame->shared_y = images > 1;
  frame->origin_x = frame->shared_x ? pf_minimum_of(x->least, 0) : x->least;
  frame->origin_y = frame->shared_y ? pf_minimum_of(y->least, 0) : y->least;
  const int64_t pitch = frame->shared_x ? shared_pitch(&frame->x, x) : columns + x->most - x->least;
  frame->pitch = pf_round_up(pitch, frame->pitch_unit);
  const int64_t image_rows = frame->shared_y ? shared_pitch(&frame->y, y) : rows + y->most - y->least;
  frame->image_pitch = image_rows * frame->pitch;
  const int64_t span = pf_round_up(pf_frame_span(frame, &frame->most), vector_columns);
  const int64_t farthest = (y->most - frame->origin_y) * frame->pitch + x->most - frame->origin_x;
  const int64_t lead_rows = frame->shared_y ? -frame->origin_y : 0;
  const int64_t filled = lead_rows * frame->pitch + images * frame->image_pitch - frame->origin_x;
  // Packing reads up to a vector behind a segment.
  frame->plane = pf_round_up(pf_maximum_of(filled, span + farthest + vector_columns), pf_line_floats);
  // An odd number of cache lines, so that planes don't compete for the same sets.
  if (frame->plane / pf_line_floats % 2 == 0) frame->plane += pf_line_floats;
  frame->channel_stride = y->phases * x->phases * frame->plane;
}

pf_block pf_frame_block(const pf_frame *frame, int64_t images, int64_t index) {
  const pf_block *most = &frame->most;
  const int64_t blocks_x = pf_ceiling_divide(frame->x.grid, most->columns);
  const int64_t blocks_y = pf_ceiling_divide(frame->y.grid, most->rows);
  pf_block block;
  block.column = index % blocks_x * most->columns;
  index /= blocks_x;
  block.row = index % blocks_y * most->rows;
  block.image = index / blocks_y * most->images;
  block.columns = pf_minimum_of(most->columns, frame->x.grid - block.column);
  block.rows = pf_minimum_of(most->rows, frame->y.grid - block.row);
  block.images = pf_minimum_of(most->images, images - block.image);
  return block;
}

int64_t pf_frame_offset(const pf_frame *frame, int64_t i, int64_t j) {
  const pf_axis_taps *y = &frame->y_taps, *x = &frame->x_taps;
  const int64_t shift_y = shift_of(&frame->y, i), shift_x = shift_of(&frame->x, j);
  return (i % y->phases * x->phases + j % x->phases) * frame->plane + (shift_y - frame->origin_y) * frame->pitch +
         shift_x - frame->origin_x;
}

int64_t pf_frame_span(const pf_frame *frame, const pf_block *block) {
  return (block->images - 1) * frame->image_pitch + (block->rows - 1) * frame->pitch + block->columns;
}

/// A range of positions in a phase, and where the first of them goes.
typedef struct run {
  int64_t first, count, place;
} run;

/// What there is of `extent` source elements among the positions begin ..< end, which go to 0 and following.
static run clip(int64_t extent, int64_t begin, int64_t end) {
  const int64_t first = pf_minimum_of(pf_maximum_of(begin, 0), end);
  return (run){first, pf_maximum_of(0, pf_minimum_of(extent, end) - first), first - begin};
}

/// Zeroes what lies in front of the rows that are copied into a plane, between those of two images, and behind them.
static void zero_around(const pf_frame *frame, const pf_row_copy *copy, int64_t begin, float *plane) {
  memset(plane, 0, (size_t)begin * sizeof(float));
  for (int64_t n = 0; n < copy->images; ++n) {
    const int64_t end = begin + n * copy->result_image + copy->rows * copy->result_row;
    const int64_t next = n + 1 < copy->images ? begin + (n + 1) * copy->result_image : frame->plane;
    memset(plane + end, 0, (size_t)(next - end) * sizeof(float));
  }
}

void pf_frame_fill(const pf_frame *frame, const pf_kernels *kernels, const pf_block *block, int64_t channels,
                   const float *source, int64_t source_image_stride, bool zeroed, float *buffer) {
  const pf_axis *y = &frame->y, *x = &frame->x;
  const int64_t source_plane = y->source * x->source;
  const int64_t phases_x = frame->x_taps.phases, phases = frame->y_taps.phases * phases_x;
  const bool together = phases_x == x->step && (phases_x == 2 || phases_x == 4);
  // Positions of stored rows and columns. Images and rows that share zeros have some in front of the first one.
  const int64_t row = frame->shared_y ? frame->origin_y : block->row + frame->origin_y;
  const int64_t rows =
      frame->shared_y ? frame->y_taps.valid : row + block->rows + frame->y_taps.most - frame->y_taps.least;
  const int64_t column = frame->shared_x ? frame->origin_x : block->column + frame->origin_x;
  const int64_t columns = frame->shared_x ? frame->x_taps.valid : column + frame->pitch;
  source += block->image * source_image_stride;

  for (int64_t phase = 0; phase < phases; phase += together ? phases_x : 1) {
    const int64_t py = phase / phases_x, px = phase % phases_x;
    const run down = clip(phase_extent(y, py), row, rows);
    pf_row_copy copy = {
        .images = block->images,
        .rows = down.count,
        .phase_count = together ? phases_x : 1,
        .source_image = source_image_stride,
        // With one row there is no next one, and the stride may be anything.
        .source_row = down.count > 1 ? x->source * y->step : 0,
        .step = x->step,
        .result_image = frame->image_pitch,
        .result_row = frame->pitch,
    };
    run across = {0};
    for (int64_t i = 0; i < copy.phase_count; ++i) {
      across = clip(phase_extent(x, px + i), column, columns);
      const int64_t remainder = remainder_of(x, px + i);
      copy.phases[together ? remainder : 0] = (pf_row_phase){remainder, across.count, i * frame->plane};
    }
    // Behind a row are the zeros in front of the next one, of which there are none behind the last.
    const bool around = !zeroed && (frame->shared_x || across.place == 0);
    if (around) copy.width = frame->pitch;
    const int64_t from = (down.first * y->step + remainder_of(y, py)) * x->source + across.first * x->step;
    const int64_t to = down.place * frame->pitch + across.place;
    for (int64_t c = 0; c < channels; ++c) {
      float *planes = buffer + c * frame->channel_stride + phase * frame->plane;
      for (int64_t i = 0; around && i < copy.phase_count; ++i) zero_around(frame, &copy, to, planes + i * frame->plane);
      if (!zeroed && !around) memset(planes, 0, (size_t)(copy.phase_count * frame->plane) * sizeof(float));
      if (down.count == 0) continue;
      // The channels behind this one, of the last image, may be read. But what lies behind a part of a lone row would
      // come from memory for nothing.
      const int64_t behind = (block->images - 1) * source_image_stride + (channels - c) * source_plane - from;
      const int64_t readable = y->source == 1 && x->step == 1 ? across.count : behind;
      kernels->copy_rows(&copy, source + c * source_plane + from, readable, planes + to, frame->plane - to);
    }
  }
}

void pf_frame_refill(const pf_frame *frame, const pf_kernels *kernels, const pf_block *block, int64_t channels,
                     const float *source, int64_t source_image_stride, pf_frame_content *content, float *buffer) {
  const bool zeroed = pf_same_extents(block, &content->block) && channels <= content->channels;
  if (zeroed && block->image == content->block.image && source == content->source) return;
  pf_frame_fill(frame, kernels, block, channels, source, source_image_stride, zeroed, buffer);
  content->block = *block;
  content->source = source;
  if (!zeroed) content->channels = channels;
}
