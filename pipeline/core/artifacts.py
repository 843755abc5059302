"""What this program wrote and reads again: JSON and safetensors, of which nothing is executed or believed.

Such files travel: a bundle or a folder of models may come from anybody, with its hashes made to fit. Each is
a regular file of bounded size, its JSON says everything once and in finite numbers of the type that is
expected, its arrays are of a known type, hold at least one number and no other than finite ones.
"""

import inspect
import json
import math
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from pipeline.core.errors import UserError
from pipeline.core.files import AGAIN, opened, utf8_name
from pipeline.core.tables import first_line

LARGEST_JSON = 4 * 2**20
"""Bytes of a description: a model over 10,000 labels has a twentieth of it."""
LARGEST_ARRAYS = 8 * 2**30
"""Bytes of a file of arrays, as of 4,000 models of the paper's size."""
Arrays = dict[str, npt.NDArray[Any]]


class Described(BaseModel):
    """A part of a description: immutable, of exactly these keys, types and finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


D = TypeVar("D", bound=Described)


def plain_json(text: str | bytes) -> Any:
    """JSON in which no key occurs twice and every number is finite.

    Raises
    ------
    ValueError
        With what is wrong; for more levels than Python can follow, too.

    Examples
    --------
    >>> plain_json('{"a": 1, "a": NaN}')
    Traceback (most recent call last):
        ...
    ValueError: NaN is no number
    """

    def refuse(text: str) -> float:
        raise ValueError(f"{text} is no number")

    def finite(text: str) -> float:
        return value if math.isfinite(value := float(text)) else refuse(text[:20])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key[:40]!r} occurs twice")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def described_as(model: type[D], text: str | bytes, path: Path, again: str = AGAIN) -> D:
    """A description, checked.

    Parameters
    ----------
    model
        What it must be.
    text
        JSON.
    path, again
        Where it stands, and what to do about it, for messages.

    Raises
    ------
    UserError
        With the file, the first key that is wrong, and its value.
    """
    try:
        plain_json(text)
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}: {again}") from None
    except (ValueError, UserError) as error:
        raise UserError(f"{path} cannot be read as JSON ({first_line(error)}): {again}") from None


def read_tree(path: Path, again: str = AGAIN) -> dict[str, Any]:
    """A JSON file that holds one object, such as metrics.json.

    Raises
    ------
    UserError
        With the file, and what is wrong with it.
    """
    try:
        tree = plain_json(read_small(path, again=again))
        if not isinstance(tree, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise UserError(f"{path} cannot be read as JSON ({first_line(error)[:200]}): {again}") from None
    return tree


def first_problem(error: ValidationError) -> str:
    """The first mistake that pydantic found: the key, its value, what it ought to be."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{key!r} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key[:80]!r} is unknown"
    given, message = repr(problem["input"]), f"{message[0].lower()}{message[1:]}"
    shown = given if len(given) <= 60 else f"{given[:60]}..."
    return f"{key[:80]!r} is {shown}: {message}" if key else message


def read_small(path: Path, largest: int = LARGEST_JSON, again: str = AGAIN) -> bytes:
    """The bytes of a small file.

    Raises
    ------
    UserError
        It is missing, no regular file, cannot be read, or is larger.
    """
    with opened(path, again) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise UserError(f"{path} has more than {largest:,} bytes: {again}")
    return data


def read_arrays_of(
    path: Path,
    key: str,
    *,
    types: Collection[str] = ("F32",),
    largest: int = LARGEST_ARRAYS,
    again: str = AGAIN,
) -> tuple[Arrays, str]:
    """Read a safetensors file and the description among its metadata.

    Parameters
    ----------
    path
        The file.
    key
        Of the description.
    types
        The types that its arrays may have, in safetensors' words.
    largest
        Bytes that it may have.
    again
        What to do about a wrong one, for messages.

    Returns
    -------
    tuple
        Arrays by name, finite and not empty, and the description's text.

    Raises
    ------
    UserError
        With the file, and what is wrong with it.
    """
    check_header(path, largest, again)
    arrays: Arrays = {}
    try:
        with utf8_name(path) as called, safe_open(called, "numpy") as file:
            text: str | None = (file.metadata() or {}).get(key)
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                if part.get_dtype() not in types:
                    raise UserError(
                        f"{path}: {name[:80]!r} is of the type {part.get_dtype()}, not {' or '.join(types)}: "
                        f"{again}"
                    )
                if 0 in part.get_shape():
                    raise UserError(
                        f"{path}: {name[:80]!r} of shape {tuple(part.get_shape())} is empty: {again}"
                    )
                arrays[name] = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)[:200]}): {again}") from None
    if text is None:
        raise UserError(f"{path} is a safetensors file, but not what belongs here: {again}")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{path}: {name[:80]!r} holds a value that is not a finite number: {again}")
    return arrays, text


def check_header(path: Path, largest: int, again: str) -> None:
    """Refuse what is no regular file, too large, or begins with more description than any of ours.

    safetensors itself would wait for a pipe, and take a gigabyte of memory for a header of 100 MB.
    """
    with opened(path, again) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
    if size > largest:
        raise UserError(f"{path} has {size:,} bytes, more than {largest:,}: {again}")
    if len(start) == 8 and (header := struct.unpack("<Q", start)[0]) > LARGEST_JSON:
        raise UserError(f"{path} is damaged (a header of {header:,} bytes): {again}")


def check_network_settings(name: str, settings: Collection[str]) -> None:
    """Refuse settings with which timm would read a file, or fetch one: a model's file may ask for them.

    Raises
    ------
    UserError
        With the setting.
    """
    import timm

    own = set(inspect.signature(timm.create_model).parameters) - {"kwargs"}
    if stray := sorted(one for one in settings if one in own or one.startswith("pretrained")):
        raise UserError(f"network {name!r} cannot be built so: {stray[0]!r} is no setting of its own")
