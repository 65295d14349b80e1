"""Layers whose kernel size and channels are chosen at the call, never stored.

A smaller layer is the first channels of the largest one and, for the kernel, its centre passed
through a learned matrix (once-for-all, Cai et al., arXiv 1908.09791, section 3.2 and figure 4).
Batch norm takes the statistics of the batch it sees: statistics kept over a training would
mix subnets, so there are none, and `evaluate.recalibrate` makes them for one subnet at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.graph import same_padding
from tinynas.supernet.depthwise import depthwise_conv2d

BATCH_NORM_EPS = 1e-3  # TensorFlow's default, as in MobileNetV2's reference implementation


def centre(weight: Tensor, kernel: int) -> Tensor:
    """The middle `kernel` x `kernel` taps of a weight of shape (..., k, k), both sizes odd."""
    start = (weight.shape[-1] - kernel) // 2
    return weight[..., start : start + kernel, start : start + kernel]


def same_conv(x: Tensor, weight: Tensor, *, stride: int, groups: int = 1) -> Tensor:
    """Convolution of x (N, C, H, W) with TensorFlow's SAME padding for the size x has."""
    kernel = weight.shape[-1]
    top, bottom = same_padding(x.shape[-2], kernel, stride)
    left, right = same_padding(x.shape[-1], kernel, stride)
    if (top, left) == (bottom, right):
        padding = (top, left)
    else:
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    if groups > 1:
        return depthwise_conv2d(x, weight, stride=stride, padding=padding)
    return F.conv2d(x, weight, None, stride, padding)


class BatchNorm(nn.Module):
    """Batch norm with the batch's own statistics over the first channels of its parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, c, H, W) normalised by its own mean and variance; c up to all channels."""
        channels = x.shape[1]
        return F.batch_norm(
            x,
            None,
            None,
            self.weight[:channels],
            self.bias[:channels],
            training=True,
            eps=BATCH_NORM_EPS,
        )


class Pointwise(nn.Module):
    """1x1 convolution and batch norm; uses as many input channels as x has."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cout, cin, 1, 1))
        self.norm = BatchNorm(cout)

    def weight_for(self, cin: int, cout: int) -> Tensor:
        """The weight of the first channels, shape (cout, cin, 1, 1)."""
        return self.weight[:cout, :cin]

    def forward(self, x: Tensor, cout: int | None = None) -> Tensor:
        """The first `cout` channels, by default all, normalised, without activation."""
        weight = self.weight_for(x.shape[1], cout or self.weight.shape[0])
        y: Tensor = self.norm(F.conv2d(x, weight))
        return y


class Conv(nn.Module):
    """Convolution of one kernel size with SAME padding, and batch norm: the stem."""

    def __init__(self, cin: int, cout: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(cout, cin, kernel, kernel))
        self.norm = BatchNorm(cout)

    def forward(self, x: Tensor) -> Tensor:
        """All channels, normalised, without activation."""
        y: Tensor = self.norm(same_conv(x, self.weight, stride=self.stride))
        return y


class Depthwise(nn.Module):
    """Depthwise convolution with SAME padding and batch norm; the kernel size is elastic.

    `shrink.5` is the matrix (25, 25) that turns the centre of the next larger kernel into the
    5x5 one. It is shared by all channels and starts as the identity, i.e. as the plain centre.
    """

    def __init__(self, channels: int, *, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.kernels = tuple(sorted(kernels, reverse=True))
        self.weight = nn.Parameter(torch.empty(channels, 1, self.kernels[0], self.kernels[0]))
        self.shrink = nn.ParameterDict(
            {str(kernel): nn.Parameter(torch.eye(kernel * kernel)) for kernel in self.kernels[1:]}
        )
        self.norm = BatchNorm(channels)

    def weight_for(self, channels: int, kernel: int) -> Tensor:
        """The weight of the first channels, shape (channels, 1, kernel, kernel)."""
        weight = self.weight[:channels]
        for smaller in self.kernels[1 : self.kernels.index(kernel) + 1]:
            taps = centre(weight, smaller).reshape(channels, smaller * smaller)
            weight = (taps @ self.shrink[str(smaller)]).view(channels, 1, smaller, smaller)
        return weight

    def forward(self, x: Tensor, kernel: int) -> Tensor:
        """As many channels as x has, normalised, without activation."""
        channels = x.shape[1]
        weight = self.weight_for(channels, kernel)
        y: Tensor = self.norm(same_conv(x, weight, stride=self.stride, groups=channels))
        return y
