"""How far a float32 evaluation of a network may lie from the exact one.

Let u = 2^-24. Rounding makes each value z_i that a layer computes wrong by a sum of errors, one for each operation on
its way, each at most u * m_i, where m_i is the sum of its terms' absolute values: an inner product of n terms has n
operations on each term's way, so the errors' contributions sum to at most n * u * m_i. To first order they move output
y by the sum over all layers' values of dy/dz_i times these errors.

Taken as independent with mean zero, the model of Higham and Mary (A new approach to probabilistic rounding error
analysis, SIAM J. Sci. Comput. 41(5), 2019), Hoeffding's inequality bounds that sum: it exceeds

    LAMBDA * u * sqrt(sum over i of (dy/dz_i)^2 * n_i * m_i^2)

with a probability of at most 2 exp(-LAMBDA^2 / 2): 3e-8 for LAMBDA = 6. The worst case would be the plain sum of
absolute values, which says nothing after twenty layers. Maxima, ReLU and ReLU6 round nothing.

A 3x3 convolution by Winograd's F(4x4, 3x3), or with stride 2 by F(4, 2) and plain products along an axis, sums the
same terms after transforms, whose matrices enlarge m_i; each term passes at most 36 operations more. F(2x2, 3x3)
enlarges and rounds less. The 5x5 layers of these networks have too few channels to run by it.
"""

import torch
import torch.nn.functional as F
from torch import nn

from networks import BasicBlock, InvertedResidual

LAMBDA = 6
UNIT = 2.0 ** -24


def winograd_growth(points, taps):
    """The largest row of |A'|[(|G| 1) * (|B'| 1)] of F(4, taps) with the points, and infinity if one is missing."""
    a, g, b = [], [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = 1
        polynomial = [1.0]
        for q in others:
            scale *= p - q
            polynomial = [x - q * y for x, y in zip(polynomial + [0], [0] + polynomial)]
        a.append([abs(p) ** i for i in range(4)])
        g.append(sum(abs(p) ** j for j in range(taps)) / abs(scale))
        b.append(sum(map(abs, polynomial)))
    if len(points) < 4 + taps - 1:
        polynomial = [1.0]
        for q in points:
            polynomial = [x - q * y for x, y in zip(polynomial + [0], [0] + polynomial)]
        a.append([0, 0, 0, 1])
        g.append(1)
        b.append(sum(map(abs, polynomial)))
    return max(sum(x[i] * y * z for x, y, z in zip(a, g, b)) for i in range(4))


ROOT = 0.5 ** 0.5
# By stride. With stride 2, F(4, 2) is that of the outer taps, and the middle one's product is added.
WINOGRAD_GROWTH = {
    (1, 1): winograd_growth([0, ROOT, -ROOT, 2 * ROOT, -2 * ROOT], 3),
    (2, 2): winograd_growth([0, 0.75, -0.75, 2.5, -2.5], 2) + 1,
}


def magnitudes(module, x, z):
    """m_i and n_i of the values z that a module computes from x; several pairs where there are several ways."""
    if isinstance(module, nn.Conv2d):
        weight, bias = module.weight.abs(), module.bias
        settings = module.stride, module.padding, module.dilation, module.groups
        m = F.conv2d(x.abs(), weight, None if bias is None else bias.abs(), *settings)
        n = weight[0].numel() + 1
        ways = [(m, n)]
        if module.kernel_size == (3, 3) and module.stride in WINOGRAD_GROWTH and module.groups == 1:
            step = module.stride[0]
            # Of the pixels that an output's tile reads, wherever in the tile it lies, and one more.
            largest = F.max_pool2d(x.abs(), 8 * step + 3, 1, 4 * step + 1)[:, :, ::step, ::step]
            tile = F.conv2d(largest, weight.amax((2, 3), keepdim=True))
            ways.append((WINOGRAD_GROWTH[module.stride] ** 2 * tile, weight.shape[1] + 36))
        return ways
    if isinstance(module, nn.Linear):
        return [(F.linear(x.abs(), module.weight.abs(), module.bias.abs()), module.in_features + 1)]
    if isinstance(module, nn.BatchNorm2d):
        # x * scale + (shift - mean * scale) or (x - mean) * scale + shift, with scale = weight / sqrt(variance +
        # epsilon): at most 8 operations on a term's way.
        scale = (module.weight / (module.running_var + module.eps).sqrt()).abs()[:, None, None]
        return [((x.abs() + module.running_mean.abs()[:, None, None]) * scale + module.bias.abs()[:, None, None], 8)]
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return [(x.abs().mean((2, 3), keepdim=True), x.shape[2] * x.shape[3])]
    return [(z.abs(), 1)]  # a residual block: the sum with its shortcut


LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AdaptiveAvgPool2d, BasicBlock, InvertedResidual)


def bounds(network, images):
    """The outputs in double precision, and how far a float32 computation may lie from each: with direct convolutions,
    and where some are Winograd's. The network is in double precision afterwards."""
    network = network.double().eval()
    noted = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: noted.append((module, inputs[0], output)))
        for module in network.modules() if isinstance(module, LAYERS)]
    y = network(images.double().requires_grad_())
    for hook in hooks:
        hook.remove()
    values = [z for _, _, z in noted]
    squares = torch.zeros(2, *y.shape, dtype=torch.float64)
    with torch.no_grad():
        weights = [[n * m.square() for m, n in magnitudes(*entry)] for entry in noted]
    for k in range(y.shape[1]):
        gradients = torch.autograd.grad(y[:, k].sum(), values, retain_graph=True)
        for g, ways in zip(gradients, weights):
            direct, fast = ways[0], torch.stack(ways).amax(0)
            squares[0, :, k] += (g.square() * direct).flatten(1).sum(1)
            squares[1, :, k] += (g.square() * fast).flatten(1).sum(1)
    return y.detach(), *(LAMBDA * UNIT * squares.sqrt())
