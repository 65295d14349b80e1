from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from tinynas.supernet.randaugment import GREY, OPS, STEPS, randaugment

# torchvision's own names for the operations here.
NAMES = {
    "identity": "Identity",
    "shear x": "ShearX",
    "shear y": "ShearY",
    "translate x": "TranslateX",
    "translate y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}


def _images(count: int = 40, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(256, (count, 16, 16, channels), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("magnitude", [4, 9, 17])
def test_operations_have_the_strengths_of_torchvisions_randaugment(
    name: str, magnitude: int
) -> None:
    """Shears apart, which torchvision centres on a corner and we on the middle."""
    theirs = v2.RandAugment(fill=GREY)
    strengths, signed = theirs._AUGMENTATION_SPACE[NAMES[name]]
    values = strengths(STEPS + 1, 16, 16)
    strength = 0.0 if values is None else float(values[magnitude])
    x = _images().permute(0, 3, 1, 2)
    for sign in (1, -1) if signed else (1,):
        got = OPS[name](x, sign * magnitude / STEPS)
        if name.startswith("shear"):
            rows = 7 if name.endswith("x") else slice(None)
            cols = 7 if name.endswith("y") else slice(None)
            assert torch.equal(got[:, :, rows, cols], x[:, :, rows, cols])
            continue
        wanted = theirs._apply_image_or_video_transform(
            x, NAMES[name], sign * strength, interpolation="nearest", fill={torch.Tensor: GREY}
        )
        assert (got.int() - wanted.int()).abs().max() <= 1


def test_each_image_draws_for_itself_and_the_generator_decides() -> None:
    def run(seed: int) -> torch.Tensor:
        return randaugment(_images(), 2, 15, torch.Generator().manual_seed(seed))

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))
    same = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(40, 16, 16, 3)
    results = randaugment(same, 2, 15, torch.Generator().manual_seed(0))
    assert len({result.numpy().tobytes() for result in results}) > 15


def test_grey_images_and_the_given_array_stay_what_they_are() -> None:
    images = _images(channels=1)
    before = images.clone()
    changed = randaugment(images, 2, 9, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert torch.equal(images, before)
