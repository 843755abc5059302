"""params.yaml as typed, checked values: the only place where it is read.

One section per stage, under the stage's name, and two that several stages share: `data` (which faces)
and `encoder` (which vectors). An unknown key, a wrong type or a value out of range is refused in one
sentence that names the key, the value and what is allowed.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.credentials import credentials_in, masked, remedy
from pipeline.errors import UserError
from pipeline.params.faces import Augment, Crop, Data, Embed, Encoder, Ingest, Split
from pipeline.params.fields import Section, describe, not_finite
from pipeline.params.networks import Classify, Finetune
from pipeline.params.studies import Study, Tracking
from pipeline.params.training import Calibrate, Evaluate, Export, FindLr, Report, Train

PARAMS = Path("params.yaml")
DEEPEST = 50
"""Levels of a file: params.yaml has six, and writing hundreds would end in a RecursionError."""
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
    """The mapping in a YAML file, its comments kept for writing it again."""
    try:
        tree = parsed(path.read_text(encoding="utf-8"), YAML())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run vec2age from the project's top folder") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except NotYamlError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        found = WORDS.get(type(plain(tree)), "holds a single value")
        raise UserError(f"{path} must hold sections such as 'crop:', and {found}")
    return tree


class NotYamlError(Exception):
    """Text that cannot be read as YAML; the message says why."""


def parsed(text: str, yaml: YAML) -> Any:
    """What YAML text stands for; `NotYamlError` whatever is wrong with it."""
    try:
        tree = yaml.load(text)
        deep = depth(tree) > DEEPEST  # a list that holds itself has no end
    except RecursionError:
        deep = True
    except (YAMLError, ValueError) as error:  # ValueError: a date such as 2001-99-99
        raise NotYamlError(masked(" ".join(str(error).split()))) from None
    if deep:
        raise NotYamlError("its brackets are nested too deeply to be read")
    return tree


def depth(tree: Any) -> int:
    """How many mappings and lists stand in each other.

    Examples
    --------
    >>> depth({"a": [1, {"b": 2}], "c": 3})
    3
    """
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def check(tree: dict[str, Any], source: Path) -> Params:
    """Check a mapping against the models; the first mistake becomes one sentence."""
    values = plain(tree)
    if held := next(credentials_in(values), None):
        raise UserError(
            f"{source}: parameter {'.'.join(held)!r} holds a password, token or key, which would be copied "
            f"into bundles, reports and records: remove it, and set {remedy(held, values)} in the environment"
        )
    # Before the models: they do not look into settings that belong to a loss, a network or a reader.
    if found := not_finite(values):
        raise UserError(f"{source}: parameter {found[0]!r} is {found[1]}: input should be a finite number")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error.errors(include_url=False)[0], Params)}") from None


def plain(tree: Any) -> Any:
    """ruamel's annotated containers and numbers as the built-in types that strict models ask for."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree
