"""Sections of the search for better settings, and of who records what was run."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PlainValidator, model_validator

from pipeline.config.fields import Different, Positive, Section
from pipeline.config.training_sections import OptimizerName
from pipeline.losses import NOT_IN_A_STACK, OF_VALUES

STACK_LOSSES = tuple(name for name in OF_VALUES if name not in NOT_IN_A_STACK)


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
    loss: Annotated[
        Any,
        dimension(
            lambda value: isinstance(value, str) and value in STACK_LOSSES,
            f"losses ({', '.join(STACK_LOSSES)})",
            ranged=False,
        ),
    ]
    momentum: Shares
    swa_start: Annotated[Any, dimension(lambda value: is_whole(value, 0), "whole numbers")]
    swa_freq: Counts
    swa_lr: Rates

    @model_validator(mode="after")
    def _something_is_searched(self) -> "Space":
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("every setting is null: give at least one a range or a list")
        return self


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

    trackers: Annotated[list[Literal["dvclive", "mlflow", "neptune"]], Different]
    mlflow: Mlflow
    neptune: Neptune
