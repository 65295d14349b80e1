"""A training killed at any step ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tinynas.supernet import checkpoint as checkpoints
from tinynas.supernet.checkpoint import load_checkpoint
from tinynas.supernet.fit import Progress
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import PhaseSettings, TrainSettings
from tinynas.supernet.train import train_supernet

PHASES = [
    PhaseSettings(name="full", share=1, kernels=1, depths=1, expansions=1),
    PhaseSettings(name="kernel", share=1, depths=1, expansions=1),
    PhaseSettings(name="expansion 1", share=1, subnets=2, expansions=2),
    PhaseSettings(name="expansion 2", share=2, subnets=2),
]
AUGMENTATION = {"flip": True, "colour": 0.2, "zoom": 0.5, "mixup": 0.2, "cutmix": 1.0}
TRAININGS = {
    "sandwich": TrainSettings.model_validate({"epochs": 2, "batch_size": 20}),
    "sandwich with all there is": TrainSettings.model_validate(
        {"epochs": 2, "batch_size": 20, "ema": 0.5, "augmentation": AUGMENTATION}
    ),
    "progressive": TrainSettings.model_validate(
        {
            "trainer": "progressive",
            "phases": PHASES,
            "epochs": 3,
            "batch_size": 20,
            "ema": 0.2,
            "optimizer": "sgd",
            "lr": 0.05,
        }
    ),
}


class Killed(BaseException):
    """Stands for the end of the process: nothing after the step is done."""


def _train(tiny, digits, settings: TrainSettings, path: Path, die_at: int = -1) -> bytes:
    """Weights after training; raises Killed after step `die_at`, before its checkpoint."""

    def progress(at: Progress) -> None:
        if at.step == die_at:
            raise Killed

    net = Supernet(tiny, width=1.0, classes=10, channels=1)
    images, labels = digits.images[:50], digits.labels[:50]  # batches of 25, two an epoch
    train_supernet(net, images, labels, settings, seed=5, checkpoint=path, progress=progress)
    return b"".join(value.contiguous().numpy().tobytes() for value in net.state_dict().values())


@pytest.mark.parametrize("name", TRAININGS)
def test_killed_at_every_step_in_turn_it_ends_with_the_same_bytes(
    tiny, digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)  # a checkpoint after every step
    settings, whole = TRAININGS[name], tmp_path / "whole.pt"
    weights = _train(tiny, digits, settings, whole)
    steps = load_checkpoint(whole)["steps_done"]
    assert steps == 2 * settings.epochs
    killed = tmp_path / "killed.pt"
    for step in range(2, steps + 1):
        # Dies after this step, whose checkpoint is missing: the one before is what is left.
        with pytest.raises(Killed):
            _train(tiny, digits, settings, killed, die_at=step)
        assert load_checkpoint(killed)["steps_done"] == step - 1
    assert _train(tiny, digits, settings, killed) == weights
    assert killed.read_bytes() == whole.read_bytes()


def test_a_training_with_other_steps_is_refused(tiny, digits, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    _train(tiny, digits, TRAININGS["sandwich"], path)
    content = load_checkpoint(path)
    content["about"]["steps"] = "[99]"
    torch.save(content, path)
    with pytest.raises(Exception, match="of a training with other steps; delete it"):
        _train(tiny, digits, TRAININGS["sandwich"], path)


def test_checkpoints_are_rare_where_epochs_are_short(
    tiny, digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    write = checkpoints._write

    def counted(path: Path, content: dict) -> None:
        saved.append(content["steps_done"])
        write(path, content)

    monkeypatch.setattr(checkpoints, "_write", counted)
    monkeypatch.setattr(checkpoints, "SHARE_OF_TIME", 1e-9)
    settings = TRAININGS["sandwich"].model_copy(update={"epochs": 4})
    _train(tiny, digits, settings, tmp_path / "net.pt")
    assert saved == [2, 8]  # after the first epoch, when their cost is not known, and the last
