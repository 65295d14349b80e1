from __future__ import annotations

import copy

import pytest
import torch

from tinynas.space.arch import Arch, largest
from tinynas.space.spec import SearchSpace, find_space, shipped_spaces
from tinynas.supernet.network import Supernet
from tinynas.supernet.reorder import importance, sort_channels


def _supernet(space: SearchSpace, width: float = 1.0) -> Supernet:
    net = Supernet(space, width=width, classes=5, channels=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return net


def _x(size: int) -> torch.Tensor:
    return torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(2))


def _with_expansion(space: SearchSpace, width: float, expansion: int) -> Arch:
    top = largest(space, width=width, resolution=12)
    expansions = tuple(
        tuple(expansion if expansion in stage.expansion else stage.expansion[-1] for _ in blocks)
        for stage, blocks in zip(space.stages, top.expansions, strict=True)
    )
    return Arch(
        space=space.name,
        width=width,
        resolution=12,
        kernels=top.kernels,
        expansions=expansions,
    )


@pytest.mark.parametrize(("name", "width"), [("tiny", 1.0), ("mcunet-small", 0.3)])
def test_the_largest_subnet_computes_the_same_and_its_channels_are_sorted(
    tiny: SearchSpace, name: str, width: float
) -> None:
    space = tiny if name == "tiny" else find_space(name)
    _check_sorting(space, width, 1e-5)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_the_largest_subnet_of_a_shipped_space_computes_the_same_after_sorting(
    name: str, width: float
) -> None:
    _check_sorting(find_space(name), width, 1e-9)


def _check_sorting(space: SearchSpace, width: float, tolerance: float) -> None:
    net = _supernet(space, width)
    top = largest(space, width=width, resolution=12)
    second = _with_expansion(space, width, space.stages[-1].expansion[-2])
    with torch.no_grad():
        before = net(_x(12), top)
        smaller = net(_x(12), second)
        sort_channels(net)
        torch.testing.assert_close(net(_x(12), top), before, atol=tolerance, rtol=tolerance)
        changed = net(_x(12), second)
    assert not torch.allclose(smaller, changed, atol=1e-3)
    for number, stage in enumerate(space.stages):
        for position in range(stage.depth[-1]):
            block = net.block(number, position)
            if block.expand is not None:
                values = importance(block)
                assert torch.equal(values, values.sort(descending=True).values)


def test_importance_is_the_sum_of_absolute_weights_by_hand(tiny: SearchSpace) -> None:
    block = _supernet(tiny).block(1, 0)
    with torch.no_grad():
        block.project.weight.zero_()
        block.project.weight[0, 3], block.project.weight[5, 3] = -2.0, 1.5
    assert importance(block)[3] == 3.5 and importance(block).count_nonzero() == 1


@pytest.mark.parametrize("trained", [1, 2])
def test_subnets_of_the_expansions_trained_so_far_compute_the_same(trained: int) -> None:
    space = find_space("mcunet-small")  # expansions 3, 4, 6
    net = _supernet(space, 0.2)
    archs = [_with_expansion(space, 0.2, expansion) for expansion in (6, 4, 3)]
    with torch.no_grad():
        before = [net(_x(12), arch) for arch in archs]
        sort_channels(net, trained=trained)
        after = [net(_x(12), arch) for arch in archs]
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(after, before, strict=True)]
    assert same == [True, trained > 1, False]


def test_an_expansion_of_one_keeps_the_inputs_channels(tiny: SearchSpace) -> None:
    net = _supernet(tiny)  # expansions 1, 2, 3
    archs = [_with_expansion(tiny, 1.0, expansion) for expansion in (3, 2, 1)]
    with torch.no_grad():
        before = [net(_x(8), arch) for arch in archs]
        sort_channels(net, trained=3)
        for arch, value in zip(archs, before, strict=True):
            torch.testing.assert_close(net(_x(8), arch), value, atol=1e-5, rtol=1e-5)


def test_sorting_twice_changes_nothing(tiny: SearchSpace) -> None:
    net = _supernet(tiny)
    sort_channels(net)
    once = copy.deepcopy(net.state_dict())
    sort_channels(net)
    assert all(torch.equal(once[name], value) for name, value in net.state_dict().items())
