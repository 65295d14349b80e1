"""Can the supernet's ranking of subnets be believed? Its scores against training them.

    python experiments/supernet_ranking/ranking.py CIFAR --out results

Draws subnets uniformly from those that fit a budget and whose MACs lie within 20 % of one count,
scores them with the weights of a supernet on the validation split, fine-tunes each from the
supernet's weights, trains each alone, from new ones, and tests it on the test split. Kendall's tau
between score and accuracy, with a bootstrap interval over subnets, beside the tau of MACs alone.
Killed at any time, the same command goes on; OUT gets ranking.csv, .png.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import kendalltau

from tinynas.config import Config, TargetConfig, usable_cores
from tinynas.cost.fitting import FittingSampler
from tinynas.data.dataset import Dataset, take
from tinynas.data.open import open_data
from tinynas.deploy.finetune import finetune, float_accuracy
from tinynas.space.arch import Arch, Genes, decode
from tinynas.space.spec import find_space
from tinynas.supernet.accelerator import find_accelerator
from tinynas.supernet.batches import Images
from tinynas.supernet.evaluate import recalibrate
from tinynas.supernet.fit import Progress
from tinynas.supernet.network import Supernet, extract
from tinynas.supernet.scoring import score_all
from tinynas.supernet.settings import FinetuneSettings, TrainSettings
from tinynas.supernet.train import train_supernet
from tinynas.target import make_task, resolve_target
from tinynas.task import compile_task

TRAININGS = {"tuned": "fine-tuned from the supernet's weights", "alone": "trained alone"}
STATISTICS_IMAGES = 1280  # for batch norm: 20 batches of 64, as MCUNet takes
WINDOW = 0.2  # how far MACs may lie from one count, as a fraction of it
RESAMPLES = 10_000
WEIGHTS = "weights.pt"  # of the supernet, in OUT
AUGMENTATION = {"shift": 0.125, "flip": True}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training of a subnet; `kind` is one of TRAININGS."""

    kind: str
    number: int
    repeat: int
    arch: Arch
    options: argparse.Namespace


def load(options: argparse.Namespace) -> Dataset:
    data = open_data(str(options.data)).load(options.resolution)
    train = take(data.train, options.images, options.seed) if options.images else data.train
    return Dataset(
        info=data.info, resolution=data.resolution, train=train, val=data.val, test=data.test
    )


def make_sampler(options: argparse.Namespace, classes: int) -> FittingSampler:
    target = resolve_target(
        Config(target=TargetConfig.model_validate({"sram": options.sram, "flash": options.flash}))
    )
    table = compile_task(
        find_space(options.space),
        make_task(target, classes, 3, patch=False),
        options.width,
        options.resolution,
    )
    return FittingSampler(table, target.budget)


def draw(sampler: FittingSampler, options: argparse.Namespace) -> tuple[Genes, Genes]:
    """Different subnets inside the window of MACs, uniformly, and their MACs.

    The window is around the median MACs of all that fit, if no count is given.
    """
    rng = np.random.default_rng(options.seed)
    drawn = sampler.sample(1000, rng)
    macs = sampler.table.evaluate(drawn).macs
    middle = options.macs or float(np.median(macs))
    while True:
        inside = drawn[np.abs(macs / middle - 1) <= WINDOW]
        _, first = np.unique(inside, axis=0, return_index=True)
        if len(first) >= options.subnets:
            chosen = inside[np.sort(first)[: options.subnets]]
            return chosen, sampler.table.evaluate(chosen).macs
        drawn = np.concatenate([drawn, sampler.sample(1000, rng)])
        macs = sampler.table.evaluate(drawn).macs


def make_supernet(options: argparse.Namespace, classes: int, seed: int) -> Supernet:
    return Supernet(
        find_space(options.space), width=options.width, classes=classes, channels=3, seed=seed
    )


