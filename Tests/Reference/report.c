#include "CReference.h"

int64_t ref_report_results(const ref_report *report, int32_t isa) {
  return isa > 0 && isa < ref_isa_limit ? report->results_by_isa[isa] : 0;
}

int64_t ref_report_feature(const ref_report *report, ref_feature feature) {
  return feature >= 0 && feature < ref_feature_count ? report->features[feature] : 0;
}

const char *ref_report_failure(const ref_report *report) { return report->failure; }
