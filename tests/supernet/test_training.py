from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tinynas.supernet.settings import FitSettings
from tinynas.supernet.training import Training, itinerary


def _training(model: nn.Module, phases: list[int], **changes: object) -> Training:
    settings = FitSettings.model_validate({"epochs": 1, "lr": 0.1, "batch_size": 4, **changes})
    return Training(model, settings, phases=phases, images=8, seed=3, frozen=None)


def test_places_of_two_phases_by_hand() -> None:
    places = list(itinerary([3, 2], 2))
    assert [place.phase for place in places] == [0, 0, 0, 1, 1]
    assert [place.step for place in places] == [0, 1, 2, 0, 1]
    assert [place.epoch for place in places] == [0, 0, 1, 2, 2]
    assert [place.batch for place in places] == [0, 1, 0, 0, 1]
    assert [place.ends_epoch for place in places] == [False, True, True, False, True]
    assert [place.ends_phase for place in places] == [False, False, True, False, True]


@given(phases=st.lists(st.integers(1, 9), min_size=1, max_size=4), per_epoch=st.integers(1, 5))
def test_every_epoch_belongs_to_one_phase_and_ends_once(phases: list[int], per_epoch: int) -> None:
    places = list(itinerary(phases, per_epoch))
    assert len(places) == sum(phases)
    epochs = [place.epoch for place in places]
    assert epochs == sorted(epochs) and set(epochs) == set(range(epochs[-1] + 1))
    assert len({(place.epoch, place.phase) for place in places}) == epochs[-1] + 1
    assert sum(place.ends_epoch for place in places) == epochs[-1] + 1
    assert all(place.batch < per_epoch for place in places)


def _step(training: Training, value: float) -> None:
    """Set the only weight by a step of plain descent: rate 1, gradient its change."""
    (weight,) = training.model.parameters()
    weight.grad = torch.full_like(weight, float(weight.detach()) - value)
    training.update(1.0, torch.tensor(0.0))


def _one_weight() -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def test_the_average_follows_the_weights_and_is_taken_at_the_end_of_a_phase() -> None:
    training = _training(_one_weight(), [3, 1], ema=1.0, optimizer="sgd", clip_norm=None)
    training.begin_phase()
    training.optimizer = torch.optim.SGD(training.model.parameters())
    average, values = 0.0, [1.0, 4.0, 2.0]
    for step, value in enumerate(values):
        decay = 1 - 1 / min(3.0, (11 + step) / 9)  # over 1.0 x 3 steps, and shorter at first
        average = decay * average + (1 - decay) * value
        assert float(training.model.weight.detach()) == pytest.approx([0.0, *values][step])
        _step(training, value)
    assert float(training.model.weight.detach()) == pytest.approx(average)


def test_without_an_average_the_last_weights_stay() -> None:
    training = _training(_one_weight(), [2], optimizer="sgd", clip_norm=None)
    training.begin_phase()
    training.optimizer = torch.optim.SGD(training.model.parameters())
    for value in (1.0, 4.0):
        _step(training, value)
    assert float(training.model.weight.detach()) == pytest.approx(4.0)
    assert training.done and training.losses == [0.0]


def test_gradients_are_clipped_together_or_not_at_all() -> None:
    moved = []
    for clip_norm in (0.5, None):
        training = _training(_one_weight(), [2], optimizer="sgd", clip_norm=clip_norm)
        training.begin_phase()
        training.optimizer = torch.optim.SGD(training.model.parameters())
        _step(training, 2.0)
        moved.append(float(training.model.weight.detach()))
    assert moved == pytest.approx([0.5, 2.0], abs=1e-5)


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    orders = []
    for seed, step in ((3, 0), (3, 2), (4, 0), (3, 0)):
        training = _training(_one_weight(), [4])
        training.seed, training.step = seed, step
        training.begin_epoch()
        orders.append(np.concatenate(training.batches).tolist())
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_sgd_has_momentum_and_decays_weights_only() -> None:
    training = _training(nn.Linear(2, 2), [2], optimizer="sgd", weight_decay=0.5)
    training.begin_phase()
    decayed, kept = training.optimizer.param_groups
    assert (decayed["momentum"], decayed["nesterov"], decayed["weight_decay"]) == (0.9, True, 0.5)
    assert kept["weight_decay"] == 0 and len(kept["params"]) == 1
