"""Exchanges a network's weights with the caller through safetensors files, and evaluates it on the caller's images.

    python3 round_trip.py lenet|resnet18|depthwise FOLDER

Loads FOLDER/given.safetensors strictly, writes back what was loaded as returned.safetensors, and the weights of two
networks of its own: made.safetensors as PyTorch initialises them, and exact.safetensors, with which float32 computes
every output without a rounding. outputs.safetensors receives, of each network's outputs for the caller's `images`
(exact: for the images rounded to whole numbers, `exact.images`):

    NAME.float32     as PyTorch computes them
    NAME.float64     the same in double precision
    NAME.bound       how far a float32 computation with direct convolutions may lie from these (see rounding.py)
    NAME.fast_bound  with Winograd's convolutions

The answer on standard output is the list of the state dictionary's names, in its order.
"""

import json
import random
import sys

import torch
from torch import nn

from networks import NETWORKS
from rounding import bounds
from state_files import load_file, save_file

try:
    from safetensors.torch import load_file as reference_load_file
except ImportError:
    reference_load_file = None


def load(path):
    """The tensors of a file; where the format's own package is installed, it must read the same."""
    tensors = load_file(path)
    if reference_load_file is not None:
        reference = reference_load_file(path)
        same = reference.keys() == tensors.keys() and all(torch.equal(reference[key], tensors[key]) for key in tensors)
        if not same:
            raise ValueError(f"safetensors reads {path} differently")
    return tensors


@torch.no_grad()
def make(kind, pick):
    """As PyTorch initialises it, with statistics as training leaves them."""
    network = kind(epsilon=1e-5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(pick.randint(1, 1000))
    return network


EXACT_EPSILON = 2.0 ** -7


@torch.no_grad()
def make_exact(kind, pick):
    """One or two weights of +-1 for each output of a layer, and normalisations by 1 or 1/2.

    All values are then multiples of a power of two with few enough digits for float32; the caller learns whether that
    came true from NAME.float32 and NAME.float64 being equal.
    """
    network = kind(epsilon=EXACT_EPSILON)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.zero_()
            for row in module.weight.flatten(1):
                for place in pick.sample(range(len(row)), 2):
                    row[place] = pick.choice([-1, 1, 1])
            if module.bias is not None:
                module.bias.copy_(torch.tensor([float(pick.randint(-1, 2)) for _ in module.bias]))
        if isinstance(module, nn.BatchNorm2d):
            for channel in range(module.num_features):
                module.weight[channel] = pick.choice([-1, 1, 1, 1])
                module.bias[channel] = pick.randint(0, 2)
                module.running_mean[channel] = pick.randint(-1, 1)
                module.running_var[channel] = pick.choice([1, 4]) - EXACT_EPSILON
    return network


@torch.no_grad()
def evaluate(network, images):
    return network.eval()(images)


def main(name, folder):
    kind = NETWORKS[name]
    images = load(f"{folder}/images.safetensors")["images"]
    pick = random.Random(name)
    torch.manual_seed(pick.randrange(2 ** 32))

    given = kind(epsilon=1e-5)
    given.load_state_dict(load(f"{folder}/given.safetensors"), strict=True)
    save_file(given.state_dict(), f"{folder}/returned.safetensors")
    made = make(kind, pick)
    save_file(made.state_dict(), f"{folder}/made.safetensors")
    exact = make_exact(kind, pick)
    save_file(exact.state_dict(), f"{folder}/exact.safetensors")

    whole = images.round()
    outputs = {
        "exact.images": whole, "exact.float32": evaluate(exact, whole),
        "exact.float64": evaluate(exact.double(), whole.double())}
    for label, network in (("given", given), ("made", made)):
        outputs[f"{label}.float32"] = evaluate(network, images)
        result = bounds(network, images)
        for key, value in zip(("float64", "bound", "fast_bound"), result):
            outputs[f"{label}.{key}"] = value
    save_file(outputs, f"{folder}/outputs.safetensors")
    json.dump(list(given.state_dict()), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
