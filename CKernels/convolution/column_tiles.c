#include "convolution/column_tiles.h"

int64_t pf_block_points(const pf_correlation_plan *plan, const pf_block *block) {
  if (plan->joined) return block->columns;
  return block->images * ((block->rows - 1) * plan->problem.x.source + block->columns);
}

pf_source_run pf_block_run(const pf_correlation_plan *plan, const pf_block *block, int64_t done) {
  const pf_correlation *p = &plan->problem;
  if (!plan->joined) {
    const int64_t span = pf_block_points(plan, block) / block->images, within = done % span;
    return (pf_source_run){block->image + done / span, block->row * p->x.source + block->column + within,
                           span - within};
  }
  // First the columns of each image that fill tiles, then what is left of each.
  const int64_t plane = pf_source_plane(p), rest = plane % plan->kernels->tile_columns, whole = plane - rest;
  int64_t point = block->column + done;
  const bool fills = point < p->images * whole;
  if (!fills) point -= p->images * whole;
  const int64_t span = fills ? whole : rest, within = point % span;
  return (pf_source_run){point / span, fills ? within : whole + within, span - within};
}

/// What is found so far.
typedef struct search {
  const pf_correlation_plan *plan;
  pf_segment *segments;
  int64_t segment_count;
  pf_column_tile *tiles;
  int64_t tile_count;
} search;

/// Adds a run of a block's columns, the first of which is column `place` of all its tiles, cut at the bounds of these.
static void add_segments(search *s, int64_t place, int64_t length, int64_t frame, int64_t result) {
  const int64_t tile = s->plan->kernels->tile_columns, step = s->plan->problem.result_x;
  while (length > 0) {
    const int64_t t = place / tile, column = place % tile;
    const pf_segment next = {
        .column = (int32_t)column,
        .length = (int32_t)pf_minimum_of(length, tile - column),
        .frame = frame,
        .result = result,
    };
    pf_segment *last = s->segments + s->segment_count - 1;
    if (s->tile_count == t + 1 && last->column + last->length == column && last->frame + last->length == frame &&
        last->result + last->length * step == result) {
      last->length += next.length;
    } else {
      while (s->tile_count <= t) s->tiles[s->tile_count++].first = s->segment_count;
      s->segments[s->segment_count++] = next;
    }
    place += next.length;
    length -= next.length;
    frame += next.length;
    result += next.length * step;
  }
}

static void find_segments(search *s, const pf_block *block) {
  const pf_correlation_plan *plan = s->plan;
  const pf_correlation *p = &plan->problem;
  if (plan->joined) {
    const pf_source_run first = pf_block_run(plan, block, 0);
    for (int64_t done = 0; done < block->columns;) {
      const pf_source_run run = pf_block_run(plan, block, done);
      const int64_t length = pf_minimum_of(run.length, block->columns - done);
      add_segments(s, done, length, pf_source_place(p, &run) - pf_source_place(p, &first),
                   run.image * p->result_image + p->result_first + run.first);
      done += length;
    }
    return;
  }
  const int64_t image_pitch = plan->in_place ? pf_source_image(p) : plan->frame.image_pitch;
  const int64_t pitch = plan->in_place ? p->x.source : plan->frame.pitch;
  for (int64_t i = 0; i < block->images; ++i) {
    for (int64_t y = 0; y < block->rows; ++y) {
      const int64_t grid = i * image_pitch + y * pitch;
      const int64_t result = (block->image + i) * p->result_image + p->result_first +
                             (block->row + y) * p->result_y + block->column * p->result_x;
      const int64_t place = plan->packed ? (i * block->rows + y) * block->columns : grid;
      add_segments(s, place, block->columns, grid, result);
    }
  }
}

/// Whether each vector of a tile's columns is a run of the frame and all are equally far apart; stores how far.
static bool is_in_vectors(const pf_segment *first, const pf_segment *last, int64_t lanes, int64_t *step) {
  int64_t vectors = 0;
  *step = lanes;
  for (const pf_segment *s = first; s <= last; ++s) {
    if (s->column % lanes != 0 || s->length % lanes != 0) return false;
    for (int64_t i = 0; i < s->length; i += lanes, ++vectors) {
      const int64_t place = s->frame + i - first->frame;
      if (vectors == 1) *step = place;
      if (place != vectors * *step) return false;
    }
  }
  return true;
}

