"""What a worker process does with one picture: read, hash, decode, find and cut out every face."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.core.errors import UserError
from pipeline.faces.extract import Face, Settings, as_stored, extract_all, load_models
from pipeline.faces.images import Rejection
from pipeline.serving.inputs import Source

FACE = "face"
"""The status of a face's row; a picture without any has the reason instead."""


@dataclass(frozen=True)
class Seen:
    """What became of a picture: the sha256 of its bytes, if they could be read; its faces, or why not."""

    sha256: str | None = None
    faces: tuple[Face, ...] = ()
    rejection: Rejection | None = None


def look(source: Source, settings: Settings) -> Seen:
    """Every face in a picture, cut exactly as the stage crop cuts it; or why there is none."""
    if source.trouble is not None:
        return Seen(rejection=source.trouble)
    digest = None
    try:
        data = source.read()
        digest = hashlib.sha256(data).hexdigest() if source.hashed else None
        faces = extract_all(data, settings)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is
        return Seen(digest, rejection=Rejection.of(error))
    return Seen(
        digest,
        tuple(
            replace(
                face,
                pixels=as_stored(face.pixels, settings),
                warnings=source.warnings + face.warnings,
            )
            for face in faces
        ),
    )


def make_looker(settings: Settings) -> Callable[[Source], Seen]:
    """`look`, in a worker process whose models are loaded."""
    load_models(settings)
    return functools.partial(look, settings=settings)
