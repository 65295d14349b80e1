from __future__ import annotations

import pytest
import torch

from tinynas.graph import output_size
from tinynas.supernet.layers import BATCH_NORM_EPS, BatchNorm, Depthwise, centre, same_conv


def _depthwise() -> Depthwise:
    layer = Depthwise(4, kernels=(3, 5, 7), stride=1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(4 * 49).view(4, 1, 7, 7))
    return layer


def test_identity_matrices_give_the_centre_of_the_largest_kernel() -> None:
    layer = _depthwise()
    assert torch.equal(layer.weight_for(3, 7), layer.weight[:3])
    assert torch.equal(layer.weight_for(3, 5), layer.weight[:3, :, 1:6, 1:6])
    assert layer.weight_for(1, 3).flatten().tolist() == [16, 17, 18, 23, 24, 25, 30, 31, 32]


def test_a_smaller_kernel_passes_through_the_matrices_of_all_larger_ones() -> None:
    layer = _depthwise()
    with torch.no_grad():
        layer.shrink["5"].mul_(2)
        layer.shrink["3"].copy_(torch.eye(9).roll(1, 0))  # swaps taps, so order matters
    weight = 2 * centre(layer.weight, 3).reshape(4, 9) @ torch.eye(9).roll(1, 0)
    assert torch.equal(layer.weight_for(4, 3), weight.view(4, 1, 3, 3))


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [5, 8])
def test_same_conv_gives_tensorflows_output_size(kernel: int, stride: int, height: int) -> None:
    y = same_conv(torch.zeros(1, 2, height, 9), torch.zeros(3, 2, kernel, kernel), stride=stride)
    sizes = [output_size(size, kernel, stride, "SAME") for size in (height, 9)]
    assert list(y.shape) == [1, 3, *sizes]


def test_same_conv_pads_the_smaller_half_before() -> None:
    # Size 4, kernel 3, stride 2: one zero, after. Outputs 1 + 2 + 3 and 3 + 4 + 0, by hand.
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(4, 4).view(1, 1, 4, 4)
    weight = torch.tensor([1.0, 1.0, 1.0]).expand(3, 3).view(1, 1, 3, 3)
    y = same_conv(x, weight, stride=2)
    assert y.flatten().tolist() == [18, 21, 12, 14]


def test_batch_norm_uses_the_first_channels_and_the_batch_itself() -> None:
    norm = BatchNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        norm.bias.copy_(torch.tensor([0.5, 1.0, 1.5, 2.0]))
    x = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    scale, shift = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0])
    wanted = (x - mean) / (var + BATCH_NORM_EPS).sqrt() * scale.view(2, 1, 1)
    torch.testing.assert_close(norm(x), wanted + shift.view(2, 1, 1))
