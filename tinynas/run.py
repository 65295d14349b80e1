"""The run directory: everything a run knows, written so that a kill at any moment loses little.

Files appear under a temporary name and are renamed, so each is whole or absent. `stages.json`
lists the stages that are done with the hash of the configuration they were done under; a stage
is skipped if it is listed there with the hash of today's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinynas.errors import UsageError

CONFIG, STAGES, LOG, LOCK = "config.yaml", "stages.json", "log.jsonl", ".lock"
BEFORE_TRAINING = (CONFIG, STAGES, LOG, LOCK, "1_budget.json", "2_shrink.csv", "2_space.yaml")


class RunDir:
    """One run's directory, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.digest = ""
        self._lock: int | None = None

    def create(self) -> None:
        """Make the directory; raises UsageError if it is not empty or cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            taken = any(self.path.iterdir())
        except OSError as error:
            raise UsageError(
                f"{self.path} cannot be used as run directory: {error.strerror}; "
                "give another with --out"
            ) from None
        if taken:
            raise UsageError(
                f"{self.path} is not empty; go on with it by --resume {self.path}, "
                "or give another --out"
            )
        self._acquire()

    def open(self) -> None:
        """Take up an existing run; raises UsageError if it is none or is running."""
        if not (self.path / CONFIG).is_file():
            raise UsageError(
                f"{self.path} is not a run directory (it has no {CONFIG}); "
                "give the directory that an earlier run printed"
            )
        self._acquire()

    def discard(self) -> None:
        """Take back a directory in which nothing was trained, so that its name is free again."""
        for name in BEFORE_TRAINING:
            self.file(name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _acquire(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows: there two processes are not kept apart
            return
        try:
            self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self.path} is in use by another process; wait for it") from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Let other processes have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def file(self, name: str) -> Path:
        """Path of a file of the run."""
        return self.path / name

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole or not at all."""
        data = content.encode() if isinstance(content, str) else content
        return self.write_with(name, lambda path: path.write_bytes(data))

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a mapping as indented JSON."""
        return self.write(name, json.dumps(content, indent=2) + "\n")

    def write_with(self, name: str, save: Callable[[Path], object]) -> Path:
        """Let `save` write a temporary file, then give it its name."""
        path = self.path / name
        temporary = path.with_name(f".{path.name}.tmp")
        save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return path

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; UsageError if it is damaged."""
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.path / name} cannot be read ({error}); delete it and resume"
            ) from None
        if not isinstance(content, dict):
            raise UsageError(f"{self.path / name} is damaged; delete it and resume")
        return content

    def log(self, event: str, **facts: Any) -> None:
        """Append one line to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts})
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _stages(self) -> dict[str, Any]:
        return self.read_json(STAGES) if self.file(STAGES).exists() else {}

    def done(self, stage: str) -> bool:
        """Whether a stage was finished under today's configuration."""
        entry = self._stages().get(stage)
        return entry is not None and entry["configuration"] == self.digest

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished stage took, in the attempt that finished it."""
        return {stage: entry["seconds"] for stage, entry in self._stages().items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and mark it done if it ends without an exception."""
        started = time.monotonic()
        self.log("stage started", stage=name)
        yield
        seconds = round(time.monotonic() - started, 3)
        entry = {"configuration": self.digest, "seconds": seconds}
        self.write_json(STAGES, {**self._stages(), name: entry})
        self.log("stage done", stage=name, seconds=seconds)
