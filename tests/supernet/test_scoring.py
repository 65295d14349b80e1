"""Scores from several processes."""

from __future__ import annotations

import numpy as np
import pytest

from tinynas.data.dataset import Split
from tinynas.errors import TinynasError
from tinynas.space.arch import Arch, decode, random_genes
from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import recalibrate_and_score
from tinynas.supernet.network import Supernet
from tinynas.supernet.scoring import Scorer, score_all


def some(space: SearchSpace, count: int) -> list[Arch]:
    genes = random_genes(space, count, np.random.default_rng(0))
    return [decode(space, row, width=1.0, resolution=8) for row in genes]


def test_scores_do_not_depend_on_the_number_of_processes(tiny, digits) -> None:
    net = Supernet(tiny, width=1.0, classes=10, channels=1, seed=7)
    val = Split(images=digits.images[100:200], labels=digits.labels[100:200].astype(np.int64))
    archs, calibration = some(tiny, 7), digits.images[:64]
    alone = [recalibrate_and_score(net, a, calibration, val.images, val.labels) for a in archs]
    for processes in (1, 2):
        assert list(score_all(net, archs, calibration, val, processes)) == alone


def test_a_subnet_is_scored_once(tiny, digits) -> None:
    net = Supernet(tiny, width=1.0, classes=10, channels=1, seed=7)
    val = Split(images=digits.images[100:150], labels=digits.labels[100:150].astype(np.int64))
    archs = some(tiny, 3)
    with Scorer(net, digits.images[:64], val, 1) as scorer:
        first = list(scorer.accuracies([*archs, *archs]))
        assert first[:3] == first[3:] and scorer.images == 50
        with np.errstate(all="raise"):
            net.logits.weight.data.zero_()  # what is scored anew would differ
        assert list(scorer.accuracies(archs)) == first[:3]


def test_a_process_that_dies_is_one_sentence(tiny, digits) -> None:
    net = Supernet(tiny, width=1.0, classes=10, channels=1, seed=7)
    val = Split(images=digits.images[100:150], labels=digits.labels[100:150].astype(np.int64))
    archs = some(tiny, 4)
    with Scorer(net, digits.images[:64], val, 2) as scorer:
        list(scorer.scores(archs[:2]))
        for process in scorer.processes:
            process.kill()
        with pytest.raises(TinynasError, match="a process that scores subnets ended with code -9"):
            list(scorer.scores(archs))
