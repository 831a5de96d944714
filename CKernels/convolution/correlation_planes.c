#include "convolution/correlation_planes.h"

#include "convolution/correlation.h"

enum {
  most_outputs = 2,          // of a group; more make good tiles of outer products
  planes_budget = 8 << 10,   // floats of a block's frame: a first-level cache's worth
};

/// The distance in rows of a frame between neighbouring tap rows of a phase; 0 where no phase has two.
static int64_t tap_distance(const pf_frame *frame) {
  const int64_t period = frame->y_taps.phases;
  if (frame->y.taps <= period) return 0;
  return frame->y.tap_step * period / frame->y.step;
}

/// The rows from one to the next in a register tile, where tiles share what their rows read; 0 where that isn't so.
static int64_t shared_step(const pf_frame *frame) {
  const int64_t distance = tap_distance(frame), step = distance < 0 ? -distance : distance;
  enum { fewest_rows = 4 };
  return step > 0 && frame->y.grid / step >= fewest_rows ? step : 0;
}

bool pf_correlation_planes_suit(const pf_correlation_plan *plan) {
  return !plan->in_place && plan->inner > 0 && plan->problem.outputs <= most_outputs;
}

void pf_correlation_planes_prepare(const pf_settings *settings, pf_correlation_plan *plan) {
  const pf_correlation *p = &plan->problem;
  pf_frame *frame = &plan->frame;
  const int64_t lanes = plan->kernels->lanes, width = frame->x.grid, height = frame->y.grid;
  plan->row_step = shared_step(frame);
  plan->chain = pf_balanced(plan->inner, pf_longest_chain(settings, plan->inner, pf_single_chain));

  int64_t columns = width;
  pf_frame_shape(frame, 1, 1, columns, lanes);
  while (p->channels * frame->channel_stride > planes_budget && columns > 4 * lanes) {
    columns = pf_round_up(pf_ceiling_divide(columns, 2), lanes);
    pf_frame_shape(frame, 1, 1, columns, lanes);
  }
  const int64_t single = p->channels * frame->channel_stride;
  // Whole tiles of rows even where the frame outgrows the budget: rows that two blocks read are copied twice.
  const int64_t fewest = 2 * pf_most_plane_rows * pf_maximum_of(plan->row_step, 1);
  const int64_t row = p->channels * frame->y_taps.phases * frame->x_taps.phases * frame->pitch;
  const int64_t rows = pf_maximum_of(fewest, 1 + (planes_budget - single) / row);
  pf_frame_shape(frame, 1, pf_balanced(height, pf_minimum_of(rows, height)), columns, lanes);

  plan->blocks_images = p->images;
  plan->blocks_y = pf_ceiling_divide(height, frame->most.rows);
  plan->blocks_x = pf_ceiling_divide(width, frame->most.columns);
  const double points = (double)(frame->most.rows * frame->most.columns);
  plan->parts = pf_parallel_parts(settings, pf_correlation_blocks(plan),
                                  points * (2.0 * (double)(plan->inner * p->outputs) + 8));

  // A tile of rows before it is scattered.
  plan->staged = pf_most_plane_rows * pf_round_up(frame->most.columns, lanes);
  const int64_t floats = p->channels * frame->channel_stride + plan->staged + plan->inner;
  plan->scratch_bytes = pf_part_bytes(floats * (int64_t)sizeof(float));
  const int64_t shared = plan->inner * (int64_t)(sizeof(pf_tap_run) + sizeof(int64_t));
  plan->workspace_bytes = plan->parts * plan->scratch_bytes + shared;
}

typedef struct run_state {
  const pf_correlation_plan *plan;
  const float *source, *weight, *bias;
  pf_activation activation;
  bool accumulate;
  float *result;
  const pf_tap_run *runs;
  int64_t run_count;
  const int64_t *weight_offsets;  // in the order of the runs' taps
  char *scratch;
} run_state;

/// Lists the runs of taps, and where the weights of these lie.
static int64_t list_runs(const pf_correlation_plan *plan, pf_tap_run *runs, int64_t *weight_offsets) {
  const pf_correlation *p = &plan->problem;
  const pf_frame *frame = &plan->frame;
  const int64_t period = frame->y_taps.phases, most = plan->row_step > 0 ? pf_most_run_taps : 1;
  const bool falling = tap_distance(frame) < 0;
  int64_t count = 0;
  for (int64_t c = 0; c < p->channels; ++c) {
    for (int64_t phase = 0; phase < period; ++phase) {
      const int64_t rows = (p->y.taps - phase - 1) / period + 1;
      for (int64_t first = 0; first < rows; first += most) {
        const int64_t taps = pf_minimum_of(most, rows - first);
        for (int64_t j = 0; j < p->x.taps; ++j) {
          for (int64_t t = 0; t < taps; ++t) {
            const int64_t i = phase + (first + (falling ? taps - 1 - t : t)) * period;
            if (t == 0) {
              const int64_t offset = c * frame->channel_stride + pf_frame_offset(frame, i, j);
              runs[count++] = (pf_tap_run){.offset = offset, .taps = taps};
            }
            *weight_offsets++ =
                p->weight_first + c * p->weight_channel + i * p->weight_y + j * p->weight_x;
          }
        }
      }
    }
  }
  return count;
}

