"""What sections of params.yaml are made of: constrained values, and mistakes as sentences."""

import contextlib
import difflib
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from pipeline import datasets, losses
from pipeline.core.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
AboveZero = Annotated[float, Field(gt=0)]
Degrees = Annotated[float, Field(gt=0, le=180)]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


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


def checked_different(value: list[str]) -> list[str]:
    """Names, each of them once."""
    twice = next((name for name in value if value.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{value} names {twice!r} more than once: name each once")
    return value


Different = AfterValidator(checked_different)


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown keys, no silent conversion of types, no endless number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@contextlib.contextmanager
def as_value_error() -> Iterator[None]:
    """What the library refuses, as what Pydantic expects of a validator, so that the key is named too."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None


def checked_reader(value: str) -> str:
    """The name of a data set's reader."""
    with as_value_error():
        return datasets.REGISTRY.known(value)


def stack_loss(value: str) -> str:
    """The name of a loss that a seed stack can be trained with."""
    with as_value_error():
        losses.refuse(losses.REGISTRY.known(value), losses.NOT_IN_A_STACK, "models on vectors")
    return value


def network_loss(value: str) -> str:
    """The name of a loss that a network on faces can be trained with."""
    with as_value_error():
        losses.refuse(losses.REGISTRY.known(value), losses.NOT_IN_A_NETWORK, "networks on faces")
    return value


def class_loss(value: str) -> str:
    """The name of a loss of classes."""
    with as_value_error():
        losses.refuse(losses.REGISTRY.known(value), losses.NOT_IN_A_CLASSIFIER, "classifiers")
    return value


ReaderName = Annotated[str, AfterValidator(checked_reader)]
StackLoss = Annotated[str, AfterValidator(stack_loss)]
NetworkLoss = Annotated[str, AfterValidator(network_loss)]
ClassLoss = Annotated[str, AfterValidator(class_loss)]


def not_finite(tree: Any, *location: str | int) -> tuple[str, float] | None:
    """The first number below a part of a tree that is infinite or NaN, with its key.

    Examples
    --------
    >>> not_finite({"settings": {"scales": [1.0, float("inf")]}})
    ('settings.scales.1', inf)
    """
    if isinstance(tree, float) and not math.isfinite(tree):
        return ".".join(map(str, location)), tree
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = (not_finite(value, *location, key) for key, value in inner)
    return next((one for one in found if one is not None), None)


PLAINLY = {
    "model_type": "it is a section, with keys of its own",
    "dict_type": "it takes keys with values",
    "list_type": "it takes a list",
    "too_short": "it takes {min_length} or more",
}
"""What Pydantic says in Python's words, in those of a YAML file."""


def describe(problem: Any, root: type[BaseModel]) -> str:
    """One mistake below a model as a sentence: the key, the value, what is allowed."""
    location: tuple[str | int, ...] = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        allowed = sorted(keys_at(location[:-1], root))
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        meant = ".".join([*(str(part) for part in location[:-1]), *close])
        hint = f"did you mean {meant!r}?" if close else f"allowed are {', '.join(allowed)}"
        return f"unknown parameter {key!r}: {hint}"
    if problem["type"] == "missing":
        return f"parameter {key!r} is missing: see the comments in params.yaml or run vec2age use"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"parameter {key!r}: {message}" if key else message
    if problem["type"] in PLAINLY:
        message = PLAINLY[problem["type"]].format(**problem.get("ctx", {}))
    if problem["type"] == "string_type" and problem["input"] is not None:
        message = "it takes text: what YAML takes for something else stands in quotes"
    given = "empty" if problem["input"] is None else repr(problem["input"])
    return f"parameter {key!r} is {given}: {message[0].lower()}{message[1:]}"


def keys_at(location: tuple[str | int, ...], root: type[BaseModel]) -> list[str]:
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
