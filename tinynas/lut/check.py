"""Predictions beside measured rows: how far off the latency tables are on rows that anyone has.

Rows are single operators (columns `op` or `kind`, in_h, in_w, ... and `op_cycles`) or whole models
(columns `arch_json` or `model`, and `latency_ms`), as latency_models/evidence has them. A row that
nothing can be predicted for says why.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tinynas.cost.device import Device, shipped_devices
from tinynas.cost.interval import CONFIDENCE, interval_factor
from tinynas.cost.latency import Timer
from tinynas.cost.latency_choice import Known, known_of
from tinynas.cost.latency_table import LARGEST_CYCLES, Table, core_table_name, find_table
from tinynas.cost.model_file import read_model
from tinynas.cost.op_shape import WINDOWED
from tinynas.errors import ModelFileError, TinynasError, UsageError
from tinynas.graph import Graph
from tinynas.lut.names import OPERATOR_VERSION, core_name, mcu_name, runtime_name
from tinynas.lut.rows import Row, RowFile, positive, shape_of

HZ_PER_MHZ = 1e6
# A row so marked was measured on another model than the nominal one.
OTHER_MODEL = "A*"
# Kinds that have as many elements before them as after them.
SAME_SIZE = ("SOFTMAX", "LOGISTIC", "TANH", "RELU", "RELU6", "HARD_SWISH", "RESHAPE")
# What files of tables and models are called.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# What the figures of a model's row are of; others take other kernels.
TIMED_TYPE = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What rows are of, and the columns that a file of them has and gets."""

    of: str
    needed: tuple[tuple[str, ...], ...]
    truth: str
    unit: str

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the columns that predictions are written to."""
        figures = (f"predicted_{self.unit}", f"low_{self.unit}", f"high_{self.unit}")
        return (*figures, "provenance", "predicted_by", "error_percent", "not_predicted")


OPERATORS = Form(
    of="operators",
    needed=(("op", "kind"), ("in_c",), ("out_c",)),
    truth="op_cycles",
    unit="cycles",
)
MODELS = Form(
    of="models",
    needed=(("arch_json", "model"), ("mcu", "latency_ms")),
    truth="latency_ms",
    unit="ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is predicted of a row, in its unit; `entry` where it was measured itself."""

    value: float
    low: float
    high: float
    provenance: str
    by: str
    entry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRow:
    """A row, what it is of, and what is predicted of it or why nothing is."""

    id: str
    row: Row
    mcu: str
    runtime: str
    version: str
    measured: float | None = None
    prediction: Prediction | None = None
    why: str = ""

    @property
    def other_model(self) -> bool:
        """Whether the row says that not the nominal model ran."""
        return self.row.get("trust", "").strip() == OTHER_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What rows are predicted with: where models and tables lie, and which rows are asked for.

    `mcu` and `runtime` choose rows, and stand for what a row does not say. Without `entries`
    measured operators of the tables are left aside.
    """

    models: Path | None = None
    mcu: str | None = None
    runtime: str | None = None
    devices: Path | None = None
    entries: bool = True


class Skipped(Exception):
    """Nothing is predicted of a row; the message says why."""


@dataclass(slots=True)
class _Tables:
    """Devices, tables and models, each read once."""

    question: Question
    folder: Path
    devices: dict[str, Device] = field(init=False)
    table: Callable[[str], Table] = field(init=False)
    graph: Callable[[str], Graph | str] = field(init=False)
    known: Callable[[str, str, str, str], Known | None] = field(init=False)

    def __post_init__(self) -> None:
        self.devices = shipped_devices(self.question.devices)
        self.table = cache(self._table)
        self.graph = cache(self._graph)
        self.known = cache(self._known)

    def _table(self, name: str) -> Table:
        if not NAME.fullmatch(name):
            return Table(mcu=name)
        return find_table(name, self.question.devices, entries=self.question.entries)

    def _graph(self, name: str) -> Graph | str:
        """The model of that file name, or why there is none."""
        try:
            return read_model(self.folder / name).graph
        except ModelFileError as error:
            return str(error)

    def _known(self, mcu: str, core: str, runtime: str, version: str) -> Known | None:
        return known_of(self.table(mcu), self.table(core), runtime, version)

    def mcu(self, text: str, core: str) -> str:
        """The name that a table or device file goes by."""
        own = text.strip().lower()
        known = own in self.devices or self.table(own).runtimes or self.table(own).entries
        return own if known else mcu_name(text, core)


def form_of(file: RowFile) -> Form:
    """What the rows of a file are of; UsageError where its columns do not say."""
    for form in (OPERATORS, MODELS):
        if all(any(name in file.columns for name in names) for names in form.needed):
            return form
    raise UsageError(
        f"{file.path} has neither the columns of operators (op, in_h, in_w, in_c, out_h, out_w, "
        "out_c, kernel_h, ..., op_cycles) nor those of models (mcu, runtime, arch_json, "
        f"clock_mhz, latency_ms); it has {', '.join(file.columns)[:300]}"
    )


def check_rows(file: RowFile, question: Question) -> list[CheckedRow]:
    """Every row of a file with what is predicted of it; UsageError for a file of neither form."""
    form = form_of(file)
    tables = _Tables(question, question.models or file.path.parent / "models")
    if question.models and not question.models.is_dir():
        raise UsageError(f"{question.models} is not a folder of models")
    return [_checked(form, tables, number, row) for number, row in file.rows]


def _checked(form: Form, tables: _Tables, number: int, row: Row) -> CheckedRow:
    question = tables.question
    mcu = tables.mcu(row.get("mcu") or question.mcu or "", row.get("core") or "")
    runtime, version = _runtime(form, row, question)
    checked = CheckedRow(
        id=row.get("id") or f"line {number}", row=row, mcu=mcu, runtime=runtime, version=version
    )
    measured = None
    try:
        _refuse_others(question, tables, checked)
        measured = positive(row, form.truth)
        known = tables.known(mcu, _core(tables, mcu, row), runtime, version)
        if known is None:
            raise Skipped(f"no latency is known for {runtime} on {mcu}")
        predict = _operator if form is OPERATORS else _model
        prediction, why = predict(row, tables, Timer(known, _clock_hz(form, tables, mcu, row))), ""
    except (Skipped, ValueError, TinynasError) as error:
        prediction, why = None, " ".join(str(error).split())
    return CheckedRow(
        id=checked.id,
        row=row,
        mcu=mcu,
        runtime=runtime,
        version=version,
        measured=measured,
        prediction=prediction,
        why=why,
    )


def _runtime(form: Form, row: Row, question: Question) -> tuple[str, str]:
    """Runtime and version by the names of the tables."""
    text = row.get("runtime") or question.runtime or ""
    version = row.get("runtime_version") or row.get("version") or ""
    if form is OPERATORS and not version:
        return runtime_name(text, version)[0], OPERATOR_VERSION
    return runtime_name(text, version)


def _refuse_others(question: Question, tables: _Tables, row: CheckedRow) -> None:
    if not row.mcu:
        raise Skipped("the row names no MCU; give --mcu")
    if not row.runtime:
        raise Skipped("the row names no runtime; give --runtime")
    if question.mcu and row.mcu != tables.mcu(question.mcu, ""):
        raise Skipped(f"left out by --mcu {question.mcu}")
    if question.runtime and row.runtime != runtime_name(question.runtime)[0]:
        raise Skipped(f"left out by --runtime {question.runtime}")


def _core(tables: _Tables, mcu: str, row: Row) -> str:
    """The name of the table of the MCU's core."""
    device = tables.devices.get(mcu)
    return core_table_name(device.core if device else core_name(row.get("core") or ""))


