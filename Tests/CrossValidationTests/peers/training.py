"""Trains a small network in float32 and in float64 from given weights on given batches.

Reads {"setting": {...}, "every": N}, the optimizer as `optimizer_sequences.py` takes it, from standard input; from
FOLDER the network's state in start.safetensors, and in batches.safetensors the `images` and the `labels`, a batch a row.
Writes the state after every Nth step, S from 1 on, under float32.S.NAME and float64.S.NAME into
FOLDER/trained.safetensors.
"""

import json
import sys

import torch
import torch.nn.functional as F
from torch import nn

from optimizer_sequences import optimizer
from state_files import load_file, save_file


class SmoothNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        x = F.avg_pool2d(self.bn1(self.conv1(x)).tanh(), 2)
        return self.fc(self.conv2(x).tanh().flatten(1))


def train(request, folder, dtype):
    network = SmoothNet()
    network.load_state_dict(load_file(f"{folder}/start.safetensors"))
    network.to(dtype)
    batches = load_file(f"{folder}/batches.safetensors")
    steps = optimizer(request["setting"], network.parameters())
    for step, (images, labels) in enumerate(zip(batches["images"].to(dtype), batches["labels"]), 1):
        steps.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        steps.step()
        if step % request["every"] == 0:
            yield step, {name: value.clone() for name, value in network.state_dict().items()}


def main(folder):
    request = json.load(sys.stdin)
    torch.set_num_threads(1)  # the network is too small to share
    answer = {}
    for dtype in ("float32", "float64"):
        for step, state in train(request, folder, getattr(torch, dtype)):
            answer.update({f"{dtype}.{step}.{name}": value for name, value in state.items()})
    save_file(answer, f"{folder}/trained.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
