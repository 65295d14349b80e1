"""Models of all runtimes on all MCUs, fitted together to the latencies of whole networks.

Few networks were timed on any one chip, but many chips ran the same engines: what an engine's
kernels cost beside each other is learned from all its chips, what a core makes of them from all
its engines, and a chip and a version move them a little (pooling.py). The shapes of the kernels'
costs come from emulated instructions (parts.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import hypot

from tinynas.cost.op_shape import OpShape
from tinynas.lut.architectures import architecture_groups
from tinynas.lut.evidence import ModelRow, model_rows, operator_rows, page_rows
from tinynas.lut.nonnegative import Coefficients
from tinynas.lut.parts import INFERENCE_COST, PARTS, base, part_costs, part_of, shape_costs
from tinynas.lut.pooling import Deviations, Levels, Sample, factor, pool, predicted

CMSIS_NN, REFERENCE = "cortex-m4-cmsisnn", "cortex-m4-reference"
# The emulated code that a core's kernels are most like, where it is not Cortex-M4's.
BUILDS = {
    "Cortex-M0+": "cortex-m0plus-cmsisnn",
    "Cortex-M55": "cortex-m55-cmsisnn",
    "Cortex-M85": "cortex-m55-cmsisnn",
}
# One engine under two names, and two engines under one.
SAME_ENGINE = {"stedgeai": "x-cube-ai"}
NATIVE = "native"
CMSIS_ENGINES = ("tflm-cmsis-nn", "microtvm", "onnc", "eon")
# Versions that print another version's latencies, to the digit: X-CUBE-AI's of the first release
# of ST's model zoo are those of 7.3.0, TinyEngine's in Plumerai's blog those of MCUNet's authors.
SAME_VERSION = {
    ("x-cube-ai", "zoo-2023-01-26"): "7.3.0",
    ("x-cube-ai", "zoo-2024-02-21"): "3.0.0",
    ("tinyengine", "2021-10"): "2020",
}
SECOND_HAND = ("2021-10",)
# X-CUBE-AI 8.1.0 on the STM32H747 with 565 to 2,673 KiB of activations, which the 512 KiB of its
# largest SRAM cannot hold: they lie in external memory, and take 27 to 35 % longer than the rest
# of that version says.
EXTERNAL_MEMORY = ("m0126", "m0128", "m0134")
# "Do not fit", say the notes of the collection: kernels that are 6 times slower in one network
# than in the next.
NOT_FITTED_GROUPS = ("pico2_benchmark",)

# How far from one the factors are thought to lie, as standard deviations of their logarithms:
# round numbers near where the marginal likelihood of all rows is greatest, the same for all
# engines. Errors of held-out rows did not choose them.
ANYTHING = 5.0
SPREADS = {
    "part": 0.3,  # of engines' kernels, beside the instructions of CMSIS-NN
    "kind": 0.5,  # multiplying beside the rest
    "core part": 0.1,
    "core": 1.0,
    "engine": 1.0,
    "engine kind": 0.2,
    "engine part": 0.2,
    "engine core": 0.1,
    "version": 0.2,
    "version part": 0.05,
    "chip": 0.1,
    "chip engine": 0.05,
    "cell": 0.03,
}
# Parts that nothing is known of before: what engines do around a layer and an inference, and
# kinds of operators that nobody counted.
PART_SPREADS = {
    "channels": 2.0,
    "weights": 1.0,
    "inference": 1.5,
    "calls": 1.0,
    "interpolated": 1.0,
}
ENGINE_PART_SPREADS = {"channels": 0.5, "inference": 2.0, "interpolated": 0.5}
# What a sum of parts leaves out of a network, and of one that was measured by somebody unknown.
NOISE, SECOND_HAND_NOISE = 0.05, 0.3
# What vendors' pages say of single operators holds in a network as far as memory is the same.
PAGE_NOISE = 0.15
# A uniform error within half a printed digit has 1 / sqrt(3) of that as standard deviation.
UNIFORM = 3**-0.5
# Every so many of a board's operators, sorted, stand for it: kernels' shapes on its core.
BOARD_OPERATORS = 24


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What one model is of: an MCU (empty for its core alone), a runtime, a version."""

    core: str
    mcu: str
    runtime: str
    version: str

    @property
    def engine(self) -> str:
        """The kernels that run, whatever the runtime calls itself."""
        if self.runtime == "microtvm":
            return "microtvm-native" if NATIVE in self.version else "microtvm"
        return SAME_ENGINE.get(self.runtime, self.runtime)

    @property
    def release(self) -> str:
        """The version whose latencies these are."""
        return SAME_VERSION.get((self.runtime, self.version), self.version)

    @property
    def is_reference(self) -> bool:
        """Whether TFLM's reference kernels run, as in EON where there is no CMSIS-NN."""
        return self.runtime == "tflm" or (self.runtime == "eon" and "Cortex" not in self.core)

    @property
    def build(self) -> str:
        """The emulated code whose instructions its costs start from."""
        return REFERENCE if self.is_reference else BUILDS.get(self.core, CMSIS_NN)

    @property
    def own_kernels(self) -> bool:
        """Whether its kernels are neither CMSIS-NN's nor TFLM's."""
        return not self.is_reference and self.engine not in CMSIS_ENGINES


