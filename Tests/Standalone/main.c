// The checks of the kernels as a plain program, for machines, emulators and sanitizers that Swift doesn't reach.
// Tests/check-kernels.sh builds and runs it.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CReference.h"
#include "arguments.h"

static _Noreturn void usage(void) {
  fputs("usage: check-kernels [convolutions|products|arguments] [--problems N] [--seed S] [--first I]\n"
        "                     [--isa baseline|avx2|avx512|neon] [--data integers|fractions] [--numerics exact|fast]\n"
        "Without the first word, runs all three: convolutions and products with integers, then with fractions.\n",
        stderr);
  exit(2);
}

typedef struct options {
  ref_check check;
  bool all_data;
  char reproduction[64];
} options;

static int64_t number(const char *text) {
  char *end;
  long long value = strtoll(text, &end, 10);
  if (*text == 0 || *end != 0 || value < 0) {
    fprintf(stderr, "check-kernels: expected a number that isn't negative, got '%s'\n", text);
    exit(2);
  }
  return value;
}

/// The index of `text` among `count` names.
static int32_t choice(const char *option, const char *text, const char *const *names, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (strcmp(text, names[i]) == 0) return i;
  fprintf(stderr, "check-kernels: %s has no choice '%s'\n", option, text);
  exit(2);
}

static void read_option(options *o, const char *name, const char *value) {
  static const char *const data[] = {"integers", "fractions"};
  static const char *const numerics[] = {"fast", "exact"};
  static const char *const isas[] = {"auto", "baseline", "avx2", "avx512", "neon"};
  ref_check *check = &o->check;
  if (strcmp(name, "--problems") == 0) check->count = number(value);
  else if (strcmp(name, "--seed") == 0) check->seed = (uint64_t)number(value);
  else if (strcmp(name, "--first") == 0) check->first = number(value);
  else if (strcmp(name, "--isa") == 0) check->isa = choice(name, value, isas, 5);
  else if (strcmp(name, "--numerics") == 0) check->numerics = choice(name, value, numerics, 2);
  else if (strcmp(name, "--data") == 0) check->data = (ref_data)choice(name, value, data, 2), o->all_data = false;
  else usage();
}

static bool print(const char *what, const ref_kernels *kernels, const ref_report *report, const ref_check *check) {
  printf("%s, %s: %lld problems, %lld results, %lld elements (%lld frozen, %lld operands poisoned), seed %llu\n", what,
         check->data == ref_data_integers ? "integers" : "fractions", (long long)report->problems,
         (long long)report->results, (long long)report->elements, (long long)report->frozen,
         (long long)report->poisoned, (unsigned long long)check->seed);
  for (int32_t isa = 1; isa < ref_isa_limit; isa++)
    if (ref_report_results(report, isa))
      printf("  %-8s %lld results\n", kernels->isa_name(isa), (long long)ref_report_results(report, isa));
  for (int32_t i = 0; ref_report_algorithm_name(report, i); i++)
    printf("  %-12s chosen for forward %lld, input gradient %lld, weight gradient %lld times\n",
           ref_report_algorithm_name(report, i), (long long)ref_report_algorithm_count(report, i, 0),
           (long long)ref_report_algorithm_count(report, i, 1), (long long)ref_report_algorithm_count(report, i, 2));
  if (report->mistrusted) printf("  MISTRUSTED: %lld problems are mostly zero\n", (long long)report->mistrusted);
  if (report->failures)
    printf("  FAILED: %lld problems; the first:\n%s\n", (long long)report->failures, report->failure);
  if (report->results == 0 && check->count > 0) puts("  FAILED: this machine doesn't have the instruction set");
  fflush(stdout);
  return report->failures == 0 && report->mistrusted == 0 && (report->results > 0 || check->count == 0);
}

static bool run(const char *what, options *o) {
  const ref_kernels kernels = ref_ckernels();
  snprintf(o->reproduction, sizeof o->reproduction, "Tests/check-kernels.sh %s", what);
  o->check.reproduction = o->reproduction;
  bool passed = true;
  for (int32_t data = 0; data < 2; data++) {
    if (!o->all_data && (int32_t)o->check.data != data) continue;
    ref_check check = o->check;
    check.data = (ref_data)data;
    bool products = strcmp(what, "products") == 0;
    ref_report report = products ? ref_check_products(&kernels, &check) : ref_check_convolutions(&kernels, &check);
    passed &= print(what, &kernels, &report, &check);
  }
  return passed;
}

int main(int count, char **arguments) {
  options o = {.check = {.seed = 1, .count = 1000, .numerics = ref_numerics_exact}, .all_data = true};
  int next = 1;
  const char *what = count > 1 && arguments[1][0] != '-' ? arguments[next++] : NULL;
  for (; next + 1 < count; next += 2) read_option(&o, arguments[next], arguments[next + 1]);
  if (next != count) usage();

  static const char *const names[] = {"convolutions", "products"};
  bool known = false, passed = true;
  for (int i = 0; i < 2; i++)
    if (!what || strcmp(what, names[i]) == 0) known = true, passed &= run(names[i], &o);
  if (!what || strcmp(what, "arguments") == 0)
    known = true, passed &= check_arguments(o.check.seed, o.check.first, o.check.count);
  if (!known) usage();
  return passed ? 0 : 1;
}
