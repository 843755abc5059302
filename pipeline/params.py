"""params.yaml as typed, checked values: the only place where it is read.

One section per stage, under the stage's name, and two that several stages share: `data` (which faces)
and `encoder` (which vectors). An unknown key, a wrong type or a value out of range is refused in one
sentence that names the key, the value and what is allowed.
"""

import difflib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError

PARAMS = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
AboveZero = Annotated[float, Field(gt=0)]
Degrees = Annotated[float, Field(gt=0, le=180)]


def checked_seeds(value: Any) -> int | list[int]:
    """How many seeds, or which."""
    if isinstance(value, list):
        known = all(type(seed) is int and 0 <= seed < 2**32 for seed in value)
        if value and known and len(set(value)) == len(value):
            return value
    elif type(value) is int and value > 0:
        return value
    raise ValueError(
        f"{value!r} is neither a number of seeds above 0 nor a list of different whole numbers below 2**32"
    )


Seeds = Annotated[int | list[int], PlainValidator(checked_seeds)]


def checked_edges(value: list[float]) -> list[float]:
    """Borders between bins, in ascending order."""
    if any(a >= b for a, b in pairwise(value)):
        raise ValueError(f"{value} is not in ascending order")
    return value


Edges = Annotated[list[float], AfterValidator(checked_edges)]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(Section):
    """Which labelled faces: a reader, its root folder and the reader's own settings."""

    name: str
    root: str
    settings: dict[str, Any]


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

    detectors: Annotated[list[Literal["dlib_hog", "dlib_cnn", "mtcnn"]], Field(min_length=1)]
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
    def _fractions_leave_something_to_train_on(self) -> "Split":
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

    names: Annotated[list[EncoderName], Field(min_length=1)]
    views: Annotated[list[ViewParams], Field(min_length=1)]
    combine: Literal["concatenate", "average"]
    precision: Literal["fp32", "bfloat16", "auto"]
    compile: bool
    dlib: Dlib
    facenet: Facenet
    finetuned: Finetuned

    def settings(self, name: str) -> dict[str, Any]:
        """The settings that belong to one encoder alone."""
        own: Section | None = getattr(self, name, None)
        return own.model_dump() if own is not None else {}


class Embed(Section):
    """What is checked once the vectors are there."""

    leak_threshold: Annotated[float, Field(gt=-1, le=1)]


class AugmentOperation(Section):
    """One augmentation with its probability and what differs from Table 1 of the paper."""

    name: str
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    settings: dict[str, float] = {}


class Augment(Section):
    """How the training split grows, and what keeps a picture out of it."""

    target_per_age: Annotated[int, Field(ge=0)]
    apply: Literal["alone", "chained"]
    operations: Annotated[list[AugmentOperation], Field(min_length=1)]
    min_similarity: Annotated[float, Field(ge=-1, le=1)]
    max_similarity: Annotated[float, Field(ge=-1, le=1)]
    max_tries: Positive
    calibration_faces: Positive
    pictures: Annotated[str, Field(min_length=1)] | None

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "Augment":
        if self.min_similarity >= self.max_similarity:
            raise ValueError("min_similarity must be less than max_similarity")
        return self


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

    name: str
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

    optimizers: Annotated[list[OptimizerName], Field(min_length=1)]
    policies: Annotated[list[PolicyName], Field(min_length=1)]
    seeds: Seeds
    recipe: RecipeParams
    adam: Adaptive
    adagrad: Adaptive
    sgd: Sgd
    swa: Swa
    balance: Balance

    def fixed_rate(self, optimizer: str) -> float:
        """An optimiser's learning rate under policy `fixed`."""
        own: Adaptive | Sgd = getattr(self, optimizer)
        return own.lr

    def settings(self, optimizer: str, policy: str) -> dict[str, Any]:
        """What a training recipe is built from: the shared settings and the optimiser's own."""
        shared = self.recipe.model_dump()
        loss = shared.pop("loss")
        own: dict[str, Any] = getattr(self, optimizer).model_dump(exclude={"lr"})
        if "swa_lr" in own:
            own["swa_lr"] = own["swa_lr"][policy]
        return {
            "optimizer": optimizer,
            "loss": loss["name"],
            "loss_settings": loss["settings"],
            **shared,
            **own,
        }


