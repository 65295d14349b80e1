from __future__ import annotations

from statistics import fmean

import pytest

from tinynas.cost.latency_features import FEATURES
from tinynas.cost.latency_table import find_table, read_table
from tinynas.lut.evidence import operator_rows
from tinynas.lut.models import cell_of, known_rows
from tinynas.lut.tables import CHIPS, CORTEX_M, TFLM, build_tables, entries
from tinynas.paths import data_dir

TABLES = data_dir("latency_models") / "tables"
NAMES = sorted({path.stem for path in TABLES.iterdir()})
LARGEST_BYTES = 200_000


@pytest.mark.slow
def test_the_committed_tables_are_what_the_evidence_gives() -> None:
    committed = {path.name: path.read_text("utf-8") for path in TABLES.iterdir()}
    assert build_tables() == committed


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_small_and_knows_every_group(name: str) -> None:
    files = [path for path in TABLES.iterdir() if path.stem == name]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES
    table = read_table(TABLES, name)
    assert table.models
    for model in table.models.values():
        assert set(model.cycles) == set(FEATURES)
        assert all(set(known) <= set(FEATURES[g]) for g, known in model.cycles.items())
        assert model.provenance == "estimated" or model.rows > 0
        assert model.fitted == "2026-11-22"


def test_every_timed_cell_has_a_model() -> None:
    for cell in {cell_of(row) for row in known_rows()}:
        assert (cell.runtime, cell.version) in find_table(cell.mcu, entries=False).models


def test_every_cortex_m_chip_runs_both_tflm() -> None:
    timed = {row.mcu for row in known_rows() if row.core in CORTEX_M}
    for mcu in timed | set(CHIPS):
        table = find_table(mcu, entries=False)
        assert all(table.model(runtime) for runtime in TFLM), mcu


def test_chips_without_evidence_are_estimated_and_less_sure() -> None:
    for mcu in ("rp2040", "nrf52840", "stm32f412"):
        model = find_table(mcu, entries=False).model("tflm-cmsis-nn")
        seen = find_table("stm32h743", entries=False).model("tflm-cmsis-nn")
        assert model and seen
        assert model.provenance == "estimated"
        assert model.spread > seen.spread


def test_entries_are_means_of_what_was_measured() -> None:
    known = entries("stm32l552")
    shape = min(known)
    rows = [r.cycles for r in operator_rows() if r.mcu == "stm32l552" and r.shape == shape]
    assert known[shape].cycles == pytest.approx(fmean(rows), rel=1e-6)
    assert known[shape].provenance == "measured"
