"""Times PyTorch's training steps on networks that have the names and shapes of Networks.swift.

    {"op": "load", "network": NAME, "folder": PATH, "batch": N, "threads": N, "layout": LAYOUT}
        builds the network, takes its weights from PATH/weights.safetensors and the batch from PATH/images.f32 and
        PATH/labels.i32
    {"op": "train", "repetitions": N}
        answers {"seconds": [...], "losses": [...]}, one of each a step of SGD with momentum on that batch
    {"op": "memory"}
        answers {"bytes": ...}: the peak resident size less the resident size when the network had been built

NAME is two-conv, resnet20, resnet18 or mobilenetv2; LAYOUT is contiguous or channels_last.
"""

import json
import resource
import struct
import time

from lines import serve  # first: it says what to do where torch is missing

import torch
import torch.nn.functional as F
from torch import nn

LEARNING_RATE, MOMENTUM = 0.01, 0.9


class TwoConv(nn.Module):
    image = (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    image = (3, 32, 32)

    def __init__(self, widths, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, inputs = [], widths[0]
        for number, width in enumerate(widths):
            blocks = []
            for position in range(depth):
                blocks.append(Block(inputs, width, 2 if position == 0 and number > 0 else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(widths[-1], 10)

    def forward(self, x):
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.expand = None
        if expansion != 1:
            self.expand = nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.filter = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.filter(y))
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    image = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        blocks, inputs = [], 32
        stages = [
            (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for expansion, outputs, count, stride in stages:
            for position in range(count):
                blocks.append(InvertedResidual(inputs, outputs, stride if position == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6())
        self.fc = nn.Linear(1280, 10)

    def forward(self, x):
        return self.fc(self.head(self.blocks(self.stem(x))).mean((2, 3)))


NETWORKS = {
    "two-conv": TwoConv,
    "resnet20": lambda: ResNet([16, 32, 64], 3),
    "resnet18": lambda: ResNet([64, 128, 256, 512], 2),
    "mobilenetv2": MobileNetV2,
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    types = {"F32": torch.float32, "I64": torch.int64}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            values = torch.frombuffer(data[start:end], dtype=types[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Training:
    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        layout, folder = LAYOUTS[request["layout"]], request["folder"]
        self.network = NETWORKS[request["network"]]()
        shape = (request["batch"], *self.network.image)
        self.network.load_state_dict(read_safetensors(f"{folder}/weights.safetensors"), strict=True)
        self.network = self.network.to(memory_format=layout)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        images = torch.from_file(f"{folder}/images.f32", size=torch.Size(shape).numel(), dtype=torch.float32)
        self.images = images.clone().reshape(shape).contiguous(memory_format=layout)
        labels = torch.from_file(f"{folder}/labels.i32", size=request["batch"], dtype=torch.int32)
        self.labels = labels.to(torch.int64)
        self.resident = resident_bytes()

    def step(self):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.network(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()


loaded = None


def answer(request):
    global loaded
    if request["op"] == "load":
        loaded = None
        loaded = Training(request)
        return {}
    if loaded is None:
        raise ValueError("no network was loaded")
    if request["op"] == "train":
        seconds, losses = [], []
        for _ in range(request["repetitions"]):
            start = time.perf_counter()
            losses.append(loaded.step())
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "losses": losses}
    if request["op"] == "memory":
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - loaded.resident}
    raise ValueError(f"unknown operation {request['op']!r}")


if __name__ == "__main__":
    serve(answer)
