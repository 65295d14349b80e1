"""What a training changes from step to step: all of it is in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tinynas.supernet.batches import Indices, steps_per_epoch
from tinynas.supernet.settings import FitSettings

Groups = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a step lies: its phase, its step of that phase, epoch and batch, counted from 0."""

    phase: int
    step: int
    epoch: int
    batch: int
    ends_epoch: bool
    ends_phase: bool


def itinerary(phases: Sequence[int], per_epoch: int) -> Iterator[Place]:
    """The places of all steps; every phase begins an epoch, and its last one may be cut short."""
    epoch = 0
    for phase, steps in enumerate(phases):
        for step in range(steps):
            batch, last = step % per_epoch, step + 1 == steps
            yield Place(
                phase=phase,
                step=step,
                epoch=epoch + step // per_epoch,
                batch=batch,
                ends_epoch=last or batch + 1 == per_epoch,
                ends_phase=last,
            )
        epoch += ceil(steps / per_epoch)


def _adamw(groups: Groups, lr: float, on_cpu: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, foreach=on_cpu, fused=not on_cpu)


def _sgd(groups: Groups, lr: float, on_cpu: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, foreach=True)


OPTIMIZERS: dict[str, Callable[[Groups, float, bool], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


def make_optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """An optimiser that decays weights of convolutions and linear layers, and nothing else."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_weight = parameter.ndim > 1 and name.endswith("weight")
        (decayed if is_weight else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    on_cpu = next(model.parameters()).device.type == "cpu"
    return OPTIMIZERS[settings.optimizer](groups, settings.lr, on_cpu)


class Training:
    """Model, optimiser, average of the weights, random numbers and losses after `step` steps.

    `phases` are the steps of each, `images` how many there are; `frozen` belongs to the training
    but is not trained, such as a teacher.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: FitSettings,
        *,
        phases: Sequence[int],
        images: int,
        seed: int,
        frozen: nn.Module | None,
    ) -> None:
        self.model, self.settings, self.frozen = model, settings, frozen
        self.phases, self.images, self.seed = tuple(phases), images, seed
        self.per_epoch = steps_per_epoch(images, settings.batch_size)
        self.places = tuple(itinerary(phases, self.per_epoch))
        self.step = 0
        self.losses: list[float] = []
        self.total = torch.zeros((), dtype=torch.float64)  # of the epoch's losses so far

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.step == len(self.places)

    @property
    def place(self) -> Place:
        """The place of the step that comes next."""
        return self.places[self.step]

    def begin_phase(self) -> None:
        """A new optimiser, and a new average, over a share of the phase's steps."""
        self.optimizer = make_optimizer(self.model, self.settings)
        averaged = self.model.parameters() if self.settings.ema else ()
        self.average = [parameter.detach().clone() for parameter in averaged]

    def begin_epoch(self) -> None:
        """Another order of the images, and the random numbers of this epoch."""
        self.rng = np.random.default_rng([self.seed, self.place.epoch])
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(2**63)))
        order = self.rng.permutation(self.images)
        self.batches: list[Indices] = np.array_split(order, self.per_epoch)

    def update(self, rate: float, loss: Tensor) -> None:
        """Change the weights by the gradients that are there: the step is done."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        if self.average:
            self._average()
        self.total = self.total.to(loss.device) + loss.detach()
        place, self.step = self.place, self.step + 1
        if place.ends_epoch:
            self.losses.append(float(self.total) / (place.batch + 1))
            self.total = torch.zeros_like(self.total)
        if place.ends_phase:
            self._take_average()

    def _average(self) -> None:
        """An exponential average; in the beginning it reaches back less far, not to step 0."""
        place = self.place
        horizon = max(1.0, self.settings.ema * self.phases[place.phase])
        decay = 1 - 1 / min(horizon, (11 + place.step) / 9)
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(self.average, list(self.model.parameters()), place.step)

    @torch.no_grad()
    def _take_average(self) -> None:
        if self.average:
            for parameter, average in zip(self.model.parameters(), self.average, strict=True):
                parameter.copy_(average)

    def state(self) -> dict[str, Any]:
        """All of it, as what torch can load without running code."""
        return {
            "steps_done": self.step,
            "losses": list(self.losses),
            "total": float(self.total),
            "model": self.model.state_dict(),
            "frozen": self.frozen.state_dict() if self.frozen else {},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "rng": json.dumps(self.rng.bit_generator.state),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.step, self.losses = state["steps_done"], list(state["losses"])
        self.total.fill_(state["total"])
        self.model.load_state_dict(state["model"])
        if self.frozen:
            self.frozen.load_state_dict(state["frozen"])
        if self.done or self.place.step == 0:
            return
        self.begin_phase()
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        if self.place.batch > 0:
            self.begin_epoch()
            self.rng.bit_generator.state = json.loads(state["rng"])
            self.generator.set_state(state["generator"])
