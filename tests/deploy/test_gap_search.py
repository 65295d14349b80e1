from __future__ import annotations

import numpy as np
from random_models import random_graph

from tinynas.cost.bound import lower_bound
from tinynas.cost.buffers import Buffer, activation_buffers
from tinynas.deploy.gap_search import fit
from tinynas.deploy.plan import head_with_scratch


def test_chains_of_blocks_fit_their_lower_bound_with_room_for_scratch() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        graph = random_graph(rng)
        sizes = [int(rng.integers(0, 60)) * 16 for _ in graph.ops]
        scratch = [(size,) if size else () for size in sizes]
        tensors = activation_buffers(graph)
        numbers = sorted(tensors, key=lambda t: (tensors[t].first, t))
        arena = lower_bound(graph, scratch)
        room = {step: size for step, size in enumerate(sizes) if size}
        found = fit([tensors[t] for t in numbers], room, arena)
        assert found is not None
        offsets = dict(zip(numbers, found, strict=True))
        assert head_with_scratch(graph, offsets, scratch) == arena


def test_what_does_not_fit_is_not_placed() -> None:
    buffers = [Buffer(size=32, first=0, last=1), Buffer(size=32, first=1, last=1)]
    assert fit(buffers, {}, 64) == [0, 32]
    assert fit(buffers, {}, 48) is None
    assert fit(buffers, {1: 16}, 64) is None
