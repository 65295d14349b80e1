from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from tinynas.errors import UsageError
from tinynas.supernet.checkpoint import load_checkpoint
from tinynas.supernet.network import Supernet
from tinynas.supernet.pace import Pace, TimePlan, plan_time
from tinynas.supernet.settings import PhaseSettings, TrainSettings
from tinynas.supernet.train import train_supernet
from tinynas.supernet.trainers import subnets_of

PHASES = [
    PhaseSettings(name="full", share=1, kernels=1, depths=1, expansions=1),
    PhaseSettings(name="all", share=3, subnets=2),
]
PROGRESSIVE = {"trainer": "progressive", "phases": PHASES}


def _supernet(tiny) -> Supernet:
    return Supernet(tiny, width=1.0, classes=10, channels=1)


def test_steps_of_phases_of_unlike_speed_by_hand() -> None:
    pace = Pace(step_s=(1.0, 3.0), begin_s=2.0)
    # One part at 1 s and three at 3 s: 2.5 s a step. 100 - 8 - 2 = 90 s are 36 of them.
    assert pace.steps_in(100.0, 8.0, (1, 3)) == 36


def test_too_short_a_time_says_what_would_be_enough() -> None:
    pace = Pace(step_s=(1.0, 3.0), begin_s=2.0)
    with pytest.raises(UsageError, match="12 s are too short.*10.0 s go into.*at least 18 s"):
        pace.steps_in(12.0, 8.0, (1, 3))
    assert pace.steps_in(18.0, 8.0, (1, 3)) >= 2


@pytest.mark.parametrize("trainer", [{}, PROGRESSIVE])
def test_measuring_leaves_the_supernet_alone(tiny, digits, trainer: dict) -> None:
    net = _supernet(tiny)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    settings = TrainSettings.model_validate({"time": 2.0, "batch_size": 20, **trainer})
    images, labels = digits.images[:100], digits.labels[:100]
    plan = plan_time(net, images, labels, settings, subnets_of(net, 8), seed=0)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert plan.epochs == plan.steps / 5 and len(plan.step_s) == len(settings.phases or [0])
    spent = plan.steps * min(plan.step_s) + plan.measuring_s
    assert spent <= 2.0


def test_a_training_of_three_seconds_ends_after_about_three_seconds(
    tiny, digits, tmp_path: Path
) -> None:
    """Bounds are wide, for a loaded machine must not fail the test; idle it is within 10 %."""
    settings = TrainSettings.model_validate({"time": 3.0, "batch_size": 20})
    started, told = time.monotonic(), list[TimePlan]()
    train_supernet(
        _supernet(tiny),
        digits.images[:100],
        digits.labels[:100],
        settings,
        seed=0,
        plan=tmp_path / "plan.json",
        on_plan=told.append,
        checkpoint=tmp_path / "net.pt",
    )
    assert 1.0 < time.monotonic() - started < 9.0
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert kept["steps"] == told[0].steps == load_checkpoint(tmp_path / "net.pt")["steps_done"]


def test_a_resumed_training_keeps_to_the_plan_that_was_written(
    tiny, digits, tmp_path: Path
) -> None:
    settings = TrainSettings.model_validate({"time": 1e6, "batch_size": 20})
    plan = TimePlan(seconds=1e6, steps=7, epochs=1.4, step_s=(0.1,), measuring_s=1.0)
    path = tmp_path / "plan.json"
    path.write_text(
        json.dumps({name: getattr(plan, name) for name in TimePlan.__slots__}), encoding="utf-8"
    )
    told: list[TimePlan] = []
    result = train_supernet(
        _supernet(tiny),
        digits.images[:100],
        digits.labels[:100],
        settings,
        seed=0,
        plan=path,
        on_plan=told.append,
    )
    assert told == [plan]
    assert len(result.losses) == 2  # one epoch of five steps, and two steps more
    path.write_text("{")
    with pytest.raises(UsageError, match="plan.json is damaged; delete it"):
        train_supernet(_supernet(tiny), digits.images, digits.labels, settings, seed=0, plan=path)
