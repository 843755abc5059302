"""Write a model bundle: whole or not at all, and in place of nothing but an earlier one."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.places import resolved
from pipeline.readback import plain_json, read_small
from pipeline.regression.members import Members
from pipeline.regression.uncertainty_conformal import Calibration
from pipeline.regression.uncertainty_files import save_calibrations, write_arrays
from pipeline.serving.bundle import DESCRIPTION, ID_DIGITS
from pipeline.serving.description import CALIBRATION, FORMAT, MODEL, REFERENCE
from pipeline.serving.reference import Reference
from pipeline.tables import atomic_file, sha256


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
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    earlier = folder.with_name(f".{folder.name}.earlier")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        members.save(unfinished / MODEL)
        save_calibrations([calibration], unfinished / CALIBRATION)
        vectors = {"vectors": reference.vectors}
        write_arrays(unfinished / REFERENCE, vectors, reference.described(), private=True)
        for name, text in texts.items():
            with atomic_file(unfinished / name) as file:
                file.write(text.encode())
        for name, write_to in (extra or {}).items():
            write_to(unfinished / name)
        hashes = {path.name: sha256(path) for path in sorted(unfinished.iterdir())}
        content = {"format": FORMAT, **described, "distribution": distribution, "files": hashes}
        data = json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
        with atomic_file(unfinished / DESCRIPTION) as file:
            file.write(data)
        if folder.exists():
            shutil.rmtree(earlier, ignore_errors=True)
            folder.rename(earlier)
        unfinished.rename(folder)
    finally:
        if not folder.exists() and earlier.exists():
            earlier.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)
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
