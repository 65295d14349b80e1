"""Progressive shrinking.

Once-for-all (Cai et al., arXiv 1908.09791, section 3): the largest subnet is trained first; then
smaller kernels, depths and expansions join in, phase by phase, with the largest as teacher. Before
smaller expansions join, channels are sorted by importance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.space.arch import Arch, decode, gene_sizes
from tinynas.space.spec import SearchSpace
from tinynas.supernet.accelerator import autocast
from tinynas.supernet.batches import Images
from tinynas.supernet.course import Course, Subnets
from tinynas.supernet.evaluate import recalibrate
from tinynas.supernet.fit import Backward, Phase
from tinynas.supernet.mix import mixed
from tinynas.supernet.network import Supernet, extract, fuse
from tinynas.supernet.reorder import sort_channels
from tinynas.supernet.settings import PhaseSettings, TrainSettings

# For the batch-norm statistics of the teacher: as many as MCUNet takes, 20 batches of 64.
STATISTICS_IMAGES = 1280


def progressive_course(
    supernet: Supernet,
    images: Images,
    settings: TrainSettings,
    subnets: Subnets,
    steps: Sequence[int],
    seed: int,
) -> Course:
    """The phases of the settings; the largest subnet as it is after the first teaches."""
    teaches = settings.distillation > 0 and len(settings.phases) > 1
    teacher = fuse(extract(supernet, subnets.top)).requires_grad_(False) if teaches else None
    order = np.random.default_rng(seed).permutation(len(images))
    statistics = images[np.sort(order[:STATISTICS_IMAGES])]
    phases: list[Phase] = []
    for number, (count, phase) in enumerate(zip(steps, settings.phases, strict=True)):
        taught_by = teacher if number > 0 else None
        changes: list[Callable[[], None]] = []
        if teacher and number == 1:
            changes.append(partial(take_teacher, teacher, supernet, subnets.top, statistics))
        if number > 0 and opens_expansions(settings.phases[number - 1], phase):
            trained = settings.phases[number - 1].expansions
            changes.append(partial(sort_channels, supernet, trained=trained or 1))
        phases.append(
            Phase(
                name=phase.name,
                steps=count,
                lr=settings.lr * phase.lr_factor,
                backward=_backward(supernet, settings, phase, subnets, taught_by),
                begin=partial(_each, changes),
            )
        )
    return Course(phases=tuple(phases), teacher=teacher)


def _each(changes: Sequence[Callable[[], None]]) -> None:
    for change in changes:
        change()


def take_teacher(teacher: nn.Module, supernet: Supernet, arch: Arch, statistics: Images) -> None:
    """Give `teacher` the weights that a subnet has now, with batch norm folded into them."""
    subnet = fuse(recalibrate(extract(supernet, arch), statistics))
    teacher.load_state_dict(subnet.state_dict())


def opens_expansions(before: PhaseSettings, phase: PhaseSettings) -> bool:
    """Whether more expansions are open in a phase than in the one before it."""
    if before.expansions is None:
        return False
    return phase.expansions is None or phase.expansions > before.expansions


def opened_space(space: SearchSpace, phase: PhaseSettings) -> SearchSpace:
    """The part of a space that a phase opens: so many of the largest choices of each kind."""
    stages = tuple(
        stage.model_copy(
            update={
                "kernel": stage.kernel[-(phase.kernels or len(stage.kernel)) :],
                "depth": stage.depth[-(phase.depths or len(stage.depth)) :],
                "expansion": stage.expansion[-(phase.expansions or len(stage.expansion)) :],
            }
        )
        for stage in space.stages
    )
    return space.model_copy(update={"stages": stages})


def _drawing(
    supernet: Supernet, phase: PhaseSettings, subnets: Subnets
) -> Callable[[np.random.Generator], list[Arch]]:
    """Draws a step's subnets.

    Once all is open, from the subnets that will be searched. Before, each choice is equally
    likely, as in once-for-all: depths by number of subnets would hardly ever be small.
    """
    opened = opened_space(supernet.space, phase)

    def draw(rng: np.random.Generator) -> list[Arch]:
        if opened == supernet.space:
            genes = subnets.draw(phase.subnets, rng)
        else:
            sizes = gene_sizes(opened)
            genes = rng.integers(0, sizes, (phase.subnets, len(sizes)))
        resolution = subnets.top.resolution
        return [decode(opened, row, width=supernet.width, resolution=resolution) for row in genes]

    return draw


def _backward(
    supernet: Supernet,
    settings: TrainSettings,
    phase: PhaseSettings,
    subnets: Subnets,
    teacher: nn.Module | None,
) -> Backward:
    draw = _drawing(supernet, phase, subnets)
    classes = supernet.logits.out_features

    def backward(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        archs = draw(rng)
        x, y = mixed(x, y, classes, settings.augmentation, rng)
        soft_labels = _taught(teacher, x, settings) if teacher else None
        losses = []
        for arch in archs:
            with autocast(x.device, settings.precision):
                logits = supernet(x, arch).float()
                loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
                if soft_labels is not None:
                    weight = settings.distillation / (1 + settings.distillation)
                    loss = torch.lerp(loss, F.cross_entropy(logits, soft_labels), weight)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    return backward


@torch.no_grad()
def _taught(teacher: nn.Module, x: Tensor, settings: TrainSettings) -> Tensor:
    """The teacher's probabilities, shape (N, classes)."""
    with autocast(x.device, settings.precision):
        logits: Tensor = teacher(x)
    return logits.float().softmax(1)
