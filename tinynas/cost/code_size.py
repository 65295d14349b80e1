"""Bytes of code that a firmware has in flash beside the model, by the operators it registers.

A linked program is the union of the sections that its operators reach; the linker drops the rest.
So for sets of operators A and B, with `bytes` those of the program that registers them:
bytes(A | B) <= bytes(A) + bytes(B) - bytes(A & B), and bytes(A) <= bytes(B) where A is part of B.
From a few measured programs this gives an upper bound for every set whose operators they have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinynas.cost.device import Device, Figure
from tinynas.paths import data_dir
from tinynas.validation import validated
from tinynas.yaml_file import read_mapping

Text = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(gt=0, strict=True)]
Kinds = frozenset[str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Program(_Strict):
    """A program that was built: operators it registers, bytes of it and of the model inside."""

    name: Text
    kinds: frozenset[Text] = Field(min_length=1)
    program_bytes: Bytes
    model_bytes: Bytes


class CodeTable(_Strict):
    """Programs of one firmware for one runtime, and the cores that their code holds for.

    `other_firmware_bytes` come off every program: what they have that the cores' would not.
    `empty_program_bytes` are those of the firmware without runtime and model.
    """

    runtime: Text
    cores: tuple[Text, ...] = Field(min_length=1)
    source: Text
    checked: Text
    empty_program_bytes: Figure
    other_firmware_bytes: Figure | None = None
    programs: tuple[Program, ...] = Field(min_length=1)

    def code_bytes(self, program: Program) -> int:
        """Bytes of the program less its model and what only its own firmware has."""
        other = self.other_firmware_bytes.value if self.other_firmware_bytes else 0
        return program.program_bytes - program.model_bytes - other

    @model_validator(mode="after")
    def _programs_exceed_their_parts(self) -> CodeTable:
        for program in self.programs:
            if self.code_bytes(program) <= self.empty_program_bytes.value:
                raise ValueError(
                    f"program {program.name} must be larger than its model, "
                    "other_firmware_bytes and empty_program_bytes together"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePart:
    """A share of the code, and what it is."""

    what: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSize:
    """Bytes of flash beside the model, where they come from, and what they are, as far as known.

    `parts` add up to `bytes`; there are none where only the device's figure for the whole is
    known.
    """

    bytes: int
    source: str
    parts: tuple[CodePart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What a program adds to those before it; `again` are operators that count twice by it."""

    program: str
    new_kinds: Kinds
    again: Kinds = frozenset()
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """The most bytes that the operators `kinds` can take together, program by program."""

    kinds: Kinds
    steps: tuple[_Step, ...]

    @property
    def bytes(self) -> int:
        return sum(step.bytes for step in self.steps)


def read_code_table(path: Path) -> CodeTable:
    """The measured programs of a YAML file.

    Raises UsageError, naming file, key and rule, for a file that cannot be read or breaks one.
    """
    content = read_mapping(path, "with runtime, cores, programs, ...")
    return validated(CodeTable, content, str(path))


def shipped_code_tables() -> tuple[CodeTable, ...]:
    """All tables of measured programs that come with tinynas."""
    folder = data_dir("latency_models") / "code"
    return tuple(read_code_table(path) for path in sorted(folder.glob("*.yaml")))


def _by_kinds(table: CodeTable, *, largest: bool) -> dict[Kinds, Program]:
    """For each set of operators the largest, or smallest, program that has just these."""
    ordered = sorted(table.programs, key=table.code_bytes, reverse=not largest)
    return {program.kinds: program for program in ordered}


def _single_bounds(table: CodeTable) -> list[_Bound]:
    return [
        _Bound(kinds=k, steps=(_Step(program=p.name, new_kinds=k, bytes=table.code_bytes(p)),))
        for k, p in _by_kinds(table, largest=True).items()
    ]


def _largest_part(table: CodeTable, kinds: Kinds) -> Program | None:
    """The program that bounds from below what `kinds` take: the largest with none but these."""
    parts = [p for k, p in _by_kinds(table, largest=False).items() if k <= kinds]
    return max(parts, key=table.code_bytes, default=None)


def _joined(table: CodeTable, bound: _Bound, program: _Bound) -> _Bound:
    """The bound of both together: what they share counts once, as far as it was measured."""
    shared = _largest_part(table, bound.kinds & program.kinds)
    new_kinds = program.kinds - bound.kinds
    step = _Step(
        program=program.steps[0].program,
        new_kinds=new_kinds,
        again=program.kinds - new_kinds - (shared.kinds if shared else frozenset()),
        bytes=max(program.bytes - (table.code_bytes(shared) if shared else 0), 0),
    )
    return _Bound(kinds=bound.kinds | program.kinds, steps=(*bound.steps, step))


