"""Candidates, the Pareto front of them, and the one to take."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CSV_COLUMNS = (
    "accuracy",
    "correct",
    "count",
    "sram_bytes",
    "flash_bytes",
    "macs",
    "latency_ms_estimated",
    "generation",
    "genes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A scored subnet: its genes, validation score with supernet weights, predicted costs.

    `correct` of `count` validation images were classified rightly; `latency_ms` is estimated.
    """

    genes: tuple[int, ...]
    correct: int
    count: int
    sram_bytes: int
    flash_bytes: int
    macs: int
    latency_ms: float
    generation: int

    @property
    def accuracy(self) -> float:
        """Fraction of validation images classified rightly."""
        return self.correct / self.count

    @property
    def objectives(self) -> tuple[float, ...]:
        """What a front trades off, each the lower the better: error, SRAM, flash, latency."""
        return (1 - self.accuracy, self.sram_bytes, self.flash_bytes, self.latency_ms)


def dominance(points: Floats) -> npt.NDArray[np.bool_]:
    """[i, j]: whether point i is no worse than j everywhere and better somewhere; lower is better.

    `points` has shape (N, objectives), the result (N, N).
    """
    no_worse = np.all(points[:, None] <= points[None], axis=2)
    better = np.any(points[:, None] < points[None], axis=2)
    beats: npt.NDArray[np.bool_] = np.logical_and(no_worse, better)
    return beats


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one dominates, most accurate first."""
    if not candidates:
        return []
    beaten = np.any(dominance(np.array([c.objectives for c in candidates])), axis=0).tolist()
    front = [c for c, b in zip(candidates, beaten, strict=True) if not b]
    return sorted(front, key=lambda c: (c.objectives, c.genes))


def pick_winner(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest of those within one standard error of the most accurate, then the smallest.

    The standard error is the binomial one of the best accuracy. Among few validation images
    higher accuracies are luck, and luck is no reason to pay latency.
    """
    best = max(candidates, key=lambda c: c.accuracy)
    error = sqrt(best.accuracy * (1 - best.accuracy) / best.count)
    equals = [c for c in candidates if c.accuracy >= best.accuracy - error]
    return min(equals, key=lambda c: (c.latency_ms, c.flash_bytes, c.sram_bytes, c.genes))


def to_csv(candidates: Sequence[Candidate]) -> str:
    """Candidates as CSV, columns as in CSV_COLUMNS; genes are joined by blanks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for c in candidates:
        genes = " ".join(str(gene) for gene in c.genes)
        writer.writerow(
            [
                f"{c.accuracy:.6f}",
                c.correct,
                c.count,
                c.sram_bytes,
                c.flash_bytes,
                c.macs,
                repr(c.latency_ms),
                c.generation,
                genes,
            ]
        )
    return out.getvalue()


def from_csv(text: str) -> list[Candidate]:
    """The candidates of a file that `to_csv` wrote."""
    return [
        Candidate(
            genes=tuple(int(gene) for gene in row["genes"].split()),
            correct=int(row["correct"]),
            count=int(row["count"]),
            sram_bytes=int(row["sram_bytes"]),
            flash_bytes=int(row["flash_bytes"]),
            macs=int(row["macs"]),
            latency_ms=float(row["latency_ms_estimated"]),
            generation=int(row["generation"]),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]
