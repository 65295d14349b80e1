"""The Python interface, as a user of the package sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import tinynas
from tinynas import Arch, Batch, Progress, run_search
from tinynas.errors import InfeasibleError, TinynasError, UsageError
from tinynas.space.arch import largest
from tinynas.space.spec import find_space

HERE = {"space": "mcunet-small", "width": 0.5, "resolution": 16, "classes": 10}
BUDGET = {"sram": "40k", "flash": "120k", "mcu": "stm32l4r5"}


def blocks(arch: Arch) -> float:
    """A made-up accuracy."""
    return sum(map(sum, arch.kernels)) / 1000 + sum(map(sum, arch.expansions)) / 100


def test_the_public_names_are_listed_in_order_and_are_there() -> None:
    assert tinynas.__all__ == sorted(tinynas.__all__)
    assert all(getattr(tinynas, name) is not None for name in tinynas.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tinynas.nothing  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    code = "import sys, tinynas; print(sorted(m for m in sys.modules if 'tinynas.' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_search_with_an_objective_of_ones_own_gives_tables_and_the_best() -> None:
    found = run_search(blocks, **HERE, **BUDGET, evaluations=40)
    candidates, front = found.candidates, found.front
    assert found.reason == "evaluations" and len(candidates) == 40
    assert (candidates["sram_bytes"] <= 40 * 1024).all()
    assert (candidates["flash_bytes"] <= 120 * 1024).all()
    assert [blocks(arch) for arch in candidates["arch"]] == candidates["accuracy"].tolist()
    assert front["accuracy"].is_monotonic_decreasing and 1 <= len(front) <= 40
    assert found.best.accuracy == candidates["accuracy"].max() == front["accuracy"].iloc[0]
    assert found.best.arch in set(candidates["arch"])
    assert (candidates["energy_mj"] > 0).all()


def test_whole_batches_can_be_scored_at_once() -> None:
    sizes: list[int] = []

    def score(batch: Batch) -> np.ndarray:
        sizes.append(len(batch))
        return -batch.costs.latency_ms

    found = run_search(batch_objective=score, **HERE, **BUDGET, evaluations=30)
    assert sizes == [16, 14]
    assert found.best.accuracy == -found.candidates["latency_ms"].min()


def test_callbacks_see_progress_and_can_end_the_search() -> None:
    seen: list[int] = []

    def stop_at_48(progress: Progress) -> bool:
        seen.append(progress.evaluations)
        return progress.evaluations >= 48

    found = run_search(blocks, **HERE, **BUDGET, evaluations=1000, callbacks=[stop_at_48])
    assert seen == [16, 32, 48] and found.reason == "callback"


def test_what_was_saved_can_be_read_by_anyone(tmp_path: Path) -> None:
    found = run_search(blocks, **HERE, **BUDGET, evaluations=20)
    folder = found.save(tmp_path / "result")
    best = json.loads((folder / "best.json").read_text())
    assert Arch.from_json(best["arch"]) == found.best.arch
    assert best["sram_bytes"] == found.best.sram_bytes
    lines = (folder / "candidates.csv").read_text().splitlines()
    assert len(lines) == 21 and lines[0].startswith("accuracy,correct,count,sram_bytes")
    assert len((folder / "front.csv").read_text().splitlines()) == 1 + len(found.front)


@pytest.mark.parametrize("algorithm", ["evolution", "nsga2"])
def test_a_search_in_a_directory_goes_on_with_more_evaluations(
    algorithm: str, tmp_path: Path
) -> None:
    where = {**HERE, **BUDGET, "algorithm": algorithm, "out": tmp_path / "run"}
    first = run_search(blocks, **where, evaluations=32)
    calls: list[Arch] = []

    def counted(arch: Arch) -> float:
        calls.append(arch)
        return blocks(arch)

    more = run_search(counted, **where, evaluations=48)
    at_once = run_search(blocks, **{**where, "out": None}, evaluations=48)
    assert len(calls) == 16
    assert more.candidates["arch"].tolist()[:32] == first.candidates["arch"].tolist()
    assert more.candidates["arch"].tolist() == at_once.candidates["arch"].tolist()
    assert (tmp_path / "run" / "4_front.csv").exists()


def test_the_directory_of_another_search_is_refused(tmp_path: Path) -> None:
    run_search(blocks, **HERE, **BUDGET, evaluations=16, out=tmp_path / "run")
    with pytest.raises(UsageError, match="holds a search of other settings"):
        run_search(blocks, **HERE, **BUDGET, evaluations=16, out=tmp_path / "run", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        run_search(blocks, **HERE, **BUDGET, evaluations=16, out=tmp_path / "mine")


def test_a_study_of_optuna_lies_in_the_directory(tmp_path: Path) -> None:
    run_search(blocks, **HERE, **BUDGET, algorithm="tpe", evaluations=24, out=tmp_path / "run")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "run" / "4_optuna.log")))
    frame = load_study(study_name="tinynas", storage=storage).trials_dataframe()
    assert len(frame) == 24 and "user_attrs_energy_mj" in frame


def test_without_width_and_resolution_stage_1_chooses_them() -> None:
    found = run_search(blocks, sram="24k", flash="64k", evaluations=16)
    assert 0.2 <= found.best.arch.width <= 1 and found.best.arch.space == "mcunet-small"


def test_any_setting_can_be_given_and_a_wrong_one_is_named() -> None:
    config = {"search": {"population": 8}, "target": {"confidence": 0.9, "max_macs": 1_300_000}}
    found = run_search(blocks, **HERE, **BUDGET, latency="900ms", evaluations=16, config=config)
    assert found.candidates["macs"].max() <= 1_300_000
    with pytest.raises(UsageError, match=r"run_search: search\.popsize: there is no such key"):
        run_search(blocks, **HERE, **BUDGET, config={"search": {"popsize": 8}})


def test_what_cannot_be_is_one_sentence() -> None:
    with pytest.raises(InfeasibleError, match="no subnet of mcunet-small at width 0.5"):
        run_search(blocks, **HERE, sram="2k", flash="120k")
    with pytest.raises(UsageError, match="needs an objective"):
        run_search(**HERE, **BUDGET)
    with pytest.raises(UsageError, match="not both"):
        run_search(blocks, batch_objective=lambda batch: [], **HERE, **BUDGET)
    with pytest.raises(UsageError, match="give width and resolution, or neither"):
        run_search(blocks, width=0.5, **BUDGET)
    with pytest.raises(UsageError, match="drop run or sram, width"):
        run_search(run="runs/x", sram="20k", width=0.5)
    with pytest.raises(UsageError, match="is not a run directory"):
        run_search(run="runs/none")
    with pytest.raises(TinynasError, match="a finite number"):
        run_search(lambda arch: float("nan"), **HERE, **BUDGET)


def test_a_subnet_that_an_objective_raises_for_ends_the_search_with_its_error() -> None:
    def broken(arch: Arch) -> float:
        raise RuntimeError("no board")

    with pytest.raises(RuntimeError, match="no board"):
        run_search(broken, **HERE, **BUDGET)
    assert blocks(largest(find_space("mcunet-small"), width=0.5, resolution=16)) > 0
