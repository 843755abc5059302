"""params.yaml as typed, checked values: the only place where it is read.

One section per stage, under the stage's name, and two that several stages share: `data` (which faces)
and `encoder` (which vectors). An unknown key, a wrong type or a value out of range is refused in one
sentence that names the key, the value and what is allowed.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.config.face_sections import Augment, Crop, Data, Embed, Encoder, Ingest, Split
from pipeline.config.fields import Section, describe, not_finite
from pipeline.config.network_sections import Classify, Finetune
from pipeline.config.study_sections import Study, Tracking
from pipeline.config.training_sections import Calibrate, Evaluate, Export, FindLr, Report, Train
from pipeline.config.yaml.text import Document, NotYamlError, parsed, plain, read_text
from pipeline.core.credentials import credentials_in, remedy
from pipeline.core.errors import UserError

__all__ = ["Params", "check", "load", "plain", "read_document", "read_yaml"]

PARAMS = Path("params.yaml")
WORDS = {type(None): "is empty", list: "holds a list", str: "holds a text"}


class Params(Section):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    data: Data
    ingest: Ingest
    crop: Crop
    split: Split
    encoder: Encoder
    embed: Embed
    augment: Augment
    find_lr: FindLr
    train: Train
    evaluate: Evaluate
    report: Report
    study: Study
    tracking: Tracking
    calibrate: Calibrate
    export: Export
    finetune: Finetune
    classify: Classify

    @model_validator(mode="after")
    def _the_level_of_an_export_is_calibrated(self) -> Self:
        if self.export.level not in self.calibrate.levels:
            levels = ", ".join(f"{level:g}" for level in self.calibrate.levels)
            raise ValueError(
                f"parameter 'export.level' is {self.export.level:g}: it should be one of calibrate.levels "
                f"({levels})"
            )
        return self


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml."""
    return check(read_yaml(path), path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, as plain values."""
    values: dict[str, Any] = read_document(path).values
    return values


def read_document(path: Path) -> Document:
    """A YAML file that holds a mapping."""
    try:
        document = parsed(read_text(path))
    except NotYamlError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(document.values, dict):
        found = WORDS.get(type(document.values), "holds a single value")
        raise UserError(f"{path} must hold sections such as 'crop:', and {found}")
    return document


def check(tree: dict[str, Any], source: Path) -> Params:
    """Check a mapping against the models; the first mistake becomes one sentence."""
    if held := next(credentials_in(tree), None):
        raise UserError(
            f"{source}: parameter {'.'.join(held)!r} holds a password, token or key, which would be copied "
            f"into bundles, reports and records: remove it, and set {remedy(held, tree)} in the environment"
        )
    # Before the models: they do not look into settings that belong to a loss, a network or a reader.
    if found := not_finite(tree):
        raise UserError(f"{source}: parameter {found[0]!r} is {found[1]}: input should be a finite number")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error.errors(include_url=False)[0], Params)}") from None
