"""A run whose supernet is trained, opened to look for other subnets in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinynas.config import Config, read_config
from tinynas.console import Console
from tinynas.cost.fitting import FittingSampler
from tinynas.cost.table import CostTable
from tinynas.data.open import open_data
from tinynas.errors import UsageError
from tinynas.pipeline import (
    check_same_data,
    load_data,
    shrink_stage,
    statistics_images,
    supernet_stage,
)
from tinynas.run import CONFIG, RunDir
from tinynas.target import Target, make_task, offered_space, resolve_target

if TYPE_CHECKING:
    from tinynas.supernet.scoring import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened:
    """A run's configuration, target and cost table, and what scores subnets with its supernet."""

    config: Config
    target: Target
    table: CostTable
    scorer: Scorer


def reopen(path: Path) -> Reopened:
    """What a run directory holds; nothing in it changes.

    Raises UsageError where it is none, or its supernet is not trained.
    """
    from tinynas.supernet.scoring import Scorer

    run, ui = RunDir(path), Console(quiet=True)
    if not run.file(CONFIG).is_file():
        raise UsageError(f"{path} is not a run directory (it has no {CONFIG})")
    config = read_config(run.file(CONFIG))
    run.digest = config.digest()
    if not (run.done("shrink") and run.done("supernet")):
        raise UsageError(
            f"{path} has no trained supernet; finish it by tinynas search --resume {path}"
        )
    target, source = resolve_target(config), open_data(config.data.source)
    check_same_data(run, source)
    space = offered_space(config.space, source.info.native_size)
    patch = config.shrink.patch == "auto"
    task = make_task(target, len(source.info.labels), source.info.channels, patch=patch)
    table = shrink_stage(run, config, target, space, task, ui)
    data = load_data(config, source, table.resolution, ui)
    sampler = FittingSampler(table, target.budget)
    supernet = supernet_stage(run, config, sampler, task, data, ui)
    images = statistics_images(config, data)
    return Reopened(
        config=config,
        target=target,
        table=table,
        scorer=Scorer(supernet, images, data.val, config.threads or 1),
    )
