"""Sections of the stages that train models on vectors and judge them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.fields import (
    AboveZero,
    Different,
    Edges,
    Fraction,
    OpenFraction,
    Positive,
    Section,
    Seeds,
    StackLoss,
    checked_edges,
)


class FindLr(Section):
    """The range test that gives each model of policy `found` its learning rate."""

    min_lr: AboveZero
    max_lr: AboveZero
    steps: Annotated[int, Field(ge=13)]
    stop_factor: Annotated[float, Field(gt=1)] | None
    slope: Literal["step", "rate"]

    @model_validator(mode="after")
    def _rates_rise(self) -> "FindLr":
        if self.min_lr >= self.max_lr:
            raise ValueError(f"min_lr must be less than max_lr ({self.max_lr:g})")
        return self


class LossParams(Section):
    """A loss by name, and the settings that it takes."""

    name: StackLoss
    settings: dict[str, Any]


class RecipeParams(Section):
    """How every model is trained, whatever its optimiser."""

    loss: LossParams
    hidden: list[Positive]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    standardise: bool
    batch_size: Positive
    epochs: Positive
    lr_patience: Annotated[int, Field(ge=0)]
    lr_factor: OpenFraction
    stop_patience: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    precision: Literal["float32", "bfloat16"]


class Adaptive(Section):
    """ADAM or ADAGRAD."""

    lr: AboveZero


class Sgd(Section):
    """Stochastic gradient descent."""

    lr: AboveZero
    momentum: Fraction


class AveragingRate(Section):
    """SWA's rate once it averages, under each policy."""

    fixed: AboveZero | None
    found: AboveZero | None


class Swa(Sgd):
    """SGD that averages its weights."""

    swa_start: Annotated[int, Field(ge=0)]
    swa_freq: Positive
    swa_lr: AveragingRate
    swa_lr_min: AboveZero | None


class Balance(Section):
    """Which groups of training faces shall weigh the same."""

    column: str | None
    edges: Annotated[list[float], Field(min_length=1), AfterValidator(checked_edges)]


OptimizerName = Literal["adam", "adagrad", "sgd", "swa"]
PolicyName = Literal["fixed", "found"]


class Train(Section):
    """Which models are trained, and how."""

    optimizers: Annotated[list[OptimizerName], Field(min_length=1), Different]
    policies: Annotated[list[PolicyName], Field(min_length=1), Different]
    seeds: Seeds
    recipe: RecipeParams
    adam: Adaptive
    adagrad: Adaptive
    sgd: Sgd
    swa: Swa
    balance: Balance


class Evaluate(Section):
    """What is measured on the faces that no model was trained on."""

    baselines: Annotated[
        list[Literal["mean", "median", "ridge", "knn", "svr", "boosting"]], Field(min_length=1), Different
    ]
    svr_rows: Positive
    threshold: float | None
    within: Annotated[float, Field(ge=0)]
    bin_width: AboveZero
    resamples: Positive
    groups: list[str] | None
    group_edges: Edges


class SwagParams(Section):
    """SGD that goes on from trained models, and the samples drawn from its path."""

    members: Annotated[int, Field(ge=0)]
    lr: AboveZero
    momentum: Annotated[float, Field(ge=0, lt=1)]
    epochs: Annotated[int, Field(ge=2)]
    rank: Annotated[int, Field(ge=2)]
    samples: Annotated[int, Field(ge=2)]


class QuantileParams(Section):
    """Networks that predict quantiles."""

    seeds: Annotated[int, Field(ge=0)]
    lr: AboveZero


class Calibrate(Section):
    """Whose uncertainty is calibrated, and how."""

    optimizer: OptimizerName
    policy: PolicyName
    levels: Annotated[list[OpenFraction], Field(min_length=1)]
    groups: Annotated[str, Field(min_length=1)] | None
    bands: list[float]
    min_faces: Positive
    false_positive_rate: OpenFraction
    views: Annotated[int, Field(ge=0)]
    network: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] | None
    swag: SwagParams
    quantile: QuantileParams

    @model_validator(mode="after")
    def _numbers_rise(self) -> "Calibrate":
        for name, values in (("levels", self.levels), ("bands", self.bands)):
            if values != sorted(set(values)):
                raise ValueError(f"{name} must rise: {values}")
        return self


class Export(Section):
    """What `vec2age export` packs for `vec2age predict`."""

    method: Literal["single", "ensemble", "swag", "quantile", "distribution"]
    kind: Literal["raw", "split", "local", "cqr"]
    level: OpenFraction
    reference: Positive


class Report(Section):
    """What the report calls the target and its unit."""

    target: Annotated[str, Field(min_length=1)]
    unit: Annotated[str, Field(min_length=1)]
    faces: list[str]
