"""Checkpoints of a training: whole or absent, of one training only, and never a burden."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinynas.errors import UsageError
from tinynas.supernet.batches import Images, Labels
from tinynas.supernet.settings import FitSettings
from tinynas.supernet.training import Training

EVERY_S = 30.0  # the longest stretch of work that a kill can cost
# At the end of an epoch too, unless epochs are so short that writing would take more of the time.
SHARE_OF_TIME = 0.02


class Checkpoints:
    """Keeps a training in one file, `about` saying which it is; without a path it does nothing."""

    def __init__(self, path: Path | None, about: Mapping[str, str]) -> None:
        self.path, self.about = path, dict(about)
        self.saved_at, self.cost_s = time.monotonic(), 0.0

    def restore(self, training: Training) -> None:
        """Bring a new training to where the file left it, if there is one.

        Raises UsageError if the file is damaged or of another training.
        """
        if self.path is None or not self.path.exists():
            return
        content = load_checkpoint(self.path)
        kept = content["about"]
        if kept != self.about:
            differing = [key for key, value in self.about.items() if kept.get(key) != value]
            raise UsageError(
                f"{self.path} is of a training with other {', '.join(differing)}; "
                f"delete it or train with the same ones"
            )
        training.load(content)

    def save(self, training: Training, *, ends_epoch: bool) -> None:
        """Replace the file if it is time to; always after the last step."""
        started = time.monotonic()
        idle_s = started - self.saved_at
        may = ends_epoch and idle_s * SHARE_OF_TIME >= self.cost_s
        if self.path is None or not (training.done or may or idle_s >= EVERY_S):
            return
        _write(self.path, {"about": self.about, **training.state()})
        self.saved_at = time.monotonic()
        self.cost_s = self.saved_at - started


def fingerprint(
    images: Images, labels: Labels, settings: FitSettings, seed: int, phases: Sequence[int]
) -> dict[str, str]:
    """What must be the same for a training to go on from a checkpoint."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, np.int64).data)
    return {
        "seed": str(seed),
        "settings": settings.model_dump_json(),
        "steps": json.dumps(list(phases)),
        "data": digest.hexdigest(),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(_canonical(content), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _canonical(content: Any) -> Any:
    """The same, with equal strings being one object.

    A pickle writes an object once and refers to it later, so bytes would depend on whether a
    string comes from the program or from an earlier checkpoint.
    """
    if isinstance(content, dict):
        return {_canonical(key): _canonical(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(map(_canonical, content))
    return sys.intern(content) if isinstance(content, str) else content


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What was saved: `about` and the training's state, on the CPU.

    Raises UsageError for a file that is not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises half a dozen unrelated types for a damaged file
        content = None
    if not isinstance(content, dict) or not {"about", "steps_done", "model"} <= content.keys():
        raise UsageError(f"{path} is not a training checkpoint; delete it to start afresh")
    return content
