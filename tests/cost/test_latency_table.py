"""Files of models and entries: read back as written, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_tables import model, write_models

from tinynas.cost.latency_table import (
    ENTRY_COLUMNS,
    Entry,
    core_table_name,
    entries_csv,
    read_table,
    significant,
    table_yaml,
)
from tinynas.cost.op_shape import OpShape
from tinynas.errors import UsageError
from tinynas.paths import data_dir

CHECKED = {
    "of": "models",
    "count": 5,
    "groups": 4,
    "method": "leave one architecture out",
    "mean_percent": 4.25,
    "p90_percent": 9.0,
    "max_percent": 9.5,
    "within_10_percent": 100.0,
    "kendall_tau": 0.9,
    "spread": 0.05,
}
MODELS = (
    model("tflm", "2.0", fitted="2026-11-22", validation=[CHECKED], per_inference=12.5),
    model("tflm", "1.0", source="a source with: colons, # and 'quotes' " * 9),
    model("hale", "any", spread=1e-5),
)
SIZES = st.integers(1, 10**6)
SHAPES = st.builds(
    OpShape,
    st.sampled_from(["CONV_2D", "ADD", "CUSTOM:mine"]),
    *([SIZES] * 6),
    kernel_h=SIZES,
    padding=st.sampled_from(["same", "valid", ""]),
    activation=st.sampled_from(["relu", "relu6", ""]),
    runs=st.integers(0, 9),
)
ENTRIES = st.dictionaries(
    st.tuples(st.sampled_from(["tflm", "hale"]), st.sampled_from(["any", "1.0"])),
    st.dictionaries(
        SHAPES,
        st.builds(
            Entry,
            cycles=st.floats(0, 1e12) | st.integers(0, 10**9).map(float),
            provenance=st.sampled_from(["measured", "emulated"]),
            source=st.sampled_from(["", "a, b", 'with "marks"']),
        ),
        min_size=1,
    ),
)


def test_models_are_read_back_as_written_and_in_order(tmp_path: Path) -> None:
    write_models(tmp_path, "round", *MODELS)
    read = read_table(tmp_path / "tables", "round")
    assert tuple(read.models.values()) == MODELS
    assert read.runtimes == ("tflm", "hale")
    assert table_yaml(list(read.models.values())) == table_yaml(MODELS)


def test_a_heading_is_a_comment() -> None:
    assert table_yaml(MODELS, "one\ntwo").startswith("# one\n# two\nruntime: tflm\n")


@given(entries=ENTRIES)
def test_entries_are_read_back_as_written(
    entries: dict[tuple[str, str], dict[OpShape, Entry]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("entries")
    (folder / "round.csv").write_text(entries_csv(entries), encoding="utf-8")
    read = read_table(folder, "round")
    assert read.entries == entries
    assert entries_csv(read.entries) == entries_csv(entries)
    assert read_table(folder, "round", entries=False).entries == {}


def test_a_table_that_is_not_there_is_empty(tmp_path: Path) -> None:
    read = read_table(tmp_path, "none")
    assert read.mcu == "none" and not read.models and not read.entries


def test_a_csv_needs_only_kind_sizes_and_cycles(tmp_path: Path) -> None:
    (tmp_path / "round.csv").write_text(
        "runtime,op,in_c,out_c,cycles\ntflm,FULLY_CONNECTED,64,10,5000\n".replace("op,", "kind,")
    )
    shape = OpShape("FULLY_CONNECTED", 1, 1, 64, 1, 1, 10)
    (entry,) = read_table(tmp_path, "round").entries[("tflm", "any")].items()
    assert entry == (shape, Entry(cycles=5000.0, provenance="measured", source=""))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no column 'cycles'"),
        ("runtime,kind\n", "has no column 'cycles'"),
        ("runtime,kind,cycles\ntflm,ADD,many\n", "line 2: could not convert string"),
        ("runtime,kind,cycles\ntflm,ADD,-1\n", "line 2: cycles must be a number of at least 0"),
        ("runtime,kind,cycles\ntflm,ADD,nan\n", "line 2: cycles must be a number of at least 0"),
        ("runtime,kind,cycles,in_h\ntflm,ADD,1,inf\n", "line 2: cannot convert float infinity"),
        ("runtime,kind,cycles,provenance\nt,ADD,1,luck\n", "provenance must be one of measured,"),
        ("runtime,kind,cycles\ntflm\n", "line 2: "),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "round.csv").write_text(text)
    with pytest.raises(UsageError) as error:
        read_table(tmp_path, "round")
    assert complaint in str(error.value) and "round.csv" in str(error.value)
    assert f"columns of a table of entries are {', '.join(ENTRY_COLUMNS)}" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("runtime: tflm", "runtime: ''", "document 1: runtime: "),
        ("calls: 100.0", "calls: -1", "document 1: cycles.add.calls: "),
        ("spread: 0.1", "spread: 0", "document 1: spread: "),
        ("rows: 3", "rows: 3\nluck: 1", "document 1: luck: there is no such key"),
        ("version: any", "version: [", "cannot be read as YAML"),
        ("provenance: calibrated", "provenance: felt", "document 1: provenance: "),
    ],
)
def test_a_broken_model_is_refused_with_its_place(
    old: str, new: str, complaint: str, tmp_path: Path
) -> None:
    text = table_yaml([model()])
    assert old in text
    (tmp_path / "round.yaml").write_text(text.replace(old, new))
    with pytest.raises(UsageError) as error:
        read_table(tmp_path, "round")
    assert complaint in str(error.value) and "round.yaml" in str(error.value)


def test_a_version_twice_is_refused(tmp_path: Path) -> None:
    write_models(tmp_path, "round", model(), model(spread=0.2))
    with pytest.raises(UsageError, match="has more than one tflm any"):
        read_table(tmp_path / "tables", "round")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "round.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="round.yaml cannot be read"):
        read_table(tmp_path, "round")


def test_cores_of_one_instruction_set_have_one_table() -> None:
    names = ("Cortex-M4", "Cortex-M4F", "Cortex-M0+", "Xtensa LX7", "cortex-m0plus")
    assert [core_table_name(name) for name in names] == [
        *("core-cortex-m4f", "core-cortex-m4f", "core-cortex-m0plus", "core-xtensa-lx7"),
        "core-cortex-m0plus",
    ]


@given(st.floats(1e-9, 1e12))
def test_five_significant_digits_are_kept(value: float) -> None:
    assert significant(value) == pytest.approx(value, rel=5.1e-5)
    assert len(f"{significant(value):e}".split("e")[0].rstrip("0")) <= 6


@pytest.mark.parametrize("path", sorted((data_dir("latency_models") / "tables").iterdir()))
def test_shipped_tables_are_small_and_can_be_read(path: Path) -> None:
    table = read_table(path.parent, path.stem)
    assert table.models
    files = (path.with_suffix(end) for end in (".yaml", ".csv"))
    assert sum(file.stat().st_size for file in files if file.exists()) < 200_000


def test_a_file_nested_too_deep_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 200_000 + "]" * 200_000, "- " * 200_000, "{a: " * 50_000):
        (tmp_path / "round.yaml").write_text(text)
        with pytest.raises(UsageError, match="cannot be read as YAML"):
            read_table(tmp_path, "round")
