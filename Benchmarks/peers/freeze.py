"""PyTorch's well-known recipe held against what a freeze owes.

The recipe sets the element, and zeroes its gradient in a full backward hook. A request gives an assertion's number (those
of Tests/FREEZING.md) and the number of steps. The answer's `found` is null when the assertion holds, else what was found
instead. Where an assertion is about state, PyTorch's ordinary means are used: state_dict, deepcopy, clip_grad_norm_,
AveragedModel.
"""

import copy
import math
import warnings

from lines import serve  # first: it says what to do where torch is missing

import torch
from torch import nn

INDEX = (0, 1, 2, 1)


def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(3, 1, 3)


def image(requires_grad=True):
    return torch.randn(1, 3, 10, 10, generator=torch.Generator().manual_seed(1)).requires_grad_(requires_grad)


def freeze(conv, index=INDEX, value=1.0):
    """The recipe; returns the hook's handle."""
    def zero_gradient(module, grad_input, grad_output):
        if module.weight.grad is not None:  # without an input gradient the hook fires before it is there
            module.weight.grad[index] = 0

    if value is not None:
        with torch.no_grad():
            conv.weight[index] = value
    return conv.register_full_backward_hook(zero_gradient)


def differs(found, expected=1.0):
    return None if found == expected and math.copysign(1, found) == math.copysign(1, expected) else repr(found)


def same(a, b):
    return None if torch.equal(a.view(torch.int32), b.view(torch.int32)) else "other bits"


def step(conv, x, optimizer, times=1):
    for _ in range(times):
        optimizer.zero_grad()
        conv(x).mean().backward()
        optimizer.step()


def held(steps, make, start=0, micro_batches=1, calls=1, input_grad=True, set_to_none=True):
    conv, x = convolution(), image(input_grad)
    optimizer = make(conv.parameters())
    for i in range(start + steps):
        if i == start:
            freeze(conv)
        optimizer.zero_grad(set_to_none=set_to_none)
        for _ in range(micro_batches):
            loss = conv(x).mean()
            for _ in range(1, calls):
                loss = loss + conv(x).square().mean()
            loss.backward()
        optimizer.step()
        if i >= start and (found := differs(conv.weight[INDEX].item())):
            return found
    return None


def sgd(**options):
    return lambda parameters: torch.optim.SGD(parameters, lr=0.05, **options)


def thaw_starts_anew(steps):
    conv, x, fresh = convolution(), image(), convolution()
    optimizer = sgd(momentum=0.9)(conv.parameters())
    step(conv, x, optimizer, 10)
    handle = freeze(conv)
    step(conv, x, optimizer, steps)
    handle.remove()
    fresh.load_state_dict(conv.state_dict())
    step(conv, x, optimizer)
    step(fresh, x, sgd(momentum=0.9)(fresh.parameters()))
    return differs(conv.weight[INDEX].item(), fresh.weight[INDEX].item())


def state_from_before(steps):
    conv, x = convolution(), image()
    optimizer = sgd(momentum=0.9)(conv.parameters())
    step(conv, x, optimizer, 10)
    state = copy.deepcopy(optimizer.state_dict())
    freeze(conv)
    optimizer.load_state_dict(state)
    step(conv, x, optimizer, steps)
    return differs(conv.weight[INDEX].item())


def zero_gradient_decays(steps):
    conv = convolution()
    freeze(conv)
    x = image(False)
    x[0, 0] = 0
    x.requires_grad_()
    before = abs(conv.weight[0, 0, 0, 0].item())
    step(conv, x, sgd(weight_decay=0.1)(conv.parameters()), steps)
    return None if abs(conv.weight[0, 0, 0, 0].item()) < before else "no decay"


def gradient_of_nan(steps):
    conv = convolution()
    freeze(conv)
    x = image(False)
    x[0, 1, 5, 5] = math.nan
    conv(x.requires_grad_()).mean().backward()
    return differs(conv.weight.grad[INDEX].item(), 0.0)


def clip_norm_after_nan(steps):
    conv = convolution()
    freeze(conv)

    def poison(gradient):
        gradient = gradient.clone()
        gradient[INDEX] = math.nan
        return gradient

    conv.weight.register_hook(poison)
    conv(image()).mean().backward()
    norm = nn.utils.clip_grad_norm_(conv.parameters(), 0.1).item()
    return None if math.isfinite(norm) else f"norm {norm}"


def clip_norm(steps):
    conv = convolution()
    freeze(conv)
    conv(image()).mean().backward()
    gradient = conv.weight.grad.double().clone()
    norm = nn.utils.clip_grad_norm_(conv.parameters(), 1e9).item()
    gradient[INDEX] = 0
    expected = math.sqrt(gradient.square().sum().item() + conv.bias.grad.double().square().sum().item())
    # The norm is taken in float32: a sum of 28 squares and a root.
    return None if abs(norm - expected) <= 32 * 2**-24 * expected else f"norm {norm}"


