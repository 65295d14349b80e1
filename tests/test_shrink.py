import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.cost.bins import Count
from tinynas.errors import InfeasibleError
from tinynas.shrink import CSV_COLUMNS, Row, choose, shrink, to_csv
from tinynas.space.arch import decode, encode, random_genes, smallest
from tinynas.space.spec import SearchSpace, Stage, Stem, find_space
from tinynas.task import Task, compile_task

SPACE = SearchSpace(
    name="tiny",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=(1,)),
        Stage(channels=16, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 4)),
        Stage(channels=24, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 4)),
    ),
    width_multipliers=(0.5, 1.0, 2.0),
    resolutions=(16, 24, 32),
)
TASK = Task(classes=4, channels=1, kernels="cmsis-nn-dsp", latency=lambda graph, op: 10.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def row(mean: float, count: float, resolution: int = 32, width: float = 1.0) -> Row:
    return Row(
        width=width,
        resolution=resolution,
        subnets=10**6,
        count=Count(
            lower=count,
            estimate=count,
            upper=count,
            mean_macs=mean,
            mean_macs_sure=mean,
            mean_macs_possible=mean,
            max_macs=mean,
            max_macs_possible=mean,
            exact=True,
        ),
    )


def brute_force(budget: Budget, width: float, resolution: int) -> tuple[int, float]:
    """Count and mean MACs by enumerating all subnets of SPACE."""
    from itertools import product

    from tinynas.space.arch import gene_sizes

    table = compile_task(SPACE, TASK, width, resolution)
    every = np.array(list(product(*(range(n) for n in gene_sizes(SPACE)))))
    archs = {decode(SPACE, g, width=width, resolution=resolution): tuple(g) for g in every}
    costs = table.evaluate(np.array(list(archs.values())))
    inside = (costs.sram_bytes <= budget.sram_bytes) & (costs.flash_bytes <= budget.flash_bytes)
    assert len(archs) == SPACE.subnets()
    return int(inside.sum()), float(costs.macs[inside].mean()) if inside.any() else 0.0


@pytest.mark.parametrize("sram,flash", [(12_000, 14_000), (20_000, 40_000), (10**6, 10**6)])
def test_the_chosen_space_has_the_largest_mean_macs_by_brute_force(sram: int, flash: int) -> None:
    budget = Budget(sram_bytes=sram, flash_bytes=flash)
    shrunk = shrink(SPACE, budget, TASK, rng=rng())
    truth = {
        (r.width, r.resolution): brute_force(budget, r.width, r.resolution) for r in shrunk.rows
    }
    for found in shrunk.rows:
        count, mean = truth[found.width, found.resolution]
        assert found.count.estimate == count
        assert found.count.mean_macs == pytest.approx(mean)
    best = max(truth, key=lambda key: truth[key][1])
    assert (shrunk.chosen.width, shrunk.chosen.resolution) == best


def test_spaces_with_too_few_subnets_to_search_are_passed_over() -> None:
    rare, common = row(9e6, 3), row(5e6, 50_000)
    assert choose([rare, common]) is common
    assert choose([rare, row(1e6, 2)]) is rare


def test_equal_spaces_go_to_the_smaller_resolution_then_the_larger_width() -> None:
    small, large = row(5e6, 10**5, resolution=16), row(5e6, 10**5, resolution=32)
    assert choose([large, small]) is small
    wide, narrow = row(5e6, 10**5, width=1.0), row(5e6, 10**5, width=0.5)
    assert choose([narrow, wide]) is wide


def test_the_csv_has_every_space_and_marks_the_chosen_one() -> None:
    shrunk = shrink(SPACE, Budget(sram_bytes=20_000, flash_bytes=40_000), TASK, rng=rng())
    rows = list(csv.DictReader(io.StringIO(to_csv(shrunk))))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == 9
    chosen = [r for r in rows if r["chosen"] == "1"]
    assert [(float(r["width"]), int(r["resolution"])) for r in chosen] == [
        (shrunk.chosen.width, shrunk.chosen.resolution)
    ]


def test_the_sampled_rule_estimates_the_share_that_counting_gives() -> None:
    budget = Budget(sram_bytes=20_000, flash_bytes=40_000)
    exact = shrink(SPACE, budget, TASK, rng=rng())
    sampled = shrink(SPACE, budget, TASK, method="sampled", rng=rng())
    for a, b in zip(exact.rows, sampled.rows, strict=True):
        # Four standard errors of a share among 1,000 samples.
        assert abs(a.share - b.share) <= 4 * np.sqrt(a.share * (1 - a.share) / 1000) + 1e-9


def suggested(message: str, flag: str) -> int:
    match = re.search(rf"{flag} (\d+)", message)
    assert match, message
    return int(match[1])


def test_what_an_impossible_budget_suggests_is_exactly_enough() -> None:
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, Budget(sram_bytes=2048, flash_bytes=10**6), TASK, rng=rng())
    message = str(caught.value)
    needed = suggested(message, "--sram")
    arch = smallest(SPACE, width=0.5, resolution=16)
    assert message.startswith(
        "no subnet of tiny fits SRAM 2,048 bytes (2.0 KiB), flash 1,000,000 bytes"
    )
    assert f"resolution {arch.resolution}" in message and "peak at operator" in message
    assert shrink(SPACE, Budget(sram_bytes=needed, flash_bytes=10**6), TASK, rng=rng())
    with pytest.raises(InfeasibleError):
        shrink(SPACE, Budget(sram_bytes=needed - 1, flash_bytes=10**6), TASK, rng=rng())


