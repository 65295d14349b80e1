"""One subnet as plain data, its JSON form and its integer vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tinynas.errors import UsageError
from tinynas.space.spec import SearchSpace
from tinynas.validation import validated

Genes = npt.NDArray[np.int64]


class _ArchJson(BaseModel):
    """What `Arch.from_json` reads; other keys may stand beside these."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, title="subnet")

    space: str
    width: float = Field(gt=0)
    resolution: int = Field(gt=0)
    depth: list[int]
    kernel: list[list[int]]
    expansion: list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch:
    """A subnet: kernel size and expansion ratio of every block that exists, stage by stage."""

    space: str
    width: float
    resolution: int
    kernels: tuple[tuple[int, ...], ...]
    expansions: tuple[tuple[int, ...], ...]

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks in each stage."""
        return tuple(len(stage) for stage in self.kernels)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain lists and numbers, readable by `from_json`."""
        return {
            "space": self.space,
            "width": self.width,
            "resolution": self.resolution,
            "depth": list(self.depths),
            "kernel": [list(stage) for stage in self.kernels],
            "expansion": [list(stage) for stage in self.expansions],
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Arch:
        """The subnet of a mapping that `to_json` wrote; raises UsageError for any other."""
        if not isinstance(content, Mapping):
            raise UsageError(f"a subnet's JSON must be a mapping, got {content!r}")
        read = validated(_ArchJson, dict(content), "not a subnet's JSON")
        arch = Arch(
            space=read.space,
            width=read.width,
            resolution=read.resolution,
            kernels=tuple(map(tuple, read.kernel)),
            expansions=tuple(map(tuple, read.expansion)),
        )
        counts = [len(stage) for stage in read.kernel], [len(stage) for stage in read.expansion]
        if not read.depth == counts[0] == counts[1]:
            raise UsageError(
                "a subnet's JSON must have one kernel and one expansion per block: depth "
                f"{read.depth} came with {counts[0]} kernels and {counts[1]} expansions"
            )
        return arch


def check_arch(space: SearchSpace, arch: Arch) -> None:
    """Raise UsageError unless `arch` is a subnet of `space`."""
    if arch.space != space.name or len(arch.kernels) != len(space.stages):
        raise UsageError(f"the subnet is of space {arch.space!r}, not of {space.name!r}")
    for number, (stage, kernels, expansions) in enumerate(
        zip(space.stages, arch.kernels, arch.expansions, strict=True)
    ):
        for what, values, allowed in (
            ("depth", (len(kernels),), stage.depth),
            ("kernel", kernels, stage.kernel),
            ("expansion", expansions, stage.expansion),
        ):
            if not set(values) <= set(allowed):
                raise UsageError(
                    f"stage {number}: {what} must be among {list(allowed)}, got {list(values)}"
                )


def gene_sizes(space: SearchSpace) -> tuple[int, ...]:
    """Number of values of each gene.

    Per stage: one gene for the depth, then kernel and expansion for each block of the deepest
    stage. A gene's value is the index into the stage's ascending choices.
    """
    sizes: list[int] = []
    for stage in space.stages:
        sizes.append(len(stage.depth))
        sizes.extend([len(stage.kernel), len(stage.expansion)] * stage.depth[-1])
    return tuple(sizes)


def encode(space: SearchSpace, arch: Arch) -> Genes:
    """The subnet as integers, shape (genes,); genes of blocks that do not exist are 0."""
    check_arch(space, arch)
    genes: list[int] = []
    for stage, kernels, expansions in zip(
        space.stages, arch.kernels, arch.expansions, strict=True
    ):
        genes.append(stage.depth.index(len(kernels)))
        for kernel, expansion in zip(kernels, expansions, strict=True):
            genes += [stage.kernel.index(kernel), stage.expansion.index(expansion)]
        genes += [0, 0] * (stage.depth[-1] - len(kernels))
    return np.array(genes, np.int64)


def decode(space: SearchSpace, genes: Genes, *, width: float, resolution: int) -> Arch:
    """The subnet of an integer vector of shape (genes,); genes of absent blocks are ignored."""
    kernels: list[tuple[int, ...]] = []
    expansions: list[tuple[int, ...]] = []
    values = [int(gene) for gene in genes]
    start = 0
    for stage in space.stages:
        depth = stage.depth[values[start]]
        blocks = values[start + 1 : start + 1 + 2 * depth]
        kernels.append(tuple(stage.kernel[k] for k in blocks[0::2]))
        expansions.append(tuple(stage.expansion[e] for e in blocks[1::2]))
        start += 1 + 2 * stage.depth[-1]
    return Arch(
        space=space.name,
        width=width,
        resolution=resolution,
        kernels=tuple(kernels),
        expansions=tuple(expansions),
    )


def canonical(space: SearchSpace, genes: Genes) -> Genes:
    """Genes of shape (N, genes) with those of blocks that do not exist set to 0."""
    result: Genes = genes.copy()
    start = 0
    for stage in space.stages:
        depth = np.asarray(stage.depth)[genes[:, start]]
        for position in range(stage.depth[-1]):
            at = start + 1 + 2 * position
            result[:, at : at + 2] *= (position < depth)[:, None]
        start += 1 + 2 * stage.depth[-1]
    return result


def gene_keys(genes: Genes) -> list[bytes]:
    """What tells subnets apart, for sets and dicts: one key for each row of (N, genes)."""
    content, step = genes.astype(np.uint16).tobytes(), 2 * genes.shape[1]
    return [content[at : at + step] for at in range(0, len(content), step)]


def random_genes(space: SearchSpace, count: int, rng: np.random.Generator) -> Genes:
    """`count` subnets drawn uniformly from all of the space, shape (count, genes).

    Depths are drawn in proportion to the number of stages they have, so that every subnet is
    equally likely.
    """
    columns: list[Genes] = []
    for stage in space.stages:
        choices = len(stage.kernel) * len(stage.expansion)
        weights = np.array([float(choices) ** depth for depth in stage.depth])
        depth = rng.choice(len(stage.depth), size=count, p=weights / weights.sum())
        columns.append(depth)
        blocks = np.asarray(stage.depth)[depth]
        for position in range(stage.depth[-1]):
            exists = position < blocks
            columns.append(rng.integers(len(stage.kernel), size=count) * exists)
            columns.append(rng.integers(len(stage.expansion), size=count) * exists)
    return np.stack(columns, axis=1).astype(np.int64)


def _extreme(space: SearchSpace, pick: int, width: float, resolution: int) -> Arch:
    return Arch(
        space=space.name,
        width=width,
        resolution=resolution,
        kernels=tuple((s.kernel[pick],) * s.depth[pick] for s in space.stages),
        expansions=tuple((s.expansion[pick],) * s.depth[pick] for s in space.stages),
    )


def largest(space: SearchSpace, *, width: float, resolution: int) -> Arch:
    """The subnet with every choice at its largest."""
    return _extreme(space, -1, width, resolution)


def smallest(space: SearchSpace, *, width: float, resolution: int) -> Arch:
    """The subnet with every choice at its smallest."""
    return _extreme(space, 0, width, resolution)
