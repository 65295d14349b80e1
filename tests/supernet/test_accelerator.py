from __future__ import annotations

import pytest
import torch

from tinynas.errors import UsageError
from tinynas.supernet.accelerator import autocast, find_accelerator
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.train import train_supernet


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert find_accelerator("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert find_accelerator("auto").type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="torch finds none; use --accelerator auto or cpu"):
        find_accelerator("cuda")


def test_networks_compute_in_float32_on_a_cpu_unless_asked_otherwise() -> None:
    weight = torch.ones(2, 2)
    for precision, dtype in (
        ("auto", torch.float32),
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
    ):
        with autocast(torch.device("cpu"), precision):  # type: ignore[arg-type]
            assert (weight @ weight).dtype == dtype


@pytest.mark.parametrize("preset", ["bignas", "mcunet"])
def test_training_in_bfloat16_keeps_float32_weights_and_learns(tiny, digits, preset: str) -> None:
    """The code path of a GPU, on the CPU."""
    net = Supernet(tiny, width=1.0, classes=10, channels=1)
    options = {"preset": preset, "precision": "bfloat16", "epochs": 6, "batch_size": 25}
    settings = TrainSettings.model_validate({**options, "lr": 0.01})
    losses = train_supernet(net, digits.images[:300], digits.labels[:300], settings, seed=0).losses
    assert losses[-1] < losses[0] - 0.2
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
