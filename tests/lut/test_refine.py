"""A model moved to measurements: by hand where there are few, back to the truth where many."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_tables import model

from tinynas.cost.latency_choice import Known
from tinynas.cost.latency_features import group_of
from tinynas.cost.latency_table import Entry
from tinynas.cost.op_shape import OpShape
from tinynas.errors import UsageError
from tinynas.lut.nonnegative import cost
from tinynas.lut.refine import GROUPS, LEAST_SPREAD, NOISE, Refined, refine

BASE = model("tflm", spread=0.4, degrees=7, per_inference=1000.0)
KNOWN = Known(
    mcu="mine", table="core-mine", model=BASE, provenance="estimated", spread=BASE.spread
)
ADDS = [OpShape("ADD", s, s, 64, s, s, 64) for s in (20, 30, 40)]
CONVS = [OpShape("CONV_2D", s, s, 16, s, s, 16, padding="same") for s in (20, 30, 40)]
SHAPES = [*ADDS, *CONVS, OpShape("FULLY_CONNECTED", 1, 1, 512, 1, 1, 100)]


def predicted(shape: OpShape) -> float:
    return cost(BASE.cycles, shape)


def moved(measured: dict[OpShape, float], known: Known = KNOWN) -> Refined:
    entries = {
        shape: Entry(cycles=cycles, provenance="measured", source="bench")
        for shape, cycles in measured.items()
    }
    found = refine(known, entries, "imported: bench")
    assert found is not None
    return found


def test_what_takes_a_fourth_more_moves_everything_by_a_fourth() -> None:
    found = moved({shape: 1.25 * predicted(shape) for shape in SHAPES})
    assert found.scale == pytest.approx(1.25)
    assert found.groups == pytest.approx({"add": 1.25, "conv_1x1": 1.25, "fully_connected": 1.25})
    assert found.model.per_inference == pytest.approx(1250)
    for group, cycles in BASE.cycles.items():
        assert found.model.cycles[group] == pytest.approx({n: 1.25 * c for n, c in cycles.items()})
    (checked,) = found.model.validation
    assert (checked.count, checked.of) == (7, "operators")
    assert checked.max_percent == pytest.approx(0, abs=1e-3)
    assert (found.rows, found.model.rows, found.model.architectures) == (7, 7, 0)
    assert (found.model.runtime, found.model.version) == ("tflm", "any")
    assert found.model.provenance == "calibrated"


def test_one_operator_moves_the_model_that_stays_as_unsure_as_it_was() -> None:
    found = moved({ADDS[0]: 2 * predicted(ADDS[0])})
    assert found.scale == pytest.approx(2) == found.groups["add"]
    assert found.model.cycles["softmax"]["calls"] == pytest.approx(200)
    assert (found.model.spread, found.model.degrees) == (0.4, 7)
    assert found.model.validation == ()


def test_the_scale_is_the_median_and_groups_are_drawn_towards_it() -> None:
    # So long that jitter is nothing: noise and the spread of groups alone decide.
    adds = [OpShape("ADD", s, s, 64, s, s, 64) for s in (400, 401, 402)]
    conv = OpShape("CONV_2D", 400, 400, 16, 400, 400, 16, padding="same")
    measured = {shape: 2 * predicted(shape) for shape in adds}
    found = moved({**measured, conv: 8 * predicted(conv)})
    kept = 1 / (1 + (NOISE / GROUPS) ** 2)
    assert found.scale == pytest.approx(2)
    assert found.groups == pytest.approx({"add": 2, "conv_1x1": 2 * 4**kept}, rel=1e-4)
    assert found.model.cycles["softmax"]["calls"] == pytest.approx(200)


def test_long_operators_count_for_more_in_the_median() -> None:
    large = OpShape("ADD", 400, 400, 64, 400, 400, 64)
    small = [OpShape("FULLY_CONNECTED", 1, 1, 8, 1, 1, n) for n in (2, 3, 4)]
    factors = {large: 1.5, **dict.fromkeys(small, 3.0)}
    assert moved({s: f * predicted(s) for s, f in factors.items()}).scale == pytest.approx(1.5)


def test_the_spread_is_that_of_rows_left_out_weighted_by_their_time() -> None:
    measured = {ADDS[0]: predicted(ADDS[0]), ADDS[2]: 1.2 * predicted(ADDS[2])}
    found = moved(measured)
    # Either one predicted by the other is off by a factor of 1.2: weights change nothing.
    weights = np.array(list(measured.values())) / sum(measured.values())
    rows = 1 / (weights**2).sum()
    wanted = sqrt((2 * 0.15**2 + rows * log(1.2) ** 2) / (2 + rows))
    assert found.model.spread == pytest.approx(wanted, rel=1e-4)
    assert found.model.degrees == round(rows) + 1


def test_short_operators_do_not_make_long_ones_unsure() -> None:
    softmax = OpShape("SOFTMAX", 1, 1, 10, 1, 1, 10)
    measured = {shape: 1.1 * predicted(shape) for shape in SHAPES}
    found = moved({**measured, softmax: 5 * predicted(softmax)})
    (checked,) = found.model.validation
    assert checked.spread > 0.3
    assert found.model.spread < 0.11


def test_many_rows_in_agreement_leave_the_least_spread() -> None:
    shapes = [OpShape("ADD", 20, 20, c, 20, 20, c) for c in range(100, 160)]
    found = moved({shape: 1.1 * predicted(shape) for shape in shapes})
    assert found.model.spread == LEAST_SPREAD
    assert found.model.validation[0].method == "10 folds of configurations"


def test_ten_rows_of_a_group_give_it_costs_of_its_own() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(4, 40, (30, 3)).tolist()
    shapes = [OpShape("CONV_2D", s, s, 4 * c, s, s, o, padding="same") for s, c, o in sizes]
    truth = {"macs": 3.5, "outputs": 2.0, "calls": 900.0}
    whole = {**BASE.cycles, "conv_1x1": truth}
    found = moved({shape: cost(whole, shape) for shape in [*shapes, ADDS[0]]})
    assert found.fitted == ("conv_1x1",)
    unseen = OpShape("CONV_2D", 17, 17, 60, 17, 17, 50, padding="same")
    assert cost(found.model.cycles, unseen) == pytest.approx(cost(whole, unseen), rel=0.01)
    assert "then fitted: conv_1x1 to 30 rows" in found.model.source
    assert moved({shape: cost(whole, shape) for shape in shapes[:9]}).fitted == ()


def test_kinds_that_the_model_does_not_know_count_for_nothing() -> None:
    odd = {OpShape("CUSTOM:mine", 1, 1, 1, 1, 1, 1): 5.0}
    assert moved({ADDS[0]: 5e5, **odd}).rows == 1
    entries = {s: Entry(cycles=c, provenance="measured", source="") for s, c in odd.items()}
    assert refine(KNOWN, entries, "") is None
    without = Known(
        mcu="mine",
        table="mine",
        model=model("tflm", without=("add",)),
        provenance="calibrated",
        spread=0.1,
    )
    adds = {ADDS[0]: Entry(cycles=5.0, provenance="measured", source="")}
    assert refine(without, adds, "") is None


def test_a_model_with_unknown_features_is_refused() -> None:
    wrong = model("tflm", cycles={"add": {"luck": 1.0}})
    known = Known(mcu="mine", table="mine", model=wrong, provenance="calibrated", spread=0.1)
    with pytest.raises(UsageError, match=r"add\.luck"):
        refine(known, {ADDS[0]: Entry(cycles=5.0, provenance="measured", source="")}, "")


SIZES = st.integers(1, 200)
ANY_SHAPE = st.one_of(
    st.builds(lambda s, c: OpShape("ADD", s, s, c, s, s, c), SIZES, SIZES),
    st.builds(lambda s, c, o: OpShape("CONV_2D", s, s, c, s, s, o, padding="same"), *[SIZES] * 3),
    st.builds(lambda c, o: OpShape("FULLY_CONNECTED", 1, 1, c, 1, 1, o), SIZES, SIZES),
)


@given(st.dictionaries(ANY_SHAPE, st.floats(1, 1e14), min_size=1, max_size=25))
def test_whatever_was_measured_coefficients_and_spread_are_plausible(
    measured: dict[OpShape, float],
) -> None:
    found = moved(measured)
    assert found.model == moved(dict(reversed(measured.items()))).model
    assert found.model.spread >= LEAST_SPREAD and found.model.degrees >= 1
    for cycles in found.model.cycles.values():
        assert all(c >= 0 and np.isfinite(c) for c in cycles.values())
    assert all(cost(found.model.cycles, shape) > 0 for shape in measured)
    ratios = [measured[s] / predicted(s) for s in measured]
    assert min(ratios) * 0.999 <= found.scale <= max(ratios) * 1.001
    assert {group_of(s) for s in measured} == found.groups.keys()
