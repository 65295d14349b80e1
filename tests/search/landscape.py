"""A made-up accuracy over mcunet-small: each block adds its own, and with the block before it."""

from __future__ import annotations

import numpy as np

from tinynas.search.features import ABSENT, features
from tinynas.search.front import Floats
from tinynas.space.arch import Genes, random_genes
from tinynas.space.spec import find_space

SPACE = find_space("mcunet-small")


def accuracies(genes: Genes, seed: int = 0) -> Floats:
    """Of subnets (N, genes): later blocks add less, larger choices more, pairs a little."""
    rng = np.random.default_rng(seed)
    found = features(SPACE, genes)
    total = np.zeros(len(genes))
    for block, pair in zip(found.blocks.T, found.pairs.T, strict=True):
        own = np.sort(rng.random(9)) * rng.uniform(0.5, 1.5) + 0.1 * rng.normal(size=9)
        both = 0.05 * rng.normal(size=81)
        total += np.where(block == ABSENT, 0, own[block] + both[pair])
    return total / 20


def drawn(count: int, seed: int = 0) -> Genes:
    """Uniform subnets, shape (count, genes)."""
    return random_genes(SPACE, count, np.random.default_rng(seed))
