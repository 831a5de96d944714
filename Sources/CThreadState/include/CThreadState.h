// State of the calling thread that every operation reads. Swift has no thread-local variables, and a task-local read
// costs more than recording an operation ought to.

#ifndef CTHREADSTATE_H
#define CTHREADSTATE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct permafrost_thread_state {
  bool gradient_disabled;       // inside noGrad
  bool in_backward;             // inside backward(), hooks included
  bool execution_overridden;    // inside withExecution: the three fields below hold
  int32_t threads;
  int32_t numerics;
  int32_t instruction_set;
} permafrost_thread_state;

/// The calling thread's state, zero at first. The pointer is the thread's own: it must not be kept across a suspension.
permafrost_thread_state *permafrost_thread_state_current(void);

#endif
