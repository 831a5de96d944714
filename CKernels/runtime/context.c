// Instruction sets: which there are, which a call uses, and the table of kernels for each.

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/runtime.h"

enum { isa_count = 5 };

static const char *const isa_names[isa_count] = {"auto", "baseline", "avx2", "avx512", "neon"};

static struct {
  pthread_once_t once;
  bool supported[isa_count];
  pf_kernels kernels[isa_count];  // by pf_isa; the entry of pf_isa_auto is unused
  pf_isa preferred;               // what pf_isa_auto stands for
} machine = {.once = PTHREAD_ONCE_INIT};

static void support(pf_isa isa, void (*fill)(pf_kernels *)) {
  machine.supported[isa] = true;
  // Portable versions first: a table is complete before an instruction set overrides what it does better.
  pf_fill_kernels_baseline(&machine.kernels[isa]);
  fill(&machine.kernels[isa]);
  machine.kernels[isa].isa = isa;
  machine.preferred = isa;
}

static void look_at_machine(void) {
  machine.supported[pf_isa_auto] = true;
  support(pf_isa_baseline, pf_fill_kernels_baseline);
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) support(pf_isa_avx2, pf_fill_kernels_avx2);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    support(pf_isa_avx512, pf_fill_kernels_avx512);
  }
#elif defined(__aarch64__)
  support(pf_isa_neon, pf_fill_kernels_neon);
#endif
  pf_isa wanted = pf_isa_auto;
  const char *name = getenv("PERMAFROST_ISA");
  if (name != NULL && pf_isa_named(name, &wanted) && wanted != pf_isa_auto && machine.supported[wanted]) {
    machine.preferred = wanted;
  }
}

static bool is_isa(pf_isa isa) { return isa >= pf_isa_auto && isa < (pf_isa)isa_count; }

bool pf_isa_supported(pf_isa isa) {
  pthread_once(&machine.once, look_at_machine);
  return is_isa(isa) && machine.supported[isa];
}

pf_isa pf_isa_resolve(const pf_context *context) {
  pthread_once(&machine.once, look_at_machine);
  return context == NULL || context->isa == pf_isa_auto ? machine.preferred : context->isa;
}

const char *pf_isa_name(pf_isa isa) { return is_isa(isa) ? isa_names[isa] : "unknown"; }

bool pf_isa_named(const char *name, pf_isa *isa) {
  if (name == NULL || isa == NULL) return false;
  for (int32_t i = 0; i < isa_count; ++i) {
    if (strcmp(name, isa_names[i]) == 0) {
      *isa = (pf_isa)i;
      return true;
    }
  }
  return false;
}

pf_status pf_read_context(const pf_context *context, pf_settings *settings) {
  const pf_isa isa = pf_isa_resolve(context);
  PF_REQUIRE(is_isa(isa), pf_error_value);
  PF_REQUIRE(machine.supported[isa], pf_error_isa);
  settings->kernels = &machine.kernels[isa];
  settings->numerics = context == NULL ? pf_fast : context->numerics;
  PF_REQUIRE(settings->numerics == pf_fast || settings->numerics == pf_exact, pf_error_value);
  const int32_t threads = context == NULL ? 0 : context->threads;
  PF_REQUIRE(threads >= 0, pf_error_value);
  settings->threads = threads == 0 ? pf_available_threads() : threads;
  return pf_ok;
}

int64_t pf_longest_chain(const pf_settings *settings, int64_t products, int64_t single) {
  if (settings->numerics != pf_exact || products <= single) return pf_most_chain;
  const int64_t length = pf_minimum_of(pf_most_chain, (int64_t)(3 * sqrt((double)products)));
  return pf_minimum_of(pf_ceiling_divide(products, 2), pf_maximum_of(64, length));
}
