"""Folders of pictures to one file of predictions, resumable; and pictures in memory to a table."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError, writing
from pipeline.core.files import printable
from pipeline.core.machine import roomy_cores
from pipeline.core.places import Identity, around, is_same, lies_in, resolved
from pipeline.core.pool import TIMEOUT
from pipeline.core.progress import bar
from pipeline.core.shield import shielded
from pipeline.serving import prediction_files
from pipeline.serving.bundle import Bundle, load
from pipeline.serving.inputs import count, walk
from pipeline.serving.memory import in_memory
from pipeline.serving.overlay import draw_all
from pipeline.serving.parts import Work, parts_of, remove_parts
from pipeline.serving.rows import SCHEMA
from pipeline.serving.stream import BLOCK_FILES, blocks, predicted

DEFAULT_MODEL = Path("bundle")


def predict(
    images: Any, model: str | Path = DEFAULT_MODEL, *, level: float | None = None, workers: int | None = None
) -> pa.Table:
    """Every face in pictures, with its age, interval and warnings, as one table in memory.

    Parameters
    ----------
    images
        A path of a picture or a folder, bytes, a file opened as binary, a Pillow image, an array (H, W, 3) of
        uint8; or many of them in a list, tuple, iterator, column, or array (N, H, W, 3). What gives a file's
        rows gives the same from its Pillow image: the orientation is applied, an animation refused. Of many,
        one that cannot be used is a row with its reason.
    model
        A folder that `vec2age export` wrote.
    level
        Of the intervals, one of those calibrated; None is the model's own.
    workers
        Processes; None is one for every core that has memory. The table does not depend on it.

    Returns
    -------
    pyarrow.Table
        `pipeline.serving.rows.SCHEMA`: one row for each face, and one for each picture without any.

    Raises
    ------
    UserError
        The model cannot be loaded, there is no picture, or `images` is something else than named above.
    """
    with shielded():  # libraries are imported when they are first needed
        bundle = load(Path(model))
        bundle.place_of(level)
        sources = in_memory(images, bundle.crop.max_pixels)
        found = predicted(blocks(sources), bundle, workers=workers or roomy_cores(), level=level)
        return pa.concat_tables([SCHEMA.empty_table(), *(table for _, table in found)])


def predict_files(
    paths: Sequence[Path],
    bundle: Bundle,
    output: Path,
    *,
    level: float | None = None,
    overlay: Path | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT,
    block_files: int = BLOCK_FILES,
    force: bool = False,
) -> dict[str, int]:
    """Write the predictions for every file named and in every folder named.

    Interrupted at any moment, the same command goes on with the first unfinished block and ends with the
    same file. Pictures are opened read-only; nothing is written into the folders named. An output that is a
    link stays one: what it names is written.

    Parameters
    ----------
    paths
        Pictures, and folders that are walked to the bottom.
    bundle
        The model.
    output
        A file ending in .csv, .jsonl or .parquet; finished blocks wait beside it in a folder with `.parts`
        at its end.
    level, workers, timeout
        See `predicted`.
    overlay
        A folder for copies of the pictures with what was found drawn on them, or None.
    block_files
        Files whose rows are kept together.
    force
        Replace a file that is no earlier answer to the same question, and write into the folder of pictures
        that are named by themselves.

    Returns
    -------
    dict
        `files`, `faces`, pictures without faces by reason, rows by warning, and `blocks kept`.

    Raises
    ------
    UserError
        A path does not exist, there is no file, the output or copies would lie among the pictures, around
        them or in the model, the output would replace something else, another process writes it, or the
        folder of its parts holds something else.
    """
    prediction_files.check_name(output)
    check_apart(paths, bundle.folder, output, overlay)
    if not force:
        check_beside(paths, output, overlay)
    asked, output, overlay = output, resolved(output), None if overlay is None else resolved(overlay)
    names = None if force else [printable(str(path)) for path in paths]
    prediction_files.check_replaceable(output, bundle.id, names)
    bundle.place_of(level)
    total = count(paths, apart_from([output] if overlay is None else [output, overlay]))
    if not total:
        raise UserError(
            f"there is no file in {', '.join(map(str, paths))}: name a picture or a folder of pictures"
        )
    limits: dict[str, Any] = {"workers": workers or roomy_cores(), "timeout": timeout}
    with parts_of(output, asked) as parts:
        work = Work(parts, bundle, level, overlay)
        with bar() as progress:
            line = progress.add_task("predicting", total=total)

            def step() -> None:
                progress.advance(line)

            found = blocks(walk(paths), block_files)
            todo = work.unfinished(found, lambda files: progress.advance(line, files))
            for block, table in predicted(todo, bundle, level=level, step=step, **limits):
                if overlay is not None:
                    draw_all(overlay, block.sources, table.to_pylist(), bundle.crop.max_pixels, **limits)
                with writing(asked):
                    work.keep(block, table)
        check_apart(paths, bundle.folder, output, overlay)  # again: hours may have passed
        prediction_files.check_replaceable(output, bundle.id, names)
        prediction_files.write(output, SCHEMA, work.tables(), bundle.id)
        counts = work.counts()
        remove_parts(parts)
    return counts


def check_apart(paths: Sequence[Path], model: Path, output: Path, overlay: Path | None) -> None:
    """Refuse to write among the pictures or into the model; and copies around pictures.

    Places are compared by what they are, not by their names: links, bind mounts, hard links and the case of
    letters make no other place of one.

    Parameters
    ----------
    paths, model
        What is read.
    output, overlay
        What is to be written.

    Raises
    ------
    UserError
        With both places.
    """
    for target in [output, *([overlay] if overlay else [])]:
        for path in paths:
            if lies_in(target, path) if path.is_dir() else is_same(target, path):
                raise UserError(f"{target} lies among the pictures of {path}: write to another place")
        if lies_in(target, model):
            raise UserError(f"{target} lies in the model {model}: write to another place")
    for path in paths:
        if overlay is not None and lies_in(path, overlay):
            raise UserError(
                f"{path} lies in {overlay}, where the copies would be written: name a folder of their own"
            )


def check_beside(paths: Sequence[Path], output: Path, overlay: Path | None = None) -> None:
    """Refuse to write into the folder of pictures that are named by themselves: that holds pictures, too.

    Where a person stands, the answer about one picture may lie beside it.

    Raises
    ------
    UserError
        With both places.
    """
    named = [path for path in paths if os.path.lexists(path) and not path.is_dir()]
    folders = {place.parent: path for path in reversed(named) for place in (resolved(path), path)}
    here = len(named) == 1 and is_same(resolved(output).parent, Path())
    for target in [*([] if here else [output]), *([overlay] if overlay else [])]:
        for folder, path in folders.items():
            if lies_in(target, folder):
                raise UserError(
                    f"{target} would lie in the folder of {path}, among the pictures: name another place, or "
                    "give --force"
                )


def apart_from(targets: Sequence[Path]) -> Callable[[Identity], None]:
    """What refuses a folder, met while pictures are counted, that a target lies in under another name."""
    outer = {place: target for target in targets for place in around(target)}

    def met(place: Identity) -> None:
        if place in outer:
            raise UserError(
                f"{outer[place]} lies among the pictures, under another name: write to another place"
            )

    return met
