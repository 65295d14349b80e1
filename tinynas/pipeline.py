"""The main job, read top to bottom: from two budgets to a model that the runtime has executed.

Every stage reads what the stages before it left in the run directory, and is skipped if it is done
already. Modules that need torch are imported by the stages that use them, so that an impossible
budget is refused before anything heavy is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from tinynas.config import Config
from tinynas.console import Console
from tinynas.cost.fitting import FittingSampler
from tinynas.cost.prefix import split_of
from tinynas.cost.table import CostTable
from tinynas.data.dataset import Dataset, Source, Split, take
from tinynas.data.open import open_data
from tinynas.errors import TinynasError, UsageError
from tinynas.report.latency_json import model_json
from tinynas.run import RunDir
from tinynas.search.candidates import Candidate, candidates_of, front_of, pick_winner
from tinynas.search.loop import Objective
from tinynas.search.problem import Problem, make_problem
from tinynas.search.recorded import recorded_search
from tinynas.shrink import Shrunk, shrink
from tinynas.shrink import to_csv as shrink_csv
from tinynas.space.arch import Arch, Genes, decode, largest
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, find_space
from tinynas.target import Target, make_task, offered_space, resolve_target
from tinynas.task import Task, compile_task

if TYPE_CHECKING:
    from torch import nn

    from tinynas.deploy.build import Built
    from tinynas.supernet.network import Supernet

# For the statistics of batch norm while searching.
STATISTICS_IMAGES = 256
# Independent streams of random numbers, one for each stage that draws any.
SUBSET, SHRINK, SUPERNET, TRAIN, SEARCH, FINETUNE, CALIBRATION = range(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: its directory, the content of 7_verify.json, and seconds by stage."""

    run_dir: Path
    report: dict[str, Any]
    seconds: dict[str, float]


def stream(config: Config, number: int) -> int:
    """A seed for one purpose, independent of the seeds for others."""
    return int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])


def search_and_deploy(config: Config, run: RunDir, ui: Console) -> Outcome:
    """Do every stage that is not done yet in an open run directory.

    Raises TinynasError with one sentence for whatever is wrong with settings, data or budget.
    """
    run.digest = config.digest()
    target = resolve_target(config)
    source = open_data(config.data.source)
    check_same_data(run, source)
    space = offered_space(config.space, source.info.native_size)
    task = make_task(
        target,
        len(source.info.labels),
        source.info.channels,
        patch=config.shrink.patch == "auto",
    )

    state_budget(run, target, source, space, ui)
    table = shrink_stage(run, config, target, space, task, ui)
    if not run.done("deploy"):
        power = target.device.active_power_mw
        problem = make_problem(table, target.budget, config.search, power.value if power else None)
        data = load_data(config, source, table.resolution, ui)
        supernet = supernet_stage(run, config, problem.sampler, task, data, ui)
        candidates = search_stage(run, config, problem, supernet, data, ui)
        deploy_stage(run, config, target, table, supernet, candidates, data, ui)
    outcome = Outcome(run_dir=run.path, report=run.read_json("7_verify.json"), seconds=run.seconds)
    ui.result(outcome.report, outcome.seconds, run.path)
    return outcome


def check_same_data(run: RunDir, source: Source) -> None:
    """Refuse to go on with a run whose data have changed since it began."""
    if not run.file("1_budget.json").exists():
        return
    before = run.read_json("1_budget.json")["data"]["fingerprint"]
    if before != source.info.fingerprint:
        raise UsageError(
            f"the images of {source.info.name} have changed since the run in {run.path} began; "
            "start a new run"
        )


def state_budget(
    run: RunDir, target: Target, source: Source, space: SearchSpace, ui: Console
) -> None:
    """Write down the limits that hold, what they are for, and what the model is trained on."""
    ui.stage(1, "Budget")
    run.write_json(
        "1_budget.json",
        {
            "budget": asdict(target.budget),
            "mcu": target.device.name,
            "mcu_named": target.named,
            "runtime": target.runtime,
            "latency_model": model_json(target.timer),
            "space": space.name,
            "data": asdict(source.info),
        },
    )
    ui.budget(target)
    ui.data(source.info)


