from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as ops

from tinynas.supernet.augment import augment, jitter, to_input, zoom
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


def test_a_crop_shows_a_part_of_the_image_enlarged() -> None:
    """Along a ramp, an enlarged crop is a ramp of a smaller slope inside the image's range."""
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8)  # 32 pixels
    images = ramp.view(1, 1, 32, 1).expand(300, 32, 32, 1)
    crops = zoom(images, 0.25, torch.Generator().manual_seed(0))[:, 16, :, 0].float()
    slopes = (crops[:, -4] - crops[:, 3]) / 25
    sides = slopes / 8
    # Sides are square roots of 0.25 ... 1 times those of 3/4 ... 4/3, at most 1.
    assert 0.43 <= float(sides.min()) < 0.55 and 0.95 < float(sides.max()) <= 1.01
    assert float(crops.min()) >= 0 and float(crops.max()) <= 248
    assert len(crops.unique(dim=0)) > 250


def test_a_crop_of_everything_changes_next_to_nothing() -> None:
    images = _images(10)
    crops = zoom(images, 1.0, torch.Generator().manual_seed(0))
    assert crops.shape == images.shape and crops.dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_as_torchvision_defines_it(channels: int) -> None:
    images = _images()[..., :channels]
    got = jitter(images, 0.5, torch.Generator().manual_seed(3))
    draws = torch.rand(3, 64, 1, 1, 1, generator=torch.Generator().manual_seed(3)).flatten(1)
    for image, result, factors in zip(images, got, (0.5 + draws).T.tolist(), strict=True):
        x = image.permute(2, 0, 1)
        x = ops.adjust_brightness(x, factors[0])
        x = ops.adjust_contrast(x, factors[1])
        if channels == 3:
            x = ops.adjust_saturation(x, factors[2])
        assert (result.permute(2, 0, 1).int() - x.int()).abs().max() <= 3  # it rounds three times


def test_what_is_off_draws_nothing() -> None:
    """So that settings that were there before it give the same bytes."""
    generator = torch.Generator().manual_seed(0)
    augment(_images(), Augmentation(flip=True), generator)
    wanted = torch.Generator().manual_seed(0)
    for size in (16, 8):
        torch.randint(-round(size / 8), round(size / 8) + 1, (64, 1), generator=wanted)
    torch.rand(64, 1, generator=wanted)
    assert torch.equal(generator.get_state(), wanted.get_state())