def test_an_impossible_flash_budget_suggests_flash() -> None:
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, Budget(sram_bytes=10**6, flash_bytes=3000), TASK, rng=rng())
    needed = suggested(str(caught.value), "--flash")
    assert shrink(SPACE, Budget(sram_bytes=10**6, flash_bytes=needed), TASK, rng=rng())


def test_an_impossible_latency_suggests_latency() -> None:
    budget = Budget(sram_bytes=10**6, flash_bytes=10**6, latency_ms=0.01)
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, budget, TASK, rng=rng())
    # The smallest subnet has 12 operators (4 + 3 + 3 in blocks) of 10 microseconds.
    assert "--latency 0.12ms" in str(caught.value)
    enough = Budget(sram_bytes=10**6, flash_bytes=10**6, latency_ms=0.12)
    assert shrink(SPACE, enough, TASK, rng=rng())


def test_an_impossible_latency_names_the_fastest_subnet_and_its_upper_end() -> None:
    budget = Budget(
        sram_bytes=10**6, flash_bytes=10**6, latency_ms=0.01, confidence=0.9, margin=1.5
    )
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, budget, TASK, rng=rng())
    message = str(caught.value)
    assert "latency 0.01 ms, confidence 0.9" in message
    assert (
        "the fastest that fits SRAM and flash (width 0.5, resolution 16) takes a predicted "
        "0.12 ms (at most 0.18 ms at a confidence of 0.9)"
    ) in message
    assert "--latency 0.18ms" in message
    assert shrink(SPACE, replace(budget, latency_ms=0.18), TASK, rng=rng())
    with pytest.raises(InfeasibleError, match="the fastest of all, which does not fit SRAM"):
        shrink(SPACE, replace(budget, sram_bytes=64), TASK, rng=rng())


def test_an_impossible_latency_names_the_fastest_on_patches_where_nothing_fits_without() -> None:
    space = SPACE.model_copy(update={"width_multipliers": (2.0,), "resolutions": (128,)})
    task, budget = (
        replace(TASK, plan="overlap", patch=True),
        Budget(sram_bytes=120 * 1024, flash_bytes=10**6),
    )
    assert shrink(space, budget, task, rng=rng()).chosen.patches == 2
    with pytest.raises(InfeasibleError) as caught:
        shrink(space, replace(budget, latency_ms=0.01), task, rng=rng())
    latency = re.search(
        r"that fits SRAM and flash \(width 2, resolution 128, 2x2 patches\) takes a predicted "
        r"([\d.]+) ms; .* --latency ([\d.]+)ms",
        str(caught.value),
    )
    assert latency is not None and float(latency[1]) == pytest.approx(float(latency[2]))
    assert shrink(space, replace(budget, latency_ms=float(latency[2])), task, rng=rng())


def test_an_impossible_energy_suggests_energy() -> None:
    budget = Budget(sram_bytes=10**6, flash_bytes=10**6, energy_mj=0.001, power_mw=50.0)
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, budget, TASK, rng=rng())
    # 0.12 ms at 50 mW
    assert "energy 0.001 mJ" in str(caught.value) and "0.006 mJ" in str(caught.value)
    assert "--energy 6.00uJ" in str(caught.value)
    assert shrink(SPACE, replace(budget, energy_mj=0.006), TASK, rng=rng())