def is_number(value: Any, low: float = 0.0, high: float = float("inf")) -> bool:
    """Whether a YAML value is a finite number from `low` to below `high`."""
    return type(value) in (int, float) and low <= value < high


def is_whole(value: Any, low: int = 1) -> bool:
    """Whether a YAML value is a whole number of at least `low`."""
    return type(value) is int and value >= low


def is_rate(value: Any) -> bool:
    """Whether a YAML value is a number above 0."""
    return is_number(value) and value > 0


def dimension(check: Callable[[Any], bool], values: str, ranged: bool = True) -> PlainValidator:
    """A check of one searched setting: null, a list of values, or where `ranged` {low, high, log}."""

    def checked(value: Any) -> Any:
        if value is None or (isinstance(value, list) and value and all(map(check, value))):
            return value
        if ranged and isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "log"}:
            low, high, log = value["low"], value["high"], value.get("log", False)
            if check(low) and check(high) and low < high and isinstance(log, bool):
                if log and low <= 0:
                    raise ValueError(f"low is {low!r}: it must be above 0 on a logarithmic scale")
                return {"low": low, "high": high, "log": log}
        form = ", or {low, high, log} with low below high" if ranged else ""
        raise ValueError(f"{value!r} is not null, a list of {values}{form}")

    return PlainValidator(checked)


Rates = Annotated[Any, dimension(is_rate, "numbers above 0")]
Shares = Annotated[Any, dimension(lambda value: is_number(value, high=1), "numbers from 0 to below 1")]
Counts = Annotated[Any, dimension(is_whole, "whole numbers above 0")]


