"""The part of a subnet that runs on patches: the stem, the fixed stages, and one block more.

A patch's halo depends on every kernel up to the split, so costs are sums over blocks only where
the split comes after the first block that has choices: all that lies before is the same for every
subnet, and each choice of that block gives one prefix, which is patched and costed as it is.
"""

from __future__ import annotations

from dataclasses import replace

from tinynas.cost.bound import lower_bound
from tinynas.cost.flash import CODE_BYTES, COMMON_KINDS, file_bytes, fixed_file_bytes
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import TailPart, shared_constants_part, sum_tail, tail_part
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.cost.patch import patch
from tinynas.graph import Graph, Op
from tinynas.space.arch import Arch, smallest
from tinynas.space.lower import block_prefix, lower
from tinynas.space.spec import SearchSpace, Stage


def _is_fixed(stage: Stage) -> bool:
    return len(stage.depth) == len(stage.kernel) == len(stage.expansion) == 1


def split_stage(space: SearchSpace) -> int:
    """Number of the stage after whose first block the patches end: the first with choices."""
    fixed = [_is_fixed(stage) for stage in space.stages]
    return fixed.index(False) if False in fixed else len(fixed) - 1


def split_of(space: SearchSpace, graph: Graph) -> int:
    """How many operators of a subnet's graph run on patches."""
    name = block_prefix(split_stage(space), 0)
    return 1 + max(n for n, op in enumerate(graph.ops) if op.name.startswith(f"{name}."))


def prefix_graph(
    space: SearchSpace,
    *,
    width: float,
    resolution: int,
    channels: int,
    kernel: int,
    expansion: int,
) -> Graph:
    """The stem and the blocks up to the split, whose first block with choices has these."""
    arch = smallest(space, width=width, resolution=resolution)
    at = split_stage(space)
    chosen = _with_first(arch, at, kernel, expansion)
    whole = lower(space, chosen, classes=2, channels=channels)
    ops = whole.ops[: split_of(space, whole)]
    count = 1 + ops[-1].outputs[0]
    return Graph(
        name="prefix",
        tensors=whole.tensors[:count],
        ops=ops,
        inputs=whole.inputs,
        outputs=ops[-1].outputs,
    )


def _with_first(arch: Arch, stage: int, kernel: int, expansion: int) -> Arch:
    """A subnet whose first block of a stage has this kernel and expansion."""

    def put(values: tuple[tuple[int, ...], ...], value: int) -> tuple[tuple[int, ...], ...]:
        return tuple(
            (value, *row[1:]) if number == stage else row for number, row in enumerate(values)
        )

    return replace(
        arch, kernels=put(arch.kernels, kernel), expansions=put(arch.expansions, expansion)
    )


def patched_prefix(graph: Graph, patches: int) -> Graph:
    """A prefix on `patches` x `patches` patches."""
    # Patches end where something reads their output; that reader is cut off again.
    end = Op(name="end", kind="RELU", inputs=graph.outputs, outputs=(len(graph.tensors),))
    read = replace(
        graph,
        tensors=(*graph.tensors, graph.tensors[graph.outputs[0]]),
        ops=(*graph.ops, end),
        outputs=end.outputs,
    )
    patched = patch(read, len(graph.ops), patches, patches)
    last = patched.ops[-1]
    if last.outputs != (len(patched.tensors) - 1,):
        raise ValueError("the last tensor of a patched graph must be its last operator's output")
    return replace(
        patched, tensors=patched.tensors[:-1], ops=patched.ops[:-1], outputs=last.inputs
    )


def operator_bytes(graph: Graph) -> int:
    """Bytes of the file that are there because of a prefix's operators and their kinds."""
    kinds = {op.kind for op in graph.ops}.difference(COMMON_KINDS)
    return file_bytes(graph) - fixed_file_bytes(graph) + CODE_BYTES * len(kinds)


def prefix_tail(graph: Graph, kernels: Kernels) -> TailPart[int]:
    """The shares of the tail of a prefix's operators, whose constants they share."""
    parts = [tail_part(graph, op, kernels) for op in graph.ops]
    return sum_tail([*parts, shared_constants_part(graph, kernels)])


def prefix_head(graph: Graph, kernels: Kernels) -> int:
    """Bytes of the head that no plan of the prefix can do without.

    Plans found reach it, in some graphs but for up to 2 %.
    """
    allowed = overlaps(graph, safe_kernels(kernels))
    return lower_bound(graph, scratch_by_op(graph, kernels), allowed)
