"""What a study may change: settings of a training as Optuna's distributions, and back again."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.core.errors import UserError
from pipeline.training.mlp.recipe import Recipe

SETTINGS = (
    "lr",
    "optimizer",
    "batch_size",
    "hidden",
    "dropout",
    "weight_decay",
    "loss",
    "momentum",
    "swa_start",
    "swa_freq",
    "swa_lr",
)
WHOLE = ("batch_size", "swa_start", "swa_freq")
BETWEEN = "-"

# A value that a database can hold: hidden layers are written as text, 512-256-128.
Value = None | bool | int | float | str


@dataclass(frozen=True)
class Candidate:
    """Everything about a training but its seed."""

    recipe: Recipe
    lr: float


@dataclass(frozen=True)
class Space:
    """The settings that are searched, and where the others stand.

    Parameters
    ----------
    dimensions
        By name (one of `SETTINGS`) a list of values, or a range `{"low": ..., "high": ..., "log": ...}`.
    starts
        By optimiser, the settings and the rate that hold where nothing else is searched.
    optimizer
        Which of them, where the optimiser is not searched.

    Raises
    ------
    UserError
        An unknown setting, or an optimiser without a start.

    Examples
    --------
    >>> starts = {"adam": Candidate(Recipe(hidden=(8,)), 1e-4)}
    >>> space = Space({"lr": {"low": 1e-5, "high": 0.1, "log": True}, "batch_size": [32, 64]}, starts, "adam")
    >>> space.candidate({"lr": 0.01, "batch_size": 32}).recipe.batch_size
    32
    >>> space.grid(3)[0], len(space.grid(3))
    ({'lr': 1e-05, 'batch_size': 32}, 6)
    """

    dimensions: Mapping[str, Any]
    starts: Mapping[str, Candidate]
    optimizer: str

    def __post_init__(self) -> None:
        for name in self.dimensions:
            if name not in SETTINGS:
                raise UserError(f"unknown setting {name!r} to search: choose among {', '.join(SETTINGS)}")
        for name in self.dimensions.get("optimizer", [self.optimizer]):
            if name not in self.starts:
                raise UserError(f"optimizer {name!r} has no settings to start from: give them under train")

    def distributions(self) -> dict[str, BaseDistribution]:
        """The dimensions as Optuna's."""
        return {name: distribution(name, given) for name, given in self.dimensions.items()}

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """The training that a trial's values stand for.

        Raises
        ------
        UserError
            A value that no training can have, named with its setting.
        """
        start = self.starts[values.get("optimizer", self.optimizer)]
        changes = {
            name: decoded(name, value) for name, value in values.items() if name not in ("lr", "optimizer")
        }
        if changes.get("loss", start.recipe.loss) != start.recipe.loss:
            changes["loss_settings"] = {}  # those of one loss are unknown to another
        return Candidate(replace(start.recipe, **changes), float(values.get("lr", start.lr)))

    def grid(self, points: int) -> list[dict[str, Value]]:
        """Every combination of values, ranges cut at `points` places."""
        axes = [
            [(name, value) for value in cut(name, given, points)] for name, given in self.dimensions.items()
        ]
        return [dict(combination) for combination in itertools.product(*axes)]

    def scales(self) -> dict[str, str]:
        """How each setting is drawn: `log`, `linear`, or `category`."""
        return {
            name: "category" if isinstance(given, Sequence) else "log" if given.get("log") else "linear"
            for name, given in self.dimensions.items()
        }


def distribution(name: str, given: Any) -> BaseDistribution:
    """One dimension as Optuna's distribution."""
    if isinstance(given, Sequence):
        return CategoricalDistribution([encoded(value) for value in given])
    kind = IntDistribution if name in WHOLE else FloatDistribution
    made: BaseDistribution = kind(given["low"], given["high"], log=given.get("log", False))
    return made


def encoded(value: Any) -> Value:
    """A setting as a database can hold it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return BETWEEN.join(map(str, value))
    known: Value = value
    return known


def decoded(name: str, value: Value) -> Any:
    """A setting as a recipe takes it."""
    if name == "hidden":
        return tuple(int(width) for width in str(value).split(BETWEEN) if width)
    return value


def cut(name: str, given: Any, points: int) -> list[Value]:
    """A dimension's values; a range at evenly spaced points, both ends included."""
    if isinstance(given, Sequence):
        return [encoded(value) for value in given]
    low, high = given["low"], given["high"]
    along = [k / (points - 1) for k in range(points)]
    if given.get("log"):
        inner = [math.exp(math.log(low) + a * (math.log(high) - math.log(low))) for a in along]
    else:
        inner = [low + a * (high - low) for a in along]
    values = [low, *inner[1:-1], high]  # the ends exactly, as a distribution refuses what lies outside
    if name in WHOLE:
        return list(dict.fromkeys(round(value) for value in values))
    return [float(value) for value in values]
