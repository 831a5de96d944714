// Memory that notices when it is left: a block lies against a page that can't be touched, with a pattern on its other
// side.

#ifndef REF_GUARD_H
#define REF_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ref_side { ref_side_end, ref_side_start } ref_side;  // where the untouchable page is

typedef struct ref_guarded {
  unsigned char *pages;  // `capacity` bytes between two untouchable pages; NULL before the first use
  size_t capacity;
  unsigned char *data;
  size_t bytes;
} ref_guarded;

/// Makes the block `bytes` long and writable, with undefined contents, and returns it. A multiple of 4 bytes is aligned
/// for float and, at ref_side_end, for nothing wider. Ends the process when the system has no memory.
void *ref_guarded_place(ref_guarded *block, size_t bytes, ref_side side);

/// From here to ref_guarded_unseal or ref_guarded_place, a write to the block ends the process.
void ref_guarded_seal(ref_guarded *block);
void ref_guarded_unseal(ref_guarded *block);

/// Whether the pattern beside the block is whole.
bool ref_guarded_intact(const ref_guarded *block);

void ref_guarded_free(ref_guarded *block);

/// What is printed to standard error should the process crash; NULL for nothing. The text must outlive its use.
void ref_guarded_announce(const char *text);

#endif
