"""Times PyTorch's convolution passes, one operator call a pass, on tensors that the caller wrote as raw float32 files.

    {"op": "load", "problem": {...}, "folder": PATH, "threads": N}
        reads input.f32, weight.f32 and output_gradient.f32; the problem has the fields of a two-dimensional convolution
    {"op": "time", "pass": PASS, "layout": LAYOUT, "repetitions": N}
        answers {"seconds": [...]}, one figure a repetition
    {"op": "save", "pass": PASS, "layout": LAYOUT, "path": PATH}
        writes the pass's result as raw float32, dense and row-major

PASS is forward, input_gradient or weight_gradient; LAYOUT is contiguous or channels_last.
"""

import time

from lines import serve  # first: it says what to do where torch is missing

import torch
import torch.nn.functional as F

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def read(path, shape):
    return torch.from_file(path, size=torch.Size(shape).numel(), dtype=torch.float32).clone().reshape(shape)


class Convolution:
    """One problem's tensors in both layouts, and the call that each pass is."""

    def __init__(self, request):
        p = request["problem"]
        torch.set_num_threads(request["threads"])
        self.stride = [p["stride_height"], p["stride_width"]]
        self.dilation = [p["dilation_height"], p["dilation_width"]]
        self.groups = p["groups"]
        symmetric = p["padding_top"] == p["padding_bottom"] and p["padding_left"] == p["padding_right"]
        if not symmetric:
            raise ValueError("PyTorch's operator pads both sides alike")
        self.padding = [p["padding_top"], p["padding_left"]]
        extents = [
            (p[f"input_{axis}"] + 2 * pad - dilation * (p[f"kernel_{axis}"] - 1) - 1) // stride + 1
            for axis, pad, dilation, stride in zip(("height", "width"), self.padding, self.dilation, self.stride)]
        shapes = {
            "input": [p["batch"], p["input_channels"], p["input_height"], p["input_width"]],
            "weight": [p["output_channels"], p["input_channels"] // p["groups"], p["kernel_height"], p["kernel_width"]],
            "output_gradient": [p["batch"], p["output_channels"], *extents],
        }
        self.tensors = {}
        for name, shape in shapes.items():
            values = read(f"{request['folder']}/{name}.f32", shape)
            self.tensors[name] = {key: values.contiguous(memory_format=layout) for key, layout in LAYOUTS.items()}

    def operands(self, layout):
        return (self.tensors[name][layout] for name in ("input", "weight", "output_gradient"))

    def run(self, direction, layout):
        x, weight, gradient = self.operands(layout)
        if direction == "forward":
            return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)
        mask = [direction == "input_gradient", direction == "weight_gradient", False]
        results = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups, mask)
        return results[mask.index(True)]


loaded = None


def answer(request):
    global loaded
    if request["op"] == "load":
        loaded = Convolution(request)
        return {}
    if loaded is None:
        raise ValueError("no problem was loaded")
    if request["op"] == "time":
        seconds = []
        for _ in range(request["repetitions"]):
            start = time.perf_counter()
            loaded.run(request["pass"], request["layout"])
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}
    if request["op"] == "save":
        result = loaded.run(request["pass"], request["layout"]).contiguous()
        torch.from_file(request["path"], shared=True, size=result.numel(), dtype=torch.float32).copy_(result.flatten())
        return {}
    raise ValueError(f"unknown operation {request['op']!r}")


if __name__ == "__main__":
    with torch.no_grad():
        serve(answer)
