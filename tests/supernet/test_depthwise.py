from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.supernet.depthwise import depthwise_conv2d


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11]),
    stride=st.sampled_from([1, 2]),
    pad=st.booleans(),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    channels_last=st.booleans(),
)
def test_output_and_gradients_are_those_of_the_plain_convolution(
    kernel: int, stride: int, pad: bool, height: int, width: int, channels_last: bool
) -> None:
    padding = (kernel // 2, kernel // 2) if pad else (0, 0)
    if not pad:
        height, width = height + kernel, width + kernel
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 5, height, width, dtype=torch.float64, generator=generator)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(5, 1, kernel, kernel, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    weight.requires_grad_()
    ours = depthwise_conv2d(x, weight, stride=stride, padding=padding)
    plain = F.conv2d(x, weight, None, stride, padding, 1, 5)
    grad = torch.randn(plain.shape, dtype=torch.float64, generator=generator)
    assert torch.equal(ours, plain)
    for got, wanted in zip(
        torch.autograd.grad(ours, (x, weight), grad),
        torch.autograd.grad(plain, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_the_weight_alone_can_be_differentiated() -> None:
    x, weight = torch.ones(1, 2, 6, 6), torch.zeros(2, 1, 5, 5, requires_grad=True)
    depthwise_conv2d(x, weight, stride=1, padding=(2, 2)).sum().backward()
    # A tap at distance (i, j) from the centre meets (6 - i) x (6 - j) pixels of ones.
    assert weight.grad is not None
    assert weight.grad[0, 0, 0].tolist() == [16, 20, 24, 20, 16]
    assert weight.grad[1, 0, 2].tolist() == [24, 30, 36, 30, 24]
