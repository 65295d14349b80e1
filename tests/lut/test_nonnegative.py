"""Fits of coefficients: samples made from known ones give these back."""

from __future__ import annotations

import numpy as np
import pytest

from tinynas.cost.latency_features import FEATURES
from tinynas.cost.op_shape import OpShape
from tinynas.lut.nonnegative import (
    Coefficients,
    Samples,
    by_group,
    cost,
    cross_predicted,
    fit_group,
    folds,
    scale,
)

KNOWN: Coefficients = {
    "conv_kxk": {
        "macs": 2.5,
        "rest_macs": 2.0,
        "outputs": 60.0,
        "pixels": 110.0,
        "taps": 50.0,
        "gathered": 3.2,
        "padded": 13.0,
        "calls": 2000.0,
    },
    "depthwise_3x3": {"inside_macs": 12.0, "row_fours": 25.0, "outputs": 40.0, "calls": 900.0},
    "fully_connected": {"macs": 2.8, "rest_macs": 4.5, "outputs": 70.0, "calls": 700.0},
}


def shapes(count: int = 120) -> list[OpShape]:
    """Operators of the groups of KNOWN, of all sizes."""
    rng = np.random.default_rng(1)
    found = []
    for size, inputs, outputs, kernel in rng.integers((3, 5, 1, 2), (20, 40, 40, 6), (count, 4)):
        size, inputs, outputs, kernel = int(size), int(inputs), int(outputs), int(kernel)
        image, end = (size, size), (1, 1, "same", "")
        found += [
            OpShape("CONV_2D", *image, inputs, *image, outputs, kernel, kernel, *end),
            OpShape("DEPTHWISE_CONV_2D", *image, inputs, *image, inputs, 3, 3, *end),
            OpShape("FULLY_CONNECTED", 1, 1, 8 * inputs + kernel, 1, 1, outputs),
        ]
    return found


ALL = [(shape, cost(KNOWN, shape)) for shape in shapes()]
SAMPLES = by_group(ALL)


@pytest.mark.parametrize("group", KNOWN)
def test_known_coefficients_come_back(group: str) -> None:
    held, seen = SAMPLES[group][::4], [s for i, s in enumerate(SAMPLES[group]) if i % 4]
    found = {group: fit_group(seen)}
    for shape, wanted in held:
        assert cost(found, shape) == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("group", ["conv_kxk", "fully_connected"])
def test_they_come_back_one_by_one_where_nothing_else_goes_with_them(group: str) -> None:
    found = fit_group(SAMPLES[group])
    for name in ("macs", "rest_macs", "outputs"):
        assert found[name] == pytest.approx(KNOWN[group][name], rel=0.02)


def test_coefficients_are_above_zero_and_the_same_each_time() -> None:
    samples = [(shape, wanted * (1 + i % 7 / 50)) for i, (shape, wanted) in enumerate(ALL)]
    for group, rows in by_group(samples).items():
        found = fit_group(rows)
        assert found == fit_group(list(rows))
        assert all(value > 0 and value == float(f"{value:.5g}") for value in found.values())
        assert found.keys() <= set(FEATURES[group])


def test_a_few_far_off_do_not_move_the_rest() -> None:
    rows = SAMPLES["conv_kxk"]
    disturbed = [
        (shape, wanted * (1.1 if i < 20 else 1)) for i, (shape, wanted) in enumerate(rows)
    ]
    found = {"conv_kxk": fit_group(disturbed)}
    errors = [abs(cost(found, shape) / wanted - 1) for shape, wanted in rows]
    assert float(np.median(errors)) < 0.003


def test_what_no_sample_shows_stays_as_it_was_known() -> None:
    even = [s for s in SAMPLES["conv_kxk"] if s[0].pixels % 2 == 0 and s[0].out_c % 2 == 0]
    prior = {**KNOWN["conv_kxk"], "macs": 3.0, "odd_channel_macs": 0.5, "odd_pixel_macs": 1.5}
    found = fit_group(even, prior)
    assert found["odd_channel_macs"] == 0.5 and found["odd_pixel_macs"] == 1.5
    assert found["macs"] == pytest.approx(2.5, rel=0.02)


def test_features_can_be_left_out() -> None:
    found = fit_group(SAMPLES["conv_kxk"], without=frozenset({"padded"}))
    assert "padded" not in found and found["macs"] > 0


def test_the_scale_is_the_ratio() -> None:
    assert scale([(s, 1.5 * wanted) for s, wanted in ALL], KNOWN) == pytest.approx(1.5)


def test_a_configuration_is_in_one_fold_only() -> None:
    twice = shapes(10) * 2
    held_before: list[int] = []
    for seen, held in folds(twice):
        assert not {twice[i] for i in seen} & {twice[i] for i in held}
        assert sorted(seen + held) == list(range(len(twice)))
        held_before += held
    assert sorted(held_before) == list(range(len(twice)))


def test_cross_prediction_sees_no_configuration_that_it_predicts() -> None:
    asked: list[set[OpShape]] = []

    def remember(samples: Samples) -> Coefficients:
        asked.append({shape for shape, _ in samples})
        return KNOWN

    assert cross_predicted(ALL, remember) == pytest.approx([wanted for _, wanted in ALL])
    everything = {shape for shape, _ in ALL}
    assert set.intersection(*asked) == set() and set.union(*asked) == everything


def test_a_group_without_coefficients_costs_no_zero() -> None:
    with pytest.raises(KeyError):
        cost(KNOWN, OpShape("ADD", 4, 4, 8, 4, 4, 8))
