#include "CThreadState.h"

static _Thread_local permafrost_thread_state state;

permafrost_thread_state *permafrost_thread_state_current(void) { return &state; }
