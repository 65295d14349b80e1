"""Latency tables: what is known of the cycles of one runtime's operators on one MCU.

`latency_models/tables/<mcu>.yaml` has the fitted models, a document for each runtime and version,
and `<mcu>.csv` beside it the operators that were measured on the device. A user's folder may hold
`tables/` of its own; what is there wins. `core-<core>.yaml` are the models of a core, for chips
that nothing is known of.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tinynas.cost.op_shape import KEY, OpShape, read_op_shape
from tinynas.errors import UsageError
from tinynas.paths import data_dir
from tinynas.validation import validated
from tinynas.yaml_file import safe_load

Provenance = Literal["measured", "emulated", "calibrated", "estimated"]
# Best first: a sum is worth what its worst part is worth.
PROVENANCES: tuple[Provenance, ...] = ("measured", "emulated", "calibrated", "estimated")
# Where what applies to every version of a runtime is kept.
ANY_VERSION = "any"
ENTRY_COLUMNS = ("runtime", "version", *KEY, "cycles", "provenance", "source")
# Spellings of one and the same instruction set.
SAME_CORE = {"cortex-m4": "cortex-m4f", "cortex-m33f": "cortex-m33"}
LARGEST_CYCLES = 1e15
# Between the documents of a file, and how each begins that was written by `table_yaml`.
DOCUMENT_END = re.compile(r"^---[ \t]*\n", re.MULTILINE)
HEADING = re.compile(r"(?:#.*\n)*runtime: '?([\w.-]+)'?\nversion: '?([\w.-]+)'?\n")

Text = Annotated[str, Field(min_length=1)]
Cycles = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Validation(_Strict):
    """How far off a model was on `count` latencies that it had not seen, of `groups` groups.

    A group is an architecture, or an operator's configuration: folds keep groups whole.
    `spread` is the standard deviation of log(measured / predicted) about zero. The baseline is one
    figure of cycles per multiply-accumulate, fitted and checked in the same way.
    """

    of: Literal["models", "operators"]
    count: Annotated[int, Field(gt=0, strict=True)]
    groups: Annotated[int, Field(gt=0, strict=True)]
    method: Text
    mean_percent: Percent
    p90_percent: Percent
    max_percent: Percent
    within_10_percent: Percent
    kendall_tau: Annotated[float, Field(ge=-1, le=1)] | None = None
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    baseline_mean_percent: Percent | None = None


class Model(_Strict):
    """A kernel cost model: cycles by group of operators and feature, and of a whole inference.

    Groups and features are those of `latency_features`. `spread` is the standard deviation of
    log(measured / predicted) that intervals are made of, at `degrees` degrees of freedom; `fitted`
    is the day of the evidence.
    """

    runtime: Text
    version: Text
    provenance: Provenance
    source: Text
    fitted: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    rows: Count
    architectures: Count
    spread: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    degrees: Annotated[int, Field(gt=0, strict=True)]
    validation: tuple[Validation, ...] = ()
    per_inference: Cycles = 0.0
    cycles: dict[Text, dict[Text, Cycles]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The cycles of one operator, and where they come from."""

    cycles: float
    provenance: Provenance
    source: str


