"""Models as `search` builds them: their plan, the note on it, and what `plan` makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_models import random_weights

from tinynas.budget import Budget
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.overlap import SafeKernels, overlaps
from tinynas.cost.plan_metadata import NOTE_NAME, note_text
from tinynas.cost.plan_safety import plan_safety
from tinynas.cost.prefix import split_of
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy.build import Built, build, plan_note
from tinynas.deploy.check import check_file
from tinynas.deploy.plan import greedy_plan, plan_memory
from tinynas.deploy.plan_file import plan_file
from tinynas.deploy.verify import runtime_available
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import find_space

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")
ROOMY = Budget(sram_bytes=2**24, flash_bytes=2**24)


def built(kernels: Kernels, patches: int = 1, *, seed: int = 2) -> Built:
    """A subnet of `mcunet-small` with random weights."""
    space = find_space("mcunet-small")
    rng = np.random.default_rng(seed)
    arch = decode(space, random_genes(space, 1, rng)[0], width=0.3, resolution=24)
    graph = lower(space, arch, classes=5, channels=3)
    images = rng.integers(0, 256, (4, 24, 24, 3)).astype(np.uint8)
    split = split_of(space, graph) if patches > 1 else 0
    weights = random_weights(graph, rng)
    return build(graph, weights, images, kernels, split=split, patches=patches)


def noted(content: bytes) -> list[str]:
    """The notes in a file."""
    import tflite

    model = tflite.Model.GetRootAs(content)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    return [
        model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
        for entry in entries
        if entry.Name().decode() == NOTE_NAME
    ]


@pytest.mark.parametrize("patches", [1, 2])
@pytest.mark.parametrize(
    ("kernels", "safe"),
    [
        ("reference", "reference"),
        ("cmsis-nn-dsp", "cmsis-nn"),
        ("cmsis-nn-c", "cmsis-nn"),
        ("cmsis-nn-mve", "cmsis-nn-mve"),
    ],
)
def test_a_file_says_for_which_kernels_its_plan_is_safe(
    kernels: Kernels, safe: SafeKernels, patches: int
) -> None:
    model = built(kernels, patches)
    safety = plan_safety(model.model.graph, model.plan.offsets)
    says = safe if safety.pairs else "any"
    assert noted(model.content) == [note_text(says, model.plan.head_bytes)]
    assert says in safety.safe_for and safety.holds_on(kernels)
    assert read_tflite(model.content).plan_safe_for == says
    assert bool(safety.pairs) or kernels == "cmsis-nn-mve"
    assert len(model.content) == model.predicted.flash_bytes


def test_a_plan_without_overlap_is_noted_to_be_safe_with_any_kernels() -> None:
    graph = built("reference").model.graph
    plan = greedy_plan(graph)
    assert plan_note(graph, plan, "cmsis-nn-dsp") == note_text("any", plan.head_bytes)


def test_a_plan_overlaps_only_where_that_saves_memory() -> None:
    model = built("cmsis-nn-dsp", seed=0)
    graph = model.model.graph
    scratch = scratch_by_op(graph, "cmsis-nn-dsp")
    overlapping = plan_memory(graph, scratch, overlaps(graph, "cmsis-nn"))
    assert plan_safety(graph, overlapping.offsets).pairs
    assert not plan_safety(graph, model.plan.offsets).pairs
    assert model.plan.head_bytes == overlapping.head_bytes


@needs_tflm
def test_verify_reads_the_note(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(built("cmsis-nn-dsp").content)
    on_helium = check_file(path, ROOMY, "cmsis-nn-mve", "tflm-cmsis-nn")
    here = check_file(path, ROOMY, "cmsis-nn-dsp", "tflm-cmsis-nn")
    assert here["plan_safety"]["noted"] == on_helium["plan_safety"]["noted"] == "cmsis-nn"
    assert (here["holds"], on_helium["holds"]) == (True, False)


@needs_tflm
@pytest.mark.parametrize("patches", [1, 2])
def test_a_file_can_be_planned_again_for_other_kernels(tmp_path: Path, patches: int) -> None:
    path = tmp_path / "model.tflite"
    model = built("cmsis-nn-dsp", patches)
    path.write_bytes(model.content)
    again, same = plan_file(path, "any"), plan_file(path, "cmsis-nn", ["cmsis-nn-dsp"])
    assert again.measured.own_agrees is True
    assert (len(noted(again.content)), read_tflite(again.content).plan_safe_for) == (1, "any")
    # Planned for the same chip the file says what such a plan of ours would.
    (comparison,) = same.comparisons
    assert comparison.planned.head_bytes <= model.plan.head_bytes
    read = read_tflite(same.content)
    plan = replace(model.plan, offsets=read.offsets, head_bytes=comparison.planned.head_bytes)
    assert noted(same.content) == [plan_note(read.graph, plan, "cmsis-nn-dsp")]
