from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinynas.errors import UsageError
from tinynas.graph import same_padding
from tinynas.space.arch import Arch, decode, largest, random_genes, smallest
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, find_space, shipped_spaces
from tinynas.supernet.evaluate import recalibrate
from tinynas.supernet.network import ConvNorm, Supernet, extract, fold, fuse

PARTS = ("weight", "norm.weight", "norm.bias")
PLAIN = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU6,
    nn.ZeroPad2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Linear,
)


def _supernet(space: SearchSpace, width: float, channels: int) -> Supernet:
    """With every parameter away from its initial value, so that none can be forgotten."""
    net = Supernet(space, width=width, classes=4, channels=channels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return net


def _x(count: int, channels: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, channels, size, size, generator=generator)


def _archs(space: SearchSpace, width: float, resolution: int, count: int) -> list[Arch]:
    genes = random_genes(space, count, np.random.default_rng(3))
    extremes = [f(space, width=width, resolution=resolution) for f in (largest, smallest)]
    return extremes + [decode(space, row, width=width, resolution=resolution) for row in genes]


SHIPPED = [("mcunet-small", 12, 1), ("mcunet-small", 13, 3), ("mcunet", 48, 3), ("mcunet", 45, 1)]
WIDTHS = (0.2, 0.5, 1.0)


def test_every_shipped_space_is_among_those_tested() -> None:
    assert {name for name, _, _ in SHIPPED} == shipped_spaces().keys()
    for space in shipped_spaces().values():
        assert set(WIDTHS) <= set(space.width_multipliers)


@pytest.mark.parametrize(("name", "resolution", "channels"), SHIPPED)
def test_an_extracted_subnet_computes_what_the_supernet_does(
    name: str, resolution: int, channels: int
) -> None:
    space = find_space(name)
    net = _supernet(space, 0.2, channels)
    x = _x(4, channels, resolution)
    with torch.no_grad():
        for arch in _archs(space, 0.2, resolution, 8):
            torch.testing.assert_close(extract(net, arch)(x), net(x, arch), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("width", WIDTHS[1:])
@pytest.mark.parametrize(("name", "resolution", "channels"), SHIPPED)
def test_an_extracted_subnet_of_any_width_computes_what_the_supernet_does(
    name: str, resolution: int, channels: int, width: float
) -> None:
    space = find_space(name)
    net = _supernet(space, width, channels)
    x = _x(4, channels, resolution)
    with torch.no_grad():
        for arch in _archs(space, width, resolution, 1):
            torch.testing.assert_close(extract(net, arch)(x), net(x, arch), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("resolution", [8, 9])
def test_an_extracted_subnet_agrees_in_evaluation_mode_too(
    tiny: SearchSpace, resolution: int
) -> None:
    net = _supernet(tiny, 1.0, 2)
    x = _x(6, 2, resolution)
    with torch.no_grad():
        for arch in _archs(tiny, 1.0, resolution, 5):
            plain = extract(net, arch)
            _use_statistics_of(plain, x)
            torch.testing.assert_close(plain.eval()(x), net(x, arch), atol=1e-5, rtol=1e-5)


def _use_statistics_of(net: nn.Sequential, x: torch.Tensor) -> None:
    """Store the biased variance that a batch is normalised by (torch stores the unbiased one)."""

    def store(norm: nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        norm.running_mean = inputs[0].mean((0, 2, 3))
        norm.running_var = inputs[0].var((0, 2, 3), correction=0)

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_hook(store) for norm in norms]
    net.train()(x)
    for handle in handles:
        handle.remove()


def test_changing_the_extracted_subnet_leaves_the_supernet_alone(tiny: SearchSpace) -> None:
    net = _supernet(tiny, 1.0, 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    plain = extract(net, largest(tiny, width=1.0, resolution=8))
    for parameter in plain.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_subnet_of_another_space_or_width_is_refused(tiny: SearchSpace) -> None:
    net = _supernet(tiny, 1.0, 1)
    other = find_space("mcunet-small")
    with pytest.raises(UsageError, match="of space 'mcunet-small', not of 'tiny'"):
        extract(net, largest(other, width=1.0, resolution=8))
    with pytest.raises(UsageError, match=r"width 0.5, the supernet 1.0"):
        extract(net, largest(tiny, width=0.5, resolution=8))


def test_gradients_reach_exactly_what_the_subnet_uses(tiny: SearchSpace) -> None:
    net = _supernet(tiny, 1.0, 1)
    arch = Arch(
        space="tiny", width=1.0, resolution=8, kernels=((3,), (5, 7)), expansions=((1,), (2, 1))
    )
    net(_x(4, 1, 8), arch)[:, 0].square().sum().backward()
    first, second, third = (net.block(1, position) for position in range(3))
    used = first.depthwise.weight.grad
    assert used is not None
    assert first.expand is not None
    assert first.expand.weight.grad is not None
    assert used[:16, :, 1:6, 1:6].abs().min() > 0
    assert used[16:].abs().max() == 0  # expansion 2 of 3: 16 of 24 hidden channels
    assert used[:, :, 0].abs().max() == 0  # kernel 5 of 7: the outer ring
    assert first.expand.weight.grad[16:].abs().max() == 0
    assert first.depthwise.shrink["5"].grad is not None
    assert first.depthwise.shrink["3"].grad is None
    assert second.expand is not None
    assert second.expand.weight.grad is None  # expansion 1 has no such layer
    assert all(parameter.grad is None for parameter in third.parameters())  # depth 2 of 3


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "resolution", "channels"), SHIPPED[1:3])
def test_gradients_reach_nothing_but_what_a_subnet_of_a_shipped_space_uses(
    name: str, resolution: int, channels: int, width: float
) -> None:
    space = find_space(name)
    for arch in _archs(space, width, resolution, 2):
        net = _supernet(space, width, channels)
        net(_x(3, channels, resolution), arch)[:, 0].square().sum().backward()
        used = _used(net, arch)
        for parameter_name, parameter in net.named_parameters():
            grad = parameter.grad
            if parameter_name not in used:
                assert grad is None or grad.count_nonzero() == 0, parameter_name
            else:
                assert grad is not None, parameter_name
                assert grad[used[parameter_name]].abs().max() > 0, parameter_name
                grad[used[parameter_name]] = 0
                assert grad.count_nonzero() == 0, parameter_name


def _used(net: Supernet, arch: Arch) -> dict[str, tuple[slice, ...]]:
    """Where in each parameter a subnet's weights are, by the rules that papers and space state."""
    used: dict[str, tuple[slice, ...]] = {
        name: (slice(None),)
        for name, _ in net.named_parameters()
        if name.startswith(("stem.", "logits."))
    }
    for stage, choices in enumerate(zip(arch.kernels, arch.expansions, strict=True)):
        for position, (kernel, expansion) in enumerate(zip(*choices, strict=True)):
            name, block = f"blocks.s{stage}_b{position}", net.block(stage, position)
            hidden = slice(block.cin * expansion)
            if expansion > 1:
                used |= {f"{name}.expand.{part}": (hidden,) for part in PARTS}
            largest_kernel = max(net.space.stages[stage].kernel)
            smaller = [k for k in net.space.stages[stage].kernel if kernel <= k < largest_kernel]
            ring = (largest_kernel - max(smaller, default=largest_kernel)) // 2
            taps = slice(ring, largest_kernel - ring)
            used |= {f"{name}.depthwise.{part}": (hidden,) for part in PARTS}
            used[f"{name}.depthwise.weight"] = (hidden, slice(None), taps, taps)
            used |= {f"{name}.depthwise.shrink.{k}": (slice(None),) for k in smaller}
            used |= {f"{name}.project.{part}": (slice(None),) for part in PARTS}
            used[f"{name}.project.weight"] = (slice(None), hidden)
    return used


def test_blocks_with_a_skip_start_as_the_identity(tiny: SearchSpace) -> None:
    net = Supernet(tiny, width=1.0, classes=3, channels=1)
    y = _x(2, 16, 4)
    assert torch.equal(net.block(1, 1)(y, 5, 3), y)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_smaller_kernels_start_as_the_centre_of_the_largest(name: str, width: float) -> None:
    space = find_space(name)
    net = Supernet(space, width=width, classes=3, channels=1)
    for number, stage in enumerate(space.stages):
        for position in range(stage.depth[-1]):
            deep = net.block(number, position).depthwise
            size = deep.weight.shape[-1]
            assert size == max(stage.kernel)
            for kernel in stage.kernel:
                taps = slice((size - kernel) // 2, (size + kernel) // 2)
                assert torch.equal(
                    deep.weight_for(len(deep.weight), kernel), deep.weight[..., taps, taps]
                )


def test_the_seed_decides_the_initial_weights(tiny: SearchSpace) -> None:
    def weights(seed: int) -> torch.Tensor:
        net = Supernet(tiny, width=1.0, classes=3, channels=1, seed=seed)
        return nn.utils.parameters_to_vector(net.parameters())

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is not drawn from


@pytest.mark.parametrize(("name", "resolution", "channels"), [("tiny", 9, 2), *SHIPPED[1:3]])
def test_folded_weights_have_names_and_shapes_of_the_lowered_graph(
    tiny: SearchSpace, name: str, resolution: int, channels: int
) -> None:
    space = tiny if name == "tiny" else find_space(name)
    width = space.width_multipliers[0]
    net = _supernet(space, width, channels)
    for arch in _archs(space, width, resolution, 3):
        graph = lower(space, arch, classes=4, channels=channels)
        wanted = {
            op.name: graph.tensors[op.inputs[1]].shape for op in graph.ops if len(op.inputs) == 3
        }
        folded = fold(extract(net, arch))
        assert list(folded) == list(wanted)
        for op in graph.ops:
            if op.name in folded:
                weight, bias = folded[op.name]
                assert weight.dtype == bias.dtype == np.float64
                assert _tflite_shape(op.kind, weight.shape) == wanted[op.name]
                assert bias.shape == graph.tensors[op.inputs[2]].shape


def _tflite_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if kind == "FULLY_CONNECTED":
        return shape
    cout, cin, height, width = shape
    return (1, height, width, cout) if kind.startswith("DEPTH") else (cout, height, width, cin)


def test_folded_weights_run_along_the_graph_give_the_networks_logits(tiny: SearchSpace) -> None:
    net = _supernet(tiny, 1.0, 1)
    images = np.random.default_rng(0).integers(0, 256, (32, 9, 9, 1), np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double().sub(128).div(128)
    for arch in _archs(tiny, 1.0, 9, 3):
        plain = recalibrate(extract(net, arch), images)
        values = {0: x}
        graph = lower(tiny, arch, classes=4, channels=1)
        folded = {name: tuple(map(torch.from_numpy, pair)) for name, pair in fold(plain).items()}
        for op in graph.ops:
            source = values[op.inputs[0]]
            if op.kind == "ADD":
                y = source + values[op.inputs[1]]
            elif op.kind == "AVERAGE_POOL_2D":
                y = source.mean((2, 3))
            elif op.kind == "FULLY_CONNECTED":
                y = F.linear(source, *folded[op.name])
            else:
                weight, bias = folded[op.name]
                pad = same_padding(source.shape[-1], op.kernel[0], op.stride[0])
                groups = weight.shape[0] if op.kind == "DEPTHWISE_CONV_2D" else 1
                y = F.conv2d(F.pad(source, pad * 2), weight, bias, op.stride, groups=groups)
                y = y.clamp(0, 6) if op.activation == "RELU6" else y
            values[op.outputs[0]] = y
        wanted = values[graph.outputs[0]]
        with torch.no_grad():
            for got in (plain(x.float()), fuse(plain)(x.float())):
                torch.testing.assert_close(got.double(), wanted, atol=1e-4, rtol=1e-4)


def test_an_extracted_subnet_is_made_of_plain_layers(tiny: SearchSpace) -> None:
    plain = extract(_supernet(tiny, 1.0, 1), largest(tiny, width=1.0, resolution=8))
    leaves = [module for module in plain.modules() if not list(module.children())]
    assert all(isinstance(leaf, PLAIN) for leaf in leaves)
    assert isinstance(plain.get_submodule("s1.b0.depthwise"), ConvNorm)
