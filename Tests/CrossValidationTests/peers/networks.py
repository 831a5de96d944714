"""The networks of the tests' `Networks.swift` in PyTorch, with the same names for the same parameters."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    """LeNet-5 as it is built today; images of 1x28x28."""

    image_shape = [1, 28, 28]

    def __init__(self, epsilon):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs, outputs, stride, epsilon):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs, epsilon)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, epsilon)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, epsilon))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet18(nn.Module):
    """ResNet-18 (He et al., 2016) with ten classes and the widely used names; images of 3x64x64."""

    image_shape = [3, 64, 64]

    def __init__(self, epsilon):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64, epsilon)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = [64, 64, 128, 256, 512]
        for i in range(1, 5):
            self.add_module(f"layer{i}", nn.Sequential(
                BasicBlock(channels[i - 1], channels[i], 1 if i == 1 else 2, epsilon),
                BasicBlock(channels[i], channels[i], 1, epsilon)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def convolution(inputs, outputs, kernel, stride, groups, epsilon):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, epsilon), nn.ReLU6())


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 on each channel alone, 1x1 to fewer; a shortcut where the shapes agree."""

    def __init__(self, inputs, outputs, stride, expansion, epsilon):
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            convolution(inputs, hidden, 1, 1, 1, epsilon), convolution(hidden, hidden, 3, stride, hidden, epsilon),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs, epsilon))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class DepthwiseNet(nn.Module):
    """A small MobileNetV2 (Sandler et al., 2018); images of 3x32x32."""

    image_shape = [3, 32, 32]

    def __init__(self, epsilon):
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, 16, 3, 2, 1, epsilon), InvertedResidual(16, 24, 1, 2, epsilon),
            InvertedResidual(24, 24, 1, 4, epsilon), InvertedResidual(24, 32, 2, 4, epsilon),
            InvertedResidual(32, 32, 1, 4, epsilon), convolution(32, 128, 1, 1, 1, epsilon))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(128, 10))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


NETWORKS = {"lenet": LeNet, "resnet18": ResNet18, "depthwise": DepthwiseNet}
