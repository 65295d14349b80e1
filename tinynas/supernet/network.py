"""The once-for-all supernet, and the ordinary network that one of its subnets is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinynas.errors import UsageError
from tinynas.graph import output_size, same_padding
from tinynas.space.arch import Arch, check_arch
from tinynas.space.lower import CLASSIFIER, POOL, block_prefix, has_skip
from tinynas.space.spec import SearchSpace
from tinynas.supernet.activation import ReLU6, relu6
from tinynas.supernet.depthwise import depthwise_conv2d
from tinynas.supernet.layers import BATCH_NORM_EPS, BatchNorm, Conv, Depthwise, Pointwise

Folded = dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


class Block(nn.Module):
    """An inverted residual block of elastic kernel size and expansion ratio."""

    def __init__(
        self,
        cin: int,
        cout: int,
        *,
        stride: int,
        kernels: Sequence[int],
        expansions: Sequence[int],
    ) -> None:
        super().__init__()
        self.cin, self.skip = cin, has_skip(cin, cout, stride)
        hidden = cin * max(expansions)
        self.expand = Pointwise(cin, hidden) if max(expansions) > 1 else None
        self.depthwise = Depthwise(hidden, kernels=kernels, stride=stride)
        self.project = Pointwise(hidden, cout)

    def forward(self, x: Tensor, kernel: int, expansion: int) -> Tensor:
        """x (N, cin, H, W) through the block's first `expansion` x cin hidden channels."""
        y = x
        if self.expand is not None and expansion > 1:
            y = relu6(self.expand(y, self.cin * expansion))
        y = relu6(self.depthwise(y, kernel))
        out: Tensor = self.project(y)
        return x + out if self.skip else out


