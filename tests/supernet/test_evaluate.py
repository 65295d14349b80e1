from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinynas.space.arch import largest
from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import (
    Score,
    one_thread,
    predict_logits,
    recalibrate,
    recalibrate_and_score,
    score,
)
from tinynas.supernet.network import Supernet, extract


def _supernet(space: SearchSpace) -> Supernet:
    return Supernet(space, width=1.0, classes=10, channels=1, seed=7)


def _first_norm(net: nn.Sequential) -> nn.BatchNorm2d:
    return next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))


def _stem_output(net: Supernet, images: np.ndarray) -> np.ndarray:
    x = torch.from_numpy((images.astype(np.float32) - 128) / 128).permute(0, 3, 1, 2)
    with torch.no_grad():
        y = F.conv2d(x, net.stem.weight, padding=1)
    return y.double().numpy()


def test_statistics_are_mean_and_variance_of_the_calibration_images(tiny, digits) -> None:
    net = _supernet(tiny)
    plain = recalibrate(extract(net, largest(tiny, width=1.0, resolution=8)), digits.images[:40])
    y = _stem_output(net, digits.images[:40])
    norm = _first_norm(plain)
    np.testing.assert_allclose(norm.running_mean, y.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, y.var((0, 2, 3), ddof=1), rtol=1e-4)


def test_statistics_of_several_batches_are_averaged(tiny, digits) -> None:
    net = _supernet(tiny)
    plain = recalibrate(extract(net, largest(tiny, width=1.0, resolution=8)), digits.images[:96])
    y = _stem_output(net, digits.images[:96]).reshape(3, 32, 8, 8, 8)
    norm = _first_norm(plain)
    mean, var = y.mean((1, 3, 4)).mean(0), y.var((1, 3, 4), ddof=1).mean(0)
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-4)


def test_recalibration_does_not_depend_on_statistics_before(tiny, digits) -> None:
    once = recalibrate(
        extract(_supernet(tiny), largest(tiny, width=1.0, resolution=8)), digits.images[:100]
    )
    again = recalibrate(once, digits.images[:100])
    for name, value in once.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert _first_norm(again).momentum == nn.BatchNorm2d(1).momentum
    assert not again.training


def test_a_score_counts_images_whose_largest_logit_is_the_label(tiny, digits) -> None:
    plain = recalibrate(
        extract(_supernet(tiny), largest(tiny, width=1.0, resolution=8)), digits.images[:100]
    )
    logits = predict_logits(plain, digits.images[:150])
    assert logits.shape == (150, 10)
    labels = logits.argmax(1)
    labels[:30] = (labels[:30] + 1) % 10
    result = score(plain, digits.images[:150], labels)
    assert result == Score(correct=120, count=150)
    assert result.accuracy == 0.8
    with torch.no_grad():
        x = torch.from_numpy(digits.images[:150]).permute(0, 3, 1, 2).float().sub(128).div(128)
        np.testing.assert_allclose(logits, plain(x), rtol=1e-4, atol=1e-4)


def test_scoring_changes_nothing_and_repeats_on_any_number_of_threads(tiny, digits) -> None:
    net = _supernet(tiny)
    arch = largest(tiny, width=1.0, resolution=8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator_state = torch.get_rng_state()

    def run(threads: int) -> tuple[Score, int]:
        torch.set_num_threads(threads)
        images, labels = digits.images[100:300], digits.labels[100:300]
        return (
            recalibrate_and_score(net, arch, digits.images[:100], images, labels),
            torch.get_num_threads(),
        )

    (first, one), (second, two) = run(1), run(2)
    assert first == second
    assert (one, two) == (1, 2)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator_state)


def test_the_number_of_threads_is_restored_after_an_error() -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == 2
