"""Sections of the stages from labelled pictures to vectors."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline import datasets
from pipeline.augmentation.operation_settings import complete
from pipeline.config.fields import (
    Degrees,
    Different,
    Fraction,
    OpenFraction,
    Positive,
    ReaderName,
    Section,
    as_value_error,
)


class Data(Section):
    """Which labelled faces: a reader, its root folder and the reader's own settings."""

    name: ReaderName
    root: str
    settings: dict[str, Any]

    @model_validator(mode="after")
    def check_settings(self) -> Self:
        """The reader takes these settings."""
        with as_value_error():
            datasets.REGISTRY.check(self.name, self.settings)
        return self


class Ingest(Section):
    """Which faces of the data set are taken."""

    min_target: float | None
    max_target: float | None


class Thresholds(Section):
    """Limits of quality; a face outside one is rejected by its name. Null switches a limit off."""

    min_sharpness: Annotated[float, Field(ge=0)] | None
    min_exposure: Fraction | None
    max_exposure: Fraction | None
    max_dark: Fraction | None
    max_bright: Fraction | None
    min_face_size: Annotated[float, Field(ge=0)] | None
    max_roll: Degrees | None
    max_yaw: Degrees | None
    max_pitch: Degrees | None


class Crop(Section):
    """How faces are found, cut out and judged."""

    detectors: Annotated[list[Literal["dlib_hog", "dlib_cnn", "mtcnn"]], Field(min_length=1), Different]
    size: Annotated[int, Field(ge=32, le=1024)]
    margin: Annotated[float, Field(ge=0, le=2)]
    align: Literal["none", "eyes"]
    faces: Literal["largest", "reject"]
    format: Literal["webp", "png", "jpeg"]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    max_pixels: Positive
    thresholds: Thresholds


class Split(Section):
    """Which faces train, validate and test."""

    method: Literal[
        "paper", "random", "stratified", "folds", "repeated", "cross_validation", "published", "across"
    ]
    per_target: Annotated[int, Field(ge=2)]
    validation: OpenFraction
    test: OpenFraction
    folds: Annotated[int, Field(ge=3)]
    fold: Annotated[int, Field(ge=0)]
    bin_width: Annotated[float, Field(gt=0)] | None
    folder: str | None
    test_on: list[str] | None

    @model_validator(mode="after")
    def _fractions_leave_something_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be less than 1")
        if self.fold >= self.folds:
            raise ValueError(f"fold must be less than folds ({self.folds})")
        return self


class ViewParams(Section):
    """One look at a face: mirrored or not, cut tighter or wider."""

    mirror: bool
    padding: Annotated[float, Field(ge=0, le=1)] | None


class Facenet(Section):
    """Where FaceNet's weights come from."""

    pretrained: Literal["vggface2", "casia-webface"]
    weights: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    download: bool


class Dlib(Section):
    """Which program runs dlib's network."""

    backend: Literal["torch", "dlib"]


class Finetuned(Section):
    """The file of a network that the stage finetune trained."""

    weights: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


EncoderName = Literal["dlib", "facenet", "efficientnet_lite0", "finetuned"]


class Encoder(Section):
    """Which vectors: encoders x views, joined into one vector a face."""

    names: Annotated[list[EncoderName], Field(min_length=1), Different]
    views: Annotated[list[ViewParams], Field(min_length=1)]
    combine: Literal["concatenate", "average"]
    precision: Literal["fp32", "bfloat16", "auto"]
    compile: bool
    dlib: Dlib
    facenet: Facenet
    finetuned: Finetuned


class Embed(Section):
    """What is checked once the vectors are there."""

    leak_threshold: Annotated[float, Field(gt=-1, le=1)]


class AugmentOperation(Section):
    """One augmentation with its probability and what differs from Table 1 of the paper."""

    name: str
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    settings: Annotated[dict[str, float], Field(default_factory=dict)]

    @model_validator(mode="after")
    def _the_operation_takes_these_settings(self) -> "AugmentOperation":
        with as_value_error():
            complete(self.name, self.settings)
        return self


class Augment(Section):
    """How the training split grows, and what keeps a picture out of it."""

    target_per_age: Annotated[int, Field(ge=0)]
    apply: Literal["alone", "chained"]
    operations: Annotated[list[AugmentOperation], Field(min_length=1)]
    min_similarity: Annotated[float, Field(ge=-1, le=1)]
    max_similarity: Annotated[float, Field(ge=-1, le=1)]
    max_tries: Positive
    calibration_faces: Annotated[int, Field(ge=0)]
    pictures: Annotated[str, Field(min_length=1)] | None

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "Augment":
        if self.min_similarity >= self.max_similarity:
            raise ValueError("min_similarity must be less than max_similarity")
        return self
