"""Predicted arenas against measured ones: `python check_arenas.py MEASUREMENTS`.

MEASUREMENTS is a folder with `emulated/ops_emulated.csv`, `emulated/models_emulated.csv` and
`ops_cortex_m_cmsis_nn.csv` (arena_used_bytes of TFLM on emulated and on real chips), and `models/`
with the layer lists. Prints what differs and ends with one line of JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.cost.model_file import read_model
from tinynas.deploy.plan import greedy_plan
from tinynas.graph import Graph, Op, Tensor

BUILDS: dict[str, Kernels] = {
    "cortex-m4-reference": "reference",
    "cortex-m4-cmsisnn": "cmsis-nn-dsp",
    "cortex-m4-cmsisnn-O3": "cmsis-nn-dsp",
    "cortex-m4-cmsisnn-Os": "cmsis-nn-dsp",
    "cortex-m33-cmsisnn": "cmsis-nn-dsp",
    "cortex-m0plus-cmsisnn": "cmsis-nn-c",
    "cortex-m55-cmsisnn": "cmsis-nn-mve",
}
Row = dict[str, str]


def rows(path: Path) -> Iterator[Row]:
    with path.open(newline="") as lines:
        yield from csv.DictReader(lines)


def numbers(row: Row, *names: str) -> tuple[int, ...]:
    return tuple(int(float(row[name] or 1)) for name in names)


def constants(row: Row, channels: int) -> list[Tensor]:
    """The constant inputs of a single-operator model."""
    cin, cout, kernel = *numbers(row, "in_c", "out_c"), numbers(row, "kernel_h", "kernel_w")
    shapes = {
        "CONV_2D": (cout, *kernel, cin),
        "DEPTHWISE_CONV_2D": (1, *kernel, cout),
        "FULLY_CONNECTED": (cout, cin),
        "MEAN": (2,),
        "PAD": (4, 2),
    }
    kind = row["op"]
    found = [Tensor(name="", shape=shapes[kind], constant=True)] if kind in shapes else []
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        found.append(Tensor(name="", shape=(channels,), dtype="int32", constant=True))
    return found


def activation(row: Row, side: str) -> Tensor:
    height, width, channels = numbers(row, f"{side}_h", f"{side}_w", f"{side}_c")
    flat = row["op"] in ("FULLY_CONNECTED", "SOFTMAX") or (row["op"], side) == ("MEAN", "out")
    return Tensor(name=side, shape=(1, channels) if flat else (1, height, width, channels))


def single(row: Row) -> Graph:
    """The single-operator model of a row."""
    inputs = [activation(row, "in")] * (2 if row["op"] == "ADD" else 1)
    tensors = [*inputs, *constants(row, int(float(row["out_c"]))), activation(row, "out")]
    op = Op(
        name=row["op"],
        kind=row["op"],
        inputs=tuple(range(len(tensors) - 1)),
        outputs=(len(tensors) - 1,),
        kernel=numbers(row, "kernel_h", "kernel_w"),
        stride=numbers(row, "stride_h", "stride_w"),
        padding="VALID" if row["padding"].lower() == "valid" else "SAME",
    )
    return Graph(
        name=row["op"],
        tensors=tuple(tensors),
        ops=(op,),
        inputs=tuple(range(len(inputs))),
        outputs=(len(tensors) - 1,),
    )


def used_bytes(graph: Graph, kernels: Kernels) -> int:
    """The arena that TFLM reports as used, placed by its own planner."""
    head = greedy_plan(graph, scratch_by_op(graph, kernels)).head_bytes
    return head + predict_arena(graph, kernels, head).tail_bytes


def differences(found: Iterator[tuple[str, int, int]]) -> dict[str, Counter[int]]:
    """Predicted less measured bytes, counted by a label."""
    counts: dict[str, Counter[int]] = {}
    for label, predicted, measured in found:
        counts.setdefault(label, Counter())[predicted - measured] += 1
    return counts


def emulated_models(folder: Path) -> Iterator[tuple[str, int, int]]:
    for row in rows(folder / "emulated" / "models_emulated.csv"):
        if row["build"] in BUILDS:
            graph = read_model(folder / "models" / f"{row['model']}.json").graph
            yield row["build"], used_bytes(graph, BUILDS[row["build"]]), int(row["arena_bytes"])


def emulated_operators(folder: Path) -> Iterator[tuple[str, int, int]]:
    for row in rows(folder / "emulated" / "ops_emulated.csv"):
        if row["build"] in BUILDS:
            label = f"{row['build']} {row['op']}"
            yield label, used_bytes(single(row), BUILDS[row["build"]]), int(row["arena_bytes"])


def real_operators(folder: Path) -> Iterator[tuple[str, int, int]]:
    for row in rows(folder / "ops_cortex_m_cmsis_nn.csv"):
        if row["op"] in ("CONV_2D", "ADD", "MEAN", "SOFTMAX") and row["arena_bytes"]:
            predicted = used_bytes(single(row), "cmsis-nn-dsp")
            yield f"{row['board']} {row['op']}", predicted, int(float(row["arena_bytes"]))


def report(title: str, counts: dict[str, Counter[int]]) -> None:
    print(f"\n{title}: predicted less measured bytes, and in how many cases")
    for label, counter in sorted(counts.items()):
        print(f"  {label:45}", dict(sorted(counter.items())))


def main(folder: Path) -> None:
    results = {}
    for title, found in (
        ("whole models, emulated", emulated_models(folder)),
        ("single operators, emulated", emulated_operators(folder)),
        ("single operators, real chips, TFLM of 2022", real_operators(folder)),
    ):
        counts = differences(found)
        total: Counter[int] = sum(counts.values(), Counter())
        report(title, counts)
        below = sum(count for difference, count in total.items() if difference < 0)
        results[title] = {"cases": total.total(), "exact": total[0], "below": below}
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
