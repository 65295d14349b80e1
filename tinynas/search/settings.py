"""How to search, as validated plain data; nothing heavy in here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ObjectiveName = Literal["accuracy", "latency", "energy", "sram", "flash"]
AlgorithmName = Literal["evolution", "nsga2", "tpe", "random", "exhaustive"]
DEFAULT_OBJECTIVES: tuple[ObjectiveName, ...] = ("accuracy", "sram", "flash", "latency")

# Evolution as it was published: on accuracy alone, children either crossed or mutated.
PUBLISHED = {
    "algorithm": "evolution",
    "objectives": ("accuracy",),
    "population": 100,
    "neighbours": 0.0,
    "mutants": 0.5,
    "crossed_mutants": False,
    "mutation_probability": 0.1,
}
PRESETS: dict[str, dict[str, Any]] = {
    # Lin et al. 2020, arXiv 2007.10319: 30 generations, the best 20 of 100 are parents.
    "mcunet": {**PUBLISHED, "parents": 20, "evaluations": 30 * 100},
    # Cai et al. 2020, arXiv 1908.09791, and its code: 500 generations, a parent ratio of 0.25.
    "once-for-all": {**PUBLISHED, "parents": 25, "evaluations": 500 * 100},
}


class PredictorSettings(BaseModel):
    """How to search with predicted accuracies.

    The `first` subnets scored are drawn uniformly; batches after them have at most `batch`, each
    chosen from so many `looks`, subnets whose accuracies are predicted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int = Field(default=24, ge=2)
    batch: int = Field(default=12, ge=1)
    looks: int = Field(default=500, ge=1)


class SearchSettings(BaseModel):
    """How long and in what steps to search.

    The search ends after so many `evaluations`, scored subnets in all; after so many `seconds`; or
    when over the last `stagnation` evaluations the hypervolume has grown by less than the part
    `improvement`. `objectives` are what its front trades off.

    A batch has `population` subnets. Of evolution: the best `parents`, by default half of the
    population, have children. A share `neighbours` of these differs from one parent in a single
    gene, the others are crossings of two, a share `mutants` of them mutated, each gene with
    `mutation_probability`; these are crossings only with `crossed_mutants`. With `aging` parents
    come from the last so many subnets scored, not from all. With a `predictor`, true for its usual
    settings, evolution goes on among predicted accuracies and scores what promises most.

    A `preset` gives all of these their published values, but for those that are given too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: AlgorithmName = "evolution"
    preset: Literal["mcunet", "once-for-all"] | None = None
    objectives: tuple[ObjectiveName, ...] = DEFAULT_OBJECTIVES
    evaluations: int = Field(default=64, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    stagnation: int | None = Field(default=None, ge=1)
    improvement: float = Field(default=1e-3, gt=0, lt=1)
    population: int = Field(default=16, ge=2)
    parents: int | None = Field(default=None, ge=2)
    neighbours: float = Field(default=0.1, ge=0, le=1)
    mutants: float = Field(default=0.5, ge=0, le=1)
    crossed_mutants: bool = True
    mutation_probability: float = Field(default=0.1, gt=0, le=1)
    aging: int | None = Field(default=None, ge=2)
    predictor: PredictorSettings | None = None

    @field_validator("predictor", mode="before")
    @classmethod
    def _usual_predictor(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return PredictorSettings() if value else None
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("preset") not in PRESETS:
            return values
        return {**PRESETS[values["preset"]], **values}

    @model_validator(mode="after")
    def _objectives_make_sense(self) -> SearchSettings:
        if len(set(self.objectives)) < len(self.objectives) or "accuracy" not in self.objectives:
            raise ValueError(
                "objectives must be accuracy and others, each once, got "
                f"[{', '.join(self.objectives)}]"
            )
        if self.predictor and self.algorithm != "evolution":
            raise ValueError(
                f"predictor goes with algorithm evolution alone, got {self.algorithm}; leave one "
                "of the two out"
            )
        return self
