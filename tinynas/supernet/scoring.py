"""Accuracies of many subnets, several processes at work at once.

Threads would wait for each other: between two operators a thread needs Python's lock. Each process
computes on one thread, so that accuracies do not depend on how many there are. They read supernet
and images from a file and subnets from a pipe, line by line, and end when the pipe does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch

from tinynas.data.dataset import Split
from tinynas.errors import TinynasError
from tinynas.space.arch import Arch
from tinynas.supernet.batches import Images
from tinynas.supernet.evaluate import Score, recalibrate_and_score
from tinynas.supernet.network import Supernet

WORKER = "tinynas.supernet.scoring_worker"


class Scorer:
    """Scores subnets of a supernet on validation images; a context that ends its processes.

    `calibration_images` must come from the training split. What was scored is remembered. A single
    process is this one; so it is where the supernet is not on the CPU.
    """

    def __init__(
        self, supernet: Supernet, calibration_images: Images, val: Split, processes: int
    ) -> None:
        self._supernet = supernet
        self._calibration_images = calibration_images
        self._val = val
        self._processes = processes if supernet.logits.weight.device.type == "cpu" else 1
        self._known: dict[Arch, Score] = {}
        self._others: _Processes | None = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._others:
            self._others.close()

    @property
    def images(self) -> int:
        """Number of validation images."""
        return len(self._val.labels)

    @property
    def processes(self) -> list[subprocess.Popen[str]]:
        """Those at work, none before the first is needed."""
        return list(self._others.all) if self._others else []

    def accuracies(self, archs: Sequence[Arch]) -> Iterator[float]:
        """The accuracy of each subnet, in order, as soon as it is known."""
        return (score.accuracy for score in self.scores(archs))

    def scores(self, archs: Sequence[Arch]) -> Iterator[Score]:
        """The score of each subnet, in order, as soon as it is known.

        Raises TinynasError when a process dies.
        """
        unknown = [arch for arch in dict.fromkeys(archs) if arch not in self._known]
        found = zip(unknown, self._found(unknown), strict=True)
        for arch in archs:
            while arch not in self._known:
                self._known.update([next(found)])
            yield self._known[arch]

    def _found(self, archs: Sequence[Arch]) -> Iterator[Score]:
        if self._processes == 1:
            return map(self._here, archs)
        if self._others is None:
            self._others = _Processes(
                self._processes, self._supernet, self._calibration_images, self._val
            )
        return self._others.scores(archs)

    def _here(self, arch: Arch) -> Score:
        val = self._val
        return recalibrate_and_score(
            self._supernet, arch, self._calibration_images, val.images, val.labels
        )


def score_all(
    supernet: Supernet,
    archs: Sequence[Arch],
    calibration_images: Images,
    val: Split,
    processes: int,
) -> Iterator[Score]:
    """`recalibrate_and_score` of several subnets, in order, in so many processes at once."""
    with Scorer(supernet, calibration_images, val, processes) as scorer:
        yield from scorer.scores(archs)


class _Processes:
    """Processes that wait for subnets, and for each a thread that waits for it."""

    def __init__(
        self, count: int, supernet: Supernet, calibration_images: Images, val: Split
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._own = threading.local()
        self.all: list[subprocess.Popen[str]] = []
        self._images = len(val.labels)
        content = {
            "space": supernet.space.model_dump_json(),
            "width": supernet.width,
            "weights": supernet.state_dict(),
            "calibration_images": torch.tensor(calibration_images),
            "images": torch.tensor(val.images),
            "labels": torch.tensor(val.labels),
        }
        torch.save(content, self._job)
        self._threads = ThreadPoolExecutor(count, initializer=self._start)

    @property
    def _job(self) -> Path:
        return Path(self._folder.name) / "job.pt"

    def _start(self) -> None:
        self._own.process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(self._job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is meant for us
        )
        self.all.append(self._own.process)

    def scores(self, archs: Sequence[Arch]) -> Iterator[Score]:
        """The score of each subnet, in order."""
        return self._threads.map(self._score, archs)

    def _score(self, arch: Arch) -> Score:
        process = self._own.process
        try:
            process.stdin.write(json.dumps(arch.to_json()) + "\n")
            process.stdin.flush()
            correct = int(process.stdout.readline())
        except (OSError, ValueError):
            process.kill()
            raise TinynasError(
                f"a process that scores subnets ended with code {process.wait()}; if memory ran "
                "out, resume with fewer threads"
            ) from None
        return Score(correct=correct, count=self._images)

    def close(self) -> None:
        """End all of it, whatever is still at work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self.all:
            process.kill()
            process.communicate()
        self._threads.shutdown()
        self._folder.cleanup()
