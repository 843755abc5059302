"""What bundle.json and a reference must say: every key, its type and its range."""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.artifacts import Described
from pipeline.encoders import Combine
from pipeline.encoders.encoder import Precision
from pipeline.faces.extract import Settings
from pipeline.faces.quality import Thresholds
from pipeline.faces.shards import MEASURES

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
MODEL, CALIBRATION, REFERENCE = "model.safetensors", "calibration.safetensors", "reference.safetensors"
NEEDED = (MODEL, CALIBRATION, REFERENCE)


def rising(values: tuple[float, ...]) -> tuple[float, ...]:
    """Numbers in ascending order."""
    if any(low >= high for low, high in pairwise(values)):
        raise ValueError(f"{list(values)} is not in ascending order")
    return values


def plain_names(files: dict[str, str]) -> dict[str, str]:
    """Names of files that lie in the bundle itself, what is needed among them."""
    if stray := [name for name in files if not NAME.fullmatch(name)]:
        raise ValueError(f"the file {stray[0][:80]!r} is no plain name")
    if lacking := [name for name in NEEDED if name not in files]:
        raise ValueError(f"{lacking[0]} is not listed")
    return files


def range_of(ends: tuple[float, float]) -> tuple[float, float]:
    """A range whose ends are not exchanged."""
    if ends[0] > ends[1]:
        raise ValueError(f"{list(ends)} ends before it begins")
    return ends


Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(max_length=1000)]
Range = Annotated[tuple[float, float], AfterValidator(range_of)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Settable = dict[str, dict[str, Any]]
"""Settings of encoders or detectors by their names; who builds them knows which there are."""


class Groups(Described):
    """By what faces were calibrated apart."""

    by: Text | None
    bands: Annotated[tuple[float, ...], AfterValidator(rising)]


class Target(Described):
    """What is predicted."""

    name: Text
    unit: Text


class Look(Described):
    """A view of a face."""

    mirror: bool
    padding: Annotated[float, Field(ge=0, le=10)] | None


class Encoding(Described):
    """How faces become embeddings."""

    names: Annotated[tuple[Text, ...], Field(min_length=1, max_length=32)]
    views: Annotated[tuple[Look, ...], Field(min_length=1, max_length=32)]
    margin: Annotated[float, Field(ge=0, le=2)]
    combine: Combine
    precision: Precision
    compile: bool
    settings: Settable
    fingerprints: tuple[Text, ...]


class Cropping(Described):
    """How faces are found, cut out and judged; ranges are `Settings`' own."""

    detectors: tuple[Text, ...]
    detector_settings: Settable = Field(default_factory=dict)
    size: int
    margin: float
    align: str
    faces: str
    format: str
    jpeg_quality: int
    max_pixels: int
    thresholds: dict[str, float | None]

    def settings(self) -> Settings:
        """The same, as the code that crops takes it.

        Raises
        ------
        UserError
            A value is out of its range.
        """
        return Settings(**{**dict(self), "thresholds": Thresholds.of(self.thresholds)})


class Origin(Described):
    """What it was trained on."""

    name: Text
    faces: dict[str, int]
    sha256: dict[str, str]


class Description(Described):
    """bundle.json."""

    format: Literal[1]
    version: Text
    revision: Text
    method: Literal["single", "ensemble", "swag", "quantile", "distribution"]
    kind: Literal["raw", "split", "local", "cqr"]
    level: Share
    probabilities: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(rising)]
    distribution: bool
    groups: Groups
    threshold: float | None
    target: Target
    encoder: Encoding
    crop: Cropping
    data: Origin
    files: Annotated[dict[str, Hash], Field(max_length=64), AfterValidator(plain_names)]


class Known(Described):
    """What a reference says beside its embeddings."""

    limit: Annotated[float, Field(ge=0)]
    lowest: float
    highest: float
    quality: dict[str, Range]

    @model_validator(mode="after")
    def _known_measures(self) -> "Known":
        if stray := [name for name in self.quality if name not in MEASURES]:
            raise ValueError(f"nobody measures {stray[0][:80]!r}: a quality is one of {', '.join(MEASURES)}")
        if self.lowest > self.highest:
            raise ValueError(f"lowest is {self.lowest:g}, above highest, {self.highest:g}")
        return self
