"""How long and how hard to train, as validated plain data; no torch in here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(_Strict):
    """Random changes to training images that leave their class as it is.

    `shift`: largest move along each axis as a fraction of the size. `flip`: mirror left and right
    half of the time, wrong for anything that is read, such as digits or spectrograms.
    """

    shift: float = Field(default=0.125, ge=0, lt=1)
    flip: bool = False


class FitSettings(_Strict):
    """What every training loop needs.

    `lr` is AdamW's at its peak: it rises linearly for `warmup_fraction` of the steps and falls to
    zero as a cosine. `clip_norm` bounds the norm of all gradients together.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=2)
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=5.0, gt=0)
    augmentation: Augmentation | None = Augmentation()


class TrainSettings(FitSettings):
    """Training of a supernet: each step the largest, the smallest and `random_subnets` more."""

    epochs: int = Field(default=5, ge=1)
    lr: float = Field(default=4e-3, gt=0)
    random_subnets: int = Field(default=1, ge=0)


class FinetuneSettings(FitSettings):
    """Fine-tuning of one subnet; `distillation` is the teacher's share of the loss, if any."""

    epochs: int = Field(default=4, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    distillation: float = Field(default=0.0, ge=0, le=1)