def cell_of(row: ModelRow) -> Cell:
    """The cell that a row was measured in."""
    return Cell(row.core, row.mcu, row.runtime, row.version)


def levels(cell: Cell, part: str) -> Levels:
    """What the factor of a part in a cell is a product of."""
    pool_name = "reference" if cell.is_reference else "kernels"
    engine, core, release = cell.engine, cell.core, cell.release
    kind = part.rpartition(".")[2] if "." in part else ""
    found: list[tuple[tuple[Hashable, ...], float]] = [
        (("all",), ANYTHING),
        (("part", part), PART_SPREADS.get(part, SPREADS["part"])),
        (("core part", core, part), SPREADS["core part"]),
        (("core", core), SPREADS["core"]),
        (("engine", engine), SPREADS["engine"]),
        (
            ("engine part", engine, part),
            ENGINE_PART_SPREADS.get(part, SPREADS["engine part"]),
        ),
        (("engine core", engine, core), SPREADS["engine core"]),
        (("version", engine, release), SPREADS["version"]),
        (("version part", engine, release, part), SPREADS["version part"]),
    ]
    if kind:
        found += [
            (("kind", kind), SPREADS["kind"]),
            (("engine kind", engine, kind), SPREADS["engine kind"]),
        ]
    if cell.mcu:
        found += [
            (("chip", cell.mcu), SPREADS["chip"]),
            (("chip engine", cell.mcu, engine), SPREADS["chip engine"]),
            (("cell", cell.mcu, engine, release), SPREADS["cell"]),
        ]
    return tuple(((pool_name, *name), spread) for name, spread in found)


@cache
def cell_levels(cell: Cell) -> tuple[Levels, ...]:
    """The levels of all PARTS."""
    return tuple(levels(cell, part) for part in PARTS)


def is_known(row: ModelRow) -> bool:
    """Whether a row is an int8 network whose layers and latency are known."""
    return bool(row.architecture and row.latency_ms and row.dtype.startswith("int8"))


def is_nominal(row: ModelRow) -> bool:
    """Whether the network that ran is the one that its layer list has.

    Rows of trust A* are of engines that leave out the channels that are all zero in MLPerf Tiny's
    visual wake words.
    """
    return "A*" not in row.trust


def is_fitted(row: ModelRow) -> bool:
    """Whether a row is one to fit to."""
    return (
        is_known(row)
        and is_nominal(row)
        and row.id not in EXTERNAL_MEMORY
        and row.group not in NOT_FITTED_GROUPS
        and not (row.runtime == "tinyengine" and row.version in SECOND_HAND)
    )


@cache
def known_rows() -> tuple[ModelRow, ...]:
    """Rows that a prediction can be checked on."""
    return tuple(row for row in model_rows() if is_known(row))


def model_sample(row: ModelRow) -> Sample:
    """A row as the fit sees it."""
    cell = cell_of(row)
    printed = row.step_ms / (row.latency_ms or 1) * UNIFORM
    usual = SECOND_HAND_NOISE if row.trust.startswith("C") else NOISE
    return Sample(
        total=row.cycles,
        noise=hypot(usual, printed),
        costs=part_costs(row.architecture, cell.build, cell.own_kernels),
        levels=cell_levels(cell),
    )


