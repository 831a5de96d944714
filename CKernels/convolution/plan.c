// The planner. Times are estimated in vector multiply-adds; the constants are measurements on Zen 4, and on Zen 5 for
// stride 2, where they predict the faster algorithm for all but a few shapes, at which the two are close. Ratios
// matter, not times.

#include "convolution/plan.h"

#include "convolution/depthwise.h"

// A direct algorithm's time over that of its multiply-adds.
static const double direct_overhead = 1.25;
// The time of transforming one tile of a vector of channels, a point: from an image or to one, memory included.
static const double input_point = 16, output_point = 10;
// The time of transforming a vector of weights, a point.
static const double weight_point = 5;
// The time of starting on whole phases of one length.
static const double kind_time = 90e3;
// Of tiles of stride 2: a vector's point takes time in proportion to its length, since there is little arithmetic, and
// memory is all that counts. And the time of starting.
static const double strided_input = 1.5, strided_output = 1.25, strided_time = 100e3;

/// The share of what is transformed at a time, vectors of pixels, that belongs to the phases of one length.
static double filled_columns(double lanes, const pf_convolution2d *p, int32_t tile, const pf_winograd_grid *grid) {
  if (tile != pf_winograd_whole) return 1;
  const double columns = (double)grid->columns, all = (double)pf_minimum_of(p->dilation_width, p->input_width);
  const double vectors = columns / (lanes * __builtin_ceil(columns / lanes));
  return vectors > columns / all ? vectors : columns / all;
}

/// Multiply-adds and the transforms' work for `channels` channels and `outputs` outputs of each group, in double: no
/// count overflows.
static double winograd_time_of(double lanes, const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile,
                               double channels, double outputs) {
  const double channel_vectors = __builtin_ceil(channels / lanes), output_vectors = __builtin_ceil(outputs / lanes);
  double input_time = input_point, output_time = output_point, time = 0, weights = 0;
  if (tile == pf_winograd_strided) {
    input_time = lanes * strided_input;
    output_time = lanes * strided_output;
    time = strided_time / (double)p->groups;
  }
  if (pass == pf_pass_weight_gradient) output_time = input_time;
  const double transform_time = channel_vectors * input_time + output_vectors * output_time;
  const double weight_time = channels * output_vectors * weight_point;
  for (int32_t kind = 0; kind < pf_winograd_kinds(tile); ++kind) {
    const pf_winograd_grid grid = pf_winograd_tiling(p, pass == pf_pass_input_gradient, tile, kind);
    if (grid.tiles == 0) continue;
    const double transforms = transform_time / filled_columns(lanes, p, tile, &grid);
    if (tile == pf_winograd_whole) time += kind_time;
    // Kinds of tiles with few in all leave registers empty.
    const double tiles = (double)grid.tiles, products = tile == pf_winograd_strided ? tiles + 1 : tiles;
    time += (double)grid.points * (products * channels * output_vectors + tiles * transforms);
    weights = tile == pf_winograd_whole ? weights + (double)grid.weights : (double)grid.weights;
  }
  // Kinds of tiles share the weights, but whole phases.
  time += weights * weight_time;
  return (double)p->groups * time;
}

static double winograd_time(double lanes, const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  const int64_t inputs = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const bool to_input = pass == pf_pass_input_gradient;
  return winograd_time_of(lanes, p, pass, tile, (double)(to_input ? outputs : inputs),
                          (double)(to_input ? inputs : outputs));
}

/// The taps along an axis that read more than padding.
static int64_t useful_taps(int64_t kernel, int64_t stride, int64_t dilation, int64_t padding, int64_t input,
                           int64_t output) {
  int64_t count = 0;
  for (int64_t i = 0; i < kernel; ++i) {
    const int64_t first = i * dilation - padding;
    count += first < input && first + (output - 1) * stride >= 0;
  }
  return count;
}

static double direct_time(double lanes, const pf_convolution2d *p) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const double taps = (double)useful_taps(p->kernel_height, p->stride_height, p->dilation_height, p->padding_top,
                                          p->input_height, output.height) *
                      (double)useful_taps(p->kernel_width, p->stride_width, p->dilation_width, p->padding_left,
                                          p->input_width, output.width);
  const double products = (double)p->input_channels * (double)(p->output_channels / p->groups) * taps;
  return (double)p->batch * (double)output.height * (double)output.width * products / lanes * direct_overhead;
}

/// Stores Winograd's algorithms that can run a pass of one of its problems; returns how many.
static int32_t winograd_algorithms(const pf_convolution2d *p, pf_convolution_pass pass,
                                   pf_algorithm algorithms[pf_most_algorithms - 1]) {
  int32_t count = 0;
  if (pf_winograd_is_strided(p)) {
    if (pass != pf_pass_weight_gradient) algorithms[count++] = pf_algorithm_winograd_strided;
    return count;
  }
  if (p->kernel_height == 3 && p->kernel_width == 3) algorithms[count++] = pf_algorithm_winograd_2;
  if (pf_winograd_whole_applies(p)) algorithms[count++] = pf_algorithm_winograd_whole;
  algorithms[count++] = pf_algorithm_winograd_4;
  return count;
}

