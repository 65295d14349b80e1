"""Ctrl-C, once and twice, as a terminal sends it to a process that searches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinynas.search.journal import Journal
from tinynas.search.loop import JOURNAL

from .small_space import noisy, run, table

ROOT = Path(__file__).parent.parent.parent
# Batches of 12: the sixteenth score is one of the second batch.
PRESSED_AT, BATCH, EVALUATIONS = 16, 12, 60
SCRIPT = """
import time
from pathlib import Path
from tests.search.small_space import noisy, problem
from tinynas.search.loop import Objective, search
from tinynas.search.settings import SearchSettings

def slowly(batch):
    for value in noisy(batch):
        time.sleep(0.1)
        print("scored", flush=True)
        yield float(value)

settings = SearchSettings(algorithm={algorithm!r}, evaluations=60, population=12)
found = search(
    problem(), settings, Objective(score=slowly), seed=0, folder=Path({folder!r}),
    on_interrupt=lambda: print("pressed", flush=True),
)
print(found.reason, len(found.scored), flush=True)
"""


def started(algorithm: str, folder: Path) -> subprocess.Popen[str]:
    """A search in a process group of its own, as a shell's job is."""
    text = SCRIPT.format(algorithm=algorithm, folder=str(folder))
    return subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def press(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def read_until(process: subprocess.Popen[str], line: str, times: int = 1) -> int:
    """How many lines were read until a line had come so many times."""
    assert process.stdout is not None
    lines = 0
    while times:
        got = process.stdout.readline()
        assert got, process.communicate()[1]
        lines += 1
        times -= got == f"{line}\n"
    return lines


def recorded(folder: Path) -> int:
    found = Journal(folder / JOURNAL, table()).read()
    return 0 if found is None else len(found)


def check_going_on(algorithm: str, folder: Path) -> None:
    """The search ends as if nobody had pressed."""
    more = run(algorithm, folder=folder, score=noisy, evaluations=EVALUATIONS).scored
    expected = run(algorithm, score=noisy, evaluations=EVALUATIONS).scored
    assert np.array_equal(more.genes, expected.genes)
    assert np.array_equal(more.accuracy, expected.accuracy)


@pytest.mark.parametrize("algorithm", ["evolution", "nsga2"])
def test_once_ends_the_process_after_the_batch_in_flight(algorithm: str, tmp_path: Path) -> None:
    process = started(algorithm, tmp_path)
    read_until(process, "scored", PRESSED_AT)
    press(process)
    read_until(process, "pressed")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.splitlines()[-1] == f"interrupted {2 * BATCH}"
    assert recorded(tmp_path) == 2 * BATCH
    check_going_on(algorithm, tmp_path)


@pytest.mark.parametrize("algorithm", ["evolution", "nsga2"])
def test_twice_ends_it_at_once_and_leaves_the_batches_before(
    algorithm: str, tmp_path: Path
) -> None:
    process = started(algorithm, tmp_path)
    read_until(process, "scored", PRESSED_AT)
    press(process)
    later = read_until(process, "pressed")
    press(process)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and errors.splitlines()[-1] == "KeyboardInterrupt"
    assert PRESSED_AT + later - 1 + output.count("scored") < 2 * BATCH
    assert recorded(tmp_path) == BATCH
    check_going_on(algorithm, tmp_path)
