"""Subnets as data: JSON, genes, uniform draws, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.errors import UsageError
from tinynas.space.arch import (
    Arch,
    canonical,
    check_arch,
    decode,
    encode,
    gene_sizes,
    largest,
    random_genes,
    smallest,
)
from tinynas.space.spec import SearchSpace, Stage, Stem, find_space

TINY = SearchSpace(
    name="tiny",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=1, depth=(1, 2), kernel=(3, 5), expansion=(1, 3)),
        Stage(channels=16, stride=2, depth=(1, 3), kernel=(3,), expansion=(2, 4)),
    ),
    width_multipliers=(1.0,),
    resolutions=(16,),
)
SPACES = (TINY, find_space("mcunet"), find_space("mcunet-small"))


def drawn(space: SearchSpace, seed: int) -> Arch:
    """A random subnet."""
    genes = random_genes(space, 1, np.random.default_rng(seed))[0]
    return decode(space, genes, width=0.5, resolution=32)


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**32))
def test_json_gives_the_subnet_back(space: SearchSpace, seed: int) -> None:
    arch = drawn(space, seed)
    assert Arch.from_json(json.loads(json.dumps(arch.to_json()))) == arch


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**32))
def test_genes_give_the_subnet_back(space: SearchSpace, seed: int) -> None:
    genes = random_genes(space, 1, np.random.default_rng(seed))[0]
    arch = decode(space, genes, width=0.5, resolution=32)
    check_arch(space, arch)
    assert encode(space, arch).tolist() == genes.tolist()


@given(data=st.data(), space=st.sampled_from(SPACES))
def test_any_genes_within_their_sizes_are_a_subnet(
    data: st.DataObject, space: SearchSpace
) -> None:
    genes = data.draw(st.tuples(*(st.integers(0, size - 1) for size in gene_sizes(space))))
    arch = decode(space, np.array(genes), width=1.0, resolution=32)
    check_arch(space, arch)
    assert decode(space, encode(space, arch), width=1.0, resolution=32) == arch


@given(data=st.data(), space=st.sampled_from(SPACES))
def test_canonical_genes_are_those_that_encoding_gives(
    data: st.DataObject, space: SearchSpace
) -> None:
    one = st.tuples(*(st.integers(0, size - 1) for size in gene_sizes(space)))
    genes = np.array(data.draw(st.lists(one, min_size=1, max_size=3)))
    before = genes.copy()
    archs = [decode(space, row, width=1.0, resolution=32) for row in genes]
    assert canonical(space, genes).tolist() == [encode(space, arch).tolist() for arch in archs]
    assert (genes == before).all()


def test_genes_by_hand() -> None:
    # Depth, then kernel and expansion of each possible block, for both stages.
    assert gene_sizes(TINY) == (2, 2, 2, 2, 2, 2, 1, 2, 1, 2, 1, 2)
    arch = Arch(
        space="tiny",
        width=1.0,
        resolution=16,
        kernels=((5,), (3, 3, 3)),
        expansions=((3,), (4, 2, 4)),
    )
    assert encode(TINY, arch).tolist() == [0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1]
    assert arch.depths == (1, 3)


def test_json_by_hand() -> None:
    assert smallest(TINY, width=1.0, resolution=16).to_json() == {
        "space": "tiny",
        "width": 1.0,
        "resolution": 16,
        "depth": [1, 1],
        "kernel": [[3], [3]],
        "expansion": [[1], [2]],
    }


def test_the_extremes_take_the_ends_of_every_choice() -> None:
    low, high = smallest(TINY, width=1.0, resolution=16), largest(TINY, width=1.0, resolution=16)
    assert (low.kernels, low.expansions) == (((3,), (3,)), ((1,), (2,)))
    assert (high.kernels, high.expansions) == (((5, 5), (3, 3, 3)), ((3, 3), (4, 4, 4)))


def chi_square_bound(degrees: int) -> float:
    """Far above what uniform draws give: mean + 5 standard deviations of chi-square."""
    return degrees + 5 * (2 * degrees) ** 0.5


def test_random_genes_are_uniform_over_all_subnets(
    subnets: Callable[[SearchSpace, float, int], list[Arch]],
) -> None:
    every = subnets(TINY, 1.0, 16)
    assert len(every) == len(set(every)) == TINY.subnets() == (4 + 16) * (2 + 8)
    genes = random_genes(TINY, 40_000, np.random.default_rng(0))
    found = Counter(decode(TINY, row, width=1.0, resolution=16) for row in genes)
    assert set(found) == set(every)
    expected = len(genes) / len(every)
    chi_square = sum((found[arch] - expected) ** 2 / expected for arch in every)
    assert chi_square < chi_square_bound(len(every) - 1)


def test_the_same_seed_draws_the_same_subnets() -> None:
    draws = [random_genes(SPACES[1], 50, np.random.default_rng(7)).tolist() for _ in range(2)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"width": None}, "not a subnet's JSON: width: is missing"),
        (
            {"width": "half"},
            "not a subnet's JSON: width: Input should be a valid number, got 'half'",
        ),
        (
            {"width": float("inf")},
            "not a subnet's JSON: width: Input should be a finite number, got inf",
        ),
        (
            {"resolution": 16.7},
            "not a subnet's JSON: resolution: Input should be a valid integer, got 16.7",
        ),
        (
            {"resolution": 0},
            "not a subnet's JSON: resolution: Input should be greater than 0, got 0",
        ),
        (
            {"kernel": "35"},
            "not a subnet's JSON: kernel: must be a list, `[a, b]`, got '35'",
        ),
        (
            {"kernel": [[3], ["3"]]},
            "not a subnet's JSON: kernel.1.0: Input should be a valid integer, got '3'",
        ),
        (
            {"expansion": [[1], [2, 2]]},
            "a subnet's JSON must have one kernel and one expansion per block: "
            "depth [1, 1] came with [1, 1] kernels and [1, 2] expansions",
        ),
        (
            {"depth": [1]},
            "a subnet's JSON must have one kernel and one expansion per block: "
            "depth [1] came with [1, 1] kernels and [1, 1] expansions",
        ),
    ],
)
def test_json_of_no_subnet_is_refused_in_a_sentence(change: dict[str, Any], wanted: str) -> None:
    content = {**smallest(TINY, width=1.0, resolution=16).to_json(), **change}
    content = {key: value for key, value in content.items() if value is not None}
    with pytest.raises(UsageError) as error:
        Arch.from_json(content)
    assert str(error.value) == wanted


def test_json_that_is_no_mapping_is_refused() -> None:
    content: Any = [1, 2]
    with pytest.raises(UsageError) as error:
        Arch.from_json(content)
    assert str(error.value) == "a subnet's JSON must be a mapping, got [1, 2]"


def test_keys_beside_the_subnets_are_left_alone() -> None:
    arch = smallest(TINY, width=1.0, resolution=16)
    assert Arch.from_json({**arch.to_json(), "accuracy": 0.9}) == arch


def test_a_subnet_of_another_space_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        check_arch(TINY, smallest(SPACES[1], width=1.0, resolution=48))
    assert str(error.value) == "the subnet is of space 'mcunet', not of 'tiny'"


@pytest.mark.parametrize(
    ("kernels", "expansions", "wanted"),
    [
        (((3,), (3, 3)), ((1,), (2, 2)), "stage 1: depth must be among [1, 3], got [2]"),
        (((7,), (3,)), ((1,), (2,)), "stage 0: kernel must be among [3, 5], got [7]"),
        (((3, 3), (3,)), ((1, 6), (2,)), "stage 0: expansion must be among [1, 3], got [1, 6]"),
    ],
)
def test_a_choice_that_the_space_lacks_is_refused(
    kernels: tuple[tuple[int, ...], ...], expansions: tuple[tuple[int, ...], ...], wanted: str
) -> None:
    arch = Arch(space="tiny", width=1.0, resolution=16, kernels=kernels, expansions=expansions)
    with pytest.raises(UsageError) as error:
        check_arch(TINY, arch)
    assert str(error.value) == wanted
