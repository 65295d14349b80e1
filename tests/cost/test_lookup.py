"""Packed tables of blocks against adding up block by block."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.blocks import SUMS, Part
from tinynas.cost.lookup import LARGEST_TABLE_ROWS, StageTable, build_lookup
from tinynas.space.arch import Genes

DEPTHS = st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True)


@st.composite
def stage_tables(draw: st.DrawFn) -> StageTable:
    """Stages with sums of a few or of very many bits, zeros among them."""
    depths = tuple(sorted(draw(DEPTHS)))
    shape = (depths[-1], draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = 2 ** np.array(draw(st.tuples(*[st.integers(0, 55)] * len(SUMS))))
    return StageTable(
        depths=depths,
        sums=rng.integers(0, most, (*shape, len(SUMS))),
        head_bytes=rng.integers(0, 2**30, shape),
        preparing_bytes=rng.integers(0, 2**20, shape),
        latency_us=rng.random(shape) * 1e6,
    )


def added_up(base: Part, stages: list[StageTable], genes: list[int]) -> Part:
    """The blocks of one subnet added up one after another."""
    sums, latency_us = list(base.sums), base.latency_us
    head_bytes, preparing_bytes = base.head_bytes, base.preparing_bytes
    start = 0
    for stage in stages:
        for position in range(stage.depths[genes[start]]):
            kernel, expansion = genes[start + 1 + 2 * position : start + 3 + 2 * position]
            block = position, kernel, expansion
            sums = [a + int(b) for a, b in zip(sums, stage.sums[block], strict=True)]
            head_bytes = max(head_bytes, int(stage.head_bytes[block]))
            preparing_bytes = max(preparing_bytes, int(stage.preparing_bytes[block]))
            latency_us += float(stage.latency_us[block])
        start += 1 + 2 * stage.depths[-1]
    return Part(
        sums=tuple(sums),
        head_bytes=head_bytes,
        preparing_bytes=preparing_bytes,
        latency_us=latency_us,
    )


def random_rows(stages: list[StageTable], count: int, rng: np.random.Generator) -> Genes:
    sizes = [
        size
        for stage in stages
        for size in (len(stage.depths), *stage.head_bytes.shape[1:] * stage.depths[-1])
    ]
    return rng.integers(sizes, size=(count, len(sizes)))


@settings(max_examples=200)
@given(
    stages=st.lists(stage_tables(), min_size=1, max_size=4),
    base=st.tuples(*[st.integers(0, 2**55)] * len(SUMS)),
    seed=st.integers(0, 2**32),
)
def test_looking_up_is_adding_up(
    stages: list[StageTable], base: tuple[int, ...], seed: int
) -> None:
    part = Part(sums=base, head_bytes=2**29, preparing_bytes=2**19, latency_us=0.5)
    genes = random_rows(stages, 20, np.random.default_rng(seed))
    sums, heads, preparing, latencies = build_lookup(part, stages).totals(genes)
    for row, numbers in enumerate(genes.tolist()):
        expected = added_up(part, stages, numbers)
        assert tuple(int(column[row]) for column in sums) == expected.sums
        assert heads[row] == expected.head_bytes
        assert preparing[row] == expected.preparing_bytes
        assert np.isclose(latencies[row], expected.latency_us, rtol=1e-12)


def test_small_sums_share_a_word_and_tables_stay_small() -> None:
    rng = np.random.default_rng(0)
    stage = StageTable(
        depths=(2, 4),
        sums=rng.integers(0, 100, (4, 3, 3, len(SUMS))),
        head_bytes=rng.integers(0, 100, (4, 3, 3)),
        preparing_bytes=rng.integers(0, 100, (4, 3, 3)),
        latency_us=rng.random((4, 3, 3)),
    )
    base = Part(sums=(1,) * len(SUMS), head_bytes=0, preparing_bytes=0, latency_us=0.0)
    lookup = build_lookup(base, [stage])
    # Totals below 401 take 9 bits each, so 7 columns fit into 63 bits.
    assert lookup.start.words.shape == (-(-len(SUMS) // 7), 1)
    # Two blocks of 9 choices at 2 depths; three would have 1,458 rows.
    assert [len(table.head_bytes) for table in lookup.tables] == [2 * 9**2, 2 * 9**2]
    assert LARGEST_TABLE_ROWS < 2 * 9**3
