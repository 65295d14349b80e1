"""Rows of operators and of models beside their predictions, and rows that have none."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_tables import model, write_models

from tinynas.cost.op_shape import KEY
from tinynas.errors import TinynasError, UsageError
from tinynas.lut.check import CheckedRow, Question, check_rows, form_of, to_csv
from tinynas.lut.rows import RowFile, parse_rows
from tinynas.lut.summary import summarise, to_json

OP_COLUMNS = (
    "board,mcu,core,clock_mhz,runtime,op,in_h,in_w,in_c,out_h,out_w,out_c,kernel_h,kernel_w,"
    "stride_h,stride_w,padding,activation,op_cycles,source"
)
# 4x4 pixels, 8 to 16 channels: 16 * 8 * 16 MACs and 256 outputs.
CONV = "my board,{mcu},Cortex-M4F,64,{runtime},CONV_2D,4,4,8,4,4,16,1,1,1,1,same,relu,{cycles},me"
CONV_CYCLES = 2 * 16 * 8 * 16 + 10 * 256 + 100
MODEL_COLUMNS = (
    "id,model,arch_json,dtype,mcu,core,clock_mhz,runtime,runtime_version,latency_ms,trust"
)
DENSE = {
    "inputs": [{"shape": [1, 64]}],
    "layers": [
        {
            "op": "FULLY_CONNECTED",
            "ins": [{"shape": [1, 64]}],
            "outs": [{"shape": [1, 10]}],
            "cin": 64,
            "cout": 10,
        }
    ],
}
DENSE_CYCLES = 2 * 640 + 10 * 10 + 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of a chip `mine`, which no device file describes, and a folder of models."""
    checked = {
        "of": "operators",
        "count": 9,
        "groups": 9,
        "method": "by hand",
        "mean_percent": 1.0,
        "p90_percent": 2.0,
        "max_percent": 3.0,
        "within_10_percent": 100.0,
        "spread": 0.02,
    }
    write_models(
        tmp_path,
        "mine",
        model("tflm", "2.0", validation=[checked]),
        model("tflm", "1.0", scale=2.0),
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dense.json").write_text(json.dumps(DENSE))
    (tmp_path / "models" / "broken.json").write_text("{")
    return tmp_path


def asked(folder: Path, **more: object) -> Question:
    return Question(devices=folder, models=folder / "models", **more)  # type: ignore[arg-type]


def file_of(*lines: str) -> RowFile:
    return parse_rows("\n".join(lines), Path("rows.csv"))


def conv(mcu: str = "mine", runtime: str = "tflm", cycles: object = 7000) -> str:
    return CONV.format(mcu=mcu, runtime=runtime, cycles=cycles)


def written(file: RowFile, rows: list[CheckedRow]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(file, rows))))


def test_an_operator_is_predicted_in_cycles_with_its_own_interval(folder: Path) -> None:
    file = file_of(OP_COLUMNS, conv())
    (row,) = check_rows(file, asked(folder))
    assert row.prediction is not None
    assert row.prediction.value == CONV_CYCLES and row.prediction.provenance == "estimated"
    (cells,) = written(file, [row])
    assert list(cells) == [
        *OP_COLUMNS.split(","),
        *("predicted_cycles", "low_cycles", "high_cycles", "provenance", "predicted_by"),
        *("error_percent", "not_predicted"),
    ]
    assert float(cells["error_percent"]) == pytest.approx(100 * (CONV_CYCLES / 7000 - 1), abs=0.01)
    assert cells["board"] == "my board" and cells["not_predicted"] == ""


def test_operators_without_a_version_are_those_that_the_boards_ran(folder: Path) -> None:
    write_models(folder, "mine", model("tflm", "1.0", scale=2.0), model("tflm", "2022"))
    (row,) = check_rows(file_of(OP_COLUMNS, conv()), asked(folder))
    assert row.prediction is not None
    assert (row.prediction.value, row.prediction.provenance) == (CONV_CYCLES, "calibrated")
    assert row.prediction.by == "tflm 2022 of mine"


