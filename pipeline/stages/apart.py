"""What the pipeline reads and what it writes, kept apart, whatever links say."""

from pathlib import Path

from pipeline import config as parameters
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.places import lies_in
from pipeline.stages import locations

WRITTEN = (*locations.TAKEN, Path("dvclive"))


def load() -> Params:
    """params.yaml, in a project whose results do not lie among what they are made from.

    Raises
    ------
    UserError
        As `params.load` raises it, and see `check_apart`.
    """
    found = parameters.load()
    check_apart(found)
    return found


def inputs(params: Params) -> dict[str, Path]:
    """The folders or files that are read, by the settings that name them."""
    found = {"data.root": Path(params.data.root)}
    pictures = Path(params.classify.images.root)
    if not lies_in(locations.MANIFEST.parent, pictures):  # `data` where packages bring the pictures
        found["classify.images.root"] = pictures
    return found


def check_apart(params: Params) -> None:
    """Refuse inputs in a folder whose files stages replace or remove, and such folders among the inputs.

    Raises
    ------
    UserError
        With the setting and both places.
    """
    for setting, root in inputs(params).items():
        for folder in WRITTEN:
            if lies_in(root, folder):
                raise UserError(
                    f"{setting} is {root}, which lies in {folder}, where results are replaced and removed: "
                    "move these files into a folder of their own"
                )
            if root.is_dir() and lies_in(folder, root):
                raise UserError(
                    f"{setting} is {root}, and {folder}, where results are written, lies in it: "
                    "give the pictures a folder of their own, or work in another one"
                )


def check_destination(folder: Path, params: Params) -> None:
    """Refuse to write a bundle among what is read, or where stages replace files.

    Raises
    ------
    UserError
        With both places.
    """
    for setting, root in inputs(params).items():
        if lies_in(folder, root):
            raise UserError(f"{folder} lies in {root} ({setting}), which is only read: name another folder")
    for taken in WRITTEN:
        if lies_in(folder, taken):
            raise UserError(f"{folder} lies in {taken}, whose files stages replace: name another folder")
