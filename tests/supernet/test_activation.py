from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinynas.supernet.activation import ReLU6, relu6

EDGES = [-1.0, -0.0, 0.0, 1e-7, 3.0, 6.0 - 1e-6, 6.0, 7.0]


def test_output_and_gradient_are_those_of_torchs_relu6_edges_included() -> None:
    x = torch.tensor(EDGES, requires_grad=True)
    grad = torch.arange(1.0, 1.0 + len(EDGES))
    ours, theirs = relu6(x * 1), F.relu6(x)
    assert torch.equal(ours, theirs)
    for got, wanted in zip(
        torch.autograd.grad(ours, x, grad), torch.autograd.grad(theirs, x, grad), strict=True
    ):
        assert torch.equal(got, wanted)


def test_it_works_in_place_and_keeps_no_copy() -> None:
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    x = torch.tensor(EDGES, requires_grad=True) + 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = relu6(x)
    assert y.data_ptr() == x.data_ptr()
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_is_torchs_in_either_mode(training: bool) -> None:
    layer = ReLU6().train(training)
    assert isinstance(layer, nn.ReLU6)
    x = torch.tensor(EDGES)
    assert torch.equal(layer(x.clone()), F.relu6(x))