def test_a_model_is_predicted_in_ms_at_the_rows_clock(folder: Path) -> None:
    rows = check_rows(
        file_of(
            MODEL_COLUMNS,
            "a,Dense,models/dense.json,int8,mine,,100,tflm,2.0,0.02,A",
            "b,Dense,models/dense.json,int8,mine,,50,tflm,1.0,0.1,A",
        ),
        asked(folder),
    )
    values = [row.prediction.value for row in rows if row.prediction]
    assert values == pytest.approx([DENSE_CYCLES / 1e5, 2 * DENSE_CYCLES / 5e4])
    assert [row.prediction.by for row in rows if row.prediction] == [
        "tflm 2.0 of mine",
        "tflm 1.0 of mine",
    ]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ("a,Dense,models/dense.json,int8,,,100,tflm,2.0,1,A", "the row names no MCU"),
        ("a,Dense,models/dense.json,int8,mine,,100,,2.0,1,A", "the row names no runtime"),
        ("a,Dense,,int8,mine,,100,tflm,2.0,1,A", "its layer list is not known"),
        ("a,Dense,models/none.json,int8,mine,,100,tflm,2.0,1,A", "there is no such file"),
        ("a,Dense,models/broken.json,int8,mine,,100,tflm,2.0,1,A", "this is not a layer list"),
        ("a,Dense,../dense.json/..,int8,mine,,100,tflm,2.0,1,A", "its layer list is not known"),
        ("a,Dense,models/dense.json,float32,mine,,100,tflm,2.0,1,A", "its type is float32"),
        ("a,Dense,models/dense.json,int8,mine,,100,tvm,2.0,1,A", "no latency is known for tvm"),
        (
            "a,Dense,models/dense.json,int8,other,,100,tflm,2,1,A",
            "no latency is known for tflm",
        ),
        ("a,Dense,models/dense.json,int8,mine,,,tflm,2.0,1,A", "clock_mhz is missing, and no dev"),
        ("a,Dense,models/dense.json,int8,mine,,fast,tflm,2.0,1,A", "clock_mhz is 'fast'"),
        (
            "a,Dense,models/dense.json,int8,mine,,100,tflm,2.0,-1,A",
            "latency_ms is -1, which is",
        ),
        ("a,Dense,models/dense.json,int8,mine,,100,tflm,2.0,soon,A", "latency_ms is 'soon'"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(cells: str, why: str, folder: Path) -> None:
    file = file_of(MODEL_COLUMNS, cells)
    rows = check_rows(file, asked(folder))
    assert rows[0].prediction is None and why in rows[0].why
    (line,) = written(file, rows)
    assert why in line["not_predicted"] and line["predicted_ms"] == ""
    summary = to_json(summarise(rows))
    assert summary["not_predicted"] == [{"reason": rows[0].why, "count": 1, "ids": ["a"]}]
    assert summary["groups"] == []


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (conv().replace("CONV_2D,4,4,8", "CONV_2D,4,4,-8"), "in_c is -8, not from 1 to 65,536"),
        (conv().replace("CONV_2D,4,4,8", "CONV_2D,4,4,inf"), "a size is not finite"),
        (conv().replace("CONV_2D,4,4,8", "CONV_2D,4,4,wide"), "could not convert string to float"),
        (conv().replace("CONV_2D", ""), "the kind of the operator is missing"),
        (conv().replace("CONV_2D", "SOFTMAX"), "its columns are not those of a SOFTMAX"),
        (conv().replace("16,1,1,1,1", "16,3,1,1,1").replace("CONV_2D", "ADD"), "has no window"),
        (conv().replace("CONV_2D", "SVDF"), "operator kind 'SVDF' is not known"),
        (conv(cycles=0), "op_cycles is 0, which is not above 0"),
    ],
)
def test_an_operator_that_cannot_be_says_why(row: str, why: str, folder: Path) -> None:
    (checked,) = check_rows(file_of(OP_COLUMNS, row), asked(folder))
    assert checked.prediction is None and why in checked.why


def test_a_row_without_a_measurement_is_predicted_all_the_same(folder: Path) -> None:
    rows = check_rows(file_of(OP_COLUMNS, conv(cycles="")), asked(folder))
    assert rows[0].prediction is not None and rows[0].measured is None
    assert summarise(rows).unmeasured == 1 and summarise(rows).groups == ()


def test_mcu_and_runtime_choose_rows_and_stand_for_what_rows_leave_out(folder: Path) -> None:
    file = file_of(OP_COLUMNS, conv(), conv(mcu=""), conv(mcu="stm32f746"), conv(runtime="tvm"))
    rows = check_rows(file, asked(folder, mcu="mine", runtime="tflm"))
    assert [row.why for row in rows] == [
        "",
        "",
        "left out by --mcu mine",
        "left out by --runtime tflm",
    ]
    assert rows[1].mcu == "mine"


