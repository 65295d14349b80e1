"""Killed thirty times by SIGKILL, a search ends as if it never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinynas.search.candidates import front_of
from tinynas.search.journal import to_csv
from tinynas.search.loop import JOURNAL

from .small_space import noisy, problem, run

ROOT = Path(__file__).parent.parent.parent
KILLS, EVALUATIONS = 30, 480
# Every score takes a while, so that kills meet scoring as well as asking and writing.
SCRIPT = """
import time
from pathlib import Path
from tests.search.small_space import noisy, run

def slowly(batch):
    for value in noisy(batch):
        time.sleep(0.002)
        yield float(value)

run({algorithm!r}, folder=Path({folder!r}), score=slowly, evaluations={evaluations})
"""


def start(algorithm: str, folder: Path) -> subprocess.Popen[bytes]:
    text = SCRIPT.format(algorithm=algorithm, folder=str(folder), evaluations=EVALUATIONS)
    return subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stderr=subprocess.PIPE)


def scored(folder: Path) -> int:
    """Rows that are in the journal."""
    journal = folder / JOURNAL
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


def killed_at(process: subprocess.Popen[bytes], folder: Path, rows: int, wait_s: float) -> bool:
    """Whether a process was killed a little after its journal had so many rows."""
    while scored(folder) < rows and process.poll() is None:
        time.sleep(0.001)
    time.sleep(wait_s)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == (-signal.SIGKILL if alive else 0), errors.decode()
    return alive


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["evolution", "nsga2"])
def test_thirty_kills_spread_over_a_search_leave_the_front_as_it_is(
    algorithm: str, tmp_path: Path
) -> None:
    expected = run(algorithm, score=noisy, evaluations=EVALUATIONS).scored
    rng = np.random.default_rng(0)
    kills, lost = 0, []
    for rows in np.sort(rng.integers(EVALUATIONS - 30, size=KILLS)).tolist():
        process = start(algorithm, tmp_path)
        kills += killed_at(process, tmp_path, rows, float(rng.uniform(0, 0.03)))
        lost.append(scored(tmp_path))
    assert kills == KILLS and len(set(lost)) > 10
    assert lost == sorted(lost)  # what was written stays
    last = start(algorithm, tmp_path)
    assert not killed_at(last, tmp_path, EVALUATIONS, 3.0)
    found = run(algorithm, score=noisy, evaluations=EVALUATIONS, folder=tmp_path).scored
    made = problem()
    assert to_csv(front_of(made, found)) == to_csv(front_of(made, expected))
    assert np.array_equal(found.genes, expected.genes)
