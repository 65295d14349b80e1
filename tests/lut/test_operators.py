"""Kernel models of emulated builds and of the boards with timed operators."""

from __future__ import annotations

import pytest

from tinynas.cost.latency_features import FEATURES, group_of
from tinynas.cost.latency_table import Model
from tinynas.cost.op_shape import OpShape
from tinynas.lut.nonnegative import cost
from tinynas.lut.operators import (
    BOARD_BUILDS,
    board_model,
    board_prior,
    board_samples,
    emulated_samples,
    instruction_scores,
    instructions,
)

BUILD = "cortex-m4-cmsisnn-2022"
# Groups that multiply, and that take most of a network's time.
MULTIPLYING = ("conv_1x1", "conv_kxk", "depthwise", "depthwise_3x3", "fully_connected")


@pytest.fixture(scope="module", params=BOARD_BUILDS)
def board(request: pytest.FixtureRequest) -> tuple[str, Model]:
    return request.param, board_model(request.param)


def test_instructions_cover_every_group() -> None:
    found = instructions(BUILD)
    assert found.keys() == FEATURES.keys()
    for group, coefficients in found.items():
        assert coefficients and coefficients.keys() <= set(FEATURES[group])
        assert not any(name.startswith("fetched") for name in coefficients)


def test_instructions_are_predicted_within_two_per_cent() -> None:
    found = instruction_scores(BUILD)
    assert {group: found[group].mean_percent < 1 for group in MULTIPLYING} == dict.fromkeys(
        MULTIPLYING, True
    )
    assert max(found[group].p90_percent for group in MULTIPLYING) < 2


def test_quantize_has_what_the_whole_network_counts() -> None:
    # mcunet-vww1 quantizes 80 x 80 x 3 floats in 578,610 instructions of an M4 with FPU.
    image = OpShape("QUANTIZE", 80, 80, 3, 80, 80, 3)
    assert cost(instructions("cortex-m4-cmsisnn"), image) == pytest.approx(578610, rel=1e-3)


def test_emulated_samples_have_each_row_once() -> None:
    samples = emulated_samples(BUILD)
    assert len(samples) == 3908 and all(count > 0 for _, count in samples)


def test_boards_meet_the_goal_on_configurations_not_seen(board: tuple[str, Model]) -> None:
    (found,) = board[1].validation
    assert found.of == "operators" and found.groups <= found.count == board[1].rows
    assert found.mean_percent <= 2 and found.p90_percent <= 5
    assert found.kendall_tau is not None and found.kendall_tau > 0.98
    assert found.baseline_mean_percent is not None and found.baseline_mean_percent > 15


def test_a_board_has_cycles_for_every_group(board: tuple[str, Model]) -> None:
    assert board[1].cycles.keys() == FEATURES.keys()
    assert 400 < board[1].per_inference < 700


def test_layers_larger_than_any_that_was_timed_stay_near_their_instructions(
    board: tuple[str, Model],
) -> None:
    mcu, model = board
    for layer in (
        OpShape("CONV_2D", 96, 96, 3, 48, 48, 8, 3, 3, 2, 2, "same", "relu"),
        OpShape("CONV_2D", 12, 12, 256, 12, 12, 256, 3, 3, 1, 1, "same", "relu"),
        OpShape("CONV_2D", 6, 6, 240, 6, 6, 96, 1, 1, 1, 1, "same", ""),
    ):
        timed = [row for row in board_samples(mcu) if group_of(row.shape) == group_of(layer)]
        ratios = [row.cycles / cost(board_prior(mcu), row.shape) for row in timed]
        ratio = cost(model.cycles, layer) / cost(board_prior(mcu), layer)
        assert 0.9 * min(ratios) < ratio < 1.15 * max(ratios)


def test_the_same_rows_give_the_same_model() -> None:
    assert board_model("stm32f446") == board_model("stm32f446")


def test_a_softmax_with_a_window_is_another_operators_shape() -> None:
    kinds = [row.shape for mcu in BOARD_BUILDS for row in board_samples(mcu)]
    assert all(shape.kernel_h == 1 for shape in kinds if shape.kind == "SOFTMAX")
