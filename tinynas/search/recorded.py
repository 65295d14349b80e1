"""A search whose directory knows everything: whatever ended it, it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tinynas.run import RunDir
from tinynas.search.candidates import front_of
from tinynas.search.journal import to_csv
from tinynas.search.loop import (
    JOURNAL,
    STUDY,
    Callback,
    Found,
    Objective,
    OnScored,
    Progress,
    search,
)
from tinynas.search.problem import Problem
from tinynas.search.settings import SearchSettings

ABOUT, FRONT = "4_search.json", "4_front.csv"


def recorded_search(
    run: RunDir,
    problem: Problem,
    settings: SearchSettings,
    objective: Objective,
    *,
    seed: int,
    callbacks: Sequence[Callback] = (),
    on_scored: OnScored = lambda done, total: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Found:
    """What a search found; every batch is written down in an open run directory.

    A search that was stopped there goes on. What one of another configuration left is deleted.
    """
    about = run.read_json(ABOUT) if run.file(ABOUT).exists() else {}
    if about.get("configuration") != run.digest:
        for name in (JOURNAL, STUDY, FRONT):
            run.file(name).unlink(missing_ok=True)
        about = {"configuration": run.digest, "seconds": 0.0}
        run.write_json(ABOUT, about)
    spent_s, looked_at = float(about["seconds"]), int(about.get("looked_at", 0))
    started = time.monotonic() - spent_s

    def note(progress: Progress) -> None:
        known: dict[str, Any] = {"seconds": round(time.monotonic() - started, 3)}
        if settings.predictor:
            known["looked_at"] = looked_at + progress.looked_at
        run.write_json(ABOUT, {**about, **known})

    found = search(
        problem,
        settings,
        objective,
        seed=seed,
        folder=run.path,
        spent_s=spent_s,
        callbacks=[*([note] if settings.seconds or settings.predictor else []), *callbacks],
        on_scored=on_scored,
        on_interrupt=on_interrupt,
    )
    run.write(FRONT, to_csv(front_of(problem, found.scored)))
    return replace(found, looked_at=looked_at + found.looked_at)
