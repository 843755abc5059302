"""Paths on the command line, of the commands `export` and `predict`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.errors import UserError


def given_path(text: str | Path) -> Path:
    """A path as it was given; an empty one, which a shell makes of an unset variable, is no name for `.`.

    Raises
    ------
    UserError
        It is empty.
    """
    if text == "":
        raise UserError("a path is empty: name a file or a folder (`.` is the folder that you are in)")
    return Path(text)


Pictures = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", parser=given_path, help="Pictures, and folders of pictures."),
]
Destination = Annotated[
    Path,
    typer.Argument(metavar="DIR", parser=given_path, help="Where to: a new folder, or an older bundle."),
]
Model = Annotated[
    Path,
    typer.Option(
        metavar="PATH",
        parser=given_path,
        envvar="VEC2AGE_MODEL",
        help="A bundle that `vec2age export` wrote.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="PATH", parser=given_path, help="A file ending in .csv, .jsonl or .parquet."
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace a file that this command did not write, and write beside a picture named by itself.",
    ),
]
Overlay = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=given_path,
        help="Write copies of the pictures there, with what was found drawn on.",
    ),
]
