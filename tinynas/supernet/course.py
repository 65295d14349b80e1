"""What a trainer makes of its settings: phases, and the subnets that they train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from torch import nn

from tinynas.errors import UsageError
from tinynas.space.arch import Arch, Genes
from tinynas.supernet.fit import Phase
from tinynas.supernet.settings import TrainSettings

Sampler = Callable[[int, np.random.Generator], Genes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnets:
    """The largest and the smallest subnet to train, and how to draw others as genes."""

    top: Arch
    bottom: Arch
    draw: Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The phases of a training, and the teacher that they share, if there is one."""

    phases: tuple[Phase, ...]
    teacher: nn.Module | None = None


def shares(settings: TrainSettings) -> tuple[float, ...]:
    """What share of the steps each phase gets, relative to the others."""
    if settings.trainer == "sandwich":
        return (1.0,)
    return tuple(phase.share for phase in settings.phases)


def split_steps(steps: int, parts: Sequence[float]) -> tuple[int, ...]:
    """Steps of each phase in proportion to `parts`, at least one, together `steps`.

    Raises UsageError if there are fewer steps than phases.
    """
    if steps < len(parts):
        raise UsageError(
            f"a training of {len(parts)} phases needs at least {len(parts)} steps, not {steps}; "
            "give it more epochs or time, or smaller batches"
        )
    free = steps - len(parts)
    ends = [round(free * end / sum(parts)) for end in accumulate(parts)]
    return tuple(1 + end - start for start, end in zip([0, *ends], ends, strict=False))
