"""Subnets costed per second: compiled tables, whole graphs, and once-for-all's lookup table.

    pip install --no-deps ofa
    python experiments/benchmarks/costs.py

One core. The subnets are drawn beforehand, once-for-all's configurations written beforehand; what
is timed is costs alone, the median over repeats. All three ways must agree or there is an error.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import platform
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from tinynas.cost.device import find_device
from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import kernels_of
from tinynas.cost.latency import find_timer
from tinynas.cost.memory import predict_arena
from tinynas.cost.table import Costs, CostTable, compile_costs
from tinynas.graph import total_macs
from tinynas.space.arch import Arch, decode, random_genes
from tinynas.space.lower import has_skip, lower
from tinynas.space.spec import SearchSpace, find_space

CHIP, RUNTIME, CLASSES = find_device("stm32f746"), "tflm-cmsis-nn", 1000
KERNELS, TIMER = kernels_of(RUNTIME, CHIP.core), find_timer(CHIP, RUNTIME)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median duration of a call."""
    durations = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        durations.append(perf_counter() - start)
    return median(durations)


def compile_table(space: SearchSpace, width: float, resolution: int) -> CostTable:
    return compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=CLASSES,
        channels=3,
        kernels=KERNELS,
        latency=TIMER.op_us,
        inference_us=TIMER.inference_us,
    )


def costs_of_graph(space: SearchSpace, arch: Arch) -> tuple[float, ...]:
    """All costs of a subnet from its lowered graph, in the order of the fields of Costs."""
    graph = lower(space, arch, classes=CLASSES)
    arena = predict_arena(graph, KERNELS)
    return (
        total_macs(graph),
        file_bytes(graph),
        arena.sram_bytes,
        arena.head_bytes,
        arena.tail_bytes,
        TIMER.graph(graph).ms,
    )


def check_against_graphs(table: CostTable, archs: list[Arch], costs: Costs) -> None:
    for row, arch in enumerate(archs):
        expected = costs_of_graph(table.space, arch)
        found = [float(getattr(costs, name)[row]) for name in Costs.__slots__]
        np.testing.assert_allclose(found[:-1], expected[:-1], rtol=0)
        np.testing.assert_allclose(found[-1], expected[-1], rtol=1e-9)


def blocks_of(space: SearchSpace, arch: Arch) -> list[dict[str, int]]:
    """The subnet's blocks with channels and strides, as once-for-all writes them."""
    cin, *stage_channels = space.channels(arch.width)
    blocks = []
    for number, (stage, cout) in enumerate(zip(space.stages, stage_channels, strict=True)):
        chosen = zip(arch.kernels[number], arch.expansions[number], strict=True)
        for position, (kernel, expansion) in enumerate(chosen):
            blocks.append(
                {
                    "in_channels": cin,
                    "out_channels": cout,
                    "kernel_size": kernel,
                    "stride": stage.stride if position == 0 else 1,
                    "expand_ratio": expansion,
                }
            )
            cin = cout
    return blocks


def skips(block: dict[str, int]) -> bool:
    return has_skip(block["in_channels"], block["out_channels"], block["stride"])


def ofa_config(space: SearchSpace, arch: Arch) -> dict[str, Any]:
    """The subnet as the configuration of a once-for-all network of the ProxylessNAS family."""
    stem, *_, last = space.channels(arch.width)
    return {
        "first_conv": {"out_channels": stem},
        "blocks": [
            {"mobile_inverted_conv": block, "shortcut": {} if skips(block) else None}
            for block in blocks_of(space, arch)
        ],
        "feature_mix_layer": {"in_channels": last, "out_channels": last},
        "classifier": {"in_features": last, "out_features": CLASSES},
    }