/// The rows first, first + step, ... of one result channel's block, `count` of them.
static void run_rows(const run_state *state, const pf_block *block, const float *frame, int64_t first, int64_t step,
                     int64_t count, const float *weight, float bias, float *staged, float *result) {
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  const int64_t tiles = pf_ceiling_divide(count, pf_most_plane_rows), pitch = plan->frame.pitch;
  const int64_t staged_pitch = pf_round_up(plan->frame.most.columns, plan->kernels->lanes);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = pf_piece_begin(count, t, tiles), rows = pf_piece_begin(count, t + 1, tiles) - begin;
    const int64_t row = first + begin * step;
    float *address = result + row * p->result_y;
    const pf_plane_kernel kernel = plan->kernels->plane[rows];
    if (p->result_x == 1) {
      kernel(state->run_count, state->runs, plan->chain, weight, frame + row * pitch, step * pitch, block->columns,
             bias, address, step * p->result_y, state->accumulate, state->activation);
    } else {
      // Whole vectors: what reads them back then waits for one store each.
      kernel(state->run_count, state->runs, plan->chain, weight, frame + row * pitch, step * pitch, staged_pitch, bias,
             staged, staged_pitch, false, state->activation);
      plan->kernels->scatter_rows(rows, block->columns, staged, staged_pitch, address, step * p->result_y,
                                  p->result_x, state->accumulate);
    }
  }
}

/// Items: rows and columns of blocks, in each the groups, in each the images.
static void run_range(void *argument, int64_t begin, int64_t end, int32_t part) {
  const run_state *state = argument;
  const pf_correlation_plan *plan = state->plan;
  const pf_correlation *p = &plan->problem;
  float *frame = (float *)(state->scratch + part * plan->scratch_bytes);
  float *staged = frame + p->channels * plan->frame.channel_stride, *weights = staged + plan->staged;
  const int64_t parts = plan->blocks_y * plan->blocks_x;
  pf_frame_content content = {0};
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item % plan->blocks_images, group = item / plan->blocks_images % p->groups;
    const int64_t place = item / plan->blocks_images / p->groups;
    const pf_block block = pf_frame_block(&plan->frame, p->images, image * parts + place);
    pf_frame_refill(&plan->frame, plan->kernels, &block, p->channels,
                    state->source + pf_source_channel(p, 0, group, 0), pf_source_image(p), &content, frame);
    for (int64_t o = 0; o < p->outputs; ++o) {
      const int64_t channel = group * p->outputs + o;
      const float *weight = state->weight + group * p->weight_group + o * p->weight_output;
      for (int64_t k = 0; k < plan->inner; ++k) weights[k] = weight[state->weight_offsets[k]];
      const float bias = state->bias == NULL ? 0 : state->bias[channel];
      float *result = state->result + block.image * p->result_image + channel * p->result_plane + p->result_first +
                      block.row * p->result_y + block.column * p->result_x;
      const int64_t step = pf_maximum_of(plan->row_step, 1);
      for (int64_t first = 0; first < pf_minimum_of(step, block.rows); ++first) {
        const int64_t count = (block.rows - first - 1) / step + 1;
        run_rows(state, &block, frame, first, step, count, weights, bias, staged, result);
      }
    }
  }
}

void pf_correlation_planes_run(const pf_correlation_plan *plan, const float *source, const float *weight,
                               const float *bias, pf_activation activation, pf_writing writing, float *result,
                               char *workspace) {
  int64_t *weight_offsets = (int64_t *)(workspace + plan->parts * plan->scratch_bytes);
  pf_tap_run *runs = (pf_tap_run *)(weight_offsets + plan->inner);
  run_state state = {
      .plan = plan,
      .source = source,
      .weight = weight,
      .bias = bias,
      .activation = activation,
      .accumulate = writing == pf_accumulate,
      .result = result,
      .runs = runs,
      .run_count = list_runs(plan, runs, weight_offsets),
      .weight_offsets = weight_offsets,
      .scratch = workspace,
  };
  pf_parallel_in(plan->parts, pf_correlation_blocks(plan), run_range, &state);
}
