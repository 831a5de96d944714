"""Writes what PyTorch computes for random settings of each operation, to compare Permafrost with.

    python3 make_goldens.py [--seed S] [--configurations N] [--elements N] OUT

For each kind of operation OUT receives KIND.json, the settings of every case with the shape and offset of each of its
tensors, and KIND.f32, these tensors as little-endian float32, dense and row-major. The committed files are those of
`make_goldens.py ../Goldens`; the tests run the same program with a seed of the day when torch is at hand.
"""

import argparse
import array
import json
import pathlib
import random
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    sys.exit(f"{sys.executable} can't import torch: {error}")


class Kind:
    """Collects the cases of one kind of operation."""

    def __init__(self, name):
        self.name = name
        self.cases = []
        self.values = array.array("f")

    def add(self, settings, tensors):
        entries = {}
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            entries[name] = {"shape": list(tensor.shape), "offset": len(self.values)}
            self.values.extend(tensor.detach().to(torch.float32).flatten().tolist())
        self.cases.append({"settings": settings, "tensors": entries})

    def write(self, folder, seed):
        if sys.byteorder == "big":
            self.values.byteswap()
        lines = ",\n".join(json.dumps(case) for case in self.cases)
        head = json.dumps({"torch": torch.__version__, "seed": seed})[:-1]
        (folder / f"{self.name}.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
        (folder / f"{self.name}.f32").write_bytes(self.values.tobytes())


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


def convolution(kind, pick, elements):
    """Forward, and the gradients of input, weight and bias, of one random problem."""
    while True:
        groups = pick.choice([1, 1, 1, 2, 3, 4])
        multiplier = pick.choice([1, 1, 2])
        input_channels = groups * pick.choice([1, 1, 2, 3, 8, 17, 32])
        output_channels = groups * multiplier * pick.choice([1, 2, 3, 16, 33])
        kernel = [pick.choice([1, 2, 3, 3, 4, 5, 7]) for _ in range(2)]
        stride = [pick.choice([1, 1, 1, 2, 3]) for _ in range(2)]
        dilation = [pick.choice([1, 1, 1, 2, 3]) for _ in range(2)]
        padding = [pick.choice([0, 0, 1, 2, 3]) for _ in range(4)]  # top, bottom, left, right
        if pick.random() < 0.5:
            padding = [padding[0], padding[0], padding[2], padding[2]]
        size = [pick.randint(1, 20) for _ in range(2)]
        batch = pick.choice([1, 1, 2, 3])
        extents = [
            (size[i] + padding[2 * i] + padding[2 * i + 1] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i in range(2)]
        counts = [
            batch * input_channels * size[0] * size[1],
            output_channels * input_channels // groups * kernel[0] * kernel[1],
            batch * output_channels * extents[0] * extents[1]]
        if min(extents) >= 1 and sum(counts) <= elements:
            break
    x = leaf(batch, input_channels, *size)
    weight = leaf(output_channels, input_channels // groups, *kernel)
    bias = leaf(output_channels) if pick.random() < 0.7 else None
    top, bottom, left, right = padding
    if top == bottom and left == right:
        y = F.conv2d(x, weight, bias, stride, (top, left), dilation, groups)
    else:
        y = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kind.add(
        {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
        {"input": x, "weight": weight, "bias": bias, "output": y, "output_gradient": gradient, "input_gradient": x.grad,
         "weight_gradient": weight.grad, "bias_gradient": None if bias is None else bias.grad})


def every_window_holds_an_element(size, kernel, stride, padding, dilation, ceil_mode):
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return all(any(0 <= o * stride - padding + i * dilation < size for i in range(kernel)) for o in range(count))


def pooling(kind, pick, _):
    operation = pick.choice(["max", "average", "adaptive"])
    batch, channels = pick.choice([1, 2]), pick.choice([1, 3])
    while True:
        size = [pick.randint(1, 12) for _ in range(2)]
        kernel = [pick.randint(1, 4) for _ in range(2)]
        stride = [pick.randint(1, 3) for _ in range(2)]
        padding = [pick.randint(0, k // 2) for k in kernel]
        dilation = [pick.choice([1, 1, 2]) if operation == "max" else 1 for _ in range(2)]
        if all(s + 2 * p >= d * (k - 1) + 1 for s, p, d, k in zip(size, padding, dilation, kernel)):
            break
    settings = {"operation": operation}
    x = leaf(batch, channels, *size)
    if operation == "max" and pick.random() < 0.5:  # few distinct values: ties in most windows
        x = torch.randint(-2, 3, x.shape).float().requires_grad_()
    ceil_mode, count_include_pad = pick.random() < 0.5, pick.random() < 0.5
    axes = zip(size, kernel, stride, padding, dilation)
    if not all(every_window_holds_an_element(*axis, ceil_mode) for axis in axes):
        # PyTorch gives such a window an index outside of the image, and its backward writes there: memory is corrupted.
        dilation = [1, 1]
    if operation == "adaptive":
        output_size = [pick.randint(1, 7) for _ in range(2)]
        settings["output_size"] = output_size
        y = F.adaptive_avg_pool2d(x, output_size)
    else:
        settings.update(kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        if operation == "max":
            settings["dilation"] = dilation
            y = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
        else:
            settings["count_include_pad"] = count_include_pad
            y = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kind.add(settings, {"input": x, "output": y, "output_gradient": gradient, "input_gradient": x.grad})


def batch_norm(kind, pick, _):
    training, affine = pick.random() < 0.6, pick.random() < 0.7
    batch, channels, height, width = pick.randint(1, 4), pick.randint(1, 5), pick.randint(2, 6), pick.randint(1, 6)
    epsilon, momentum = pick.choice([1e-5, 1e-3]), pick.choice([0.1, 0.3])
    layer = torch.nn.BatchNorm2d(channels, eps=epsilon, momentum=momentum, affine=affine)
    layer.train(training)
    with torch.no_grad():
        if affine:
            layer.weight.normal_()
            layer.bias.normal_()
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    before = [layer.running_mean.clone(), layer.running_var.clone()]
    x = (torch.randn(batch, channels, height, width) * 2 + 0.5).requires_grad_()
    y = layer(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kind.add(
        {"training": training, "epsilon": epsilon, "momentum": momentum},
        {"input": x, "scale": layer.weight, "shift": layer.bias, "mean_before": before[0], "variance_before": before[1],
         "output": y, "mean_after": layer.running_mean, "variance_after": layer.running_var,
         "output_gradient": gradient, "input_gradient": x.grad,
         "scale_gradient": layer.weight.grad if affine else None,
         "shift_gradient": layer.bias.grad if affine else None})


def linear(kind, pick, _):
    inputs, outputs = pick.randint(1, 19), pick.randint(1, 17)
    rows = [pick.randint(1, 5) for _ in range(pick.choice([1, 1, 2]))]
    x, weight = leaf(*rows, inputs), leaf(outputs, inputs)
    bias = leaf(outputs) if pick.random() < 0.7 else None
    y = F.linear(x, weight, bias)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kind.add(
        {}, {"input": x, "weight": weight, "bias": bias, "output": y, "output_gradient": gradient,
             "input_gradient": x.grad, "weight_gradient": weight.grad,
             "bias_gradient": None if bias is None else bias.grad})


def loss(kind, pick, _):
    operation, reduction = pick.choice(["cross_entropy", "cross_entropy", "mse"]), pick.choice(["none", "mean", "sum"])
    rows, classes = pick.randint(1, 9), pick.randint(2, 11)
    x = (torch.randn(rows, classes) * pick.choice([1, 5, 20])).requires_grad_()
    settings = {"operation": operation, "reduction": reduction}
    if operation == "mse":
        target = torch.randn(rows, classes)
        y = F.mse_loss(x, target, reduction=reduction)
    else:
        settings["label_smoothing"] = pick.choice([0, 0, 0.1, 0.5])
        target = torch.randint(0, classes, (rows,))
        y = F.cross_entropy(x, target, reduction=reduction, label_smoothing=settings["label_smoothing"])
    gradient = torch.randn_like(y)
    y.backward(gradient)
    kind.add(
        settings,
        {"input": x, "target": target, "output": y, "output_gradient": gradient, "input_gradient": x.grad})


OPTIMIZERS = [
    ("sgd", {"lr": 0.05}),
    ("sgd", {"lr": 0.05, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.05, "momentum": 0.9}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("sgd", {"lr": 0.01, "momentum": 0.5, "maximize": True}),
    ("adam", {"lr": 0.01}),
    ("adam", {"lr": 0.02, "betas": [0.8, 0.99], "eps": 1e-4}),
    ("adam", {"lr": 0.01, "weight_decay": 0.001}),
    ("adam", {"lr": 0.01, "amsgrad": True}),
    ("adam", {"lr": 0.01, "maximize": True}),
    ("adamw", {"lr": 0.01}),
    ("adamw", {"lr": 0.01, "weight_decay": 0.3}),
    ("adamw", {"lr": 0.01, "amsgrad": True, "betas": [0.7, 0.9]}),
    ("rmsprop", {"lr": 0.01}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1, "momentum": 0.5}),
    ("rmsprop", {"lr": 0.01, "centered": True, "maximize": True}),
    ("adagrad", {"lr": 0.1}),
    ("adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "eps": 1e-4, "maximize": True}),
]
STEPS, ELEMENTS, EVERY = 200, 17, 40


def optimizer(kind, name, options):
    """A given sequence of gradients; the values after every EVERY-th step."""
    value = leaf(ELEMENTS)
    before = value.detach().clone()
    # Spans of 1e-3 to 1e3: an update that isn't scaled as it should be shows.
    gradients = torch.randn(STEPS, ELEMENTS) * 10 ** torch.linspace(-3, 3, ELEMENTS)
    makers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
              "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}
    optimizer = makers[name]([value], **options)
    after = []
    for step, gradient in enumerate(gradients):
        value.grad = gradient.clone()
        optimizer.step()
        if (step + 1) % EVERY == 0:
            after.append(value.detach().clone())
    kind.add({"optimizer": name, "every": EVERY, **options},
             {"before": before, "gradients": gradients, "after": torch.stack(after)})


def main():
    parser = argparse.ArgumentParser(description="Write what PyTorch computes, to compare Permafrost with.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--configurations", type=int, default=128, help="of convolutions; other kinds in proportion")
    parser.add_argument(
        "--elements", type=int, default=700, help="at most, of a convolution's input, weight and output together")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pick = random.Random(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    makers = [(convolution, 1), (pooling, 0.5), (batch_norm, 0.25), (linear, 0.25), (loss, 0.5)]
    for make, share in makers:
        kind = Kind(make.__name__)
        for _ in range(max(1, round(arguments.configurations * share))):
            make(kind, pick, arguments.elements)
        kind.write(arguments.out, arguments.seed)
    kind = Kind(optimizer.__name__)
    for name, options in OPTIMIZERS:
        optimizer(kind, name, options)
    kind.write(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
