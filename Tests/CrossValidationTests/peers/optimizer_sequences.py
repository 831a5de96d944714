"""Runs PyTorch's optimizers on a given sequence of gradients, in float32 and in float64.

Reads {"settings": [{"name": ..., "options": {...}, "flags": [...]}, ...], "every": N} from standard input, and from
FOLDER/gradients.safetensors the tensors `before`, the values to begin with, and `gradients`, one row a step. For the
setting at position P it writes the values after every Nth step as `P.float32` and `P.float64` into
FOLDER/after.safetensors.
"""

import json
import sys

import torch

from state_files import load_file, save_file

OPTIMIZERS = {
    "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad}


def optimizer(setting, parameters):
    options = dict(setting["options"], **{flag: True for flag in setting["flags"]})
    if "beta1" in options:
        options["betas"] = (options.pop("beta1"), options.pop("beta2"))
    return OPTIMIZERS[setting["name"]](parameters, **options)


def values(setting, before, gradients, every):
    value = before.clone().requires_grad_()
    steps = optimizer(setting, [value])
    after = []
    for step, gradient in enumerate(gradients):
        value.grad = gradient.clone()
        steps.step()
        if (step + 1) % every == 0:
            after.append(value.detach().clone())
    return torch.stack(after)


def main(folder):
    request = json.load(sys.stdin)
    given = load_file(f"{folder}/gradients.safetensors")
    answer = {}
    for position, setting in enumerate(request["settings"]):
        for dtype in ("float32", "float64"):
            tensors = (given[name].to(getattr(torch, dtype)) for name in ("before", "gradients"))
            answer[f"{position}.{dtype}"] = values(setting, *tensors, request["every"])
    save_file(answer, f"{folder}/after.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
