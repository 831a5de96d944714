"""Prints what fires in one training step of a network with two branches, every kind of hook registered.

The answer is a JSON object with two lists of events, "WHAT: WHOM" in the order in which they came: one for an input
that requires a gradient, and one for an input that doesn't. `HookTraceTests.swift` registers the same hooks in the same
order.
"""

import json
import sys
import warnings

import torch
from torch import nn
from torch.nn.modules import module as global_hooks


class Join(nn.Module):
    def forward(self, a, b):
        return a + b


class TwoBranches(nn.Module):
    def __init__(self, note):
        super().__init__()
        self.note = note
        self.stem = nn.Linear(1, 1, bias=False)
        self.left = nn.Linear(1, 1, bias=False)
        self.right = nn.Linear(1, 1, bias=False)
        self.join = Join()

    def forward(self, x):
        stem = self.stem(x)
        left = self.left(stem)
        left.register_hook(lambda gradient: self.note("tensor", "left's output"))
        return self.join(left, self.right(stem))


def trace(input_requires_grad):
    events = []

    def note(what, whom):
        events.append(f"{what}: {whom}")

    net = TwoBranches(note)
    names = {module: name or "net" for name, module in net.named_modules()}

    def noting(what):
        return lambda module, *_: note(what, names[module])

    handles = [
        global_hooks.register_module_forward_pre_hook(noting("global forward pre")),
        global_hooks.register_module_forward_hook(noting("global forward")),
        global_hooks.register_module_full_backward_pre_hook(noting("global full backward pre")),
        global_hooks.register_module_full_backward_hook(noting("global full backward")),
    ]
    for module in names:
        module.register_forward_pre_hook(noting("forward pre"))
        module.register_forward_pre_hook(noting("forward pre, prepended"), prepend=True)
        module.register_forward_hook(noting("forward"))
        module.register_forward_hook(noting("forward, always"), always_call=True)
        module.register_forward_hook(noting("forward, prepended"), prepend=True)
        module.register_full_backward_pre_hook(noting("full backward pre"))
        module.register_full_backward_pre_hook(noting("full backward pre, prepended"), prepend=True)
        module.register_full_backward_hook(noting("full backward"))
        module.register_full_backward_hook(noting("full backward, prepended"), prepend=True)
    for name, parameter in net.named_parameters():
        parameter.register_hook(lambda gradient, name=name: note("tensor", name))
        parameter.register_post_accumulate_grad_hook(lambda parameter, name=name: note("post-accumulate", name))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: note("step pre", "optimizer"))
    optimizer.register_step_post_hook(lambda *_: note("step post", "optimizer"))
    x = torch.ones(1, 1, requires_grad=input_requires_grad)
    if input_requires_grad:
        x.register_hook(lambda gradient: note("tensor", "input"))
    net(x).sum().backward()
    optimizer.step()
    for handle in handles:
        handle.remove()
    return events


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # the case is looked at on purpose
    json.dump({"input_gradient": trace(True), "no_input_gradient": trace(False)}, sys.stdout)
