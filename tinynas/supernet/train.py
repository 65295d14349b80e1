"""Training of the shared weights, by either trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tinynas.space.arch import Arch
from tinynas.supernet.batches import Images, Labels, check_data, steps_per_epoch
from tinynas.supernet.course import Sampler, shares, split_steps
from tinynas.supernet.fit import Progress, fit
from tinynas.supernet.network import Supernet
from tinynas.supernet.pace import TimePlan, plan_once
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.trainers import make_course, subnets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Mean over each epoch's steps of the loss: of the largest subnet, or of a phase's subnets."""

    losses: tuple[float, ...]


def train_supernet(
    supernet: Supernet,
    images: Images,
    labels: Labels,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    plan: Path | None = None,
    on_plan: Callable[[TimePlan], None] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    sampler: Sampler | None = None,
    top: Arch | None = None,
    bottom: Arch | None = None,
) -> TrainResult:
    """Losses of the training; `supernet` is trained in place on uint8 images (N, H, W, C).

    `sampler(count, rng)` draws the random subnets as genes, uniformly from the whole space by
    default; `top` and `bottom` are the subnets that every step of the sandwich trains, by default
    the space's largest and smallest at the images' resolution. With `settings.time` the steps
    that fit into it are planned, kept in the file `plan`, and told to `on_plan`. See `fit` for
    `checkpoint` and errors.
    """
    check_data(images, labels)
    supernet.to(device)
    subnets = subnets_of(supernet, images.shape[1], sampler=sampler, top=top, bottom=bottom)
    steps = settings.epochs * steps_per_epoch(len(images), settings.batch_size)
    if settings.time is not None:
        time_plan = plan_once(
            plan, supernet, images, labels, settings, subnets, seed=seed, device=device
        )
        if on_plan:
            on_plan(time_plan)
        steps = time_plan.steps
    parts = split_steps(steps, shares(settings))
    course = make_course(supernet, images, settings, subnets, parts, seed)
    losses = fit(
        supernet,
        images,
        labels,
        settings,
        course.phases,
        seed=seed,
        device=device,
        frozen=course.teacher,
        checkpoint=checkpoint,
        identity={"subnets": json.dumps([subnets.top.to_json(), subnets.bottom.to_json()])},
        progress=progress,
    )
    return TrainResult(losses=losses)
