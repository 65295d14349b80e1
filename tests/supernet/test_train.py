from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

import tinynas
from tinynas.space.arch import decode, encode, gene_sizes, largest, smallest
from tinynas.space.spec import SearchSpace
from tinynas.supernet.checkpoint import load_checkpoint
from tinynas.supernet.evaluate import recalibrate_and_score
from tinynas.supernet.network import Supernet
from tinynas.supernet.sandwich import sandwich
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.train import train_supernet

SETTINGS = TrainSettings(epochs=3, batch_size=20, random_subnets=2)


def _supernet(space: SearchSpace) -> Supernet:
    return Supernet(space, width=1.0, classes=10, channels=1)


def _weights(net: Supernet) -> bytes:
    return b"".join(value.contiguous().numpy().tobytes() for value in net.state_dict().values())


def test_training_lowers_the_loss_and_teaches_all_sizes(tiny, digits) -> None:
    net = _supernet(tiny)
    settings = TrainSettings(epochs=4, batch_size=25, lr=0.01, random_subnets=1)
    images, labels = digits.images[:300], digits.labels[:300]
    losses = train_supernet(net, images, labels, settings, seed=0).losses
    assert losses[-1] < losses[0] - 0.3
    for pick in (largest, smallest):
        arch = pick(tiny, width=1.0, resolution=8)
        score = recalibrate_and_score(
            net, arch, images[:200], digits.images[1000:], digits.labels[1000:]
        )
        assert score.accuracy > 0.25


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, digits) -> None:
    def run(seed: int) -> bytes:
        net = _supernet(tiny)
        train_supernet(net, digits.images[:60], digits.labels[:60], SETTINGS, seed=seed)
        return _weights(net)

    state = torch.get_rng_state()
    assert run(1) == run(1)
    assert run(1) != run(2)
    assert torch.equal(torch.get_rng_state(), state)


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np, torch
from tinynas.space.spec import SearchSpace
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.train import train_supernet

folder, die_at = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
data = np.load(folder / "data.npz")
space = SearchSpace.model_validate_json((folder / "space.json").read_text())
net = Supernet(space, width=1.0, classes=10, channels=1)

def progress(at):
    if at.step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

settings = TrainSettings.model_validate_json((folder / "settings.json").read_text())
train_supernet(net, data["images"], data["labels"], settings, seed=5,
               checkpoint=folder / "net.pt", progress=progress)
"""


def test_a_killed_training_resumes_to_the_same_bytes(tiny, digits, tmp_path: Path) -> None:
    images, labels = digits.images[:60], digits.labels[:60]
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    (tmp_path / "space.json").write_text(tiny.model_dump_json())
    (tmp_path / "settings.json").write_text(SETTINGS.model_dump_json())
    package = str(Path(tinynas.__path__[0]).parent)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "8"]  # step 2 of 3 in epoch 3 of 3
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": package}, check=False)
    assert killed.returncode == -signal.SIGKILL
    checkpoint = tmp_path / "net.pt"
    assert 3 <= load_checkpoint(checkpoint)["steps_done"] < 8

    resumed, whole = _supernet(tiny), _supernet(tiny)
    first = train_supernet(resumed, images, labels, SETTINGS, seed=5, checkpoint=checkpoint)
    second = train_supernet(whole, images, labels, SETTINGS, seed=5, checkpoint=tmp_path / "b.pt")
    assert first == second
    assert _weights(resumed) == _weights(whole)
    assert checkpoint.read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_random_subnets_come_from_the_sampler(tiny, digits) -> None:
    drawn: list[int] = []
    seen: list[float] = []
    arch = decode(tiny, np.zeros(len(gene_sizes(tiny)), np.int64), width=1.0, resolution=8)

    def sampler(count: int, rng: np.random.Generator) -> np.ndarray:
        drawn.append(count)
        seen.append(rng.random())
        return np.stack([encode(tiny, arch)] * count)

    net = _supernet(tiny)
    train_supernet(net, digits.images[:60], digits.labels[:60], SETTINGS, seed=0, sampler=sampler)
    assert drawn == [2] * 9
    assert len(set(seen)) == 9


def test_only_subnets_between_bottom_and_top_are_trained(tiny, digits) -> None:
    """With the smallest subnet as top, nothing beyond its weights moves."""
    net = _supernet(tiny)
    low = smallest(tiny, width=1.0, resolution=8)
    before = net.block(1, 2).depthwise.weight.clone()
    settings = TrainSettings(epochs=1, batch_size=20, random_subnets=0)
    train_supernet(
        net, digits.images[:60], digits.labels[:60], settings, seed=0, top=low, bottom=low
    )
    assert torch.equal(net.block(1, 2).depthwise.weight, before)


def test_others_learn_the_soft_labels_of_the_largest(tiny) -> None:
    net = _supernet(tiny)
    top = largest(tiny, width=1.0, resolution=8)
    low = smallest(tiny, width=1.0, resolution=8)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 4, 5])
    loss = sandwich(net, x, y, top, [low], TrainSettings(label_smoothing=0.1))
    got = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad()
    logits = net(x, top)
    smooth = 0.9 * F.one_hot(y, 10) + 0.01
    hard = -(smooth * logits.log_softmax(1)).sum(1).mean()
    soft = -(logits.softmax(1).detach() * net(x, low).log_softmax(1)).sum(1).mean()
    (hard + soft).backward()
    assert float(loss) == pytest.approx(hard.item())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"lr": 0}, {"batch_size": 1}, {"epoch": 3}])
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings.model_validate(changes)
