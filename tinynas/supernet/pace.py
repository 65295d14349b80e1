"""How many steps of training fit into a given time, measured before it begins.

Planned once and then counted in steps: a run that is killed and resumed does the steps that were
planned, whatever the clock says.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tinynas.errors import UsageError
from tinynas.supernet.batches import Images, Labels, steps_per_epoch
from tinynas.supernet.course import Subnets, shares
from tinynas.supernet.fit import Progress, fit
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.trainers import make_course

SHARE_OF_TIME = 0.04  # for measuring, all phases together
WARM_UP = 1  # steps of each phase: they allocate memory and choose kernels
FEWEST, MOST = 2, 100  # steps of each phase that are timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a step of each phase, and to begin all phases."""

    step_s: tuple[float, ...]
    begin_s: float

    def steps_in(self, seconds: float, spent_s: float, parts: Sequence[float]) -> int:
        """Steps that fit into `seconds` less what is spent, phases getting `parts` of them.

        Raises UsageError, saying what would be enough, if that is not one of each phase.
        """
        mean_s = sum(p * s for p, s in zip(parts, self.step_s, strict=True)) / sum(parts)
        fixed_s = spent_s + self.begin_s
        steps = int((seconds - fixed_s) / mean_s)
        if steps < len(parts):
            raise UsageError(
                f"{seconds:g} s are too short to train in: {fixed_s:.1f} s go into measuring the "
                f"speed and beginning, {mean_s:.2f} s into each step; "
                f"give at least {fixed_s + (len(parts) + 1) * mean_s:.0f} s"
            )
        return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """How a training spends its `seconds`: steps in all, and what they were worked out from."""

    seconds: float
    steps: int
    epochs: float
    step_s: tuple[float, ...]
    measuring_s: float


def plan_once(
    path: Path | None,
    supernet: Supernet,
    images: Images,
    labels: Labels,
    settings: TrainSettings,
    subnets: Subnets,
    *,
    seed: int,
    device: torch.device | str,
) -> TimePlan:
    """The plan kept at `path`, or a new one, which is then kept there."""
    if path and path.exists():
        return _read(path)
    plan = plan_time(supernet, images, labels, settings, subnets, seed=seed, device=device)
    if path:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    return plan


def _read(path: Path) -> TimePlan:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return TimePlan(**{**content, "step_s": tuple(content["step_s"])})
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path} is damaged; delete it and resume") from None


def plan_time(
    supernet: Supernet,
    images: Images,
    labels: Labels,
    settings: TrainSettings,
    subnets: Subnets,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> TimePlan:
    """The steps that a training can do in `settings.time`, the time to find out included.

    What is timed is a copy; the supernet is left as it is. Raises UsageError for too short a time.
    """
    assert settings.time is not None
    started, parts = time.monotonic(), shares(settings)

    def measure(count: int) -> Pace:
        return measure_pace(
            supernet, images, labels, settings, subnets, count, seed=seed, device=device
        )

    pace = measure(FEWEST)
    allowed_s = settings.time * SHARE_OF_TIME - pace.begin_s - WARM_UP * sum(pace.step_s)
    count = min(MOST, int(allowed_s / sum(pace.step_s)))
    if count > FEWEST:
        pace = measure(count)
    spent_s = time.monotonic() - started
    steps = pace.steps_in(settings.time, spent_s, parts)
    return TimePlan(
        seconds=settings.time,
        steps=steps,
        epochs=steps / steps_per_epoch(len(images), settings.batch_size),
        step_s=pace.step_s,
        measuring_s=spent_s,
    )


def measure_pace(
    supernet: Supernet,
    images: Images,
    labels: Labels,
    settings: TrainSettings,
    subnets: Subnets,
    count: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Pace:
    """Means over `count` steps of each phase, by the loop that trains, on a copy."""
    model, phases = copy.deepcopy(supernet).to(device), len(shares(settings))
    course = make_course(model, images, settings, subnets, [WARM_UP + count] * phases, seed)
    ends = [time.monotonic()]

    def clock(progress: Progress) -> None:
        if progress.batch_loss.is_cuda:
            torch.cuda.synchronize()
        ends.append(time.monotonic())

    fit(
        model,
        images,
        labels,
        settings,
        course.phases,
        seed=seed,
        device=device,
        frozen=course.teacher,
        progress=clock,
    )
    durations = np.diff(ends).reshape(phases, WARM_UP + count)
    step_s = durations[:, WARM_UP:].mean(1)
    slower = durations[:, :WARM_UP] - step_s[:, None]
    return Pace(
        step_s=tuple(float(mean) for mean in step_s), begin_s=float(slower.clip(min=0).sum())
    )