class Supernet(nn.Module):
    """Shared weights of all subnets of a space at one width multiplier.

    `classes` outputs for images of `channels` channels; `seed` decides the initial weights.
    """

    def __init__(
        self, space: SearchSpace, *, width: float, classes: int, channels: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.space, self.width = space, width
        stem, *outs = space.channels(width)
        self.stem = Conv(channels, stem, kernel=space.stem.kernel, stride=space.stem.stride)
        self.blocks = nn.ModuleDict()
        cin = stem
        for number, (stage, cout) in enumerate(zip(space.stages, outs, strict=True)):
            for position in range(stage.depth[-1]):
                self.blocks[_key(number, position)] = Block(
                    cin,
                    cout,
                    stride=stage.stride if position == 0 else 1,
                    kernels=stage.kernel,
                    expansions=stage.expansion,
                )
                cin = cout
        self.logits = nn.Linear(cin, classes, device="meta").to_empty(device="cpu")
        _initialise(self, torch.Generator().manual_seed(seed))

    def block(self, stage: int, position: int) -> Block:
        """The block at a position of a stage."""
        return cast(Block, self.blocks[_key(stage, position)])

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Logits (N, classes) of the subnet for x (N, C, H, W), with x's batch statistics."""
        y = relu6(self.stem(x))
        for stage, choices in enumerate(zip(arch.kernels, arch.expansions, strict=True)):
            for position, (kernel, expansion) in enumerate(zip(*choices, strict=True)):
                y = self.block(stage, position)(y, kernel, expansion)
        logits: Tensor = self.logits(y.mean((2, 3)))
        return logits


def _key(stage: int, position: int) -> str:
    return block_prefix(stage, position).replace(".", "_")  # torch allows no dot in a name


def _initialise(supernet: Supernet, generator: torch.Generator) -> None:
    """He's normal initialisation; blocks with a skip start as the identity.

    Their last batch norm starts at zero, which eases deep subnets (BigNAS, section 3.2).
    """
    for name, parameter in supernet.named_parameters():
        if parameter.ndim == 4:
            fan_out = parameter.shape[0] * parameter[0, 0].numel()
            fan = parameter[0, 0].numel() if ".depthwise." in name else fan_out
            nn.init.normal_(parameter, std=(2 / fan) ** 0.5, generator=generator)
    for block in supernet.blocks.values():
        if cast(Block, block).skip:
            nn.init.zeros_(cast(Block, block).project.norm.weight)
    nn.init.normal_(supernet.logits.weight, std=0.01, generator=generator)
    nn.init.zeros_(supernet.logits.bias)


class Residual(nn.Sequential):
    """A block whose layers' output is added to its input."""

    def forward(self, x: Tensor) -> Tensor:
        """x plus what the layers make of it, same shape."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution whose weight gradient is quick on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Conv2d."""
        if not self.training or self.bias is not None:
            return super().forward(x)
        rows, cols = cast("tuple[int, int]", self.padding)
        return depthwise_conv2d(x, self.weight, stride=self.stride[0], padding=(rows, cols))


class ConvNorm(nn.Sequential):
    """Padding where it is lopsided, convolution, batch norm, ReLU6 where there is one."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d

    def __init__(
        self, weight: Tensor, norm: BatchNorm, *, size: int, stride: int, groups: int, relu6: bool
    ) -> None:
        super().__init__()
        cout, cin, kernel, _ = weight.shape
        before, after = same_padding(size, kernel, stride)
        if before != after:
            self.add_module("pad", nn.ZeroPad2d((before, after, before, after)))
        kind = DepthwiseConv2d if groups > 1 else nn.Conv2d
        empty = kind(  # on "meta", for initial values would be drawn from the global generator
            cin * groups,
            cout,
            kernel,
            stride,
            padding=before if before == after else 0,
            groups=groups,
            bias=False,
            device="meta",
        )
        self.conv = empty.to_empty(device="cpu")
        self.norm = nn.BatchNorm2d(cout, eps=BATCH_NORM_EPS)
        with torch.no_grad():
            self.conv.weight.copy_(weight)
            self.norm.weight.copy_(norm.weight[:cout])
            self.norm.bias.copy_(norm.bias[:cout])
        if relu6:
            self.add_module("relu6", ReLU6())


@torch.no_grad()
def extract(supernet: Supernet, arch: Arch) -> nn.Sequential:
    """The subnet as plain layers with weights of their own, in training mode.

    Its ConvNorm and Linear modules are called as the operators of `lower`: `stem`,
    `s1.b0.expand`, ..., `logits`. Batch-norm statistics are still those of a new layer: see
    `evaluate.recalibrate`. Padding is made for square images of `arch.resolution` pixels.
    Raises UsageError when `arch` is not of the supernet's space and width.
    """
    check_arch(supernet.space, arch)
    if arch.width != supernet.width:
        raise UsageError(f"the subnet has width {arch.width}, the supernet {supernet.width}")
    net = nn.Sequential()
    stem, size = supernet.stem, arch.resolution
    layer = partial(ConvNorm, stem.weight, stem.norm, stride=stem.stride, groups=1, relu6=True)
    net.add_module("stem", layer(size=size))
    size = output_size(size, stem.weight.shape[-1], stem.stride, "SAME")
    for number, choices in enumerate(zip(arch.kernels, arch.expansions, strict=True)):
        for position, (kernel, expansion) in enumerate(zip(*choices, strict=True)):
            block = supernet.block(number, position)
            stage, name = block_prefix(number, position).split(".")
            if position == 0:
                net.add_module(stage, nn.Sequential())
            net.get_submodule(stage).add_module(name, _plain(block, kernel, expansion, size))
            size = output_size(size, kernel, block.depthwise.stride, "SAME")
    net.add_module(POOL, nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module(CLASSIFIER, copy.deepcopy(supernet.logits))
    return net.to(supernet.logits.weight.device).to(memory_format=torch.channels_last)


def _plain(block: Block, kernel: int, expansion: int, size: int) -> nn.Sequential:
    """The block's layers for maps of `size` pixels, named expand, depthwise and project."""
    layers = Residual() if block.skip else nn.Sequential()
    hidden = block.cin * expansion
    one = partial(ConvNorm, size=size, stride=1, groups=1)
    if block.expand is not None and expansion > 1:
        weight = block.expand.weight_for(block.cin, hidden)
        layers.add_module("expand", one(weight, block.expand.norm, relu6=True))
    deep = block.depthwise
    weight = deep.weight_for(hidden, kernel)
    layers.add_module(
        "depthwise",
        ConvNorm(weight, deep.norm, size=size, stride=deep.stride, groups=hidden, relu6=True),
    )
    weight = block.project.weight_for(hidden, block.project.weight.shape[0])
    layers.add_module("project", one(weight, block.project.norm, relu6=False))
    return layers


def fold(net: nn.Module) -> Folded:
    """Weights and biases, float64, by name of the operator, batch norm folded into them.

    Weights are (Cout, Cin / groups, kh, kw), the classifier's (classes, Cin).
    """
    folded: Folded = {}
    for name, module in net.named_modules():
        if isinstance(module, ConvNorm):
            norm = module.norm
            scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
            bias = _float64(norm.bias) - _float64(norm.running_mean) * scale
            folded[name] = _float64(module.conv.weight) * scale[:, None, None, None], bias
        elif isinstance(module, nn.Linear):
            folded[name] = _float64(module.weight), _float64(module.bias)
    return folded


def _float64(tensor: Tensor | None) -> npt.NDArray[np.float64]:
    assert tensor is not None
    return tensor.detach().cpu().double().numpy()


def fuse(net: nn.Sequential) -> nn.Sequential:
    """A copy in evaluation mode with every batch norm folded into its convolution's bias."""
    fused = copy.deepcopy(net).eval()
    for module in fused.modules():
        if isinstance(module, ConvNorm):
            conv = nn.utils.fuse_conv_bn_eval(module.conv, module.norm)
            module.conv = conv.to(memory_format=torch.channels_last)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return fused
