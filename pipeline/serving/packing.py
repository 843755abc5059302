"""Write a model bundle: whole or not at all, and in place of nothing but an earlier one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifacts import plain_json, read_small
from pipeline.core.errors import UserError
from pipeline.core.places import resolved
from pipeline.core.tables import atomic_file, new_folder, sha256
from pipeline.serving.bundle import DESCRIPTION, ID_DIGITS
from pipeline.serving.description import CALIBRATION, FORMAT, MODEL, REFERENCE
from pipeline.serving.reference import Reference
from pipeline.training.mlp.members import Members
from pipeline.uncertainty.conformal import Calibration
from pipeline.uncertainty.stored_methods import save_calibrations, write_arrays


def write(
    folder: Path,
    *,
    members: Members,
    distribution: bool,
    calibration: Calibration,
    reference: Reference,
    described: Mapping[str, Any],
    texts: Mapping[str, str],
    extra: Mapping[str, Callable[[Path], object]] | None = None,
) -> str:
    """Write a bundle into a new folder, whole or not at all; returns its id.

    Parameters
    ----------
    folder
        Where to; an earlier bundle there is replaced, any other folder is refused.
    members, distribution, calibration, reference
        See `Bundle` and `Method`.
    described
        The rest of bundle.json.
    texts
        More files, by name.
    extra
        More files, each written by a function of its path.

    Raises
    ------
    UserError
        The folder holds something else.
    """
    check_replaceable(folder)
    folder = resolved(folder)  # a link stays, and what it names is replaced
    with new_folder(folder) as fresh:
        members.save(fresh / MODEL)
        save_calibrations([calibration], fresh / CALIBRATION)
        vectors = {"vectors": reference.vectors}
        write_arrays(fresh / REFERENCE, vectors, reference.described(), private=True)
        for name, text in texts.items():
            with atomic_file(fresh / name) as file:
                file.write(text.encode())
        for name, write_to in (extra or {}).items():
            write_to(fresh / name)
        hashes = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        content = {"format": FORMAT, **described, "distribution": distribution, "files": hashes}
        data = json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
        with atomic_file(fresh / DESCRIPTION) as file:
            file.write(data)
    return hashlib.sha256(data).hexdigest()[:ID_DIGITS]


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a bundle: it would be lost.

    Raises
    ------
    UserError
        Something is there that `vec2age export` did not write.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is no folder: name a new or an empty folder")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    try:
        described = plain_json(read_small(folder / DESCRIPTION))
        ours = {DESCRIPTION, *described["files"]} if isinstance(described["format"], int) else set()
    except (UserError, ValueError, TypeError, KeyError):
        ours = set()
    if foreign := sorted(found - ours):
        what = "is no bundle" if not ours else "is a bundle with other files"
        raise UserError(f"{folder} exists and {what} (it holds {foreign[0]}): name a new or an empty folder")
