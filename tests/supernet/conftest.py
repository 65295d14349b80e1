"""What the tests of the supernet share: a tiny space, digits, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import one_thread


class Digits(NamedTuple):
    """8x8 images, uint8 (N, 8, 8, 1), and their labels."""

    images: np.ndarray
    labels: np.ndarray


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def in_float64() -> Iterator[None]:
    """New tensors and layers have 64 bits, so that two ways to compute one thing agree closely."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    return SearchSpace.model_validate(
        {
            "name": "tiny",
            "stem": {"kernel": 3, "stride": 1, "channels": 8},
            "stages": [
                {"channels": 8, "stride": 1, "depth": [1], "kernel": [3], "expansion": [1]},
                {
                    "channels": 16,
                    "stride": 2,
                    "depth": [1, 2, 3],
                    "kernel": [3, 5, 7],
                    "expansion": [1, 2, 3],
                },
            ],
            "width_multipliers": [1.0],
            "resolutions": [8, 9],
        }
    )


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    return Digits((data.images * 15).astype(np.uint8)[..., None], data.target)
