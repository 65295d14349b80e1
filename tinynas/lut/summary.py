"""What a check says as a whole: errors by MCU and runtime, and the rows without a prediction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinynas.lut.check import CheckedRow
from tinynas.lut.scores import Scores, scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The scores of an MCU, runtime and version, None for all versions together.

    `entries` of the rows were measured operators of the table, or models with some, and
    `inside_percent` lie in their 90 % intervals.
    """

    mcu: str
    runtime: str
    version: str | None
    scores: Scores
    entries: int
    inside_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Groups by name, rows of another model than the nominal one apart, and what has no figures.

    `why_not` has the rows of each reason for which nothing is predicted, by their ids.
    """

    rows: int
    predicted: int
    unmeasured: int
    groups: tuple[Group, ...]
    other_models: Group | None
    why_not: dict[str, tuple[str, ...]]


def summarise(rows: Sequence[CheckedRow]) -> Summary:
    """The summary of checked rows."""
    compared = [
        row for row in rows if row.prediction and row.prediction.value > 0 and row.measured
    ]
    nominal = [row for row in compared if not row.other_model]
    others = [row for row in compared if row.other_model]
    why_not: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.prediction is None:
            why_not[row.why].append(row.id)
    predicted = sum(row.prediction is not None for row in rows)
    return Summary(
        rows=len(rows),
        predicted=predicted,
        unmeasured=predicted - len(compared),
        groups=tuple(_groups(nominal)),
        other_models=_group("", "", None, others) if others else None,
        why_not={why: tuple(ids) for why, ids in sorted(why_not.items())},
    )


def _groups(rows: Sequence[CheckedRow]) -> list[Group]:
    """A group for each MCU and runtime, followed by its versions where there are several."""
    by_runtime: dict[tuple[str, str], list[CheckedRow]] = defaultdict(list)
    for row in rows:
        by_runtime[row.mcu, row.runtime].append(row)
    groups = []
    for (mcu, runtime), together in sorted(by_runtime.items()):
        versions = sorted({row.version for row in together})
        only = versions[0] if len(versions) == 1 else None
        groups.append(_group(mcu, runtime, only, together))
        for version in versions if only is None else ():
            some = [row for row in together if row.version == version]
            groups.append(_group(mcu, runtime, version, some))
    return groups


def _group(mcu: str, runtime: str, version: str | None, rows: Sequence[CheckedRow]) -> Group:
    pairs = [(r.measured, r.prediction) for r in rows if r.measured and r.prediction]
    inside = sum(found.low <= measured <= found.high for measured, found in pairs)
    return Group(
        mcu=mcu,
        runtime=runtime,
        version=version,
        scores=scores([measured for measured, _ in pairs], [found.value for _, found in pairs]),
        entries=sum(found.entry for _, found in pairs),
        inside_percent=100 * inside / len(pairs),
    )


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON."""
    return {
        "rows": summary.rows,
        "predicted": summary.predicted,
        "without_measurement": summary.unmeasured,
        "groups": [_group_json(group) for group in summary.groups],
        "other_models": summary.other_models and _group_json(summary.other_models),
        "not_predicted": [
            {"reason": why, "count": len(ids), "ids": list(ids)}
            for why, ids in summary.why_not.items()
        ],
    }


def _group_json(group: Group) -> dict[str, Any]:
    names = {"mcu": group.mcu, "runtime": group.runtime, "version": group.version}
    figures = {name: _rounded(value) for name, value in asdict(group.scores).items()}
    inside = round(group.inside_percent, 3)
    return {**names, **figures, "entries": group.entries, "inside_interval_percent": inside}


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
