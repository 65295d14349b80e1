"""Hidden channels in the order of their importance, so that smaller blocks keep the best ones.

Once-for-all (Cai et al., arXiv 1908.09791, section 3.2): before its expansion is shrunk, a block's
channels are sorted by the L1 norm of the weights that read them. The largest subnet computes the
same as before, and a smaller one starts from the channels that matter most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinynas.supernet.network import Block, Supernet


@torch.no_grad()
def sort_channels(supernet: Supernet, *, trained: int = 1) -> None:
    """Sort the hidden channels of every block, the most important first.

    The subnets of the `trained` largest expansions compute the same as before, but for rounding:
    channels stay inside the smallest of those that they belong to.
    """
    for number, stage in enumerate(supernet.space.stages):
        for position in range(stage.depth[-1]):
            _sort(supernet.block(number, position), stage.expansion[-trained:])


def importance(block: Block) -> Tensor:
    """L1 norm of the weights by which `project` reads each hidden channel, shape (hidden,)."""
    return block.project.weight.abs().sum((0, 2, 3))


def _sort(block: Block, kept: tuple[int, ...]) -> None:
    if block.expand is None:
        return  # its hidden channels are its input's
    order = _order(importance(block), [block.cin * expansion for expansion in kept])
    if kept[0] == 1:  # without `expand` the first channels are the input's
        order[: block.cin] = torch.arange(block.cin)
    for layer in (block.expand, block.depthwise):
        layer.weight.copy_(layer.weight[order])
        layer.norm.weight.copy_(layer.norm.weight[order])
        layer.norm.bias.copy_(layer.norm.bias[order])
    block.project.weight.copy_(block.project.weight[:, order])


def _order(values: Tensor, ends: list[int]) -> Tensor:
    """Positions by falling value within each of the stretches that end at `ends`."""
    starts = [0, *ends[:-1]]
    stretches = [
        start + values[start:end].argsort(descending=True, stable=True)
        for start, end in zip(starts, ends, strict=True)
    ]
    return torch.cat(stretches)
