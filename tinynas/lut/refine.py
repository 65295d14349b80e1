"""A kernel cost model moved to what was measured on a board.

The whole model is scaled by the median of measured over predicted, and each group of operators by
a factor of its own, drawn towards the scale: few rows move the model as a whole, more tell the
groups apart. Groups with many rows get coefficients of their own, held near the scaled ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
import numpy.typing as npt

from tinynas.cost.latency import coefficients_of
from tinynas.cost.latency_choice import Known
from tinynas.cost.latency_features import group_of
from tinynas.cost.latency_table import ANY_VERSION, Entry, Model, Validation, significant
from tinynas.cost.op_shape import OpShape
from tinynas.lut.nonnegative import Coefficients, Samples, by_group, cost, fit_group, folds
from tinynas.lut.scores import scores

Floats = npt.NDArray[np.float64]
# Standard deviations of the logarithm: of an operator about its group, of a group about the model.
# With 0.2 to 1 for groups, one network counted in one build of the emulator predicts others of
# latency_models/evidence equally well, with less than 0.1 worse.
NOISE, GROUPS = 0.1, 0.3
# Cycles that timing an operator may add or lose: 440 to 600 are the interpreter's for each one.
JITTER_CYCLES = 200
ENOUGH_TO_FIT = 10
MOST_FOLDS = 10
ENOUGH_TO_CHECK = 3
# Below this a spread is luck: repeats on a board agree within 0.3 %, two clocks within 0.6 %.
LEAST_SPREAD = 0.03
# What networks are off by before rows say it, and how many rows that counts for: intervals at 90 %
# from one network of the emulator then hold 87 to 100 % of others, where kernels are of one kind.
SPREAD_BEFORE, ROWS_BEFORE = 0.15, 2

# Measured operators that the model before could predict, and what it predicted.
Rows = Sequence[tuple[OpShape, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """A model moved to `rows` measurements, and the factors: of all, and of each group.

    Groups in `fitted` had rows enough for coefficients of their own.
    """

    model: Model
    rows: int
    scale: float
    groups: dict[str, float]
    fitted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    scale: float
    groups: dict[str, float]
    fitted: tuple[str, ...]
    cycles: Coefficients


def refine(known: Known, entries: Mapping[OpShape, Entry], source: str) -> Refined | None:
    """The model that is known, moved to the entries; None where it knows none of their kinds.

    Raises UsageError for a model with features that are not known.
    """
    coefficients_of(known.model, known.table)
    rows = list(_rows(known, entries))
    if not rows:
        return None
    fit = _fit(known, rows)
    return Refined(
        model=_model(known, fit, rows, source),
        rows=len(rows),
        scale=fit.scale,
        groups=fit.groups,
        fitted=fit.fitted,
    )


def _rows(known: Known, entries: Mapping[OpShape, Entry]) -> Rows:
    found = []
    for shape in sorted(entries):
        try:
            predicted = cost(known.model.cycles, shape)
        except (ValueError, KeyError):
            continue
        if predicted > 0 and entries[shape].cycles > 0:
            found.append((shape, entries[shape].cycles, predicted))
    return found


def _fit(known: Known, rows: Rows) -> _Fit:
    """The model moved to rows, at least one."""
    logs = np.array([np.log(measured / predicted) for _, measured, predicted in rows])
    measured = np.array([cycles for _, cycles, _ in rows])
    groups = [group_of(shape) for shape, _, _ in rows]
    names = sorted(set(groups))
    shift = _middle(logs, measured)
    # What each row is worth: 1 / variance.
    worth = 1 / (NOISE**2 + (JITTER_CYCLES / measured) ** 2)
    factors = {}
    for name in names:
        here = np.array([group == name for group in groups])
        pull = float((worth * (logs - shift))[here].sum() / (worth[here].sum() + GROUPS**-2))
        factors[name] = exp(shift + pull)
    moved = {
        group: {name: c * factors.get(group, exp(shift)) for name, c in cycles.items()}
        for group, cycles in known.model.cycles.items()
    }
    samples = by_group([(shape, cycles) for shape, cycles, _ in rows])
    enough = [name for name in names if len(samples[name]) >= ENOUGH_TO_FIT]
    own = {name: _own(samples[name], moved[name]) for name in enough}
    return _Fit(scale=exp(shift), groups=factors, fitted=tuple(own), cycles={**moved, **own})


def _own(samples: Samples, moved: dict[str, float]) -> dict[str, float]:
    """Coefficients fitted to samples of one group, near the moved ones."""
    try:
        return fit_group(samples, moved)
    except RuntimeError:  # the solver gave up: figures of all sizes in no order
        return moved


def _middle(logs: Floats, measured: Floats) -> float:
    """The median, in which long operators count for more: by the root of their cycles.

    A mean would let one kind that is far off move all that were not measured: up to twice the
    error on networks of latency_models/evidence.
    """
    order = np.argsort(logs, kind="stable")
    weights = np.cumsum(np.sqrt(measured)[order])
    return float(logs[order][np.searchsorted(weights, weights[-1] / 2)])


def _left_out(known: Known, rows: Rows) -> list[float]:
    """What is predicted of each row by a model moved to others, at least one."""
    found = [0.0] * len(rows)
    shapes = [shape for shape, _, _ in rows]
    for seen, held in folds(shapes, min(len(rows), MOST_FOLDS)):
        fit = _fit(known, [rows[i] for i in seen])
        for i in held:
            found[i] = max(cost(fit.cycles, shapes[i]), 1.0)
    return found


def _model(known: Known, fit: _Fit, rows: Rows, source: str) -> Model:
    """The moved model, as unsure as rows that were left out show."""
    measured = [cycles for _, cycles, _ in rows]
    predicted = _left_out(known, rows) if len(rows) > 1 else []
    spread, degrees = known.spread, known.model.degrees
    if predicted:
        spread, degrees = _spread(measured, predicted)
    counts = Counter(group_of(shape) for shape, _, _ in rows)
    groups = ", ".join(f"{name} {factor:.3g}" for name, factor in sorted(fit.groups.items()))
    fitted = ", ".join(f"{name} to {counts[name]} rows" for name in fit.fitted)
    return Model(
        runtime=known.model.runtime,
        version=ANY_VERSION,
        provenance="calibrated",
        source=f"{source}; costs of {known.words()} times {fit.scale:.3g}, of them {groups}"
        + (f"; then fitted: {fitted}" if fitted else ""),
        rows=len(rows),
        architectures=0,
        spread=significant(spread),
        degrees=degrees,
        validation=_validation(measured, predicted),
        per_inference=significant(known.model.per_inference * fit.scale),
        cycles={
            group: {name: significant(c) for name, c in cycles.items()}
            for group, cycles in fit.cycles.items()
        },
    )


def _spread(measured: Sequence[float], predicted: Sequence[float]) -> tuple[float, int]:
    """The spread of a network's latency and its degrees of freedom.

    A sum is off by no more than its parts are in the root of the mean square weighted by their
    time, which is worth as many rows as would weigh the same if they took alike.
    """
    times = np.array(measured)
    weights = times / times.sum()
    rows = 1 / float((weights**2).sum())
    square = float((weights * np.log(times / np.array(predicted)) ** 2).sum())
    both = (ROWS_BEFORE * SPREAD_BEFORE**2 + rows * square) / (ROWS_BEFORE + rows)
    return max(sqrt(both), LEAST_SPREAD), round(ROWS_BEFORE + rows) - 1


def _validation(measured: Sequence[float], predicted: Sequence[float]) -> tuple[Validation, ...]:
    """How far off the model was on each row when fitted to others."""
    if len(predicted) < ENOUGH_TO_CHECK:
        return ()
    found = scores(measured, predicted)
    alone = len(predicted) <= MOST_FOLDS
    return (
        Validation(
            of="operators",
            count=found.count,
            groups=found.count,
            method="each operator left out in turn"
            if alone
            else f"{MOST_FOLDS} folds of configurations",
            mean_percent=significant(found.mean_percent),
            p90_percent=significant(found.p90_percent),
            max_percent=significant(found.max_percent),
            within_10_percent=significant(found.within_10_percent),
            kendall_tau=None if found.kendall_tau is None else significant(found.kendall_tau),
            spread=significant(found.spread),
        ),
    )
