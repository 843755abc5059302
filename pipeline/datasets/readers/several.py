"""Several data sets as one: to train on one and test on another, or to train on all."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import STAGE

KEYS = frozenset({"name", "folder", "settings"})


def read_several(
    root: Path, *, rejects: Rejects, parts: Sequence[Mapping[str, Any]], workers: int | None = None
) -> pa.Table:
    """Read data sets that lie in folders of one root.

    Parameters
    ----------
    root
        The folder that holds the others.
    rejects
        Receives what each reader leaves out, faces that two sets share (`duplicate`; the first set keeps it),
        and those about which two sets disagree (`conflicting_targets`).
    parts
        For each data set its reader's `name`, its `folder` relative to the root, and if need be the
        reader's own `settings`.
    workers
        Threads that hash files.

    Returns
    -------
    pyarrow.Table
        The manifest: paths are relative to the root, the column `dataset` tells the reader, subjects carry
        the folder's name, so that nobody is taken for a namesake, and a column that a set lacks is null
        there.

    Raises
    ------
    UserError
        A part is not described as above, is itself several sets, holds vectors or is rendered, or any error
        of a reader.
    """
    if len(parts) < 2:
        raise UserError("data.settings.parts must list two data sets or more")
    tables, folders = [], set()
    for number, part in enumerate(parts):
        name, folder, settings = described(part, number)
        if folder in folders:
            raise UserError(f"data.settings.parts: two of them lie in the folder {folder!r}")
        folders.add(folder)
        own = Rejects()
        table = datasets.read(name, root / folder, rejects=own, workers=workers, **settings)
        if "vector" in table.column_names:
            raise UserError(
                f"data.settings.parts: {name} holds vectors, which cannot be joined with pictures"
            )
        rejects.extend({**row, "path": within(folder, row["path"])} for row in own.rows)
        tables.append(placed(table, folder))
    return joined(tables, rejects)


def described(part: Any, number: int) -> tuple[str, str, dict[str, Any]]:
    """The name, folder and settings of one part."""
    where = f"data.settings.parts.{number}"
    if not isinstance(part, Mapping) or not {"name", "folder"} <= set(part) or not set(part) <= KEYS:
        raise UserError(f"{where} must have a name and a folder, and may have settings")
    name, folder = str(part["name"]), PurePosixPath(str(part["folder"]))
    if name == "several" or name in datasets.RENDERED:
        raise UserError(f"{where}: {name} cannot be a part of several data sets")
    if folder.is_absolute() or ".." in folder.parts:
        raise UserError(f"{where}: the folder {str(folder)!r} must lie below data.root")
    return name, str(folder), dict(part.get("settings") or {})


def within(folder: str, path: str | None) -> str | None:
    """A path below a folder, relative to the folder's parent."""
    return None if path is None else str(PurePosixPath(folder) / path)


def placed(table: pa.Table, folder: str) -> pa.Table:
    """A part's table with paths and subjects that say where they are from."""
    paths = [within(folder, path) for path in table["path"].to_pylist()]
    subjects = [None if who is None else f"{folder}/{who}" for who in table["subject"].to_pylist()]
    for name, values in (("path", paths), ("subject", subjects)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def joined(tables: Sequence[pa.Table], rejects: Rejects) -> pa.Table:
    """All faces once, sorted by face_id; groups first, further numbers last."""
    table = pa.concat_tables(tables, promote_options="default")
    numbers = [f.name for f in table.schema if f.name != "target" and pa.types.is_floating(f.type)]
    first = ["face_id", "path", "target", "subject", "dataset"]
    groups = sorted(set(table.column_names) - {*first, *numbers})
    table = table.select([*first, *groups, *numbers])
    rows: dict[str, list[int]] = {}
    for index, face_id in enumerate(table["face_id"].to_pylist()):
        rows.setdefault(face_id, []).append(index)
    shared = {face_id: places for face_id, places in rows.items() if len(places) > 1}
    dropped: set[int] = set()
    for face_id, places in shared.items():
        labels = table.select(["path", "dataset", "target", *numbers]).take(pa.array(places)).to_pylist()
        told = {tuple(row[name] for name in ("target", *numbers)) for row in labels}
        reason, left = ("duplicate", places[1:]) if len(told) == 1 else ("conflicting_targets", places)
        said = ", ".join(f"{row['path']!r} of {row['dataset']} says {row['target']:.15g}" for row in labels)
        for place in left:
            path = table["path"][place].as_py()
            rejects.add(stage=STAGE, reason=reason, detail=f"one picture: {said}", face_id=face_id, path=path)
        dropped.update(left)
    kept = [index for face_id in sorted(rows) for index in rows[face_id] if index not in dropped]
    if not kept:
        raise UserError(
            "no face is left: the data sets of data.settings.parts contradict each other throughout"
        )
    return table.take(pa.array(kept, pa.int64()))