Models = Mapping[tuple[str, str], Model]
Entries = Mapping[tuple[str, str], Mapping[OpShape, Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that is known of one MCU: models by (runtime, version), the best version first.

    `entries` are by the same keys, then by configuration.
    """

    mcu: str
    models: Models = field(default_factory=dict)
    entries: Entries = field(default_factory=dict)

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that have a model."""
        return tuple(dict.fromkeys(name for name, _ in self.models))

    def model(self, runtime: str, version: str | None = None) -> Model | None:
        """The model of a runtime's version, of its first one without a version."""
        if version is not None:
            return self.models.get((runtime, version))
        return next((self.models[key] for key in self.models if key[0] == runtime), None)

    def measured(self, runtime: str, version: str) -> dict[OpShape, Entry]:
        """The entries that hold for a runtime's version: its own, and those of any version."""
        both = (self.entries.get((runtime, v), {}) for v in (ANY_VERSION, version))
        return {shape: entry for entries in both for shape, entry in entries.items()}


def core_table_name(core: str) -> str:
    """`core-cortex-m4f` of `Cortex-M4`: what the models of a core are called."""
    name = core.strip().lower().replace(" ", "-").replace("+", "plus")
    return f"core-{SAME_CORE.get(name, name)}"


def find_table(name: str, devices: Path | None = None, *, entries: bool = True) -> Table:
    """The shipped table of an MCU or core with that of the user's folder over it; may be empty.

    Raises UsageError for a file that breaks a rule.
    """
    folder = data_dir("latency_models") / "tables"
    table = read_table(folder, name, entries=entries, lazily=True)
    if devices is None:
        return table
    return merged(table, read_table(devices / "tables", name, entries=entries))


def merged(table: Table, over: Table) -> Table:
    """A table with another one over it, whose models come first and whose entries win.

    An entry for any version is one for every version that the table knows of its runtime.
    """
    found = {key: dict(known) for key, known in table.entries.items()}
    for (runtime, version), entries in over.entries.items():
        for key in [k for k in found if k[0] == runtime and version == ANY_VERSION]:
            for shape in entries.keys() & found[key].keys():
                del found[key][shape]
        found.setdefault((runtime, version), {}).update(entries)
    readers = {
        key: partial(models.__getitem__, key)
        for models in (over.models, table.models)
        for key in models
        if models is over.models or key not in over.models
    }
    return replace(table, models=_Read(readers), entries=found)


def read_table(folder: Path, name: str, *, entries: bool = True, lazily: bool = False) -> Table:
    """The table in a folder's `<name>.yaml` and `<name>.csv`; empty where there are none.

    Read `lazily` a model's document is looked into when it is asked for. Raises UsageError, naming
    file, place and rule, for a file that cannot be read or breaks one.
    """
    models, measured = folder / f"{name}.yaml", folder / f"{name}.csv"
    return Table(
        mcu=name,
        models=_read_models(models, lazily) if models.is_file() else {},
        entries=_read_entries(measured) if entries and measured.is_file() else {},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


class _Read(Mapping[tuple[str, str], Model]):
    """Models by (runtime, version), each read when it is asked for."""

    def __init__(self, readers: Mapping[tuple[str, str], Callable[[], Model]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, key: tuple[str, str]) -> Model:
        return self._readers[key]()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def _read_models(path: Path, lazily: bool) -> Mapping[tuple[str, str], Model]:
    documents = DOCUMENT_END.split(_text(path))
    places = [f"{path}, document {number}" for number in range(1, len(documents) + 1)]
    headings = [HEADING.match(document) for document in documents]
    if lazily and all(headings):
        return _Read(
            {
                (heading[1], heading[2]): cache(partial(_model, document, place))
                for heading, document, place in zip(headings, documents, places, strict=True)
                if heading
            }
        )
    models: dict[tuple[str, str], Model] = {}
    for document, place in zip(documents, places, strict=True):
        model = _model(document, place)
        if models.setdefault((model.runtime, model.version), model) is not model:
            raise UsageError(f"{path} has more than one {model.runtime} {model.version}")
    return models


def _model(document: str, place: str) -> Model:
    try:
        content = safe_load(document)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{place} cannot be read as YAML: {reason}") from None
    return validated(Model, content, place)


def _read_entries(path: Path) -> dict[tuple[str, str], dict[OpShape, Entry]]:
    entries: dict[tuple[str, str], dict[OpShape, Entry]] = {}
    rows = csv.reader(io.StringIO(_text(path), newline=""))
    try:
        columns = next(rows, [])
        missing = sorted({"runtime", "kind", "cycles"} - set(columns))
        if missing:
            raise UsageError(f"{path} has no column {missing[0]!r}; {_columns()}")
        for cells in filter(None, rows):
            row = dict(zip(columns, cells, strict=False))
            key = (row["runtime"], row.get("version") or ANY_VERSION)
            entries.setdefault(key, {})[read_op_shape(row)] = _entry(row)
    except (ValueError, KeyError, OverflowError, csv.Error) as error:
        raise UsageError(f"{path}, line {rows.line_num}: {error}; {_columns()}") from None
    return entries


def _columns() -> str:
    return f"the columns of a table of entries are {', '.join(ENTRY_COLUMNS)}"


def _entry(row: Mapping[str, str]) -> Entry:
    cycles = float(row["cycles"])
    if not 0 <= cycles < LARGEST_CYCLES:
        raise ValueError(f"cycles must be a number of at least 0, got {row['cycles']}")
    provenance = row.get("provenance") or "measured"
    known = next((p for p in PROVENANCES if p == provenance), None)
    if known is None:
        raise ValueError(f"provenance must be one of {', '.join(PROVENANCES)}, got {provenance!r}")
    return Entry(cycles=cycles, provenance=known, source=row.get("source") or "")


class _Inner(dict[str, Any]):
    """A mapping that is written in braces."""


class _Words(str):
    """A text that is folded into lines."""


class _Dumper(yaml.SafeDumper):
    """Writes the two classes above as they say."""


_Dumper.add_representer(
    _Inner,
    lambda dumper, content: dumper.represent_mapping(
        "tag:yaml.org,2002:map", content.items(), flow_style=True
    ),
)
_Dumper.add_representer(
    _Words,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">"),
)


def table_yaml(models: Sequence[Model], heading: str = "") -> str:
    """The text of a file of models, in the order given, which `read_table` reads back.

    `heading` comes first, as a comment.
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())
    documents = (
        yaml.dump(_content(model), Dumper=_Dumper, sort_keys=False, width=95, allow_unicode=True)
        for model in models
    )
    return comment + "---\n".join(documents)


def _content(model: Model) -> dict[str, Any]:
    content = model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    content["source"] = _Words(model.source)
    if model.validation:
        content["validation"] = [_Inner(checked) for checked in content["validation"]]
    content["cycles"] = {group: _Inner(c) for group, c in sorted(content["cycles"].items())}
    return content


def entries_csv(entries: Entries) -> str:
    """The text of a file of entries, sorted, which `read_table` reads back."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(ENTRY_COLUMNS)
    table.writerows(sorted(_rows(entries)))
    return text.getvalue()


def _rows(entries: Entries) -> Iterator[tuple[str | int | float, ...]]:
    for key, known in entries.items():
        for shape, entry in known.items():
            cycles = int(entry.cycles) if entry.cycles == int(entry.cycles) else entry.cycles
            values = (getattr(shape, name) for name in KEY)
            yield (*key, *values, cycles, entry.provenance, entry.source)


def significant(value: float, digits: int = 5) -> float:
    """A number rounded to so many significant digits, as coefficients are written."""
    return float(f"{value:.{digits}g}")
