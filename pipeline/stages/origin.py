"""What models were made from: written down beside them, and held against what there is now.

DVC runs a stage again when its inputs change; whoever calls one stage by hand is told to.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, sha256
from pipeline.stages import locations

ORIGIN = "vectors"
"""The key of an origin among a table's settings."""


def origin() -> dict[str, Any]:
    """The vectors that there are now, and what `embed` says of them.

    Returns
    -------
    dict
        `sha256` of their tables and of the tables that `embed` read; `encoders` (fingerprints), `combine` and
        `crop` (the settings that faces were cut with), the last two None for ready-made vectors.
    """
    made = producer_of(locations.FACES)["settings"]
    own = {path.as_posix(): sha256(path) for path in (locations.FACES, locations.AUGMENTED)}
    return {
        "sha256": made.get("sha256", {}) | own,
        "encoders": [one for one in str(made.get("encoders", "")).split(", ") if "/" in one],
        "combine": made.get("combine"),
        "crop": made.get("crop"),
    }


def settings_made_with(table: Path, stage: str) -> dict[str, Any]:
    """The settings that a table of models was made with, its origin among them.

    Parameters
    ----------
    table
        In a folder of models.
    stage
        What makes that folder, as it is typed.

    Raises
    ------
    UserError
        It was made from other vectors than there are now, or does not say from which.
    """
    recorded: dict[str, Any] = producer_of(table)["settings"]
    again = f"run {stage} again (dvc repro)"
    if ORIGIN not in recorded:
        raise UserError(f"{table.parent} does not say what vectors it was made from: {again}")
    was = recorded[ORIGIN]["sha256"]
    for path, now in origin()["sha256"].items():
        if was.get(path) != now:
            raise UserError(f"{table.parent} was made from another {path} than there is now: {again}")
    return recorded


def check_unchanged(made: Mapping[str, Any], now: Mapping[str, Any], place: Path, command: str) -> None:
    """Refuse what was made with another setting than params.yaml has now.

    Parameters
    ----------
    made, now
        Settings by their keys in params.yaml, recorded and of now; what only `made` has is of no concern.
    place
        What was made.
    command
        What makes it, as it is typed.

    Raises
    ------
    UserError
        A setting differs, or was not recorded.
    """
    for key, value in now.items():
        if key not in made:
            raise UserError(f"{place} does not say what {key} was then: run {command} again (dvc repro)")
        as_recorded = json.loads(json.dumps(value))  # whose keys are all text
        for where, was, wanted in differences(made[key], as_recorded, key):
            raise UserError(
                f"{where} is {wanted!r}, {place} was made with {was!r}: run {command} again (dvc repro)"
            )


def differences(was: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, old and new value of every setting that differs, down to the innermost.

    Examples
    --------
    >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, "x"))
    [('x.a.c', 2, 3)]
    """
    if isinstance(was, dict) and isinstance(now, dict):
        for name in now | was:
            yield from differences(was.get(name), now.get(name), f"{key}.{name}")
    elif was != now:
        yield key, was, now
