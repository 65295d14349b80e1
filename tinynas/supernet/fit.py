"""The loop that trains a supernet or one subnet.

A training is one or more phases. Everything random in an epoch comes from (seed, epoch), and the
learning rate from the step alone. So a checkpoint needs the weights, the optimiser's state and
how far the epoch's random numbers have been drawn, and a run that was killed at any step ends
with the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tinynas.supernet.augment import augment, to_input
from tinynas.supernet.batches import Batches, Images, Labels
from tinynas.supernet.checkpoint import Checkpoints, fingerprint
from tinynas.supernet.settings import FitSettings
from tinynas.supernet.training import Place, Training

Backward = Callable[[Tensor, Tensor, np.random.Generator], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of training with a schedule, an optimiser and an average of weights of its own.

    `backward(x, y, rng)` adds a batch's gradients to the model and returns its loss, on the
    device. `begin` changes the model once, before the first step.
    """

    steps: int
    lr: float
    backward: Backward
    begin: Callable[[], None] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training is after a step: both counts of steps are over all epochs."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    ends_epoch: bool
    batch_loss: Tensor

    @property
    def loss(self) -> float:
        """Loss of the step's batch; asking for it waits for the device."""
        return float(self.batch_loss)


def learning_rate(step: int, steps: int, *, peak: float, warmup_fraction: float) -> float:
    """The rate of step 0 ... steps - 1: a linear rise, then a cosine down to zero."""
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + cos(pi * (step - warmup) / (steps - warmup)))


def fit(
    model: nn.Module,
    images: Images,
    labels: Labels,
    settings: FitSettings,
    phases: Sequence[Phase],
    *,
    seed: int,
    device: torch.device | str = "cpu",
    frozen: nn.Module | None = None,
    checkpoint: Path | None = None,
    identity: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[float, ...]:
    """The mean loss of each epoch; trains `model` in place, images uint8 (N, H, W, C).

    `checkpoint` is replaced every half minute and at the ends of epochs, with `frozen`, what the
    training needs but does not train; if it is there at the start, training goes on from it.
    Raises UsageError if it is of another run, i.e. of another seed, settings, data or `identity`.
    """
    data = Batches(images, labels, torch.device(device))
    model.to(data.device).to(memory_format=torch.channels_last).train()
    steps = [phase.steps for phase in phases]
    training = Training(
        model, settings, phases=steps, images=len(images), seed=seed, frozen=frozen
    )
    about = fingerprint(images, labels, settings, seed, steps) if checkpoint else {}
    checkpoints = Checkpoints(checkpoint, {**about, **(identity or {})})
    checkpoints.restore(training)
    while not training.done:
        place, phase = training.place, phases[training.place.phase]
        if place.step == 0:
            if phase.begin:
                phase.begin()
            training.begin_phase()
        if place.batch == 0:
            training.begin_epoch()
        x, y = data.take(training.batches[place.batch])
        if settings.augmentation:
            x = augment(x, settings.augmentation, training.generator)
        training.optimizer.zero_grad(set_to_none=True)
        loss = phase.backward(to_input(x), y, training.rng)
        training.update(_rate(place, phase, settings), loss)
        if progress:
            progress(_progress(training, place, phase, loss))
        checkpoints.save(training, ends_epoch=place.ends_epoch)
    return tuple(training.losses)


def _rate(place: Place, phase: Phase, settings: FitSettings) -> float:
    return learning_rate(
        place.step, phase.steps, peak=phase.lr, warmup_fraction=settings.warmup_fraction
    )


def _progress(training: Training, place: Place, phase: Phase, loss: Tensor) -> Progress:
    return Progress(
        phase=phase.name,
        epoch=place.epoch,
        epochs=training.places[-1].epoch + 1,
        step=training.step,
        steps=len(training.places),
        ends_epoch=place.ends_epoch,
        batch_loss=loss,
    )
