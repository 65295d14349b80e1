from __future__ import annotations

import torch

from tinynas.supernet.augment import augment, to_input
from tinynas.supernet.settings import Augmentation


def _images(count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(256, (count, 16, 8, 3), generator=generator, dtype=torch.uint8)


def _augment(images: torch.Tensor, seed: int = 0, **settings: object) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return augment(images, Augmentation.model_validate(settings), generator)


def test_input_is_centred_at_128_and_channels_last() -> None:
    x = to_input(torch.tensor([0, 64, 128, 255], dtype=torch.uint8).view(1, 2, 2, 1))
    assert x.flatten().tolist() == [-1.0, -0.5, 0.0, 127 / 128]
    assert to_input(_images()).is_contiguous(memory_format=torch.channels_last)


def test_no_shift_and_no_flip_change_nothing() -> None:
    assert torch.equal(_augment(_images(), shift=0), _images())


def test_a_shift_moves_by_at_most_its_fraction_and_repeats_the_edge() -> None:
    images = torch.arange(16, dtype=torch.uint8)[None, :, None, None].expand(200, 16, 8, 1)
    moved = _augment(images, shift=0.125)  # 2 of 16 pixels
    offsets = moved[:, 8, 0, 0].int() - 8
    assert sorted(set(offsets.tolist())) == [-2, -1, 0, 1, 2]
    rows = (torch.arange(16) + offsets[:, None]).clamp(0, 15)
    assert torch.equal(moved[:, :, 3, 0].int(), rows.int())


def test_a_flip_mirrors_about_half_of_the_images_from_left_to_right() -> None:
    images = _images(200)
    flipped = _augment(images, shift=0, flip=True)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(2)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 70 <= int(mirrored.sum()) <= 130


def test_the_generator_decides_everything() -> None:
    assert torch.equal(_augment(_images(), seed=1), _augment(_images(), seed=1))
    assert not torch.equal(_augment(_images(), seed=1), _augment(_images(), seed=2))
