from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinynas.space.arch import Arch, decode, largest, random_genes
from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import recalibrate, recalibrate_and_score
from tinynas.supernet.fit import Progress
from tinynas.supernet.network import Supernet, extract, fuse
from tinynas.supernet.progressive import (
    _drawing,
    opened_space,
    opens_expansions,
    progressive_course,
)
from tinynas.supernet.reorder import importance
from tinynas.supernet.settings import PhaseSettings, TrainSettings
from tinynas.supernet.train import train_supernet
from tinynas.supernet.trainers import subnets_of

PHASES = [
    PhaseSettings(name="full", share=1, kernels=1, depths=1, expansions=1),
    PhaseSettings(name="kernel", share=1, depths=1, expansions=1),
    PhaseSettings(name="expansion", share=1, lr_factor=0.5, subnets=2),
]
SETTINGS = TrainSettings.model_validate(
    {"trainer": "progressive", "phases": PHASES, "epochs": 3, "batch_size": 20}
)


def _supernet(space: SearchSpace) -> Supernet:
    return Supernet(space, width=1.0, classes=10, channels=1)


def _course(net: Supernet, images: np.ndarray, settings: TrainSettings = SETTINGS):
    steps = [1] * len(settings.phases)
    return progressive_course(net, images, settings, subnets_of(net, 8), steps, 0)


def _archs(space: SearchSpace, phase: PhaseSettings, count: int) -> list[Arch]:
    net = _supernet(space)
    draw = _drawing(net, phase, subnets_of(net, 8))
    rng = np.random.default_rng(0)
    return [arch for _ in range(count) for arch in draw(rng)]


def test_a_phase_opens_the_largest_choices(tiny: SearchSpace) -> None:
    stage = opened_space(tiny, PhaseSettings(name="", share=1, depths=2, expansions=1)).stages[1]
    assert (stage.kernel, stage.depth, stage.expansion) == ((3, 5, 7), (2, 3), (3,))
    assert opened_space(tiny, PHASES[2]) == tiny
    assert opened_space(tiny, PhaseSettings(name="", share=1, depths=9)) == tiny


def test_the_first_phase_trains_the_largest_subnet_alone(tiny: SearchSpace) -> None:
    assert set(_archs(tiny, PHASES[0], 5)) == {largest(tiny, width=1.0, resolution=8)}


def test_a_phase_draws_every_open_choice_equally_often(tiny: SearchSpace) -> None:
    archs = _archs(tiny, PHASES[1], 200)
    kernels = [kernel for arch in archs for kernel in arch.kernels[1]]
    assert {arch.depths[1] for arch in archs} == {3}
    assert {e for arch in archs for e in arch.expansions[1]} == {3}
    assert np.bincount(kernels)[[3, 5, 7]] / len(kernels) == pytest.approx([1 / 3] * 3, abs=0.06)
    deep = _archs(tiny, PhaseSettings(name="", share=1, expansions=1), 300)
    depths = np.bincount([arch.depths[1] for arch in deep])
    assert depths[1:] / 300 == pytest.approx([1 / 3] * 3, abs=0.08)


def test_once_all_is_open_the_sampler_of_fitting_subnets_draws(tiny: SearchSpace) -> None:
    net, only = _supernet(tiny), random_genes(tiny, 1, np.random.default_rng(4))
    subnets = subnets_of(net, 8, sampler=lambda count, rng: np.repeat(only, count, 0))
    archs = _drawing(net, PHASES[2], subnets)(np.random.default_rng(0))
    assert archs == [decode(tiny, only[0], width=1.0, resolution=8)] * 2


def test_the_teacher_is_the_largest_subnet_as_it_was_after_the_first_phase(tiny, digits) -> None:
    net = _supernet(tiny)
    course = _course(net, digits.images[:60])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    trained = copy.deepcopy(net)
    for phase in course.phases[:2]:
        assert phase.begin is not None
        phase.begin()
    top = largest(tiny, width=1.0, resolution=8)
    wanted = fuse(recalibrate(extract(trained, top), digits.images[:60]))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert course.teacher is not None
    with torch.no_grad():
        torch.testing.assert_close(course.teacher(x), wanted(x), rtol=1e-5, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in course.teacher.parameters())


def test_channels_are_sorted_before_smaller_expansions_join(tiny, digits) -> None:
    net = _supernet(tiny)
    course = _course(net, digits.images[:60])
    values = importance(net.block(1, 0))
    for phase in course.phases[:2]:
        assert phase.begin is not None
        phase.begin()
    assert torch.equal(importance(net.block(1, 0)), values)
    assert course.phases[2].begin is not None
    course.phases[2].begin()
    assert torch.equal(importance(net.block(1, 0)), values.sort(descending=True).values)
    assert not opens_expansions(PHASES[0], PHASES[1])
    assert opens_expansions(PHASES[1], PHASES[2]) and not opens_expansions(PHASES[2], PHASES[2])


@pytest.mark.parametrize("distillation", [0.0, 1.0, 3.0])
def test_labels_and_teacher_share_the_loss(tiny, digits, distillation: float) -> None:
    """In the second phase, with all choices but the largest closed: one subnet, known."""
    net = _supernet(tiny)
    closed = [PHASES[0], PHASES[0].model_copy(update={"name": "again"})]
    settings = SETTINGS.model_copy(update={"phases": tuple(closed), "distillation": distillation})
    course = _course(net, digits.images[:60], settings)
    for phase in course.phases:
        assert phase.begin is not None
        phase.begin()
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 4, 5])
    loss = course.phases[1].backward(x, y, np.random.default_rng(0))
    got = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad()
    logits = net(x, largest(tiny, width=1.0, resolution=8))
    smooth = 0.9 * F.one_hot(y, 10) + 0.01
    wanted = -(smooth * logits.log_softmax(1)).sum(1).mean()
    if distillation:
        assert course.teacher is not None
        soft = course.teacher(x).softmax(1)
        imitation = -(soft * logits.log_softmax(1)).sum(1).mean()
        wanted = (wanted + distillation * imitation) / (1 + distillation)
    else:
        assert course.teacher is None
    wanted.backward()
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-5)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-3, atol=1e-6)


def test_phases_come_in_order_with_their_steps_and_subnets_of_all_sizes_learn(
    tiny, digits
) -> None:
    seen: list[Progress] = []
    net = _supernet(tiny)
    settings = SETTINGS.model_copy(update={"epochs": 9, "batch_size": 25, "lr": 0.01})
    train_supernet(
        net, digits.images[:300], digits.labels[:300], settings, seed=0, progress=seen.append
    )
    names = [at.phase for at in seen]
    assert names == ["full"] * 36 + ["kernel"] * 36 + ["expansion"] * 36
    rng = np.random.default_rng(0)
    for genes in random_genes(tiny, 3, rng):
        arch = decode(tiny, genes, width=1.0, resolution=8)
        score = recalibrate_and_score(
            net, arch, digits.images[:200], digits.images[1000:], digits.labels[1000:]
        )
        assert score.accuracy > 0.4, json.dumps(arch.to_json())