void pf_column_tiles_find(const pf_correlation_plan *plan, const pf_block *block, pf_column_tiles *columns) {
  if (columns->block.image == block->image && pf_same_extents(&columns->block, block)) return;
  search s = {.plan = plan, .segments = columns->segments, .tiles = columns->tiles};
  find_segments(&s, block);
  s.tiles[s.tile_count].first = s.segment_count;
  columns->block = *block;
  columns->count = s.tile_count;

  const int64_t width = plan->kernels->tile_columns, lanes = plan->kernels->lanes;
  float *panel = columns->panels;
  for (int64_t t = 0; t < s.tile_count; ++t) {
    pf_column_tile *tile = s.tiles + t;
    const pf_segment *first = s.segments + tile->first, *last = s.segments + tile[1].first - 1;
    if (last < first) continue;
    const int64_t end = last->column + last->length;
    const bool whole = end == width && last->frame - first->frame == last->column;
    // Without gaps between its segments: those of a frame may be as wide as others in the result.
    tile->straight = end == width && (plan->packed || first == last) &&
                     last->result - first->result == last->column * plan->problem.result_x;
    tile->thin = end <= lanes;
    int64_t step = lanes;
    const bool reads = !plan->packed || whole || ((end == width || end <= lanes) &&
                                                  is_in_vectors(first, last, lanes, &step));
    tile->vector_step = reads ? step : lanes;
    tile->panel = reads ? NULL : panel;
    tile->frame = plan->packed ? first->frame : t * width;
    if (tile->panel != NULL) panel += plan->panel_floats;
  }
}

void pf_column_tiles_pack(const pf_correlation_plan *plan, const pf_column_tiles *columns, const pf_inner_step *step,
                          const int64_t *offsets, const float *source, const float *frame) {
  const pf_correlation *p = &plan->problem;
  const pf_column_tile *end = columns->tiles + columns->count;
  const pf_kernels *kernels = plan->kernels;
  // The last channels of a source in place end too near to its end for whole vectors.
  int64_t careful = 0;
  if (plan->in_place) {
    const pf_segment *last = columns->segments + end->first - 1;
    const int64_t plane = pf_source_plane(p), floats = p->images * pf_source_image(p) - (frame - source);
    const int64_t behind = floats - (step->channels - 1) * plane - last->frame - last->length;
    const int64_t missing = kernels->lanes - 1 - behind;
    if (missing > 0) careful = pf_minimum_of(step->inner, pf_ceiling_divide(missing, plane));
  }
  const int64_t most = step->inner - careful;
  for (const pf_column_tile *t = columns->tiles; t < end; ++t) {
    if (t->panel == NULL) continue;
    const pf_segment *first = columns->segments + t->first;
    const int64_t count = t[1].first - t->first;
    kernels->pack_columns(most, offsets, frame, first, count, true, t->panel);
    kernels->pack_columns(careful, offsets + most, frame, first, count, false,
                          t->panel + most * kernels->tile_columns);
  }
}

/// Lays a thread's memory out, from `memory` on, or NULL; stores where `panels` of them end.
static pf_tile_scratch lay_out(const pf_correlation_plan *plan, char *memory, int64_t panels, int64_t *bytes) {
  pf_tile_scratch s = {0};
  *bytes = 0;
  s.columns.tiles = pf_reserve(memory, bytes, plan->most_column_tiles + 1, sizeof(pf_column_tile));
  s.columns.segments = pf_reserve(memory, bytes, plan->most_segments, sizeof(pf_segment));
  s.frame = pf_reserve(memory, bytes, pf_correlation_frame_floats(plan), sizeof(float));
  s.sums = pf_reserve(memory, bytes, plan->sums_floats, sizeof(float));
  s.columns.panels = pf_reserve(memory, bytes, panels * plan->panel_floats, sizeof(float));
  return s;
}

int64_t pf_tile_scratch_bytes(const pf_correlation_plan *plan, int64_t panels) {
  int64_t bytes;
  lay_out(plan, NULL, panels, &bytes);
  return pf_part_bytes(bytes);
}

pf_tile_scratch pf_tile_scratch_of(const pf_correlation_plan *plan, char *memory) {
  int64_t bytes;
  return lay_out(plan, memory, 0, &bytes);
}
