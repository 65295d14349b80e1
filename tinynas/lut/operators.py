"""Kernel cost models from single operators: instructions in the emulator, cycles on three boards.

Instructions say how a kernel loops, and how much of it each core executes. A board's cycles are
instructions times its cycles per instruction, moved by what its own rows say of each feature;
features that no row of the board shows stay as the instructions have them.
"""

from __future__ import annotations

from functools import cache, partial
from statistics import median

from tinynas.cost.latency_features import FEATURES, FETCHED_AGAIN, group_of
from tinynas.cost.latency_table import Model, Validation, significant
from tinynas.cost.op_shape import OpShape
from tinynas.lut.evidence import (
    COLLECTED,
    OperatorRow,
    emulated_kinds,
    emulated_rows,
    op_shapes,
    operator_rows,
)
from tinynas.lut.nonnegative import (
    FOLDS,
    Coefficients,
    Samples,
    by_group,
    cross_predicted,
    fit_group,
    scale,
)
from tinynas.lut.scores import Scores, scores

# What memory does is no instruction.
NOT_EXECUTED = frozenset({*FETCHED_AGAIN, "unaligned_macs"})
# Groups with few counts start from the group whose kernel is most like theirs.
LIKE = {"conv_1x1_strided": "conv_1x1_ragged", "depthwise_multiplied": "depthwise"}
# What only whole networks have counts of: QUANTIZE and TRANSPOSE in one, RESHAPE of two sizes.
WITH_QUANTIZE = "mcunet-vww1"
WITH_RESHAPE = ("mlperf_ic_resnet8", "mlperf_vww_mbv1_025_96")
# What nothing counts, by the group whose outputs ask for as much: two tensors rescaled and
# clamped, or an exponential.
AS_MUCH_AS = {"multiplied": "add", "compared": "add", "interpolated": "add", "curved": "softmax"}
# The build whose instructions a board's cycles start from.
BOARD_BUILDS = {
    "nrf52832": "cortex-m4-cmsisnn-2022",
    "stm32f446": "cortex-m4-cmsisnn-2022",
    "stm32l552": "cortex-m33-cmsisnn-2022",
}
LIBRARY_OF_BOARDS = "-2022"
# What keeps weights that were read from flash. STM32F446: eight lines of 16 bytes (ART
# accelerator). STM32L552: 8 KiB in two ways, which the code shares, so that weights of 4 KiB meet
# it. nRF52832: its cache is for code alone.
BOARD_CACHES: dict[str, tuple[str, ...]] = {
    "nrf52832": (),
    "stm32f446": ("fetched_again_128",),
    "stm32l552": ("fetched_again_4k", "fetched_again_8k"),
}
# The board that has rows of channels that are no multiple of 4, and the groups whose weights then
# lie anywhere.
WITH_ODD_CHANNELS = "nrf52832"
UNALIGNED_GROUPS = ("conv_stem", "conv_kxk", "conv_1x1_ragged")
# Kinds that multiply weights, of which a board without rows takes the cycles per instruction of
# its convolutions; others take those of its additions.
WITH_WEIGHTS = tuple(g for g in FEATURES if g.startswith(("conv", "depthwise", "fully")))
# With fewer rows a group's cycles are its instructions scaled.
ENOUGH_ROWS = 10


def emulated_samples(build: str) -> list[tuple[OpShape, float]]:
    """Instructions of each operator that was counted in a build.

    Where only the whole Invoke was, it is less what the others' Invokes have around the operator.
    """
    rows = emulated_rows(build)
    around = median(r.invoke - r.instructions for r in rows if r.instructions is not None)
    return [
        (r.shape, r.invoke - around if r.instructions is None else r.instructions) for r in rows
    ]


def fit_instructions(samples: Samples) -> Coefficients:
    """Instructions by group and feature, of the groups that the samples are of."""
    found: Coefficients = {}
    groups = by_group(samples)
    for group in sorted(groups, key=lambda name: name in LIKE):
        prior = found.get(LIKE.get(group, ""))
        found[group] = fit_group(groups[group], prior, NOT_EXECUTED)
    return found


@cache
def instructions(build: str) -> Coefficients:
    """Instructions of every group in one build, as {group: {feature: instructions}}."""
    found = fit_instructions(emulated_samples(build))
    found["move"] = found["pad"]
    found["reshape"] = _reshape(build.removesuffix(LIBRARY_OF_BOARDS))
    found["elementwise"] = _elementwise(build.removesuffix(LIBRARY_OF_BOARDS), found)
    return found


def instruction_scores(build: str) -> dict[str, Scores]:
    """Scores of the instructions by group on configurations that the fit has not seen."""
    groups = by_group(emulated_samples(build))
    return {
        group: scores([count for _, count in rows], cross_predicted(rows, fit_instructions))
        for group, rows in groups.items()
    }


def _of_kind(model: str, kind: str, build: str) -> tuple[int, float]:
    """Elements that a network's operators of one kind write, and their instructions."""
    elements = sum(shape.outputs for shape in op_shapes(model) if shape.kind == kind)
    return elements, emulated_kinds(build)[model][kind]


def _reshape(build: str) -> dict[str, float]:
    (less, few), (more, many) = (_of_kind(m, "RESHAPE", build) for m in WITH_RESHAPE)
    copied = (many - few) / (more - less)
    return {"copied": significant(copied), "calls": significant(few - copied * less)}