@pytest.mark.parametrize("latency_ms", [None, 0.2])
def test_a_limit_on_macs_leads_to_a_smaller_space(latency_ms: float | None) -> None:
    roomy = Budget(sram_bytes=10**6, flash_bytes=10**6, latency_ms=latency_ms)
    free = shrink(SPACE, roomy, TASK, rng=rng())
    every = np.unique(random_genes(SPACE, 20_000, rng()), axis=0)
    assert len(every) == SPACE.subnets()
    limit = int(free.table.evaluate(every).macs.min()) - 1
    found = shrink(SPACE, replace(roomy, macs=limit), TASK, rng=rng())
    assert found.chosen.count.max_macs <= limit < found.chosen.count.max_macs * 3
    for row in found.rows:
        costs = compile_task(SPACE, TASK, row.width, row.resolution).evaluate(every)
        macs = costs.macs[(costs.macs <= limit) & (costs.latency_ms <= (latency_ms or np.inf))]
        assert row.count.estimate == len(macs)
        assert row.count.mean_macs == pytest.approx(macs.mean() if len(macs) else 0)


def test_an_impossible_limit_on_macs_is_answered_with_one_that_is_enough() -> None:
    budget = Budget(sram_bytes=10**6, flash_bytes=10**6, macs=1000)
    with pytest.raises(InfeasibleError) as caught:
        shrink(SPACE, budget, TASK, rng=rng())
    message = str(caught.value)
    needed = suggested(message, "max_macs:")
    assert "MACs 1,000:" in message and f"and computes {needed:,} MACs" in message
    assert shrink(SPACE, replace(budget, macs=needed), TASK, rng=rng())
    with pytest.raises(InfeasibleError):
        shrink(SPACE, replace(budget, macs=needed - 1), TASK, rng=rng())
    with pytest.raises(InfeasibleError, match=f"with max_macs: {needed} together"):
        shrink(SPACE, replace(budget, sram_bytes=64), TASK, rng=rng())


def test_confidence_tightens_what_fits() -> None:
    loose = Budget(sram_bytes=10**6, flash_bytes=10**6, latency_ms=0.18)
    tight = replace(loose, confidence=0.9, margin=1.3)
    found = [shrink(SPACE, budget, TASK, rng=rng()) for budget in (loose, tight)]
    counts = [sum(row.count.estimate for row in shrunk.rows) for shrunk in found]
    assert counts[0] > counts[1] > 0
    with pytest.raises(InfeasibleError, match="confidence 0.99"):
        shrink(SPACE, replace(loose, confidence=0.99, margin=1.6), TASK, rng=rng())


def test_the_share_in_time_is_that_of_the_subnets_in_memory() -> None:
    roomy = Budget(sram_bytes=10**6, flash_bytes=10**6)
    assert shrink(SPACE, roomy, TASK, rng=rng()).in_time is None
    shrunk = shrink(SPACE, replace(roomy, latency_ms=0.12), TASK, rng=rng())
    chosen = shrunk.chosen
    assert shrunk.in_time == pytest.approx(chosen.count.estimate / chosen.subnets)
    assert 0 < shrunk.in_time < 0.5


def test_what_an_inference_takes_besides_is_part_of_every_latency() -> None:
    more = replace(TASK, inference_us=500.0)
    tables = [compile_task(SPACE, task, 0.5, 16) for task in (TASK, more)]
    genes = encode(SPACE, smallest(SPACE, width=0.5, resolution=16))
    ms = [float(table.evaluate(genes).latency_ms[0]) for table in tables]
    assert ms == pytest.approx([0.12, 0.62])


def test_where_no_single_change_helps_it_says_so() -> None:
    with pytest.raises(InfeasibleError, match="no single change, but --sram") as caught:
        shrink(SPACE, Budget(sram_bytes=64, flash_bytes=64), TASK, rng=rng())
    sram, flash = (suggested(str(caught.value), flag) for flag in ("--sram", "--flash"))
    assert shrink(SPACE, Budget(sram_bytes=sram, flash_bytes=flash), TASK, rng=rng())


def test_a_smaller_resolution_is_named_where_it_would_help() -> None:
    space = find_space("mcunet")
    task = Task(classes=10, channels=3, kernels="reference", latency=lambda graph, op: 1.0)
    with pytest.raises(InfeasibleError, match="a space with a resolution of 24 pixels"):
        shrink(space, Budget(sram_bytes=24_576, flash_bytes=2**20), task, rng=rng())