def _clock_hz(form: Form, tables: _Tables, mcu: str, row: Row) -> float:
    mhz = positive(row, "clock_mhz")
    if mhz:
        return mhz * HZ_PER_MHZ
    if mcu in tables.devices:
        return float(tables.devices[mcu].clock_hz.value)
    if form is OPERATORS:
        return HZ_PER_MHZ  # its figures are cycles
    raise Skipped(f"clock_mhz is missing, and no device file has the clock of {mcu}")


def _operator(row: Row, tables: _Tables, timer: Timer) -> Prediction:
    shape, known = shape_of(row), timer.known
    if shape.kind not in WINDOWED and (shape.kernel_h, shape.kernel_w) != (1, 1):
        raise Skipped(f"its columns are not those of a {shape.kind}, which has no window")
    if shape.kind in SAME_SIZE and shape.inputs != shape.outputs:
        raise Skipped(
            f"its columns are not those of a {shape.kind}, which has as many elements before it "
            f"as after it, not {shape.inputs:,} and {shape.outputs:,}"
        )
    cycles, provenance = timer.cycles(shape)
    if not 0 <= cycles < LARGEST_CYCLES:
        raise Skipped("its sizes do not go together")
    factor = interval_factor(*known.operator_spread(), CONFIDENCE)
    return Prediction(
        value=cycles,
        low=cycles / factor,
        high=cycles * factor,
        provenance=provenance,
        by=known.words(),
        entry=shape in known.entries,
    )


def _model(row: Row, tables: _Tables, timer: Timer) -> Prediction:
    kind = row.get("dtype", "").strip()
    if kind and not kind.startswith(TIMED_TYPE + " ") and kind != TIMED_TYPE:
        raise Skipped(f"its type is {kind}; latencies are those of {TIMED_TYPE} models")
    graph = tables.graph(_file_name(row, tables.folder))
    if isinstance(graph, str):
        raise Skipped(graph)
    latency = timer.graph(graph)
    measured = latency.shares.get("measured")
    return Prediction(
        value=latency.ms,
        low=latency.low_ms,
        high=latency.high_ms,
        provenance=latency.provenance,
        by=timer.known.words(),
        entry=measured is not None and measured.time > 0,
    )


def _file_name(row: Row, folder: Path) -> str:
    """The name of a model's file in the folder of models."""
    if "arch_json" in row:
        name = row["arch_json"].replace("\\", "/").rsplit("/", 1)[-1].strip()
    else:
        model = row["model"].strip()
        found = (f"{model}{end}" for end in ("", ".json", ".tflite"))
        name = next((n for n in found if NAME.fullmatch(n.lower()) and (folder / n).is_file()), "")
    if name in ("", ".", ".."):
        raise Skipped("its layer list is not known")
    return name


def to_csv(file: RowFile, rows: Sequence[CheckedRow]) -> str:
    """All rows with all their columns, and what is predicted of them."""
    added = form_of(file).added
    kept = [name for name in file.columns if name not in added]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*kept, *added])
    # A lone carriage return would end a row for those who read it.
    cells = ((r.row.get(name, "").replace("\r", " ") for name in kept) for r in rows)
    table.writerows([*row, *_cells(r)] for row, r in zip(cells, rows, strict=True))
    return text.getvalue()


def _cells(row: CheckedRow) -> Iterator[str]:
    found = row.prediction
    if found is None:
        yield from ("", "", "", "", "", "", row.why)
        return
    yield from (f"{value:.7g}" for value in (found.value, found.low, found.high))
    yield from (found.provenance, found.by)
    yield "" if row.measured is None else f"{100 * (found.value / row.measured - 1):.4g}"
    yield ""
