"""A space written out: every operator of its subnets, once, with its latency."""

from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path

import pytest
from latency_tables import model, table, timer
from profiled_model import board_in, describe_board

from tinynas.cost.op_shape import KEY, OpShape, op_shape, read_op_shape
from tinynas.lut.expand import expand, operators_of, shares, to_csv
from tinynas.lut.measured import read_log
from tinynas.space.arch import Arch
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, Stage, Stem

SPACE = SearchSpace(
    name="small",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=16, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(1, 4)),
        Stage(channels=24, stride=1, depth=(1, 2), kernel=(3,), expansion=(2, 3)),
    ),
    width_multipliers=(0.5, 1.0),
    resolutions=(8, 16),
)
SHAPES = operators_of(SPACE, classes=4, channels=3)


def subnets(width: float, resolution: int) -> list[Arch]:
    stages = []
    for stage in SPACE.stages:
        blocks = list(product(stage.kernel, stage.expansion))
        stages.append([c for depth in stage.depth for c in product(blocks, repeat=depth)])
    return [
        Arch(
            space=SPACE.name,
            width=width,
            resolution=resolution,
            kernels=tuple(tuple(kernel for kernel, _ in stage) for stage in chosen),
            expansions=tuple(tuple(expansion for _, expansion in stage) for stage in chosen),
        )
        for chosen in product(*stages)
    ]


def test_the_operators_are_those_of_all_subnets() -> None:
    found: set[OpShape] = set()
    for width, resolution in product(SPACE.width_multipliers, SPACE.resolutions):
        for arch in subnets(width, resolution):
            graph = lower(SPACE, arch, classes=4, channels=3)
            found |= {op_shape(graph, op) for op in graph.ops}
    assert sorted(found) == SHAPES


def test_classes_change_the_classifier_alone() -> None:
    other = operators_of(SPACE, classes=5, channels=3)
    assert {s.kind for s in set(other) ^ set(SHAPES)} == {"FULLY_CONNECTED"}


def test_a_space_on_patches_has_their_operators_too() -> None:
    patched = SPACE.model_copy(update={"patches": 2})
    more = set(operators_of(patched, classes=4, channels=3)) - set(SHAPES)
    assert "STRIDED_SLICE" in {shape.kind for shape in more}


def test_each_has_its_cycles_and_where_they_come_from() -> None:
    measured = table(model(), tflm={SHAPES[0]: 1234.0})
    some = timer(entries=measured.entries[("tflm", "any")], clock_hz=2e6)
    rows = expand(some, SHAPES)
    assert (rows[0].cycles, rows[0].provenance) == (1234, "measured")
    assert [row.cycles for row in rows[1:]] == [some.cycles(shape)[0] for shape in SHAPES[1:]]
    assert shares(rows) == pytest.approx(
        {"measured": 1 / len(rows), "calibrated": 1 - 1 / len(rows)}
    )
    lines = list(csv.DictReader(io.StringIO(to_csv(rows, some))))
    assert [read_op_shape(line) for line in lines] == SHAPES
    assert lines[0]["us"] == "617" and lines[0]["cycles"] == "1234"
    assert list(lines[0]) == ["runtime", "version", *KEY, "cycles", "provenance", "us"]
    assert {(line["runtime"], line["version"]) for line in lines} == {("tflm", "any")}


def test_cells_are_empty_where_nothing_is_known() -> None:
    some = timer(model(without=("add",)))
    rows = expand(some, SHAPES)
    unknown = [row.shape.kind for row in rows if row.cycles is None]
    assert set(unknown) == {"ADD"}
    assert shares(rows)["unknown"] == pytest.approx(len(unknown) / len(rows))
    lines = list(csv.DictReader(io.StringIO(to_csv(rows, some))))
    assert {
        (line["cycles"], line["provenance"], line["us"]) for line in lines[: len(unknown)]
    } == {("", "", "")}


def test_a_space_that_was_measured_is_imported_as_it_was_written(tmp_path: Path) -> None:
    rows = expand(timer(), SHAPES)
    measured = to_csv(rows, timer()).replace(",calibrated,", ",measured,")
    (tmp_path / "log.csv").write_text(measured)
    board = board_in(describe_board(tmp_path / "devices", with_core=False))
    found = read_log(tmp_path / "log.csv", board).cycles
    assert found == {row.shape: pytest.approx(row.cycles, rel=1e-6) for row in rows}
