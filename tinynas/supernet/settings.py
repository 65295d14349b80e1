"""How long and how hard to train, as validated plain data; no torch in here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Accelerator = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(_Strict):
    """Random changes to training images, each image by its own draw unless said otherwise.

    `shift`: largest move along each axis as a fraction of the size. `flip`: mirror left and right
    half of the time, wrong for anything that is read, such as digits or spectrograms. `zoom`: the
    smallest share of its area that an image is cropped to, at aspects of 3/4 to 4/3; 1 is off.
    `colour`: largest relative change of brightness, contrast and saturation. `randaugment`: so
    many operations per image, of strength `magnitude` out of 30. `mixup` and `cutmix`: parameter
    of the beta distribution by which two images of a batch are mixed, 0 is off; with both on each
    batch takes one of them.
    """

    shift: float = Field(default=0.125, ge=0, lt=1)
    flip: bool = False
    zoom: float = Field(default=1.0, gt=0, le=1)
    colour: float = Field(default=0.0, ge=0, le=1)
    randaugment: int = Field(default=0, ge=0, le=10)
    magnitude: int = Field(default=9, ge=0, le=30)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)


class FitSettings(_Strict):
    """What every training loop needs.

    `lr` is the peak of the rate: it rises linearly for `warmup_fraction` of the steps and falls
    to zero as a cosine. `clip_norm` bounds the norm of all gradients together, None not at all.
    `ema`: the final weights are an average over about this share of the steps, 0 takes the last.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=2)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float | None = Field(default=5.0, gt=0)
    ema: float = Field(default=0.0, ge=0, le=1)
    precision: Precision = "auto"
    augmentation: Augmentation | None = Augmentation()


class PhaseSettings(_Strict):
    """A stretch of a progressive training: `share` of its steps, `lr_factor` times its peak rate.

    Each step trains `subnets` random subnets, of which `kernels`, `depths` and `expansions` say
    how many of the choices are open, counted from the largest; None opens all.
    """

    name: str
    share: float = Field(gt=0)
    lr_factor: float = Field(default=1.0, gt=0)
    subnets: int = Field(default=1, ge=1)
    kernels: int | None = Field(default=None, ge=1)
    depths: int | None = Field(default=None, ge=1)
    expansions: int | None = Field(default=None, ge=1)


# Once-for-all's phases: epochs, rates relative to that of the full network (0.08 per 64 images:
# 2.6 for 2,048, Cai et al., arXiv 1908.09791, section 4.1) and subnets per step are those of
# github.com/mit-han-lab/once-for-all, train_ofa_net.py; 180 epochs of the full network: the paper.
ONCE_FOR_ALL = (
    PhaseSettings(name="full", share=180, kernels=1, depths=1, expansions=1),
    PhaseSettings(name="kernel", share=120, lr_factor=0.37, depths=1, expansions=1),
    PhaseSettings(name="depth 1", share=25, lr_factor=0.031, subnets=2, depths=2, expansions=1),
    PhaseSettings(name="depth 2", share=120, lr_factor=0.092, subnets=2, expansions=1),
    PhaseSettings(name="expansion 1", share=25, lr_factor=0.031, subnets=4, expansions=2),
    PhaseSettings(name="expansion 2", share=120, lr_factor=0.092, subnets=4),
)
# MCUNet (Lin et al., arXiv 2007.10319): the largest first, then all for twice as long.
MCUNET = (
    PhaseSettings(name="full", share=1, kernels=1, depths=1, expansions=1),
    PhaseSettings(name="all", share=2, subnets=4),
)

# What the papers say, and nothing else: other settings keep their defaults. Every length is a
# share of the training, so a preset with fewer epochs, or a limit of time, is the same training
# run through faster: each phase keeps its share of the steps, warm-up and average theirs.
PRESETS: dict[str, dict[str, Any]] = {
    # Yu et al., arXiv 2003.11142, section 3.1.
    "bignas": {"trainer": "sandwich", "random_subnets": 2},
    "mcunet": {"trainer": "progressive", "phases": MCUNET, "distillation": 0.0},
    "once-for-all": {
        "trainer": "progressive",
        "phases": ONCE_FOR_ALL,
        "distillation": 1.0,
        "epochs": 590,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.08,
        "weight_decay": 3e-5,
        "label_smoothing": 0.1,
        "warmup_fraction": 0.04,  # 5 epochs of 125
        "clip_norm": None,
    },
}


class TrainSettings(FitSettings):
    """Training of a supernet by one of two trainers.

    `sandwich`: each step the largest, the smallest and `random_subnets` more. `progressive`: its
    `phases` in order, once-for-all's by default; from the second on the largest subnet as it was
    after the first teaches, with the weight `distillation` against 1 for the labels. A `preset`
    fills in what is not given. With `time`, in seconds, as many steps are done as fit into it,
    whatever `epochs` says.
    """

    preset: Literal["bignas", "mcunet", "once-for-all"] | None = None
    trainer: Literal["sandwich", "progressive"] = "sandwich"
    epochs: int = Field(default=5, ge=1)
    time: float | None = Field(default=None, gt=0)
    lr: float = Field(default=4e-3, gt=0)
    random_subnets: int = Field(default=1, ge=0)
    distillation: float = Field(default=1.0, ge=0)
    phases: tuple[PhaseSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = {**PRESETS.get(str(given.get("preset")), {}), **given}
        if filled.get("trainer") == "progressive" and not filled.get("phases"):
            filled["phases"] = ONCE_FOR_ALL
        return filled


class FinetuneSettings(FitSettings):
    """Fine-tuning of one subnet; `distillation` is the teacher's share of the loss, if any."""

    epochs: int = Field(default=4, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    distillation: float = Field(default=0.0, ge=0, le=1)
