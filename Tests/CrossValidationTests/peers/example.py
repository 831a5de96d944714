"""The gradients of the example in the README, from the numbers that come in.

Reads {"weight": [...], "bias": [...], "input": [...], "requires_grad": ...}, flat lists of a Conv2d(3, 1, 3) and a
1x3x10x10 image, from standard input; writes {"weight": [...], "bias": [...], "input": [...] or null}: the gradients of
the output's mean.
"""

import json
import sys

import torch

request = json.load(sys.stdin)
conv = torch.nn.Conv2d(3, 1, 3)
with torch.no_grad():
    conv.weight.copy_(torch.tensor(request["weight"]).reshape(conv.weight.shape))
    conv.bias.copy_(torch.tensor(request["bias"]))
x = torch.tensor(request["input"]).reshape(1, 3, 10, 10).requires_grad_(request["requires_grad"])
conv(x).mean().backward()
json.dump({
    "weight": conv.weight.grad.flatten().tolist(),
    "bias": conv.bias.grad.tolist(),
    "input": None if x.grad is None else x.grad.flatten().tolist(),
}, sys.stdout)
