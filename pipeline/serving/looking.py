"""What a worker process does with one picture: read, hash, decode, find and cut out every face."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.faces.extract import Face, Rejection, Settings, as_stored, extract_all, load_models
from pipeline.faces.images import ImageRejected, read_file
from pipeline.serving.inputs import Source


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
        data = read_file(source.path, Path(source.root)) if source.data is None else source.data
        digest = hashlib.sha256(data).hexdigest() if source.hashed else None
        faces = extract_all(data, settings)
    except ImageRejected as error:
        return Seen(digest, rejection=Rejection(error.reason, error.detail))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - one odd file must not end the work on all others
        detail = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
        return Seen(digest, rejection=Rejection("failed", detail))
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