def _elementwise(build: str, known: Coefficients) -> dict[str, float]:
    calls = known["add"]["calls"]
    found = {name: known[group]["outputs"] for name, group in AS_MUCH_AS.items()}
    for name, kind in (("quantized", "QUANTIZE"), ("placed", "TRANSPOSE")):
        elements, count = _of_kind(WITH_QUANTIZE, kind, build)
        found[name] = significant((count - calls) / elements)
    return {**found, "calls": calls}


def board_samples(mcu: str) -> list[OperatorRow]:
    """The rows of one board that can be fitted to.

    A SOFTMAX row that has a window carries another operator's columns: its shape is not known.
    """
    rows = [row for row in operator_rows() if row.mcu == mcu]
    return [r for r in rows if r.shape.kind != "SOFTMAX" or r.shape.kernel_h == 1]


@cache
def board_prior(mcu: str) -> Coefficients:
    """Instructions that a board's cycles start from: its build's, MEAN of today's library.

    The boards take 12 to 14 times as long for a MEAN as the instructions of 2022 ask for, and 0.9
    to 1.2 cycles for each instruction of 2026. What weights off a 4-byte word cost is known from
    the one board that was asked for channels of all counts.
    """
    build = BOARD_BUILDS[mcu]
    today = instructions(build.removesuffix(LIBRARY_OF_BOARDS))
    known = {**instructions(build), "mean": today["mean"]}
    if mcu != WITH_ODD_CHANNELS:
        unaligned = _unaligned_instructions()
        for group in UNALIGNED_GROUPS:
            known[group] = {**known[group], "unaligned_macs": unaligned}
    return known


@cache
def _unaligned_instructions() -> float:
    """The cost of an unaligned multiplication on WITH_ODD_CHANNELS, in its usual instructions."""
    known = board_prior(WITH_ODD_CHANNELS)
    samples = [(row.shape, row.cycles) for row in board_samples(WITH_ODD_CHANNELS)]
    windows = [sample for sample in samples if group_of(sample[0]) == "conv_kxk"]
    found = fit_board(samples, known, BOARD_CACHES[WITH_ODD_CHANNELS])["conv_kxk"]
    return significant(found["unaligned_macs"] / scale(windows, known))


def fit_board(samples: Samples, known: Coefficients, caches: tuple[str, ...]) -> Coefficients:
    """Cycles of every group of `known` instructions on the board that the samples are from.

    `caches` are the features of what the board keeps of its flash.
    """
    without = frozenset(FETCHED_AGAIN) - frozenset(caches)
    groups = by_group(samples)
    ratios = {group: scale(rows, known) for group, rows in groups.items()}
    found = {}
    for group, coefficients in known.items():
        nearest = "conv_kxk" if group in WITH_WEIGHTS else "add"
        ratio = ratios.get(group, ratios[nearest])
        prior = {name: significant(ratio * x) for name, x in coefficients.items()}
        enough = len(groups.get(group, ())) >= ENOUGH_ROWS
        found[group] = fit_group(groups[group], prior, without) if enough else prior
    return found


def fit_cycles_per_mac(samples: Samples) -> Coefficients:
    """One figure for each multiply-accumulate of all convolutions: the baseline."""
    groups = by_group(samples)
    one = {group: {"macs": 1.0} for group in groups if group.startswith("conv")}
    ratio = scale([s for group in one for s in groups[group]], one)
    return {group: {"macs": ratio} for group in one}


def board_scores(mcu: str) -> tuple[Scores, Scores]:
    """Scores of a board's model and of the baseline on configurations that they have not seen.

    Convolutions alone for the baseline, which has nothing to say of what multiplies nothing.
    """
    samples = [(row.shape, row.cycles) for row in board_samples(mcu)]
    model = partial(fit_board, known=board_prior(mcu), caches=BOARD_CACHES[mcu])
    convolutions = [s for s in samples if s[0].kind == "CONV_2D"]
    return (
        scores([cycles for _, cycles in samples], cross_predicted(samples, model)),
        scores(
            [cycles for _, cycles in convolutions],
            cross_predicted(convolutions, fit_cycles_per_mac),
        ),
    )


def board_model(mcu: str) -> Model:
    """The model of one of BOARD_BUILDS with what it was checked on."""
    rows, build = board_samples(mcu), BOARD_BUILDS[mcu]
    samples = [(row.shape, row.cycles) for row in rows]
    checked, baseline = board_scores(mcu)
    configurations = len({row.shape for row in rows})
    validation = Validation(
        of="operators",
        count=checked.count,
        groups=configurations,
        method=f"{FOLDS} folds by operator configuration",
        mean_percent=significant(checked.mean_percent, 3),
        p90_percent=significant(checked.p90_percent, 3),
        max_percent=significant(checked.max_percent, 3),
        within_10_percent=significant(checked.within_10_percent, 3),
        kendall_tau=significant(checked.kendall_tau or 0, 4),
        spread=significant(checked.spread, 3),
        baseline_mean_percent=significant(baseline.mean_percent, 3),
    )
    return Model(
        runtime=rows[0].runtime,
        version=rows[0].version,
        provenance="calibrated",
        source=f"{rows[0].source}; kinds without rows: emulated instructions of {build}",
        fitted=COLLECTED,
        rows=len(rows),
        architectures=0,
        spread=significant(checked.spread, 3),
        degrees=configurations,
        validation=(validation,),
        per_inference=significant(median(r.invoke_cycles - r.cycles for r in rows)),
        cycles=fit_board(samples, board_prior(mcu), BOARD_CACHES[mcu]),
    )
