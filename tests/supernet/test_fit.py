from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinynas.errors import DataError, UsageError
from tinynas.space.spec import SearchSpace
from tinynas.supernet.batches import steps_per_epoch
from tinynas.supernet.checkpoint import load_checkpoint
from tinynas.supernet.fit import Phase, Progress, fit, learning_rate
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import FitSettings
from tinynas.supernet.training import make_optimizer


def _images(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 4, 4, 1), np.uint8), rng.integers(0, 3, count)


def _settings(**changes: object) -> FitSettings:
    return FitSettings.model_validate({"epochs": 2, "lr": 0.01, "batch_size": 8, **changes})


def _linear() -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


def _fit(net: nn.Module, settings: FitSettings, **options: object) -> tuple[float, ...]:
    def backward(x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss.detach()

    images, labels = _images()
    phases = [Phase(steps=2 * settings.epochs, lr=settings.lr, backward=backward)]
    return fit(net, images, labels, settings, phases, **{"seed": 0, **options})  # type: ignore


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 10, peak=0.8, warmup_fraction=0.3) for step in range(10)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[3:] == pytest.approx([0.4 * (1 + np.cos(np.pi * i / 7)) for i in range(7)])
    assert learning_rate(0, 1, peak=0.8, warmup_fraction=0) == 0.8


def test_batches_are_never_smaller_than_asked_for_unless_the_data_are() -> None:
    counts = {n: steps_per_epoch(n, 8) for n in (2, 8, 15, 16, 23, 24)}
    assert counts == {2: 1, 8: 1, 15: 1, 16: 2, 23: 2, 24: 3}


def test_only_weights_of_convolutions_and_linear_layers_decay(tiny: SearchSpace) -> None:
    net = Supernet(tiny, width=1.0, classes=3, channels=1)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, kept = make_optimizer(net, _settings(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.5, 0.0)
    assert {names[id(p)].rpartition(".")[2] for p in decayed["params"]} == {"weight"}
    others = [names[id(p)] for p in kept["params"]]
    assert all("norm" in name or "shrink" in name or name.endswith("bias") for name in others)
    assert len(others) + len(decayed["params"]) == len(names)


def test_progress_counts_all_steps_and_the_mean_loss_is_returned() -> None:
    seen: list[Progress] = []
    losses = _fit(_linear(), _settings(), progress=seen.append)
    assert [(p.epoch, p.step) for p in seen] == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert {(p.epochs, p.steps) for p in seen} == {(2, 4)}
    assert seen[0].loss == pytest.approx(np.log(3))
    assert losses == ((seen[0].loss + seen[1].loss) / 2, (seen[2].loss + seen[3].loss) / 2)


def test_every_image_is_seen_once_an_epoch_in_another_order() -> None:
    images = np.arange(20, dtype=np.uint8).repeat(16).reshape(20, 4, 4, 1)
    seen: list[int] = []
    net = _linear()

    def backward(x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        seen.extend((x[:, 0, 0, 0] * 128 + 128).int().tolist())
        assert (x[:, 0, 0, 0] * 128 + 128).int().tolist() == y.tolist()
        net(x).sum().backward()
        return torch.tensor(0.0)

    phases = [Phase(steps=4, lr=0.01, backward=backward)]
    fit(net, images, np.arange(20), _settings(), phases, seed=3)
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]


def test_a_finished_training_is_loaded_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    net, again = _linear(), _linear()
    losses = _fit(net, _settings(), checkpoint=path)
    seen: list[Progress] = []
    assert _fit(again, _settings(), checkpoint=path, progress=seen.append) == losses
    assert not seen
    assert torch.equal(net[1].weight, again[1].weight)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]
    assert load_checkpoint(path)["losses"] == list(losses)


@pytest.mark.parametrize(
    ("changes", "options", "differing"),
    [
        ({"lr": 0.02}, {}, "settings"),
        ({}, {"seed": 1}, "seed"),
        ({}, {"identity": {"a": "b"}}, "a"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, changes: dict[str, object], options: dict[str, object], differing: str
) -> None:
    path = tmp_path / "net.pt"
    _fit(_linear(), _settings(), checkpoint=path)
    with pytest.raises(UsageError, match=f"of a training with other {differing}; delete it"):
        _fit(_linear(), _settings(**changes), checkpoint=path, **options)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="net.pt is not a training checkpoint"):
        _fit(_linear(), _settings(), checkpoint=path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="net.pt is not a training checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("images", "labels", "rule"),
    [
        (np.zeros((4, 4, 4, 1), np.float32), np.zeros(4, int), "must be uint8 of shape"),
        (np.zeros((4, 4, 4), np.uint8), np.zeros(4, int), "must be uint8 of shape"),
        (np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, int), "needs two or more images"),
        (np.zeros((4, 4, 4, 1), np.uint8), np.zeros(3, int), r"4 images and labels of shape \(3"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(
    images: np.ndarray, labels: np.ndarray, rule: str
) -> None:
    with pytest.raises(DataError, match=rule):
        fit(_linear(), images, labels, _settings(), [], seed=0)