@cache
def board_samples() -> tuple[Sample, ...]:
    """Single operators of the boards, few of each, that pin the kernels' shapes on their cores."""
    rows = [row for row in operator_rows() if row.shape.kind in ("CONV_2D", "ADD")]
    found: list[Sample] = []
    for mcu in sorted({row.mcu for row in rows}):
        here = sorted((r for r in rows if r.mcu == mcu), key=lambda r: (r.shape, r.clock_hz))
        for row in here[:: len(here) // BOARD_OPERATORS]:
            cell = Cell(row.core, row.mcu, row.runtime, row.version)
            costs = shape_costs((row.shape,), cell.build, cell.own_kernels)
            found.append(
                Sample(total=row.cycles, noise=NOISE, costs=costs, levels=cell_levels(cell))
            )
    return tuple(found)


@cache
def page_samples() -> tuple[Sample, ...]:
    """Single operators of engines whose networks are too few to know their kernels from."""
    found = []
    for row in page_rows():
        cell = Cell(row.core, row.mcu, row.runtime, row.version)
        costs = shape_costs((row.shape,), cell.build, cell.own_kernels)
        levels_of = cell_levels(cell)
        found.append(Sample(total=row.cycles, noise=PAGE_NOISE, costs=costs, levels=levels_of))
    return tuple(found)


def fit(rows: Iterable[ModelRow], exact: bool = False) -> Deviations:
    """What is known of all levels from rows, those that are not to be fitted left out.

    Reference kernels are a fit of their own, which shares no level with the others.
    """
    chosen = [row for row in rows if is_fitted(row)]
    found: dict[Hashable, float] = {}
    for reference in (False, True):
        here = [model_sample(r) for r in chosen if cell_of(r).is_reference == reference]
        samples = [*here, *(() if reference else (*board_samples(), *page_samples()))]
        found |= pool(samples, exact) if here else {}
    return found


@cache
def fitted() -> Deviations:
    """What all rows say."""
    return fit(known_rows(), exact=True)


def predicted_cycles(deviations: Deviations, row: ModelRow) -> float:
    """Cycles of the network of a row in its cell."""
    return predicted(deviations, model_sample(row))


def flat_cycles(deviations: Deviations, cell: Cell) -> tuple[Coefficients, float]:
    """The cycles of each group's features in a cell, and of an inference around them."""
    factors = {
        part: factor(deviations, of) for part, of in zip(PARTS, cell_levels(cell), strict=True)
    }
    cycles = {
        group: {
            name: cost * factors[part_of(group, name, cell.own_kernels)]
            for name, cost in known.items()
        }
        for group, known in base(cell.build, cell.own_kernels).items()
    }
    return cycles, INFERENCE_COST * factors["inference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A row, what was predicted for it by a fit that did not see it, and its fold."""

    row: ModelRow
    group: str
    cycles: float
    baseline: float | None


@cache
def row_groups() -> dict[str, str]:
    """The group of architectures of each layer list that was timed."""
    return architecture_groups([row.architecture for row in known_rows()])


@cache
def checked_rows() -> tuple[Checked, ...]:
    """All known rows predicted by fits that leave out every row of their group."""
    groups = row_groups()
    found: dict[str, Checked] = {}
    for group in sorted(set(groups.values())):
        seen = [row for row in known_rows() if groups[row.architecture] != group]
        deviations = fit(seen)
        for row in known_rows():
            if groups[row.architecture] == group:
                found[row.id] = Checked(
                    row=row,
                    group=group,
                    cycles=predicted_cycles(deviations, row),
                    baseline=baseline_cycles(row, seen),
                )
    return tuple(found[row.id] for row in known_rows())


def baseline_cycles(row: ModelRow, seen: Sequence[ModelRow]) -> float | None:
    """The same from one figure of cycles per multiply-accumulate, of the cell's other rows.

    The figure of least squared relative errors; None where the cell has no other row.
    """
    same = [r for r in seen if cell_of(r) == cell_of(row) and is_fitted(r)]
    inverse = [macs_of(r.architecture) / r.cycles for r in same]
    squares = sum(x * x for x in inverse)
    return macs_of(row.architecture) * sum(inverse) / squares if squares else None


@cache
def macs_of(architecture: str) -> int:
    """Multiply-accumulates of a layer list."""
    from tinynas.graph import total_macs
    from tinynas.lut.evidence import graph

    return total_macs(graph(architecture))


def carried_over(shapes: tuple[OpShape, ...], cell: Cell, deviations: Deviations) -> float:
    """Cycles of operators in a cell."""
    costs = shape_costs(shapes, cell.build, cell.own_kernels, INFERENCE_COST)
    sample = Sample(total=1.0, noise=1.0, costs=costs, levels=cell_levels(cell))
    return predicted(deviations, sample)
