"""Logs of both forms become cycles of operators, or one sentence that says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hand_models import HandOp, HandTensor, hand_model, softmax_options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiled_model import (
    ADDED,
    DENSE,
    KINDS,
    MODEL,
    POINTWISE,
    SOFTMAX,
    STEM,
    TICKS,
    as_csv,
    as_log,
    as_sums,
    board_in,
    describe_board,
)

from tinynas.cost.op_shape import KEY, OpShape
from tinynas.errors import TinynasError, UsageError
from tinynas.lut.board import Board
from tinynas.lut.measured import Measured, read_log

# The two alike take 21,000 and 23,000.
CYCLES = {STEM: 90_000, POINTWISE: 22_000, ADDED: 6000, DENSE: 12_000, SOFTMAX: 3000}
COLUMNS = f"{','.join(KEY)},cycles"
CONV = "CONV_2D,8,8,4,6,6,8,3,3,1,1,valid,,0"


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return board_in(describe_board(tmp_path_factory.mktemp("devices"), with_core=False))


def read(
    text: str, board: Board, folder: Path, model: bytes | None = None, **options: float
) -> Measured:
    (folder / "log.txt").write_text(text, encoding="utf-8")
    path = None
    if model is not None:
        path = folder / "model.tflite"
        path.write_bytes(model)
    return read_log(folder / "log.txt", board, model=path, **options)


@pytest.mark.parametrize(
    "text",
    [
        as_log(),
        as_csv(),
        "booting...\n" + as_csv([2 * n for n in TICKS]) + "\n#\n" + as_csv() * 2,
        "".join(f"[00:00:01] {line}\n" for line in as_log().splitlines()) + "done\n",
    ],
)
def test_a_profile_of_a_model_gives_cycles_of_its_operators(
    text: str, board: Board, tmp_path: Path
) -> None:
    found = read(text, board, tmp_path, MODEL)
    assert found.cycles == CYCLES
    assert found.source == "log.txt of model.tflite"
    assert found.notes[1] == "a tick is taken for a cycle of the 64 MHz clock"


def test_ticks_become_cycles_by_their_rate(board: Board, tmp_path: Path) -> None:
    found = read(as_csv(), board, tmp_path, MODEL, ticks_per_second=1e6)
    assert found.cycles == {shape: 64 * cycles for shape, cycles in CYCLES.items()}
    assert found.notes[1] == "a tick is taken for 64 cycles of the 64 MHz clock"
    microseconds = as_csv().replace("Ticks", "microseconds")
    assert read(microseconds, board, tmp_path, MODEL).cycles == found.cycles
    slower = replace(board, clock_hz=32e6)
    assert read(microseconds, slower, tmp_path, MODEL).cycles[STEM] == 32 * 90_000


def test_sums_by_kind_give_those_that_can_be_told_apart(board: Board, tmp_path: Path) -> None:
    found = read(as_sums(), board, tmp_path, MODEL)
    assert found.cycles == {s: c for s, c in CYCLES.items() if s.kind != "CONV_2D"}
    assert "CONV_2D cannot be told apart" in found.notes[0]


def test_operators_of_a_few_ticks_are_left_out(board: Board, tmp_path: Path) -> None:
    ticks = [n // 1000 for n in TICKS]
    found = read(as_csv(ticks), board, tmp_path, MODEL, ticks_per_second=64e3)
    assert found.cycles == {s: CYCLES[s] for s in (STEM, POINTWISE, DENSE)}
    assert "operators left out: 2 of fewer than 10 ticks" in found.notes[0]
    with pytest.raises(UsageError, match="none of the operators is of use: 6 of fewer than 10"):
        read(as_csv([5] * 6), board, tmp_path, MODEL)


def test_operators_of_other_types_are_left_out(board: Board, tmp_path: Path) -> None:
    row = HandTensor(shape=(1, 10))
    wide = HandTensor(shape=(1, 10), dtype="float32", scales=())
    ops = [
        HandOp(kind="SOFTMAX", inputs=(0,), outputs=(1,), options=softmax_options),
        HandOp(kind="DEQUANTIZE", inputs=(1,), outputs=(2,)),
        HandOp(kind="SOFTMAX", inputs=(2,), outputs=(3,), options=softmax_options),
    ]
    model = hand_model([row, row, wide, wide], ops, inputs=[0], outputs=[3])
    kinds = [op.kind for op in ops]
    found = read(as_log([100, 200, 900], kinds), board, tmp_path, model)
    assert [(s.kind, c) for s, c in found.cycles.items()] == [
        ("SOFTMAX", 100),
        ("DEQUANTIZE", 200),
    ]
    assert "operators left out: 1 of float32" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "model", "options", "sentence"),
    [
        ("", MODEL, {}, "has neither events of TFLM's MicroProfiler (Log, LogCsv) nor a first"),
        ("hello\nworld\n", MODEL, {}, "has neither events of TFLM's MicroProfiler"),
        (as_csv(), None, {}, "give the model that was profiled with --model FILE.tflite"),
        (as_csv(TICKS[1:], KINDS[1:]), MODEL, {}, "is of another model: its event 2 is ADD, but"),
        (as_log(TICKS[:3], KINDS[:3]), MODEL, {}, "is of another model: it has 3 events"),
        (as_log(), MODEL, {"ticks_per_second": 1e6}, "milliseconds make"),
        (as_csv(), MODEL, {"ticks_per_second": 1e-9}, "no operator takes 5.76e+21 cycles"),
        (as_csv(), MODEL[:200], {}, "model.tflite"),
    ],
)
def test_a_log_that_is_of_no_use_is_refused_in_one_sentence(
    text: str,
    model: bytes | None,
    options: dict[str, float],
    sentence: str,
    board: Board,
    tmp_path: Path,
) -> None:
    with pytest.raises(TinynasError) as error:
        read(text, board, tmp_path, model, **options)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def table(*rows: str, columns: str = COLUMNS) -> str:
    return "\n".join([columns, *rows]) + "\n"


def test_a_csv_of_operators_gives_the_median_of_each(board: Board, tmp_path: Path) -> None:
    rows = [f"{CONV},{cycles}" for cycles in (90_000, 95_000, 91_000)]
    found = read(table(*rows, "ADD,6,6,8,6,6,8,1,1,1,1,,,,6000"), board, tmp_path)
    assert found.cycles == {STEM: 91_000, ADDED: 6000}
    assert found.notes == ("4 rows of 2 operators",)
    assert found.source == "log.txt"


@pytest.mark.parametrize(
    ("columns", "row", "cycles"),
    [
        ("kind,in_c,out_c,us", "FULLY_CONNECTED,288,10,100", 6400),
        ("op,in_c,out_c,ms", "FULLY_CONNECTED,288,10,0.1", 6400),
        ("op,in_c,out_c,ms,clock_mhz", "FULLY_CONNECTED,288,10,0.1,100", 10_000),
        ("op,in_c,out_c,op_cycles,invoke_cycles", "FULLY_CONNECTED,288,10,6400,7000", 6400),
        ("op,in_c,out_c,cycles,us", "FULLY_CONNECTED,288,10,6400,1", 6400),
        ("op,in_h,in_w,in_c,out_c,padding,cycles", "FULLY_CONNECTED,6,6,8,10,same,6400", 6400),
        ('"op","in_c","out_c","cycles"', '"FULLY_CONNECTED","288","10","6400"', 6400),
    ],
)
def test_columns_may_be_named_as_published_rows_have_them(
    columns: str, row: str, cycles: float, board: Board, tmp_path: Path
) -> None:
    found = read("\ufeff\n" + table(row, columns=columns), board, tmp_path)
    assert found.cycles == {DENSE: pytest.approx(cycles)}


def test_rows_of_others_are_left_out_and_counted(board: Board, tmp_path: Path) -> None:
    columns = "mcu,runtime,provenance,dtype,op,in_c,out_c,cycles"
    dense = "FULLY_CONNECTED,288,10"
    rows = [
        f"my_board,tflm,measured,int8,{dense},6400",
        f"MY_BOARD,TFLM (reference kernels),,,{dense},6600",
        f",,,int8 (per channel),{dense},6700",
        f"stm32f446,tflm,measured,int8,{dense},1",
        f"my_board,TFLM + CMSIS-NN,,int8,{dense},2",
        f"my_board,TFLM + CMSIS-NN,,int8,{dense},2",
        f"my_board,tflm,emulated,int8,{dense},3",
        f"my_board,tflm,,float32,{dense},4",
        f"ae350,tflm,,,{dense},5",
    ]
    found = read(table(*rows, columns=columns), board, tmp_path)
    assert found.cycles == {DENSE: 6600}
    assert found.notes == (
        "3 rows of 1 operators; left out: 2 of my_board with TFLM + CMSIS-NN, 1 of stm32f446 with "
        "tflm, 1 of emulated latency, others",
    )
    with pytest.raises(UsageError, match="no row of my_board with tflm; left out: 1 of stm32f446"):
        read(table(rows[3], columns=columns), board, tmp_path)


def test_a_row_with_the_columns_of_another_operator_is_left_out(
    board: Board, tmp_path: Path
) -> None:
    odd = "SOFTMAX,16,5,8,16,5,8,3,3,1,1,same,,0,3000"
    found = read(table(odd, "SOFTMAX,,,10,,,10,1,1,1,1,same,,0,3000"), board, tmp_path)
    assert found.cycles == {SOFTMAX: 3000}
    assert "left out: 1 of SOFTMAX with another operator's columns" in found.notes[0]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (f"{CONV},", "line 2: none of cycles, op_cycles, us, ms is given"),
        (f"{CONV},many", "line 2: cycles is 'many', which is no number"),
        (f"{CONV},0", "line 2: cycles is 0, which is not above 0"),
        (f"{CONV},nan", "which is not above 0"),
        (f"{CONV},0.5", "no operator takes 0.5 cycles"),
        (f"{CONV},1e15", "no operator takes 1e+15 cycles"),
        (f"{CONV.replace('6,6,8', '7,6,8')},9", "out_h is 7, but CONV_2D makes 6 of 8 with a"),
        (f"{CONV.replace('6,6,8', '6,5,8')},9", "out_w is 5, but CONV_2D makes 6 of 8 with a"),
        (f"{CONV.replace('8,8,4', ',,4')},9", "out_h is 6, but CONV_2D makes -1 of 1"),
        (f"{CONV.replace('valid', '')},9", "padding must be same or valid for CONV_2D, got ''"),
        (f"{CONV.replace('valid,', 'valid,gelu')},9", "activation must be relu, relu6 or empty"),
        (f"{CONV.replace('CONV_2D', 'conv')},9", "'conv' is no kind of operator in TFLite's"),
        (f"{CONV.replace('3,3', '3,x')},9", "could not convert"),
        (f"{CONV.replace('3,3', '3,0')},9", "kernel_w is 0"),
        (f"{CONV.replace('3,3', '3,1e300')},9", "kernel_w is"),
        (f'"{CONV},9' + 99 * "\n,", "1,valid,,0,9\\n,\\n,"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    row: str, complaint: str, board: Board, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        read(table(row), board, tmp_path)
    assert complaint in str(error.value) and "log.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(board: Board, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.txt cannot be read"):
        read_log(tmp_path / "none.txt", board)
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path, board)


LINES = st.one_of(
    st.text(),
    st.sampled_from([*as_log().splitlines(), *as_csv().splitlines(), *as_sums().splitlines()]),
    st.sampled_from([COLUMNS, f"{CONV},90000", CONV, "mcu,op,us,in_c", "ae350,ADD,3,4"]),
    st.lists(st.sampled_from(["CONV_2D", "ADD", "x", "7", "-1", "1e999", '"', ""])).map(",".join),
)
UNCHANGED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@UNCHANGED
@given(lines=st.lists(LINES, max_size=12), ends=st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_is_read_or_refused_in_a_sentence(
    lines: list[str], ends: str, board: Board, tmp_path: Path
) -> None:
    text = ends.join(lines).encode("utf-8", errors="surrogatepass").decode(errors="replace")
    try:
        found = read(text, board, tmp_path, MODEL)
    except UsageError as error:
        assert str(error)
    else:
        assert all(isinstance(s, OpShape) and c >= 1 for s, c in found.cycles.items())


@UNCHANGED
@given(content=st.binary())
def test_any_bytes_are_read_or_refused(content: bytes, board: Board, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(UsageError):
        read_log(tmp_path / "log", board)
