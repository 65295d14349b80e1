"""Accuracy of the largest, the smallest and 20 random subnets against epochs of training.

    python experiments/supernet_cifar/accuracy.py CIFAR --out results

CIFAR is a folder of photographs (train/CLASS/*.jpg, test/CLASS/*.jpg). Scores during training are
on images of the validation split, the last ones on all test images as well. --minutes counts
training alone. Killed at any time, the same command goes on; OUT gets accuracy.csv and .png.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tinynas.config import usable_cores
from tinynas.data.dataset import Dataset, Split, take
from tinynas.data.open import open_data
from tinynas.graph import total_macs
from tinynas.space.arch import Arch, decode, largest, random_genes, smallest
from tinynas.space.lower import lower
from tinynas.space.spec import find_space
from tinynas.supernet.accelerator import find_accelerator
from tinynas.supernet.fit import Progress
from tinynas.supernet.network import Supernet
from tinynas.supernet.pace import TimePlan
from tinynas.supernet.scoring import score_all
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.train import train_supernet

FIELDS = ("epoch", "split", "images", "subnet", "macs", "accuracy")
STATISTICS_IMAGES = 1280  # for batch norm: 20 batches of 64, as MCUNet takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Scores the same subnets again and again, each result a row of a CSV file."""

    path: Path
    supernet: Supernet
    archs: dict[str, Arch]
    statistics: np.ndarray
    threads: int

    def score(self, epoch: int, name: str, split: Split) -> None:
        """Append the subnets' accuracies, unless they are there from before a kill."""
        if (epoch, name) in {(int(row["epoch"]), row["split"]) for row in read_rows(self.path)}:
            return
        space = self.supernet.space
        classes, channels = self.supernet.logits.out_features, split.images.shape[3]
        scores = list(
            score_all(
                self.supernet, list(self.archs.values()), self.statistics, split, self.threads
            )
        )
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for (key, arch), result in zip(self.archs.items(), scores, strict=True):
                macs = total_macs(lower(space, arch, classes=classes, channels=channels))
                writer.writerow([epoch, name, result.count, key, macs, result.accuracy])
        accuracies = {key: s.accuracy for key, s in zip(self.archs, scores, strict=True)}
        print(f"  epoch {epoch}, {name}: {summary(accuracies)}", flush=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(accuracies: dict[str, float]) -> str:
    drawn = [value for key, value in accuracies.items() if key.startswith("random")]
    return (
        f"largest {accuracies['largest']:.4f}, smallest {accuracies['smallest']:.4f}, "
        f"random {min(drawn):.4f} to {max(drawn):.4f}, mean {np.mean(drawn):.4f}"
    )


def subnets(supernet: Supernet, resolution: int, count: int, seed: int) -> dict[str, Arch]:
    space, where = supernet.space, {"width": supernet.width, "resolution": resolution}
    drawn = random_genes(space, count, np.random.default_rng(seed))
    return {
        "largest": largest(space, width=supernet.width, resolution=resolution),
        "smallest": smallest(space, width=supernet.width, resolution=resolution),
        **{f"random {n}": decode(space, genes, **where) for n, genes in enumerate(drawn)},
    }


def draw_picture(path: Path, rows: Sequence[dict[str, str]]) -> None:
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["split"] == "val"]
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(xlabel="epoch", ylabel="accuracy on validation images")
    for name in dict.fromkeys(row["subnet"] for row in rows):
        mine = [row for row in rows if row["subnet"] == name]
        points = [int(row["epoch"]) for row in mine], [float(row["accuracy"]) for row in mine]
        colour = {"largest": "#0072b2", "smallest": "#d55e00"}.get(name, "#bbbbbb")
        label = name if name in ("largest", "smallest") else "_"
        axes.plot(*points, color=colour, label=label, zorder=1 if label == "_" else 2)
    axes.legend(title="random subnets in grey")
    figure.savefig(path, dpi=150, bbox_inches="tight")


def load(options: argparse.Namespace) -> Dataset:
    data = open_data(str(options.data)).load(options.resolution)
    train = data.train
    if options.images:
        train = take(train, options.images, options.seed)
    return Dataset(
        info=data.info, resolution=data.resolution, train=train, val=data.val, test=data.test
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="mcunet-small")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training; 0: --epochs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, help="of the training split; default all")
    parser.add_argument("--scored", type=int, default=2000, help="validation images per score")
    parser.add_argument("--every", type=int, default=1, help="epochs between scores")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--settings", default="{}", help="JSON over the training's defaults")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_settings(options: argparse.Namespace) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "augmentation": {"shift": 0.125, "flip": True},
            "time": options.minutes * 60 or None,
            "epochs": options.epochs,
            **json.loads(options.settings),
        }
    )


def make_scorer(options: argparse.Namespace, data: Dataset) -> Scorer:
    """A new supernet, the subnets to score, and the table of scores, if it is not there yet."""
    supernet = Supernet(
        find_space(options.space),
        width=options.width,
        classes=len(data.info.labels),
        channels=data.info.channels,
        seed=options.seed,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "accuracy.csv"
    if not table.exists():
        table.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    return Scorer(
        path=table,
        supernet=supernet,
        archs=subnets(supernet, options.resolution, options.subnets, options.seed),
        statistics=take(data.train, STATISTICS_IMAGES, options.seed).images,
        threads=options.threads,
    )


def train(options: argparse.Namespace, data: Dataset, scorer: Scorer, val: Split) -> float:
    """Seconds that this process trained, scores between epochs not counted."""
    spent_s, began = 0.0, time.monotonic()

    def progress(at: Progress) -> None:
        nonlocal spent_s, began
        if not at.ends_epoch:
            return
        spent_s += time.monotonic() - began
        print(
            f"epoch {at.epoch + 1} of {at.epochs} {at.phase}: step {at.step} of {at.steps}, "
            f"loss {at.loss:.3f}, {spent_s:.0f} s of training in this process",
            flush=True,
        )
        if (at.epoch + 1) % options.every == 0 and at.step < at.steps:
            scorer.score(at.epoch + 1, "val", val)
        began = time.monotonic()

    def planned(plan: TimePlan) -> None:
        print(f"{plan.seconds:g} s: {plan.steps} steps, {plan.epochs:.2f} epochs", flush=True)

    losses = train_supernet(
        scorer.supernet,
        data.train.images,
        data.train.labels,
        make_settings(options),
        seed=options.seed,
        device=find_accelerator(options.accelerator),
        plan=options.out / "plan.json",
        on_plan=planned,
        checkpoint=options.out / "supernet.pt",
        progress=progress,
    ).losses
    torch.save(scorer.supernet.state_dict(), options.out / "weights.pt")
    scorer.score(len(losses), "val", val)
    scorer.score(len(losses), "test", data.test)
    return spent_s


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    data = load(options)
    scorer = make_scorer(options, data)
    spent_s = train(options, data, scorer, take(data.val, options.scored, options.seed))
    rows = read_rows(scorer.path)
    draw_picture(options.out / "accuracy.png", rows)
    last = {row["subnet"]: float(row["accuracy"]) for row in rows if row["split"] == "test"}
    drawn = [accuracy for name, accuracy in last.items() if name.startswith("random")]
    result = {
        "epochs": max(int(row["epoch"]) for row in rows),
        "training_s_of_this_process": round(spent_s, 1),
        "training_images": len(data.train.labels),
        "largest": last["largest"],
        "smallest": last["smallest"],
        "random_mean": round(float(np.mean(drawn)), 4),
        "random_min": min(drawn),
        "random_max": max(drawn),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
