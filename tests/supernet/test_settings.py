from __future__ import annotations

import pytest
from pydantic import ValidationError

from tinynas.supernet.settings import ONCE_FOR_ALL, PRESETS, TrainSettings


def test_once_for_alls_phases_are_those_of_its_training_script() -> None:
    settings = TrainSettings.model_validate({"preset": "once-for-all"})
    assert settings.trainer == "progressive" and settings.epochs == 590
    assert [phase.share for phase in settings.phases] == [180, 120, 25, 120, 25, 120]
    assert [phase.subnets for phase in settings.phases] == [1, 1, 2, 2, 4, 4]
    # --task depth --phase 1 has base_lr 2.5e-3, the full network 2.6 per 2,048 images.
    rates = [settings.lr * phase.lr_factor for phase in settings.phases]
    assert rates == pytest.approx([2.6 / 32, 3e-2, 2.5e-3, 7.5e-3, 2.5e-3, 7.5e-3], rel=0.02)


def test_what_is_given_wins_over_the_preset() -> None:
    settings = TrainSettings.model_validate({"preset": "once-for-all", "epochs": 9, "lr": 0.01})
    assert (settings.epochs, settings.lr, settings.optimizer) == (9, 0.01, "sgd")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_being_written_out_and_read_back(preset: str) -> None:
    settings = TrainSettings.model_validate({"preset": preset})
    assert TrainSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_progressive_without_phases_takes_once_for_alls() -> None:
    assert TrainSettings.model_validate({"trainer": "progressive"}).phases == ONCE_FOR_ALL
    assert TrainSettings().phases == ()


@pytest.mark.parametrize("preset", ["ofa", 3, ["bignas"]])
def test_an_unknown_preset_is_refused(preset: object) -> None:
    with pytest.raises(ValidationError, match="preset"):
        TrainSettings.model_validate({"preset": preset})
