"""One JSON object a line: requests on standard input, answers on standard output, in the same order.

The first line is a greeting: {"peer": "pytorch", "version": ..., "threads": ...}, or {"error": ...} when there is no torch.
A request that fails is answered with {"error": ...}; the program ends with its input.
"""

import json
import sys

try:
    import torch
except ImportError as error:
    print(json.dumps({"error": f"{sys.executable} can't import torch ({error}): install it (python3 -m pip install "
                               "torch), or name a Python that has it in PERMAFROST_PYTHON"}))
    sys.exit(2)


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(answer):
    """Greets, then answers each request with `answer(request)` until the input ends."""
    say({"peer": "pytorch", "version": torch.__version__, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        try:
            say(answer(json.loads(line)))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
