from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from tinynas.deploy.finetune import finetune, float_accuracy
from tinynas.space.arch import largest, smallest
from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import one_thread, predict_logits, recalibrate
from tinynas.supernet.network import Supernet, extract
from tinynas.supernet.settings import FinetuneSettings

SPACE = SearchSpace.model_validate(
    {
        "name": "tiny",
        "stem": {"kernel": 3, "stride": 1, "channels": 8},
        "stages": [
            {"channels": 16, "stride": 2, "depth": [1, 2], "kernel": [3, 5], "expansion": [2, 3]}
        ],
        "width_multipliers": [1.0],
        "resolutions": [8],
    }
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images * 15).astype(np.uint8)[..., None], data.target


def _subnet(pick=smallest) -> nn.Sequential:
    supernet = Supernet(SPACE, width=1.0, classes=10, channels=1, seed=1)
    return extract(supernet, pick(SPACE, width=1.0, resolution=8))


def test_fine_tuning_raises_accuracy_and_leaves_the_given_network_alone(digits) -> None:
    images, labels = digits
    net = _subnet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    settings = FinetuneSettings(epochs=6, batch_size=25, lr=0.01)
    tuned = finetune(net, images[:1000], labels[:1000], settings, seed=0)
    assert float_accuracy(tuned, images[1000:], labels[1000:]) > 0.75
    assert float_accuracy(recalibrate(net, images[:200]), images[1000:], labels[1000:]) < 0.4
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not tuned.training


def test_statistics_are_those_of_the_training_images(digits) -> None:
    images, labels = digits
    settings = FinetuneSettings(epochs=1, batch_size=25)
    tuned = finetune(_subnet(), images[:100], labels[:100], settings, seed=0)
    again = recalibrate(tuned, images[:100])
    for name, value in tuned.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_seed_and_teacher_decide_the_result(digits) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    settings = FinetuneSettings(epochs=1, batch_size=25, distillation=0.5)
    teacher = recalibrate(_subnet(largest), images)
    logits = predict_logits(teacher, images)

    def run(seed: int, teacher: nn.Sequential | None) -> bytes:
        tuned = finetune(_subnet(), images, labels, settings, seed=seed, teacher=teacher)
        return predict_logits(tuned, images).tobytes()

    assert run(0, None) == run(0, None) != run(1, None)
    assert run(0, teacher) == run(0, teacher) != run(0, None)
    assert np.array_equal(predict_logits(teacher, images), logits)


def test_distillation_alone_imitates_the_teacher(digits) -> None:
    """Labels are wrong on purpose: with a share of 1 only the teacher can be learned from."""
    images, labels = digits[0][:1000], digits[1][:1000]
    settings = FinetuneSettings(epochs=6, batch_size=25, lr=0.01)
    teacher = finetune(_subnet(largest), images, labels, settings, seed=0)
    only = settings.model_copy(update={"distillation": 1.0})
    tuned = finetune(_subnet(), images, (labels + 1) % 10, only, seed=0, teacher=teacher)
    assert float_accuracy(tuned, *[part[1000:] for part in digits]) > 0.75


def test_a_finished_fine_tuning_is_loaded_and_not_repeated(digits, tmp_path) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    settings = FinetuneSettings(epochs=1, batch_size=25)
    path, steps = tmp_path / "subnet.pt", []
    first = finetune(_subnet(), images, labels, settings, seed=0, checkpoint=path)
    second = finetune(
        _subnet(), images, labels, settings, seed=0, checkpoint=path, progress=steps.append
    )
    assert not steps
    assert predict_logits(first, images).tobytes() == predict_logits(second, images).tobytes()
