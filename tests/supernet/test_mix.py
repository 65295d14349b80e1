from __future__ import annotations

import numpy as np
import pytest
import torch

from tinynas.supernet.mix import cutmix, mixed
from tinynas.supernet.settings import Augmentation


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is i everywhere, its label i."""
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 8, 6)
    return x.contiguous(memory_format=torch.channels_last), torch.arange(4)


@pytest.mark.parametrize("settings", [None, Augmentation()])
def test_without_mixing_nothing_is_drawn_or_changed(settings: Augmentation | None) -> None:
    x, y = _batch()
    rng = np.random.default_rng(0)
    got = mixed(x, y, 5, settings, rng)
    assert got[0] is x and got[1] is y
    assert rng.random() == np.random.default_rng(0).random()


def test_mixup_blends_images_and_labels_in_one_proportion() -> None:
    x, y = _batch()
    images, labels = mixed(x, y, 5, Augmentation(mixup=1.0), np.random.default_rng(3))
    assert labels.shape == (4, 5)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    own = float(labels[0, 0])
    assert 0 < own < 1 and float(labels[0, 3]) == pytest.approx(1 - own)
    torch.testing.assert_close(
        images[:, 0, 0, 0], own * x[:, 0, 0, 0] + (1 - own) * x.flip(0)[:, 0, 0, 0]
    )


def test_cutmix_pastes_a_rectangle_and_labels_by_its_area() -> None:
    x, y = _batch()
    for seed in range(20):
        images, labels = mixed(x, y, 4, Augmentation(cutmix=1.0), np.random.default_rng(seed))
        pasted = images[0, 0] == 3
        assert bool(((images[0] == 3) == pasted).all())  # in all channels alike
        share = float(pasted.float().mean())
        assert float(labels[0, 3]) == pytest.approx(share, abs=1e-6)
        rows, cols = pasted.any(1).nonzero(), pasted.any(0).nonzero()
        assert int(pasted.sum()) == len(rows) * len(cols)  # one rectangle


def test_cutmix_leaves_the_given_batch_alone() -> None:
    x, _ = _batch()
    before = x.clone()
    cutmix(x, 0.3, np.random.default_rng(0))
    assert torch.equal(x, before)


def test_with_both_on_each_batch_takes_one_of_them() -> None:
    x, y = _batch()
    rng = np.random.default_rng(0)
    both = Augmentation(mixup=1.0, cutmix=1.0)
    blended = 0
    for _ in range(60):
        images, _ = mixed(x, y, 4, both, rng)
        blended += not bool((images == images.round()).all())
    assert 15 <= blended <= 45
