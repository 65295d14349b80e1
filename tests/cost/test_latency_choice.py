"""Which table answers, and the user's folder over the shipped tables."""

from __future__ import annotations

from math import hypot
from pathlib import Path

import pytest
from latency_tables import model, table, write_models

from tinynas.cost.latency_choice import BETWEEN_VERSIONS, find_known, known_of
from tinynas.cost.latency_table import Entry, Table, entries_csv, find_table, merged
from tinynas.cost.op_shape import OpShape
from tinynas.errors import UsageError

CORE = table(model("tflm", scale=9.0), model("hale", "1.0"), mcu="core-cortex-m4f")
ADD = OpShape("ADD", 4, 4, 8, 4, 4, 8)
CONV = OpShape("CONV_2D", 4, 4, 8, 4, 4, 8)


def test_the_version_asked_for_answers_where_there_is_one() -> None:
    mine = table(model("tflm", "2.0"), model("tflm", "1.0", spread=0.2))
    known = known_of(mine, CORE, "tflm", "1.0")
    assert known is not None and not known.borrowed
    assert (known.model.version, known.provenance, known.spread) == ("1.0", "calibrated", 0.2)
    best = known_of(mine, CORE, "tflm")
    assert best is not None and best.model.version == "2.0"


def test_a_model_of_any_version_answers_for_versions_without_one() -> None:
    known = known_of(table(model("tflm", "2.0"), model("tflm", "any")), CORE, "tflm", "7")
    assert known is not None
    assert (known.model.version, known.provenance) == ("any", "calibrated")


def test_another_version_is_an_estimate_and_wider() -> None:
    known = known_of(table(model("tflm", "2.0")), CORE, "tflm", "7")
    assert known is not None
    assert (known.model.version, known.provenance) == ("2.0", "estimated")
    assert known.spread == pytest.approx(hypot(0.1, BETWEEN_VERSIONS))


def test_the_core_answers_for_a_chip_that_nothing_is_known_of() -> None:
    known = known_of(Table(mcu="new"), CORE, "tflm")
    assert known is not None and known.borrowed
    assert (known.provenance, known.table) == ("estimated", "core-cortex-m4f")
    assert "carried over from other chips of its core" in known.rests_on()
    other = known_of(Table(mcu="new"), CORE, "hale", "2.0")
    assert other is not None and other.spread > other.model.spread


def test_nothing_is_known_of_a_runtime_that_neither_has() -> None:
    assert known_of(table(model("tflm")), CORE, "tvm") is None


def test_entries_of_another_version_do_not_answer() -> None:
    entry = Entry(cycles=1.0, provenance="measured", source="")
    mine = Table(
        mcu="round",
        models={("tflm", "2.0"): model("tflm", "2.0")},
        entries={("tflm", "1.0"): {ADD: entry}, ("tflm", "any"): {CONV: entry}},
    )
    known = known_of(mine, CORE, "tflm")
    assert known is not None and set(known.entries) == {CONV}


def test_a_users_models_come_first_and_his_entries_win() -> None:
    shipped = Table(
        mcu="round",
        models={("tflm", "2.0"): model("tflm", "2.0")},
        entries={
            ("tflm", "2.0"): {
                ADD: Entry(cycles=1.0, provenance="measured", source="shipped"),
                CONV: Entry(cycles=2.0, provenance="measured", source="shipped"),
            }
        },
    )
    both = merged(shipped, table(tflm={ADD: 9.0}))
    known = known_of(both, CORE, "tflm")
    assert known is not None
    assert {shape: e.cycles for shape, e in known.entries.items()} == {ADD: 9.0, CONV: 2.0}
    assert merged(shipped, table(model("tflm", "any"))).model("tflm") == model("tflm", "any")


def test_a_users_table_lies_over_the_shipped_one(tmp_path: Path) -> None:
    before = find_table("stm32f746")
    write_models(tmp_path, "stm32f746", model("tflm-cmsis-nn", "mine"))
    (tmp_path / "tables" / "stm32f746.csv").write_text(
        entries_csv(table(**{"tflm-cmsis-nn": {ADD: 7.0}}).entries)
    )
    after = find_table("stm32f746", tmp_path)
    known = find_known("stm32f746", "Cortex-M7", "tflm-cmsis-nn", devices=tmp_path)
    assert known.model == model("tflm-cmsis-nn", "mine")
    assert known.entries[ADD].cycles == 7
    assert set(after.models) == {*before.models, ("tflm-cmsis-nn", "mine")}


def test_a_chip_of_a_core_that_nothing_is_known_of_is_refused() -> None:
    with pytest.raises(UsageError, match="no latency is known for tflm on mine .Z80.; nothing is"):
        find_known("mine", "Z80", "tflm")


def test_errors_are_said_in_words() -> None:
    checked = {
        "of": "models",
        "count": 1,
        "groups": 1,
        "method": "none",
        "mean_percent": 4.0,
        "p90_percent": 9.0,
        "max_percent": 9.5,
        "within_10_percent": 100.0,
        "spread": 0.04,
        "kendall_tau": 0.5,
    }
    known = known_of(table(model(rows=1, architectures=0, validation=[checked])), CORE, "tflm")
    assert known is not None
    assert known.rests_on() == "fitted to 1 measurement"
    assert known.error_text() == (
        "on 1 model that it had not seen off by 4.0 % on average, by at most 9.5 %, Kendall's tau "
        "0.50"
    )
    assert known.operator_spread() == (0.1, 4)
    operators = {**checked, "of": "operators", "groups": 20, "spread": 0.02}
    known = known_of(table(model(validation=[checked, operators])), CORE, "tflm")
    assert known is not None and known.operator_spread() == (0.02, 19)
