// The planner. Times are estimated in vector multiply-adds; the constants are measurements on Zen 4, where they predict
// the faster algorithm for all but a few shapes, at which the two are close. Ratios matter, not times.

#include "convolution/plan.h"

#include "convolution/depthwise.h"
#include "convolution/winograd.h"

// A direct algorithm's time over that of its multiply-adds.
static const double direct_overhead = 1.25;
// The time of transforming one tile of a vector of channels, a point: from an image or to one, memory included.
static const double input_point = 16, output_point = 10;
// The time of transforming a vector of weights, a point.
static const double weight_point = 5;

/// Multiply-adds and the transforms' work for `channels` channels and `outputs` outputs of each group, in double: no
/// count overflows.
static double winograd_time_of(double lanes, const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile,
                               double channels, double outputs) {
  const double groups = (double)p->groups, points = (tile + 2) * (p->kernel_height == 1 ? 1 : tile + 2);
  const double channel_vectors = __builtin_ceil(channels / lanes), output_vectors = __builtin_ceil(outputs / lanes);
  const double output_time = pass == pf_pass_weight_gradient ? input_point : output_point;
  const double tile_time = channels * output_vectors + channel_vectors * input_point + output_vectors * output_time;
  const double weight_time = channels * output_vectors * weight_point;
  return groups * points * ((double)pf_winograd_tiles_of(p, pass, tile) * tile_time + weight_time);
}

static double winograd_time(double lanes, const pf_convolution2d *p, pf_convolution_pass pass, int32_t tile) {
  const int64_t inputs = p->input_channels / p->groups, outputs = p->output_channels / p->groups;
  const bool to_input = pass == pf_pass_input_gradient;
  return winograd_time_of(lanes, p, pass, tile, (double)(to_input ? outputs : inputs),
                          (double)(to_input ? inputs : outputs));
}

static double direct_time(double lanes, const pf_convolution2d *p) {
  const pf_winograd_plane output = pf_winograd_output_plane(p);
  const double taps = (double)(p->kernel_height * p->kernel_width);
  const double products = (double)p->input_channels * (double)(p->output_channels / p->groups) * taps;
  return (double)p->batch * (double)output.height * (double)output.width * products / lanes * direct_overhead;
}

pf_algorithm pf_plan_algorithm(const pf_settings *settings, const pf_convolution2d *problem,
                               pf_convolution_pass pass) {
  if (pf_depthwise_suits(settings->kernels, problem, pass)) return pf_algorithm_depthwise;
  if (settings->numerics == pf_exact || !pf_winograd_applies(problem)) return pf_algorithm_direct;
  const double lanes = (double)settings->kernels->lanes;
  const double time_4 = winograd_time(lanes, problem, pass, 4);
  const double time_2 = problem->kernel_height == 1 ? time_4 : winograd_time(lanes, problem, pass, 2);
  if (direct_time(lanes, problem) <= (time_2 < time_4 ? time_2 : time_4)) return pf_algorithm_direct;
  return time_2 < time_4 ? pf_algorithm_winograd_2 : pf_algorithm_winograd_4;
}

double pf_plan_masked_winograd(const pf_settings *settings, const pf_convolution2d *problem, pf_algorithm algorithm,
                               int64_t channels, int64_t outputs) {
  const double lanes = (double)settings->kernels->lanes;
  return winograd_time_of(lanes, problem, pf_pass_weight_gradient, algorithm, (double)channels, (double)outputs) /
         direct_time(lanes, problem);
}

pf_status pf_convolution2d_algorithm(const pf_context *context, const pf_convolution2d *problem,
                                     pf_convolution_pass pass, const char **name) {
  PF_REQUIRE(name != NULL, pf_error_null);
  pf_settings settings;
  pf_convolution2d laid;
  pf_convolution_shape shape;
  PF_TRY(pf_read_context(context, &settings));
  PF_TRY(pf_convolution_read(&problem, &laid, &shape));
  PF_REQUIRE(pass >= pf_pass_forward && pass <= pf_pass_weight_gradient, pf_error_value);
  switch (pf_plan_algorithm(&settings, problem, pass)) {
    case pf_algorithm_direct: *name = "direct"; break;
    case pf_algorithm_depthwise: *name = "depthwise"; break;
    case pf_algorithm_winograd_2: *name = "winograd 2x2"; break;
    case pf_algorithm_winograd_4: *name = problem->kernel_height == 1 ? "winograd 1x4" : "winograd 4x4"; break;
  }
  return pf_ok;
}
