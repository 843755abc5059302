"""What a second table says about images, and how many of them it names."""

import warnings
from collections.abc import Collection
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import shorten
from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import STAGE

FEW = 0.9


class FewMatchesWarning(UserWarning):
    """A table about images names few of them; the others are kept with unknown groups."""


def matched(path: Path, named: Collection[str], images: Collection[str], rejects: Rejects) -> None:
    """Say how many images a second table names; none at all is refused, since the names are of another form.

    Parameters
    ----------
    path
        The table.
    named, images
        What it calls the images, and what they are called.
    rejects
        Receives one row (`unmatched`) where some images are not named.

    Raises
    ------
    UserError
        The table names none of the images.

    Warns
    -----
    FewMatchesWarning
        It names fewer than nine in ten.
    """
    given = set(images)
    if not given:
        return
    found = len(given & set(named))
    if named and not found:
        raise UserError(
            f"{path} names none of {len(given)} images: it has {shorten(min(named))} but they are called "
            f"{shorten(min(given))}; give both the same names"
        )
    if found < len(given):
        detail = f"{path.name} names {found} of {len(given)} images; of the others its columns are unknown"
        rejects.add(stage=STAGE, reason="unmatched", detail=detail)
        if found < FEW * len(given):
            warnings.warn(f"{path} names {found} of {len(given)} images", FewMatchesWarning, stacklevel=3)
