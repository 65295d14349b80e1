"""Costs of many subnets at once, by looking them up in small tables.

Neighbouring blocks of a stage share a table of all their combinations at every depth, in which
blocks beyond the depth add nothing. A subnet's row in each table is a linear function of its
genes, so one matrix product gives all rows of all subnets. What is summed is packed into few
64-bit words, wide enough for the largest total, so that a table costs few gathers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynas.cost.blocks import SUMS, Floats, Ints, Part
from tinynas.space.arch import Genes

# Such tables are filled in less than a millisecond and stay in a core's nearest cache.
LARGEST_TABLE_ROWS = 1024
WORD_BITS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """A stage's parts by [position, kernel index, expansion index].

    `sums` has shape (positions, kernels, expansions, len(SUMS)); the others lack the last axis.
    """

    depths: tuple[int, ...]
    sums: Ints
    head_bytes: Ints
    preparing_bytes: Ints
    latency_us: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where a column of SUMS lies in the packed words."""

    word: int
    shift: int
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What combinations of blocks add: `words` (words, rows), the others (rows,)."""

    words: Ints
    head_bytes: Ints
    preparing_bytes: Ints
    latency_us: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Tables of a whole network; genes @ `strides` is the row in each, `sizes` bounds the genes.

    `strides` has shape (genes, tables) and holds whole numbers as floats, exact and fast to
    multiply; `start` has the one row that every subnet adds.
    """

    fields: tuple[Field, ...]
    start: Rows
    tables: tuple[Rows, ...]
    strides: Floats
    sizes: Ints

    def totals(self, genes: Genes) -> tuple[list[Ints], Ints, Ints, Floats]:
        """The columns of SUMS, head and preparing bytes, microseconds: each of shape (N,).

        Raises IndexError for a gene that is no index of a choice.
        """
        numbers = genes.astype(np.float64)
        least, most = numbers.min(axis=0, initial=0), numbers.max(axis=0, initial=0)
        if (least < 0).any() or (most >= self.sizes).any():
            raise IndexError(f"genes must be at least 0 and below {self.sizes.tolist()}")
        rows = (self.strides.T @ numbers.T).astype(np.intp)
        words = np.repeat(self.start.words, len(genes), axis=1)
        head = np.repeat(self.start.head_bytes, len(genes))
        preparing = np.repeat(self.start.preparing_bytes, len(genes))
        latency = np.repeat(self.start.latency_us, len(genes))
        for table, at in zip(self.tables, rows, strict=True):
            for word, added in zip(words, table.words, strict=True):
                word += added[at]
            np.maximum(head, table.head_bytes[at], out=head)
            np.maximum(preparing, table.preparing_bytes[at], out=preparing)
            latency += table.latency_us[at]
        sums = [(words[field.word] >> field.shift) & field.mask for field in self.fields]
        return sums, head, preparing, latency


def build_lookup(base: Part, stages: Sequence[StageTable]) -> Lookup:
    """The tables of a network of these stages; `base` is what does not depend on any choice."""
    columns = _fields(base, stages)
    tables: list[Rows] = []
    strides: list[dict[int, int]] = []
    sizes: list[int] = []
    for stage in stages:
        kernels, expansions = stage.head_bytes.shape[1:]
        positions = stage.depths[-1]
        for group in _groups(len(stage.depths), kernels * expansions, positions):
            tables.append(_rows(stage, group, columns))
            strides.append(_strides(len(sizes), group, kernels, expansions))
        sizes += [len(stage.depths), *[kernels, expansions] * positions]
    matrix = np.zeros((len(sizes), len(tables)))
    for table, by_gene in enumerate(strides):
        matrix[list(by_gene), table] = list(by_gene.values())
    return Lookup(
        fields=columns,
        start=Rows(
            words=_packed(np.array([base.sums]), columns),
            head_bytes=np.array([base.head_bytes]),
            preparing_bytes=np.array([base.preparing_bytes]),
            latency_us=np.array([base.latency_us]),
        ),
        tables=tuple(tables),
        strides=matrix,
        sizes=np.array(sizes),
    )


def _fields(base: Part, stages: Sequence[StageTable]) -> tuple[Field, ...]:
    """Room for each column's largest total, one column after another."""
    most = np.array(base.sums) + sum(stage.sums.max(axis=(1, 2)).sum(axis=0) for stage in stages)
    columns: list[Field] = []
    word = shift = 0
    for bits in (int(total).bit_length() for total in most):
        if shift + bits > WORD_BITS:
            word, shift = word + 1, 0
        columns.append(Field(word=word, shift=shift, mask=(1 << bits) - 1))
        shift += bits
    return tuple(columns)


def _packed(sums: Ints, columns: Sequence[Field]) -> Ints:
    """Sums of shape (rows, len(SUMS)) as words of shape (words, rows)."""
    words = np.zeros((columns[-1].word + 1, len(sums)), np.int64)
    for field, column in zip(columns, sums.T, strict=True):
        words[field.word] += column << field.shift
    return words


def _groups(depths: int, choices: int, positions: int) -> list[range]:
    """The positions of a stage in as few neighbouring groups as its tables' size allows."""
    together = 1
    while together < positions and depths * choices ** (together + 1) <= LARGEST_TABLE_ROWS:
        together += 1
    return [
        range(first, min(first + together, positions)) for first in range(0, positions, together)
    ]


def _strides(first: int, group: range, kernels: int, expansions: int) -> dict[int, int]:
    """By gene, what one more of it adds to the row; `first` is the stage's depth gene."""
    strides, stride = {}, 1
    for position in reversed(group):
        strides[first + 2 + 2 * position] = stride
        strides[first + 1 + 2 * position] = stride * expansions
        stride *= kernels * expansions
    return {**strides, first: stride}


def _rows(stage: StageTable, group: range, columns: Sequence[Field]) -> Rows:
    """What the blocks of a group add, by depth, then the choices of each position."""
    depths = len(stage.depths)
    words = np.zeros((columns[-1].word + 1, depths, 1), np.int64)
    head = preparing = np.zeros((depths, 1), np.int64)
    latency = np.zeros((depths, 1))
    for position in group:
        exists = (np.array(stage.depths) > position)[:, None]
        packed = _packed(stage.sums[position].reshape(-1, len(SUMS)), columns)
        words = _each_with_each(np.add, words, exists * packed[:, None])
        heads, preparings, latencies = (
            exists * part[position].reshape(-1)
            for part in (stage.head_bytes, stage.preparing_bytes, stage.latency_us)
        )
        head = _each_with_each(np.maximum, head, heads)
        preparing = _each_with_each(np.maximum, preparing, preparings)
        latency = _each_with_each(np.add, latency, latencies)
    return Rows(
        words=words.reshape(len(words), -1),
        head_bytes=head.reshape(-1),
        preparing_bytes=preparing.reshape(-1),
        latency_us=latency.reshape(-1),
    )


def _each_with_each(combine: np.ufunc, rows: Any, added: Any) -> Any:
    """All rows with all that can be added, at each depth: shapes (..., n), (..., m), (..., nm)."""
    return combine(rows[..., :, None], added[..., None, :]).reshape(*rows.shape[:-1], -1)
