from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.errors import UsageError
from tinynas.search.journal import JOURNAL_COLUMNS, Journal, csv_rows, read_rows, to_csv
from tinynas.search.problem import Scored
from tinynas.space.arch import Genes
from tinynas.space.spec import SearchSpace, Stage, Stem

from .small_space import noisy, problem, table


def generation(number: int, size: int) -> Scored:
    made = problem()
    batch = made.batch(made.sampler.sample(size, np.random.default_rng(number)))
    return Scored(
        genes=batch.genes,
        accuracy=noisy(batch),
        count=np.zeros(size, np.int64),
        generation=np.full(size, number),
        costs=batch.costs,
    )


GENERATIONS = [generation(0, 5), generation(1, 5), generation(2, 3)]
HEADER = ",".join(JOURNAL_COLUMNS) + "\n"
TEXT = HEADER + "".join("".join(csv_rows(g, size=len(g))) for g in GENERATIONS)


def written(path: Path) -> Journal:
    journal = Journal(path / "journal.csv", table())
    for scored in GENERATIONS:
        journal.append(scored)
    return journal


def genes(parts: list[Scored]) -> Genes:
    return np.concatenate([part.genes for part in parts])


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    journal = written(tmp_path)
    assert (tmp_path / "journal.csv").read_text() == TEXT
    scored = journal.read()
    assert scored is not None and np.array_equal(scored.genes, genes(GENERATIONS))
    assert np.array_equal(scored.accuracy, np.concatenate([g.accuracy for g in GENERATIONS]))
    assert scored.generation.tolist() == [0] * 5 + [1] * 5 + [2] * 3
    assert scored.costs.latency_ms.tolist() == table().evaluate(scored.genes).latency_ms.tolist()


def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.csv", table()).read() is None


@given(st.integers(0, len(TEXT)))
def test_a_file_cut_off_anywhere_gives_its_whole_generations_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal.csv"
    path.write_text(TEXT[:length])
    journal = Journal(path, table())
    ends = np.cumsum([len(HEADER), *(len("".join(csv_rows(g, size=len(g)))) for g in GENERATIONS)])
    whole = int((ends <= length).sum()) - 1
    scored = journal.read()
    assert (0 if scored is None else len(scored)) == sum(map(len, GENERATIONS[: max(whole, 0)]))
    for part in GENERATIONS[max(whole, 0) :]:
        journal.append(part)
    assert path.read_text() == TEXT


@given(st.integers(len(HEADER), len(TEXT) - 1), st.binary(min_size=1, max_size=30))
def test_damage_takes_nothing_but_what_follows_it(
    tmp_path_factory: pytest.TempPathFactory, at: int, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "journal.csv"
    content = TEXT.encode()
    path.write_bytes(content[:at] + garbage)
    try:
        scored = Journal(path, table()).read()
    except UsageError:
        return  # digits may make another number of a cost
    whole = 0 if scored is None else len(scored)
    assert whole in (0, 5, 10, 13)
    assert content.startswith(path.read_bytes()[: len(HEADER) + 1])


def test_the_record_of_another_search_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    other = SearchSpace(
        name="other",
        stem=Stem(kernel=3, stride=2, channels=16),
        stages=problem().table.space.stages,
        width_multipliers=(1.0,),
        resolutions=(16,),
    )
    costs = table(other)
    with pytest.raises(UsageError, match="are those of another search"):
        Journal(tmp_path / "journal.csv", costs).read()
    (tmp_path / "journal.csv").write_text("accuracy,genes\n1,2\n")
    with pytest.raises(UsageError, match="is not the record of a search"):
        Journal(tmp_path / "journal.csv", table()).read()
    (tmp_path / "journal.csv").write_text(TEXT.replace(" 1", " 9"))
    with pytest.raises(UsageError, match="are those of another search"):
        Journal(tmp_path / "journal.csv", table()).read()


def test_the_csv_of_a_front_has_names_and_numbers_that_people_can_read() -> None:
    scored = GENERATIONS[0].part(slice(0, 1))
    counted = Scored(
        genes=scored.genes,
        accuracy=np.array([0.75]),
        count=np.array([200]),
        generation=scored.generation,
        costs=scored.costs,
    )
    (row,) = csv.DictReader(io.StringIO(to_csv(counted)))
    assert row["accuracy"] == "0.75" and row["correct"] == "150" and row["count"] == "200"
    assert row["genes"] == " ".join(map(str, scored.genes[0])) and "generation_size" not in row
    assert float(row["latency_ms_predicted"]) == scored.costs.latency_ms[0]


def test_genes_of_ten_and_more_are_written_in_full() -> None:
    space = SearchSpace(
        name="wide",
        stem=Stem(kernel=3, stride=2, channels=8),
        stages=(
            Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=tuple(range(1, 13))),
        ),
        width_multipliers=(1.0,),
        resolutions=(16,),
    )
    costs = table(space)
    rows = np.array([[0, 0, 11], [0, 0, 3]])
    scored = Scored(
        genes=rows,
        accuracy=np.array([0.5, 0.25]),
        count=np.zeros(2, np.int64),
        generation=np.zeros(2, np.int64),
        costs=costs.evaluate(rows),
    )
    lines = csv_rows(scored, size=2)
    assert [line.split(",")[-1] for line in lines] == ["0 0 11\n", "0 0 3\n"]
    found, count = read_rows([HEADER, *lines], costs, "a file")
    assert count == 2 and np.array_equal(found.genes, rows)
