#include "guard.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REF_SANITIZER 1
void __sanitizer_set_death_callback(void (*callback)(void));
#endif
#endif

enum { canary_bytes = 256, canary = 0xA5 };

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static _Noreturn void give_up(const char *what) {
  perror(what);
  abort();
}

static void protect(ref_guarded *block, int protection) {
  if (mprotect(block->pages, block->capacity, protection) != 0) give_up("mprotect");
}

static void reserve(ref_guarded *block, size_t bytes) {
  size_t page = page_size();
  size_t capacity = (bytes + canary_bytes + page - 1) / page * page;
  if (block->pages && block->capacity >= capacity) {
    ref_guarded_unseal(block);
    return;
  }
  ref_guarded_free(block);
  unsigned char *base = mmap(NULL, capacity + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (base == MAP_FAILED) give_up("mmap");
  block->pages = base + page;
  block->capacity = capacity;
  ref_guarded_unseal(block);
}

void *ref_guarded_place(ref_guarded *block, size_t bytes, ref_side side) {
  reserve(block, bytes);
  block->bytes = bytes;
  block->data = side == ref_side_start ? block->pages : block->pages + block->capacity - bytes;
  unsigned char *pattern = side == ref_side_start ? block->data + bytes : block->data - canary_bytes;
  memset(pattern, canary, canary_bytes);
  return block->data;
}

void ref_guarded_seal(ref_guarded *block) { protect(block, PROT_READ); }
void ref_guarded_unseal(ref_guarded *block) { protect(block, PROT_READ | PROT_WRITE); }

bool ref_guarded_intact(const ref_guarded *block) {
  bool at_start = block->data == block->pages;
  const unsigned char *pattern = at_start ? block->data + block->bytes : block->data - canary_bytes;
  for (int i = 0; i < canary_bytes; i++)
    if (pattern[i] != canary) return false;
  return true;
}

void ref_guarded_free(ref_guarded *block) {
  if (!block->pages) return;
  munmap(block->pages - page_size(), block->capacity + 2 * page_size());
  *block = (ref_guarded){0};
}

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { crash_count = sizeof crashes / sizeof crashes[0] };
static struct sigaction previous[crash_count];
static _Atomic(const char *) announcement;

static void announce(void) {
  const char *text = atomic_exchange(&announcement, NULL);
  if (text) {
    static const char lead[] =
        "\nA kernel crashed: it touched memory that isn't its own, wrote to an input, or divided by 0:\n";
    ssize_t written = write(STDERR_FILENO, lead, sizeof lead - 1);
    written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
  }
}

static void announce_crash(int signal) {
  announce();
  // The faulting instruction runs again under whatever handled the signal before.
  for (int i = 0; i < crash_count; i++)
    if (crashes[i] == signal) sigaction(signal, &previous[i], NULL);
}

void ref_guarded_announce(const char *text) {
  static atomic_bool installed;
  if (text && !atomic_exchange(&installed, true)) {
    struct sigaction action = {.sa_handler = announce_crash, .sa_flags = SA_ONSTACK};
    for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &action, &previous[i]);
#ifdef REF_SANITIZER
    __sanitizer_set_death_callback(announce);
#endif
  }
  atomic_store(&announcement, text);
}
