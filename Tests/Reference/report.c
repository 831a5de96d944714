#include "CReference.h"

int64_t ref_report_results(const ref_report *report, int32_t isa) {
  return isa > 0 && isa < ref_isa_limit ? report->results_by_isa[isa] : 0;
}

const char *ref_report_algorithm_name(const ref_report *report, int32_t algorithm) {
  return algorithm >= 0 && algorithm < ref_algorithm_limit ? report->algorithms[algorithm].name : NULL;
}

int64_t ref_report_algorithm_count(const ref_report *report, int32_t algorithm, int32_t pass) {
  bool known = ref_report_algorithm_name(report, algorithm) && pass >= 0 && pass < 3;
  return known ? report->algorithms[algorithm].passes[pass] : 0;
}

int64_t ref_report_feature(const ref_report *report, ref_feature feature) {
  return feature >= 0 && feature < ref_feature_count ? report->features[feature] : 0;
}

const char *ref_report_failure(const ref_report *report) { return report->failure; }