def gradient_at_freeze_time(steps):
    conv = convolution()
    optimizer = sgd()(conv.parameters())
    conv(image()).mean().backward()
    freeze(conv)
    optimizer.step()
    return differs(conv.weight[INDEX].item())


def pair():
    """A convolution with the recipe, and one with the same weights without."""
    conv, free = convolution(), convolution()
    freeze(conv)
    free.load_state_dict(conv.state_dict())
    return conv, free


def input_gradient(steps):
    conv, free = pair()
    x, y = image(), image()
    conv(x).square().mean().backward()
    free(y).square().mean().backward()
    return same(x.grad, y.grad)


def other_gradients(steps):
    conv, free = pair()
    conv(image()).square().mean().backward()
    free(image()).square().mean().backward()
    free.weight.grad[INDEX] = 0
    return same(conv.weight.grad, free.weight.grad)


def other_weights_loaded(steps):
    conv = convolution()
    freeze(conv)
    conv.load_state_dict(convolution().state_dict())
    return differs(conv.weight[INDEX].item())


def deep_copy(steps):
    conv = convolution()
    freeze(conv)
    twin = copy.deepcopy(conv)
    step(twin, image(), sgd()(twin.parameters()), steps)
    return differs(twin.weight[INDEX].item())


def moving_average(steps):
    conv, x = convolution(), image()
    optimizer = sgd()(conv.parameters())
    average = torch.optim.swa_utils.AveragedModel(conv, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for i in range(10 + steps):
        if i == 10:
            freeze(conv)
        step(conv, x, optimizer)
        average.update_parameters(conv)
    return differs(average.module.weight[INDEX].item())


def keys(steps):
    conv = convolution()
    before = list(conv.state_dict())
    freeze(conv)
    return None if list(conv.state_dict()) == before else "other keys"


def other_freeze_removed(steps):
    conv = convolution()
    other = freeze(conv, (0, 0, 0, 0), None)
    freeze(conv)
    other.remove()
    step(conv, image(), sgd()(conv.parameters()), steps)
    return differs(conv.weight[INDEX].item())


def shards(steps):
    whole, parts = convolution(), [convolution(), convolution()]
    freeze(whole)
    for part in parts:
        freeze(part)
        part(image()).mean().backward()
        whole(image()).mean().backward()
    return same(parts[0].weight.grad + parts[1].weight.grad, whole.weight.grad)


def statistics_move(steps):
    conv, norm = convolution(), nn.BatchNorm2d(1)

    def zero_gradient(module, grad_input, grad_output):
        module.weight.grad.zero_()

    conv.register_full_backward_hook(zero_gradient)
    before = norm.running_mean.clone()
    norm(conv(image()))
    return "they stay" if torch.equal(before, norm.running_mean) else None


def bias(steps):
    conv = convolution()
    with torch.no_grad():
        conv.bias[0] = 1

    def zero_gradient(module, grad_input, grad_output):
        module.bias.grad[0] = 0

    conv.register_full_backward_hook(zero_gradient)
    step(conv, image(), torch.optim.AdamW(conv.parameters(), lr=0.05), steps)
    return differs(conv.bias[0].item())


ASSERTIONS = {
    1: lambda n: held(n, sgd(weight_decay=0.1)),
    2: lambda n: held(n, lambda parameters: torch.optim.AdamW(parameters, lr=0.05)),
    3: lambda n: held(n, sgd(momentum=0.9), start=10),
    4: lambda n: held(n, lambda parameters: torch.optim.Adam(parameters, lr=0.05), start=10),
    5: thaw_starts_anew,
    6: state_from_before,
    8: zero_gradient_decays,
    9: gradient_of_nan,
    10: clip_norm_after_nan,
    11: clip_norm,
    12: lambda n: held(n, sgd(), micro_batches=4),
    13: gradient_at_freeze_time,
    14: lambda n: held(n, sgd(), set_to_none=False),
    15: input_gradient,
    16: lambda n: held(n, sgd(), input_grad=False),
    17: lambda n: held(n, sgd(), calls=2),
    18: other_gradients,
    19: lambda n: held(n, sgd()),
    20: other_weights_loaded,
    21: deep_copy,
    22: moving_average,
    23: keys,
    24: other_freeze_removed,
    26: shards,
    27: statistics_move,
    28: bias,
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # the case is measured on purpose
    serve(lambda request: {"found": ASSERTIONS[request["number"]](request["steps"])})