class Space(Section):
    """What a study searches; null leaves a setting as it stands under `train`."""

    lr: Rates
    optimizer: Annotated[
        Any,
        dimension(lambda value: value in get_args(OptimizerName), "adam, adagrad, sgd, swa", ranged=False),
    ]
    batch_size: Counts
    hidden: Annotated[
        Any,
        dimension(
            lambda value: isinstance(value, list) and all(map(is_whole, value)), "lists of widths", False
        ),
    ]
    dropout: Shares
    weight_decay: Annotated[Any, dimension(is_number, "numbers of at least 0")]
    loss: Annotated[Any, dimension(lambda value: isinstance(value, str), "losses' names", ranged=False)]
    momentum: Shares
    swa_start: Annotated[Any, dimension(lambda value: is_whole(value, 0), "whole numbers")]
    swa_freq: Counts
    swa_lr: Rates

    @model_validator(mode="after")
    def _something_is_searched(self) -> "Space":
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("every setting is null: give at least one a range or a list")
        return self

    def searched(self) -> dict[str, Any]:
        """The settings that are not null."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class Pruning(Section):
    """Which trials end early, by what they have reached at some epoch."""

    method: Literal["median", "hyperband", "none"]
    warmup: Positive
    every: Positive


class Study(Section):
    """The search for better settings than those under `train`."""

    optimizer: OptimizerName
    trials: Positive
    seeds: Positive
    group: Positive
    epochs: Positive
    sampler: Literal["tpe", "random", "grid"]
    grid_points: Annotated[int, Field(ge=2)]
    pruning: Pruning
    space: Space


class Mlflow(Section):
    """Where MLflow records."""

    uri: Annotated[str, Field(min_length=1)]
    experiment: Annotated[str, Field(min_length=1)]


class Neptune(Section):
    """Where Neptune records: its hosted service closed in March 2026."""

    mode: Literal["offline", "async"]
    project: str | None


class Tracking(Section):
    """Who records what was run."""

    trackers: list[Literal["dvclive", "mlflow", "neptune"]]
    mlflow: Mlflow
    neptune: Neptune


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

    targets: Annotated[list[str], Field(min_length=1)]
    labels: FinetuneLabels | None
    weight: str | None
    balance: str | None


class PictureOperation(Section):
    """One random change of training pictures, with what differs from its usual settings."""

    name: str
    settings: dict[str, float] = {}


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

    loss: str
    settings: dict[str, Any] = {}
    changes: dict[str, Any] = {}


RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


class Finetune(Section):
    """Whole networks, each loss with each backbone."""

    losses: Annotated[list[RunName], Field(min_length=1)]
    variants: dict[RunName, Variant]
    backbones: Annotated[list[RunName], Field(min_length=1)]
    starts: dict[str, dict[str, Any]]
    seeds: Seeds
    faces: FinetuneFaces
    pictures: FinetunePictures
    head: FinetuneHead
    recipe: FinetuneRecipe
    machine: FinetuneMachine

    @model_validator(mode="after")
    def _variants_are_valid(self) -> "Finetune":
        for name in self.variants:
            self.under(name)
        return self

    def under(self, name: str) -> tuple[str, dict[str, Any], "Finetune"]:
        """The loss and its settings behind a name, and all of `finetune` as it is for that name."""
        if name not in self.variants:
            return name, {}, self
        variant = self.variants[name]
        tree = self.model_dump() | {"variants": {}}
        for key, value in variant.changes.items():
            *path, last = key.split(".")
            place: Any = tree
            for part in path:
                place = place.get(part, {}) if isinstance(place, dict) else {}
            if last not in place or key == "variants":
                raise ValueError(f"variant {name!r} changes {key!r}, which finetune does not have")
            place[last] = value
        try:
            return variant.loss, variant.settings, Finetune.model_validate(tree)
        except ValidationError as error:
            raise ValueError(
                f"variant {name!r}: {describe(error.errors(include_url=False)[0], Finetune)}"
            ) from None


class Evaluate(Section):
    """What is measured on the faces that no model was trained on."""

    baselines: Annotated[
        list[Literal["mean", "median", "ridge", "knn", "svr", "boosting"]], Field(min_length=1)
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


class ImagesParams(Section):
    """Which labelled pictures: a reader of `pipeline.datasets.image_sets`, its folder and its settings."""

    name: str
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
    losses: list[RunName]
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

    @model_validator(mode="after")
    def _losses_have_a_name_each(self) -> "Classify":
        if len(set(self.losses)) < len(self.losses):
            raise ValueError("losses must not name one twice: it would write over its own models")
        return self

    def recipe(self, loss: str) -> dict[str, Any]:
        """What a classifier's recipe is built from, for one of the losses."""
        apart = {"images", "validation", "test", "seeds", "architecture", "losses", "loss_settings"}
        shared = self.model_dump(exclude=apart)
        return {
            "architecture": self.architecture.name,
            "architecture_settings": self.architecture.settings,
            "loss": loss,
            "loss_settings": self.loss_settings.get(loss, {}),
            **shared,
        }


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


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml."""
    return check(read_yaml(path), path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, its comments kept for writing it again."""
    try:
        tree = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run vec2age from the project's top folder") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold sections such as 'crop:', not {type(tree).__name__}")
    return tree


def check(tree: dict[str, Any], source: Path) -> Params:
    """Check a mapping against the models; the first mistake becomes one sentence."""
    try:
        return Params.model_validate(plain(tree))
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error.errors(include_url=False)[0])}") from None


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


def describe(problem: Any, root: type[BaseModel] = Params) -> str:
    """One mistake below a model as a sentence: the key, the value, what is allowed."""
    location: tuple[str | int, ...] = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        allowed = sorted(keys_at(location[:-1], root))
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(allowed)}"
        return f"unknown parameter {key!r}: {hint}"
    if problem["type"] == "missing":
        return f"parameter {key!r} is missing: see the comments in params.yaml or run vec2age use"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"parameter {key!r}: {message}"
    return f"parameter {key!r} is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def keys_at(location: tuple[str | int, ...], root: type[BaseModel] = Params) -> list[str]:
    """The keys that a section takes, found by walking down the models."""
    model = root
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        inner = [
            kind
            for kind in (annotation, *get_args(annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        model = inner[0]
    return list(model.model_fields)