/// Whether a pass may run another algorithm than the direct one.
static bool has_choice(const pf_settings *settings, const pf_convolution2d *problem) {
  return settings->numerics != pf_exact && pf_winograd_applies(problem);
}

pf_algorithm pf_plan_algorithm(const pf_settings *settings, const pf_convolution2d *problem,
                               pf_convolution_pass pass) {
  if (pf_depthwise_suits(settings->kernels, problem, pass)) return pf_algorithm_depthwise;
  if (!has_choice(settings, problem)) return pf_algorithm_direct;
  const double lanes = (double)settings->kernels->lanes;
  pf_algorithm algorithms[pf_most_algorithms - 1], best = pf_algorithm_direct;
  double least = direct_time(lanes, problem);
  if (pf_winograd_is_strided(problem) && least <= strided_time) return best;
  const int32_t count = winograd_algorithms(problem, pass, algorithms);
  for (int32_t i = 0; i < count; ++i) {
    const double time = winograd_time(lanes, problem, pass, algorithms[i]);
    if (time >= least) continue;
    least = time;
    best = algorithms[i];
  }
  return best;
}

double pf_plan_masked_winograd(const pf_settings *settings, const pf_convolution2d *problem, pf_algorithm algorithm,
                               int64_t channels, int64_t outputs) {
  const double lanes = (double)settings->kernels->lanes;
  return winograd_time_of(lanes, problem, pf_pass_weight_gradient, algorithm, (double)channels, (double)outputs) /
         direct_time(lanes, problem);
}

static const char *name_of(const pf_convolution2d *p, pf_algorithm algorithm) {
  static const char *const six_points[3][2] = {{"winograd 1x4", "winograd 1x2"},
                                               {"winograd 4x4", "winograd 4x2"},
                                               {"winograd 2x4", "winograd 2x2"}};
  switch (algorithm) {
    case pf_algorithm_direct: return "direct";
    case pf_algorithm_depthwise: return "depthwise";
    case pf_algorithm_winograd_2: return "winograd 2x2";
    case pf_algorithm_winograd_whole: return "winograd 3x3";
    case pf_algorithm_winograd_4: return six_points[p->kernel_height / 2][p->kernel_width / 2 - 1];
    case pf_algorithm_winograd_strided:
      return p->kernel_height == 1 ? "winograd 1x4 stride 2" : "winograd 4x4 stride 2";
  }
}

/// What the functions below are asked about.
typedef struct query {
  pf_settings settings;
  pf_convolution2d laid;
  const pf_convolution2d *problem;
} query;

static pf_status read_query(const pf_context *context, const pf_convolution2d *problem, pf_convolution_pass pass,
                            query *q) {
  pf_convolution_shape shape;
  q->problem = problem;
  PF_TRY(pf_read_context(context, &q->settings));
  PF_TRY(pf_convolution_read(&q->problem, &q->laid, &shape));
  PF_REQUIRE(pass >= pf_pass_forward && pass <= pf_pass_weight_gradient, pf_error_value);
  return pf_ok;
}

pf_status pf_convolution2d_algorithm(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, const char **name) {
  PF_REQUIRE(name != NULL, pf_error_null);
  query q;
  PF_TRY(read_query(context, problem, pass, &q));
  *name = name_of(q.problem, pf_plan_algorithm(&q.settings, q.problem, pass));
  return pf_ok;
}

pf_status pf_convolution2d_estimates(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, pf_algorithm_estimate *estimates, int32_t *count) {
  PF_REQUIRE(estimates != NULL && count != NULL, pf_error_null);
  query q;
  PF_TRY(read_query(context, problem, pass, &q));
  const bool depthwise = pf_depthwise_suits(q.settings.kernels, q.problem, pass);
  estimates[0] = (pf_algorithm_estimate){
      .name = name_of(q.problem, depthwise ? pf_algorithm_depthwise : pf_algorithm_direct),
      .time = 1,
  };
  *count = 1;
  if (depthwise || !has_choice(&q.settings, q.problem)) return pf_ok;
  const double lanes = (double)q.settings.kernels->lanes, direct = direct_time(lanes, q.problem);
  pf_algorithm algorithms[pf_most_algorithms - 1];
  const int32_t others = winograd_algorithms(q.problem, pass, algorithms);
  for (int32_t i = 0; i < others; ++i) {
    const double time = winograd_time(lanes, q.problem, pass, algorithms[i]) / direct;
    int32_t place = (*count)++;
    for (; place > 0 && estimates[place - 1].time > time; --place) estimates[place] = estimates[place - 1];
    estimates[place] = (pf_algorithm_estimate){.name = name_of(q.problem, algorithms[i]), .time = time};
  }
  return pf_ok;
}
