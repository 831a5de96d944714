"""Loads weights that `permafrost export` wrote, and writes weights for `permafrost eval`.

    python3 exported.py cnn|resnet20 FOLDER

Loads FOLDER/exported.safetensors strictly into the same network as the command line's model for the optical digits, and
saves the weights of a new one as FOLDER/made.safetensors. The answer on standard output is a JSON object with the number
of FOLDER/test.safetensors's `images` that each of the two assigns to its label: `exported` and `made`.
"""

import json
import sys

import torch
import torch.nn.functional as F
from torch import nn

from networks import BasicBlock
from state_files import load_file, save_file

EPSILON = 1e-5


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(512, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16, EPSILON)
        for stage, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            blocks = [BasicBlock(inputs, outputs, 1 if inputs == outputs else 2, EPSILON)]
            blocks += [BasicBlock(outputs, outputs, 1, EPSILON) for _ in range(2)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


@torch.no_grad()
def correct(network, test):
    return int((network.eval()(test["images"]).argmax(1) == test["labels"]).sum())


def main(kind, folder):
    make = {"cnn": SmallCNN, "resnet20": ResNet20}[kind]
    test = load_file(f"{folder}/test.safetensors")
    torch.manual_seed(0)
    network, made = make(), make()
    network.load_state_dict(load_file(f"{folder}/exported.safetensors"), strict=True)
    save_file(made.state_dict(), f"{folder}/made.safetensors")
    json.dump({"exported": correct(network, test), "made": correct(made, test)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