def ofa_entries(table: CostTable) -> dict[str, dict[str, float]]:
    """Our latencies in milliseconds under the keys of once-for-all's tables.

    `Conv` holds all that is no block; `mcunet` has no feature mix layer.
    """
    space = table.space
    stem, *channels = space.channels(table.width)
    size = -(-table.resolution // space.stem.stride)
    pixels, last = table.resolution, channels[-1]
    entries = {
        f"Conv-input:{pixels}x{pixels}x3-output:{size}x{size}x{stem}": table.base.latency_us
    }
    cin = stem
    for stage, part, cout in zip(space.stages, table.stages, channels, strict=True):
        after = -(-size // stage.stride)
        first, later = (size, cin, stage.stride), (after, cout, 1)
        for position, (pixels, c, stride) in enumerate((first, later)[: stage.depth[-1]]):
            for k, kernel in enumerate(stage.kernel):
                for e, expansion in enumerate(stage.expansion):
                    key = (
                        f"expanded_conv-input:{pixels}x{pixels}x{c}"
                        f"-output:{after}x{after}x{cout}-expand:{expansion}-kernel:{kernel}"
                        f"-stride:{stride}-idskip:{int(has_skip(c, cout, stride))}"
                    )
                    entries[key] = float(part.latency_us[position, k, e])
        size, cin = after, cout
    entries[f"Conv_1-input:{size}x{size}x{last}-output:{size}x{size}x{last}"] = 0.0
    entries[f"Logits-input:{size}x{size}x{last}-output:{CLASSES}"] = 0.0
    return {key: {"mean": latency_us / 1000} for key, latency_us in entries.items()}


def ofa_table(table: CostTable) -> Any | None:
    """Once-for-all's latency table with our entries; None, with a sentence, where it is missing.

    Its own entries are downloaded when it is made, and it reads them with a call that PyYAML
    dropped, so it is made without them.
    """
    try:
        from ofa.nas.efficiency_predictor import ProxylessNASLatencyTable
    except ImportError as error:
        print(f"once-for-all is left out ({error}); get it with: pip install --no-deps ofa")
        return None
    made = ProxylessNASLatencyTable.__new__(ProxylessNASLatencyTable)
    made.lut = ofa_entries(table)
    return made


def time_ofa(table: CostTable, archs: list[Arch], costs: Costs, repeats: int) -> float | None:
    """Seconds per subnet of once-for-all's lookups, which give the latency alone."""
    lookups = ofa_table(table)
    if lookups is None:
        return None
    configs = [ofa_config(table.space, arch) for arch in archs]

    def predict() -> list[float]:
        return [
            lookups.predict_network_latency_given_config(config, table.resolution)
            for config in configs
        ]

    np.testing.assert_allclose(predict(), costs.latency_ms[: len(archs)], rtol=1e-9)
    return seconds(predict, repeats) / len(archs)


def report(rows: dict[str, tuple[str, float | None]]) -> None:
    """A table of rates, and how many times as fast as whole graphs each is."""
    whole = rows["whole graphs"][1]
    print(f"{'':22} {'gives':22} {'subnets/s':>12} {'microseconds':>12} {'ratio':>8}")
    for name, (gives, duration) in rows.items():
        if duration and whole:
            figures = f"{1 / duration:12,.0f} {duration * 1e6:12.3f} {whole / duration:8,.1f}"
            print(f"{name:22} {gives:22} {figures}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", default="mcunet")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--subnets", type=int, default=1_000_000, help="for the tables")
    parser.add_argument("--graphs", type=int, default=300, help="for whole graphs and lookups")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    space, rng = find_space(options.space), np.random.default_rng(options.seed)
    where = (space, options.width, options.resolution)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores of which one is used, {versions}")
    print(
        f"{space.name}, width {options.width:g}, {options.resolution} pixels, seed {options.seed}"
    )
    genes = random_genes(space, options.subnets, rng)
    compiling = seconds(lambda: compile_table(*where), options.repeats)
    first_call = seconds(lambda: compile_table(*where).evaluate(genes[:1]), options.repeats)
    print(
        f"tables: {compiling * 1e3:.1f} ms to compile, "
        f"{(first_call - compiling) * 1e3:.1f} ms more in the first call; not in what follows"
    )
    table = compile_table(*where)
    costs = table.evaluate(genes)
    archs = [
        decode(space, row, width=options.width, resolution=options.resolution)
        for row in genes[: options.graphs]
    ]
    check_against_graphs(table, archs, costs)
    durations = {
        "subnets_per_second": seconds(lambda: table.evaluate(genes), options.repeats) / len(genes),
        "per_graph_per_second": seconds(
            lambda: [costs_of_graph(space, arch) for arch in archs], options.repeats
        )
        / len(archs),
        "ofa_table_per_second": time_ofa(table, archs, costs, options.repeats),
    }
    tables, graphs, ofa = durations.values()
    report(
        {
            "compiled tables": ("all six costs", tables),
            "whole graphs": ("all six costs", graphs),
            "once-for-all's lookups": ("latency alone", ofa),
        }
    )
    print(json.dumps({name: d and round(1 / d) for name, d in durations.items()}))


if __name__ == "__main__":
    sys.exit(main())
