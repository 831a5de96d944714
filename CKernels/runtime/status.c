#include "runtime/runtime.h"

const char *pf_status_message(pf_status status) {
  switch (status) {
    case pf_ok: return "no error";
    case pf_error_null: return "a required pointer is NULL";
    case pf_error_dimension: return "a size, stride, dilation, padding, group count or axis is out of range";
    case pf_error_overflow: return "the sizes multiply to more than can be addressed";
    case pf_error_memory: return "the system gave no memory";
    case pf_error_value: return "a scalar argument, target or enumerator is out of range";
    case pf_error_isa: return "this machine or build lacks the instruction set asked for";
  }
  return "unknown status";
}

pf_status pf_multiply_extents(const int64_t *extents, int32_t count, int64_t *product) {
  int64_t bytes = sizeof(float);
  bool empty = false;
  for (int32_t i = 0; i < count; ++i) {
    PF_REQUIRE(extents[i] >= 0, pf_error_dimension);
    if (extents[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, extents[i], &bytes)) {
      return pf_error_overflow;
    }
  }
  // pointer differences are ptrdiff_t: half of the address space is the limit on 32-bit machines
  PF_REQUIRE(bytes <= PTRDIFF_MAX, pf_error_overflow);
  *product = empty ? 0 : bytes / (int64_t)sizeof(float);
  return pf_ok;
}