def trained_supernet(
    options: argparse.Namespace, data: Dataset, sampler: FittingSampler
) -> Supernet:
    supernet = make_supernet(options, len(data.info.labels), options.seed)
    if options.weights:
        supernet.load_state_dict(torch.load(options.weights, weights_only=True))
        return supernet
    settings = TrainSettings.model_validate(
        {
            "augmentation": AUGMENTATION,
            "epochs": options.epochs,
            "time": options.minutes * 60 or None,
            **json.loads(options.settings),
        }
    )

    def progress(at: Progress) -> None:
        if at.ends_epoch:
            print(
                f"supernet, epoch {at.epoch + 1} of {at.epochs} {at.phase}: loss {at.loss:.3f}",
                flush=True,
            )

    train_supernet(
        supernet,
        data.train.images,
        data.train.labels,
        settings,
        seed=options.seed,
        device=find_accelerator(options.accelerator),
        plan=options.out / "plan.json",
        checkpoint=options.out / "supernet.pt",
        sampler=lambda count, rng: sampler.sample(count, rng),
        progress=progress,
    )
    return supernet


def train(job: Job) -> float:
    """Test accuracy of a subnet after its training; kept in a file when done."""
    options = job.options
    path = options.out / job.kind / f"{job.number}-{job.repeat}.json"
    if path.exists():
        return float(json.loads(path.read_text())["accuracy"])
    torch.set_num_threads(max(1, options.threads // options.workers))
    data = load(options)
    seed = options.seed + 1000 * (job.number + 1) + job.repeat
    supernet = make_supernet(options, len(data.info.labels), seed)
    if job.kind == "tuned":
        supernet.load_state_dict(torch.load(options.out / WEIGHTS, weights_only=True))
        settings = {"epochs": options.tuned_epochs}
        net = recalibrate(extract(supernet, job.arch), statistics(data, options))
    else:
        settings = {"epochs": options.alone_epochs, "lr": options.alone_lr}
        net = extract(supernet, job.arch)
    net = finetune(
        net,
        data.train.images,
        data.train.labels,
        FinetuneSettings.model_validate({"augmentation": AUGMENTATION, **settings}),
        seed=seed,
        device=find_accelerator(options.accelerator),
        checkpoint=path.with_suffix(".pt"),
    )
    accuracy = float_accuracy(net, data.test.images, data.test.labels)
    path.write_text(json.dumps({"accuracy": accuracy}) + "\n", encoding="utf-8")
    path.with_suffix(".pt").unlink()
    print(f"subnet {job.number} {job.kind}, {job.repeat}: {accuracy:.4f}", flush=True)
    return accuracy


def end_with_parent() -> None:
    """A worker whose parent was killed would go on, beside those of the next start."""

    def wait() -> None:
        parent = parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def statistics(data: Dataset, options: argparse.Namespace) -> Images:
    return take(data.train, STATISTICS_IMAGES, options.seed).images


def train_all(kind: str, archs: Sequence[Arch], options: argparse.Namespace) -> Floats:
    """Mean test accuracies, `workers` subnets being trained at a time, each in a process."""
    repeats = options.repeats if kind == "alone" else 1
    (options.out / kind).mkdir(exist_ok=True)
    jobs = [
        Job(kind=kind, number=number, repeat=repeat, arch=arch, options=options)
        for repeat in range(repeats)
        for number, arch in enumerate(archs)
    ]
    context = get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, initializer=end_with_parent) as pool:
        accuracies = np.array(list(pool.map(train, jobs)))
    means: Floats = accuracies.reshape(repeats, len(archs)).mean(0)
    return means


def tau(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    return float(kendalltau(first, second).statistic)


def intervals(scores: Floats, macs: Floats, accuracy: Floats, seed: int) -> dict[str, list[float]]:
    """95 % percentile intervals of both taus and of their difference, subnets drawn again."""
    rng = np.random.default_rng(seed)
    taus = np.empty((RESAMPLES, 2))
    for row in taus:
        again = rng.integers(len(accuracy), size=len(accuracy))
        row[:] = tau(scores[again], accuracy[again]), tau(macs[again], accuracy[again])

    def interval(values: Floats) -> list[float]:
        return [round(float(q), 3) for q in np.nanquantile(values, [0.025, 0.975])]

    return {
        "supernet": interval(taus[:, 0]),
        "macs": interval(taus[:, 1]),
        "difference": interval(taus[:, 0] - taus[:, 1]),
    }


def compared(scores: Floats, macs: Floats, accuracy: Floats, seed: int) -> dict[str, object]:
    """Both taus with accuracies after training, and their intervals."""
    return {
        "tau_supernet": round(tau(scores, accuracy), 3),
        "tau_macs": round(tau(macs, accuracy), 3),
        "intervals": intervals(scores, macs, accuracy, seed),
    }


def write_rows(
    path: Path, kinds: Sequence[str], archs: Sequence[Arch], columns: Sequence[Iterable[float]]
) -> None:
    """A row per subnet: MACs, score, and its accuracy after each kind of training."""
    accuracies = [f"{kind}_test_accuracy" for kind in kinds]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subnet", "macs", "supernet_val_accuracy", *accuracies, "arch"])
        for number, (arch, *row) in enumerate(zip(archs, *columns, strict=True)):
            writer.writerow([number, *row, json.dumps(arch.to_json())])


def draw_picture(path: Path, scores: Floats, macs: Floats, trained: dict[str, Floats]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4 * len(trained)), layout="constrained")
    rows = figure.subplots(len(trained), 2, sharey="row", sharex="col", squeeze=False)
    for (left, right), (kind, accuracy) in zip(rows, trained.items(), strict=True):
        left.scatter(scores, accuracy, color="#0072b2")
        left.set(ylabel=f"test accuracy, {TRAININGS[kind]}")
        left.set(title=f"tau {tau(scores, accuracy):.2f}")
        left.locator_params(axis="x", nbins=5)
        right.scatter(macs / 1e6, accuracy, color="#d55e00")
        right.set(title=f"tau {tau(macs, accuracy):.2f}")
    left.set(xlabel="validation accuracy with the supernet's weights")
    right.set(xlabel="million MACs")
    figure.savefig(path, dpi=150)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="mcunet-small")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--sram", default="64k")
    parser.add_argument("--flash", default="512k")
    parser.add_argument("--macs", type=float, help="default: the median of all that fit")
    parser.add_argument("--subnets", type=int, default=24)
    parser.add_argument("--images", type=int, help="of the training split; default all")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the supernet's training")
    parser.add_argument(
        "--epochs", type=int, default=20, help="of the supernet, without --minutes"
    )
    parser.add_argument("--settings", default="{}", help="JSON over the supernet's defaults")
    parser.add_argument(
        "--weights", type=Path, help="of a supernet trained before (supernet_cifar), instead"
    )
    parser.add_argument(
        "--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS), help="default: all"
    )
    parser.add_argument("--alone-epochs", type=int, default=8)
    parser.add_argument("--alone-lr", type=float, default=4e-3)
    parser.add_argument("--tuned-epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1, help="seeds of each alone, averaged")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    data = load(options)
    sampler = make_sampler(options, len(data.info.labels))
    genes, counts = draw(sampler, options)
    where = {"width": options.width, "resolution": options.resolution}
    archs = [decode(sampler.table.space, row, **where) for row in genes]
    supernet, macs = trained_supernet(options, data, sampler), counts.astype(np.float64)
    torch.save(supernet.state_dict(), options.out / WEIGHTS)
    found = score_all(supernet, archs, statistics(data, options), data.val, options.threads)
    scores = np.array([score.accuracy for score in found])
    print(f"scored {len(archs)} subnets: {scores.min():.4f} to {scores.max():.4f}", flush=True)
    trained = {kind: train_all(kind, archs, options) for kind in options.trainings}
    columns = [counts, scores, *trained.values()]
    write_rows(options.out / "ranking.csv", [*trained], archs, columns)
    draw_picture(options.out / "ranking.png", scores, macs, trained)
    facts: dict[str, object] = {
        "subnets": len(archs),
        "macs": [int(counts.min()), int(counts.max())],
        **{kind: compared(scores, macs, trained[kind], options.seed) for kind in trained},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
