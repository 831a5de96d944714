"""What accompanies PyTorch's optimizers: schedules of learning rates, parameter groups, clipping and averages.

Reads {"steps": N, "metrics": [...], "optimizers": [{"name": ..., "groups": [{...}, {...}]}, ...], "max_norm": ...,
"decay": ...} from standard input, and from FOLDER/gradients.safetensors the tensors `before` and `gradients`, one row a
step, whose first half belongs to the first group.

Prints a JSON object: for each schedule the `rates` of two groups and the `momenta` of the first before each step.
Writes into FOLDER/after.safetensors, for the optimizer at position P and each of float32 and float64, `P.DTYPE.value`
after all steps with gradients clipped by their norm, `P.DTYPE.norms`, the norms before clipping, and the averages of
the values after each step, `P.DTYPE.exponential` and `P.DTYPE.equal`.
"""

import json
import sys
import warnings

import torch
from torch.optim import lr_scheduler, swa_utils

from optimizer_sequences import OPTIMIZERS
from state_files import load_file, save_file

SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 7, 0.5),
    "multi_step": lambda o: lr_scheduler.MultiStepLR(o, [5, 12, 30], 0.3),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.93),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 25, 0.001),
    "warm_up": lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, 8),
    "warm_up_cosine": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 6), lr_scheduler.CosineAnnealingLR(o, 30)], [6]),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.4, 61, pct_start=0.25, div_factor=20, final_div_factor=500),
    "plateau_min": lambda o: lr_scheduler.ReduceLROnPlateau(
        o, "min", 0.5, 2, 0.01, "rel", cooldown=1, min_lr=0.003),
    "plateau_max": lambda o: lr_scheduler.ReduceLROnPlateau(
        o, "max", 0.3, 1, 0.05, "abs", cooldown=0, min_lr=0),
}


def schedule(make, request):
    parameters = [torch.ones(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}], lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    rates, momenta = [], []
    for step in range(request["steps"]):
        rates.append([group["lr"] for group in optimizer.param_groups])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(request["metrics"][step])
        else:
            scheduler.step()
    return {"rates": rates, "momenta": momenta}


def train(setting, given, dtype, request):
    before, gradients = (given[name].to(dtype) for name in ("before", "gradients"))
    half = len(before) // 2
    network = torch.nn.ParameterList([before[:half].clone(), before[half:].clone()])
    groups = [dict(options, params=[value]) for options, value in zip(setting["groups"], network)]
    optimizer = OPTIMIZERS[setting["name"]](groups)
    exponential = swa_utils.AveragedModel(
        network, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(request["decay"]))
    equal = swa_utils.AveragedModel(network)
    norms = []
    for row in gradients:
        for value, gradient in zip(network, (row[:half], row[half:])):
            value.grad = gradient.clone()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), request["max_norm"]))
        optimizer.step()
        exponential.update_parameters(network)
        equal.update_parameters(network)
    return {
        "value": torch.cat(list(network)), "norms": torch.stack(norms),
        "exponential": torch.cat(list(exponential.module)), "equal": torch.cat(list(equal.module))}


def main(folder):
    request = json.load(sys.stdin)
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")  # chained schedulers warn of themselves
    given = load_file(f"{folder}/gradients.safetensors")
    answer = {}
    for position, setting in enumerate(request["optimizers"]):
        for dtype in ("float32", "float64"):
            for name, tensor in train(setting, given, getattr(torch, dtype), request).items():
                answer[f"{position}.{dtype}.{name}"] = tensor.detach()
    save_file(answer, f"{folder}/after.safetensors")
    json.dump({name: schedule(make, request) for name, make in SCHEDULES.items()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