def test_rows_that_are_entries_are_counted_and_can_be_left_aside(folder: Path) -> None:
    sizes = dict(
        zip(KEY, ("CONV_2D", 4, 4, 8, 4, 4, 16, 1, 1, 1, 1, "same", "relu", 0), strict=True)
    )
    text = ",".join(["runtime", "version", *KEY, "cycles"]) + "\n"
    text += ",".join(["tflm", "any", *map(str, sizes.values()), "6000"]) + "\n"
    (folder / "tables" / "mine.csv").write_text(text)
    file = file_of(OP_COLUMNS, conv())
    (row,) = check_rows(file, asked(folder))
    assert row.prediction is not None and row.prediction.entry
    assert (row.prediction.value, row.prediction.provenance) == (6000, "measured")
    assert [group.entries for group in summarise([row]).groups] == [1]
    (row,) = check_rows(file, asked(folder, entries=False))
    assert row.prediction is not None and row.prediction.value == CONV_CYCLES


def test_groups_are_by_mcu_runtime_and_version_with_scores_by_hand(folder: Path) -> None:
    line = "{id},Dense,models/dense.json,int8,mine,,1,tflm,{version},{ms},{trust}"
    predicted = DENSE_CYCLES / 1e3
    rows = check_rows(
        file_of(
            MODEL_COLUMNS,
            line.format(id="a", version="2.0", ms=predicted / 1.05, trust="A"),
            line.format(id="b", version="2.0", ms=predicted / 0.8, trust="B"),
            line.format(id="c", version="1.0", ms=2 * predicted, trust="A"),
            line.format(id="d", version="2.0", ms=predicted / 3, trust="A*"),
        ),
        asked(folder),
    )
    summary = summarise(rows)
    both, first, second = summary.groups
    assert [g.version for g in (both, first, second)] == [None, "1.0", "2.0"]
    assert (both.scores.count, first.scores.count, second.scores.count) == (3, 1, 2)
    assert second.scores.mean_percent == pytest.approx((5 + 20) / 2)
    assert second.scores.within_10_percent == 50
    assert first.scores.mean_percent == pytest.approx(0, abs=1e-9)
    assert both.scores.max_percent == pytest.approx(20)
    assert both.inside_percent == pytest.approx(100 * 2 / 3)  # spread 0.1: b lies outside
    assert summary.other_models is not None and summary.other_models.scores.count == 1
    assert summary.other_models.scores.mean_percent == pytest.approx(200)


def test_a_model_column_names_a_file_where_there_is_no_other(folder: Path) -> None:
    file = file_of(
        "model,mcu,clock_mhz,runtime,latency_ms", "dense,mine,1,tflm,1.5", "x,mine,1,tflm,1"
    )
    known, unknown = check_rows(file, asked(folder))
    assert known.prediction is not None and unknown.why == "its layer list is not known"
    assert (known.id, unknown.id) == ("line 2", "line 3")


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n1,2\n", "model\nx\n", "op,in_c\n"])
def test_files_of_neither_form_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError):
        form_of(parse_rows(text, Path("rows.csv")))


def test_a_column_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="more than one column 'mcu'"):
        parse_rows("mcu,mcu\na,b\n", Path("rows.csv"))


def test_what_an_earlier_check_wrote_is_written_anew(folder: Path) -> None:
    file = file_of(OP_COLUMNS, conv())
    once = to_csv(file, check_rows(file, asked(folder)))
    again = parse_rows(once, Path("rows.csv"))
    assert to_csv(again, check_rows(again, asked(folder))) == once


CELLS = st.sampled_from(
    ["", "mine", "tflm", "CONV_2D", "1", "-1", "0", "nan", "inf", "1e400", "999999999999", "0x10"]
    + [
        "models/dense.json",
        "..",
        "/",
        "\\",
        "int8",
        "Cortex-M4F",
        "A*",
        "2.0",
        "ü",
        "a" * 300,
        "'",
    ]
) | st.text(max_size=12)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tables and models for all examples."""
    folder = tmp_path_factory.mktemp("cells")
    write_models(folder, "mine", model("tflm", "2.0"))
    (folder / "models").mkdir()
    (folder / "models" / "dense.json").write_text(json.dumps(DENSE))
    return folder


@given(rows=st.lists(st.lists(CELLS, max_size=14), max_size=6), models=st.booleans())
def test_no_cell_whatever_it_holds_is_more_than_a_reason(
    rows: list[list[str]], models: bool, fuzzed: Path
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([(MODEL_COLUMNS if models else OP_COLUMNS).split(","), *rows])
    file = parse_rows(text.getvalue(), Path("rows.csv"))
    checked = check_rows(file, asked(fuzzed))
    assert len(checked) == len(file.rows)
    assert all((row.prediction is None) == bool(row.why) for row in checked)
    json.dumps(to_json(summarise(checked)), allow_nan=False)
    assert len(written(file, checked)) == len(checked)


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_no_text_is_more_than_a_sentence(text: str) -> None:
    try:
        check_rows(parse_rows(text, Path("rows.csv")), Question())
    except TinynasError as error:
        assert str(error)
