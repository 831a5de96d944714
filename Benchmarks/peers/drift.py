"""What becomes of one weight that PyTorch's well-known recipe holds at a value: a full backward hook that zeroes its gradient.

A request gives the convolution's weight, bias and input as nested lists, the element's index and value, the optimizer and
its options, the number of steps, the step before which the element is set and the hook registered, and whether the
input requires a gradient. The answer is the element's value after the last step.
"""

import warnings

from lines import serve  # first: it says what to do where torch is missing

import torch
from torch import nn

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def drift(request):
    weight = torch.tensor(request["weight"])
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:])
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(torch.tensor(request["bias"]))
    x = torch.tensor(request["input"], requires_grad=request["input_grad"])
    index = tuple(request["index"])

    def zero_gradient(module, grad_input, grad_output):
        if module.weight.grad is not None:  # without an input gradient the hook fires before it is there
            module.weight.grad[index] = 0

    optimizer = OPTIMIZERS[request["optimizer"]](conv.parameters(), **request["options"])
    for step in range(request["steps"]):
        if step == request["freeze_at"]:
            with torch.no_grad():
                conv.weight[index] = request["value"]
            conv.register_full_backward_hook(zero_gradient)
        optimizer.zero_grad()
        conv(x).mean().backward()
        optimizer.step()
    return {"value": conv.weight[index].item()}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # the case is measured on purpose
    serve(drift)
