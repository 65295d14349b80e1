"""Depthwise convolution whose weight gradient is quick on CPUs.

oneDNN 3.13 has fast code for the weight gradient of a depthwise convolution only where the kernel
is at most 3 wide: for 7x7 on 16x16 maps it takes ten times as long as the forward pass. But the
columns of that gradient are independent, so a wide kernel's gradient is put together from pieces
three columns wide, each of the same input seen from a later column.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 3  # columns for which the fast code exists
Pair = tuple[int, int]


def depthwise_conv2d(x: Tensor, weight: Tensor, *, stride: int, padding: Pair) -> Tensor:
    """As F.conv2d with groups = C: x (N, C, H, W), weight (C, 1, k, k), zero padding (rows, cols).

    Only the route of the gradient differs, and it only for kernels wider than 3 on a CPU.
    """
    weight = weight.to(x.dtype)  # autocast does not look into the function below
    if x.device.type == "cpu" and weight.shape[-1] > PIECE and weight.requires_grad:
        y: Tensor = _Depthwise.apply(x, weight, stride, padding)
        return y
    return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _backward(grad, x, weight, ctx.stride, ctx.padding, wants_weight=False)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(
                x, grad, kernel=weight.shape[-1], stride=ctx.stride, padding=ctx.padding
            )
        return grad_x, grad_weight, None, None


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: Pair, *, wants_weight: bool
) -> Tensor:
    wanted = (not wants_weight, wants_weight, False)
    geometry = ([stride, stride], list(padding), [1, 1], False, [0, 0], weight.shape[0])
    both = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, wanted)
    result: Tensor = both[1] if wants_weight else both[0]
    return result


def weight_gradient(x: Tensor, grad: Tensor, *, kernel: int, stride: int, padding: Pair) -> Tensor:
    """Gradient of the weight (C, 1, k, k), k > 3, from x (N, C, H, W) and grad (N, C, h, w)."""
    channels, (rows, cols) = x.shape[1], padding
    padded = _framed(x, rows=(rows, rows), cols=(cols, cols), slack=kernel)
    # All pieces read an input of one width, so they yield more columns than grad has: zeros there
    # cancel what the shifted views read beyond a row's end.
    columns = (padded.shape[-1] - PIECE) // stride + 1
    grad = _framed(grad, rows=(0, 0), cols=(0, columns - grad.shape[-1]), slack=0)
    empty = padded.new_empty(channels, 1, kernel, PIECE)
    starts = [*range(0, kernel - PIECE, PIECE), kernel - PIECE]
    pieces = []
    for start, following in pairwise([*starts, kernel]):
        shifted = padded.as_strided(padded.shape, padded.stride(), start * channels)
        piece = _backward(grad, shifted, empty, stride, (0, 0), wants_weight=True)
        pieces.append(piece[..., : following - start])
    return torch.cat(pieces, dim=3)


def _framed(x: Tensor, *, rows: Pair, cols: Pair, slack: int) -> Tensor:
    """x in channels_last with zeros (before, after) it, and `slack` pixels of zeros at the end."""
    (batch, channels, height, width), (top, left) = x.shape, (rows[0], cols[0])
    shape = (batch, sum(rows) + height, sum(cols) + width, channels)
    count = torch.Size(shape).numel()
    flat = x.new_empty(count + slack * channels)
    flat[count:] = 0
    framed = flat[:count].view(shape)
    # Zeros only where x does not go: memory traffic is what this costs.
    framed[:, :top] = framed[:, top + height :] = 0
    framed[:, :, :left] = framed[:, :, left + width :] = 0
    framed[:, top : top + height, left : left + width] = x.permute(0, 2, 3, 1)
    return framed.permute(0, 3, 1, 2)
