"""The trainers by name, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tinynas.space.arch import Arch, largest, random_genes, smallest
from tinynas.supernet.batches import Images
from tinynas.supernet.course import Course, Sampler, Subnets
from tinynas.supernet.network import Supernet
from tinynas.supernet.progressive import progressive_course
from tinynas.supernet.sandwich import sandwich_course
from tinynas.supernet.settings import TrainSettings

Trainer = Callable[[Supernet, Images, TrainSettings, Subnets, Sequence[int], int], Course]
TRAINERS: dict[str, Trainer] = {"sandwich": sandwich_course, "progressive": progressive_course}


def make_course(
    supernet: Supernet,
    images: Images,
    settings: TrainSettings,
    subnets: Subnets,
    steps: Sequence[int],
    seed: int,
) -> Course:
    """The phases of the settings' trainer, of so many steps each."""
    return TRAINERS[settings.trainer](supernet, images, settings, subnets, steps, seed)


def subnets_of(
    supernet: Supernet,
    resolution: int,
    *,
    sampler: Sampler | None = None,
    top: Arch | None = None,
    bottom: Arch | None = None,
) -> Subnets:
    """The subnets to train, with what is not given taken from the whole space."""
    space, width = supernet.space, supernet.width
    return Subnets(
        top=top or largest(space, width=width, resolution=resolution),
        bottom=bottom or smallest(space, width=width, resolution=resolution),
        draw=sampler or partial(random_genes, space),
    )