def shrink_stage(
    run: RunDir, config: Config, target: Target, space: SearchSpace, task: Task, ui: Console
) -> CostTable:
    """The cost table of the chosen width multiplier and resolution."""
    ui.stage(2, "Shrink the search space")
    if run.done("shrink"):
        chosen = find_space(str(run.file("2_space.yaml")))
        width, resolution = chosen.width_multipliers[0], chosen.resolutions[0]
        ui.skipped(f"width multiplier {width:g}, {resolution} pixels")
        return compile_task(space, task, width, resolution, patches=chosen.patches)
    with run.stage("shrink"), ui.progress("counting subnets") as advance:
        shrunk = shrink(
            space,
            target.budget,
            task,
            method=config.shrink.method,
            rng=np.random.default_rng(stream(config, SHRINK)),
            on_space=advance,
        )
        save_shrunk(run, space, shrunk)
    ui.shrunk(space, shrunk)
    return shrunk.table


def save_shrunk(run: RunDir, space: SearchSpace, shrunk: Shrunk) -> None:
    """Write the table of all spaces, and the chosen one as a space of its own."""
    run.write("2_shrink.csv", shrink_csv(shrunk))
    chosen = space.model_copy(
        update={
            "width_multipliers": (shrunk.chosen.width,),
            "resolutions": (shrunk.chosen.resolution,),
            "patches": shrunk.chosen.patches,
        }
    )
    content = chosen.model_dump(mode="json", exclude_none=True)
    run.write("2_space.yaml", yaml.safe_dump(content, sort_keys=False))


def load_data(config: Config, source: Source, resolution: int, ui: Console) -> Dataset:
    """The images at the chosen resolution, fewer of them where the configuration asks so."""
    with ui.progress("reading images") as advance:
        data = source.load(resolution, advance)
    seed = stream(config, SUBSET)

    def limited(split: Split, most: int | None) -> Split:
        return take(split, most, seed) if most and most < len(split.labels) else split

    return Dataset(
        info=data.info,
        resolution=data.resolution,
        train=limited(data.train, config.data.max_train_images),
        val=limited(data.val, config.data.max_val_images),
        test=data.test,
    )


def supernet_stage(
    run: RunDir, config: Config, sampler: FittingSampler, task: Task, data: Dataset, ui: Console
) -> Supernet:
    """The trained supernet; takes up a killed training at its last checkpoint."""
    import torch

    from tinynas.supernet.accelerator import find_accelerator
    from tinynas.supernet.network import Supernet
    from tinynas.supernet.train import train_supernet

    ui.stage(3, "Train the supernet")
    torch.set_num_threads(config.threads or 1)
    device = find_accelerator(config.accelerator)
    table = sampler.table
    supernet = Supernet(
        table.space,
        width=table.width,
        classes=task.classes,
        channels=task.channels,
        seed=stream(config, SUPERNET),
    )

    def fitting(count: int, rng: np.random.Generator) -> Genes:
        return sampler.sample(count, rng)

    finished = run.done("supernet")
    with run.stage("supernet") if not finished else ui.quietly(), ui.epochs() as progress:
        result = train_supernet(
            supernet,
            data.train.images,
            data.train.labels,
            config.train,
            seed=stream(config, TRAIN),
            device=device,
            plan=run.file("3_plan.json"),
            on_plan=ui.planned,
            checkpoint=run.file("3_supernet.pt"),
            sampler=fitting,
            progress=progress,
        )
    ui.trained(result.losses, skipped=finished)
    return supernet


def search_stage(
    run: RunDir,
    config: Config,
    problem: Problem,
    supernet: Supernet,
    data: Dataset,
    ui: Console,
) -> list[Candidate]:
    """All candidates that were scored with the supernet's weights on the validation split.

    Raises KeyboardInterrupt after Ctrl-C, with everything written down.
    """
    from tinynas.supernet.scoring import Scorer

    ui.stage(4, "Search")
    images = statistics_images(config, data)
    finished = run.done("search")
    with (
        run.stage("search") if not finished else ui.quietly(),
        ui.progress("scoring subnets") as advance,
        Scorer(supernet, images, data.val, config.threads or 1) as scorer,
    ):
        found = recorded_search(
            run,
            problem,
            config.search,
            Objective(score=lambda batch: scorer.accuracies(batch.archs()), images=scorer.images),
            seed=stream(config, SEARCH),
            on_scored=advance,
            on_interrupt=lambda: ui.warn("Ending after this batch; Ctrl-C again stops at once"),
        )
        front = candidates_of(front_of(problem, found.scored))
        ui.searched(found.reason, len(found.scored), front, skipped=finished)
        if found.reason == "interrupted":
            raise KeyboardInterrupt
    return candidates_of(found.scored)