def _bounds(table: CodeTable) -> list[_Bound]:
    """The least bound of each set of operators that some of the programs have together."""
    single = _single_bounds(table)
    best = {bound.kinds: bound for bound in single}
    waiting = list(single)
    while waiting:
        bound = waiting.pop()
        for program in single:
            if program.kinds <= bound.kinds:
                continue
            joined = _joined(table, bound, program)
            if joined.kinds not in best or joined.bytes < best[joined.kinds].bytes:
                best[joined.kinds] = joined
                waiting.append(joined)
    return list(best.values())


def _least_bound(table: CodeTable, kinds: Kinds) -> _Bound:
    """The least bound among the sets that have all of `kinds`, which the table must know."""
    having = (bound for bound in _bounds(table) if kinds <= bound.kinds)
    return min(having, key=lambda bound: (bound.bytes, len(bound.steps), sorted(bound.kinds)))


def _names(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds))


def _what(step: _Step) -> str:
    again = f", {_names(step.again)} once more" if step.again else ""
    return _names(step.new_kinds) + again


def _parts(table: CodeTable, bound: _Bound) -> tuple[CodePart, ...]:
    empty = table.empty_program_bytes.value
    first, *more = bound.steps
    return (
        CodePart(what="program without runtime and model", bytes=empty),
        CodePart(what=f"runtime, {_names(first.new_kinds)}", bytes=first.bytes - empty),
        *(CodePart(what=_what(step), bytes=step.bytes) for step in more),
    )


def _evidence(bound: _Bound, kinds: Kinds) -> str:
    """How the bound follows from programs: the same operators, more of them, or several."""
    programs = ", ".join(step.program for step in bound.steps)
    extra = bound.kinds - kinds
    also = f", which also have {_names(extra)}" if extra else ""
    if len(bound.steps) > 1:
        return f"at most the programs {programs} together, what they share counted once{also}"
    if extra:
        return f"at most the program {programs}, which also has {_names(extra)}"
    return f"the program {programs}, which has just these operators"


def _whole(device: Device, runtime: str, why: str, known: CodeSize | None) -> CodeSize:
    """The device's figure for the whole, or the bound of the operators known if that is more."""
    figure = device.runtime(runtime).runtime_code_bytes
    note = f"the figure of {device.name} for any operators, as {why}"
    if known is None or known.bytes <= figure.value:
        return CodeSize(bytes=figure.value, source=f"{note}: {figure.source}")
    return CodeSize(
        bytes=known.bytes,
        source=f"without what is not known, as {why}, which is more than the "
        f"{figure.value:,} bytes of {device.name} for any operators: {known.source}",
        parts=known.parts,
    )


def _known_kinds(table: CodeTable) -> Kinds:
    return frozenset[str]().union(*(program.kinds for program in table.programs))


def code_size_from(table: CodeTable, kinds: Iterable[str]) -> CodeSize:
    """The least upper bound for these operators that the table's programs give.

    Raises ValueError for an operator that none of them has.
    """
    wanted = frozenset(kinds)
    if missing := wanted - _known_kinds(table):
        raise ValueError(f"no program of the table has {_names(missing)}")
    bound = _least_bound(table, wanted)
    return CodeSize(
        bytes=bound.bytes,
        source=f"{_evidence(bound, wanted)}; {table.source}. Checked: {table.checked}",
        parts=_parts(table, bound),
    )


def code_size(kinds: Iterable[str], device: Device, runtime: str) -> CodeSize:
    """Bytes of flash that a program with these operators takes beside the model.

    `kinds` are TFLite's names of the operators that the firmware registers. The figure is a
    measured program's, an upper bound from several, or, for operators, cores or runtimes without
    such programs, the device's figure for the whole (`runtime_code_bytes`); `source` says which.
    Raises UsageError for a runtime not known on the device.
    """
    device.runtime(runtime)
    wanted = frozenset(kinds)
    tables = (t for t in shipped_code_tables() if t.runtime == runtime and device.core in t.cores)
    table = next(tables, None)
    if table is None:
        why = f"no programs were measured for {runtime} on {device.core}"
        return _whole(device, runtime, why, None)
    missing = wanted - _known_kinds(table)
    if not missing:
        return code_size_from(table, wanted)
    why = f"no program was measured with {_names(missing)}"
    rest = code_size_from(table, wanted - missing) if wanted - missing else None
    return _whole(device, runtime, why, rest)