def statistics_images(config: Config, data: Dataset) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Training images for the statistics of batch norm, the same for every subnet."""
    count = min(STATISTICS_IMAGES, len(data.train.labels))
    return take(data.train, count, stream(config, CALIBRATION)).images


def deploy_stage(
    run: RunDir,
    config: Config,
    target: Target,
    table: CostTable,
    supernet: Supernet,
    candidates: Sequence[Candidate],
    data: Dataset,
    ui: Console,
) -> None:
    """Specialise the winner, write its model and verify it; the next one if it misses the budget.

    Raises TinynasError if no candidate of the front keeps the budget in the runtime.
    """
    from tinynas.report.firmware import write_firmware_files
    from tinynas.report.verification import describe, measure, misses

    left = list(candidates)
    with run.stage("deploy"):
        while left:
            winner = pick_winner(left)
            arch = decode(
                table.space,
                np.array(winner.genes),
                width=table.width,
                resolution=table.resolution,
            )
            ui.winner(winner, arch)
            net = specialise(run, config, table.space, supernet, arch, data, ui)
            built = export(run, config, target, table, net, arch, data, ui)
            ui.stage(7, "Verify in the runtime")
            arena = measure(built)
            why = misses(built, arena, target.budget, target.timer)
            if not why:
                break
            ui.warn(f"rejected: {why}; taking the next candidate")
            run.log("candidate rejected", genes=winner.genes, why=why)
            left.remove(winner)
        else:
            raise TinynasError(
                f"none of the {len(candidates)} candidates keeps the budget in the runtime; "
                f"{run.path / 'log.jsonl'} says why for each"
            )
        with ui.progress("running the test images") as advance:
            report = describe(
                built, arena, net, arch, winner, target, data, config.threads or 1, advance
            )
        write_firmware_files(run, built, report, data)
        run.write_json("7_verify.json", report)


def specialise(
    run: RunDir,
    config: Config,
    space: SearchSpace,
    supernet: Supernet,
    arch: Arch,
    data: Dataset,
    ui: Console,
) -> nn.Sequential:
    """The subnet with weights of its own: extracted from the supernet, then fine-tuned.

    With `finetune.distillation` above 0 the largest subnet is its teacher.
    """
    import torch

    from tinynas.deploy.finetune import finetune
    from tinynas.supernet.evaluate import recalibrate
    from tinynas.supernet.network import extract

    ui.stage(5, "Specialise")
    images = statistics_images(config, data)
    key = blake2b(json.dumps(arch.to_json()).encode(), digest_size=8).hexdigest()
    checkpoint = run.file(f"5_training_{key}.pt")  # a candidate may be rejected: one file each
    top = largest(space, width=arch.width, resolution=arch.resolution)
    teaches = config.finetune.distillation > 0
    teacher = recalibrate(extract(supernet, top), images) if teaches else None
    with ui.epochs() as progress:
        net = finetune(
            recalibrate(extract(supernet, arch), images),
            data.train.images,
            data.train.labels,
            config.finetune,
            seed=stream(config, FINETUNE),
            teacher=teacher,
            device=supernet.logits.weight.device,
            checkpoint=checkpoint,
            progress=progress,
        ).cpu()
    content = {"arch": json.dumps(arch.to_json()), "model": net.state_dict()}
    run.write_with("5_subnet.pt", lambda path: torch.save(content, path))
    checkpoint.unlink()
    return net


def export(
    run: RunDir,
    config: Config,
    target: Target,
    table: CostTable,
    net: nn.Sequential,
    arch: Arch,
    data: Dataset,
    ui: Console,
) -> Built:
    """The int8 model of a trained subnet, written to the run."""
    from tinynas.deploy.build import build
    from tinynas.supernet.network import fold

    ui.stage(6, "Quantise and export")
    info = data.info
    graph = lower(table.space, arch, classes=len(info.labels), channels=info.channels)
    split = split_of(table.space, graph) if table.patches > 1 else 0
    count = min(config.quantize.calibration_images, len(data.train.labels))
    images = take(data.train, count, stream(config, CALIBRATION)).images
    built = build(graph, fold(net), images, target.kernels, split=split, patches=table.patches)
    run.write("6_model.tflite", built.content)
    ui.exported(built.predicted.flash_bytes)
    return built
