"""The table of predictions: one row for each face, and one for each picture without any, with why."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.files import escaped
from pipeline.faces.quality import failures
from pipeline.faces.shards import MEASURES
from pipeline.serving.bundle import Bundle
from pipeline.serving.inputs import Source
from pipeline.serving.looking import FACE, Seen
from pipeline.serving.reference import nearest

DIGITS = 4
CHANCE_DIGITS = 6

EDGES = ("left", "top", "right", "bottom")
TEXT, WHOLE, REAL = pa.string(), pa.int32(), pa.float64()
SCHEMA = pa.schema(
    [
        ("file", TEXT),
        ("sha256", TEXT),
        ("status", TEXT),  # face, or the reason why there is none
        ("detail", TEXT),
        ("face", WHOLE),  # numbered from 0, the largest first
        ("faces", WHOLE),
        *((edge, REAL) for edge in EDGES),  # pixels of the upright picture
        ("detector", TEXT),
        ("detector_score", REAL),
        ("prediction", REAL),
        ("lower", REAL),
        ("upper", REAL),
        ("level", REAL),
        ("threshold", REAL),
        ("probability_under", REAL),
        ("spread", REAL),
        ("distance", REAL),
        *((name, REAL) for name in MEASURES),
        ("warnings", TEXT),
        ("model", TEXT),
    ]
)


def rows(
    bundle: Bundle,
    pictures: Sequence[tuple[Source, Seen]],
    vectors: NDArray[np.float32],
    level: float | None = None,
) -> pa.Table:
    """The rows of some pictures.

    Parameters
    ----------
    bundle
        The model.
    pictures
        With what was seen in each.
    vectors
        (faces, D): of all their faces, in order.
    level
        Of the intervals; None is the model's own.
    """
    judged = iter(judge(bundle, vectors, level))
    found = []
    for source, seen in pictures:
        common: dict[str, Any] = {
            "file": source.file,
            "sha256": seen.sha256,
            "model": bundle.id,
            "faces": len(seen.faces),
        }
        if seen.rejection is not None:
            found.append(
                {**common, "status": seen.rejection.reason, "detail": escaped(seen.rejection.detail)}
            )
        for number, face in enumerate(seen.faces):
            said = next(judged)
            edges = zip(EDGES, (round(edge, DIGITS) for edge in face.box), strict=True)
            notes = bundle.reference.warnings(said["prediction"], said["distance"], face.quality, bundle.unit)
            notes += [f"{word}: {why}" for word, why in failures(face.quality, bundle.crop.thresholds)]
            notes += face.warnings
            found.append(
                {
                    **common,
                    "status": FACE,
                    "face": number,
                    **dict(edges),
                    "detector": face.detector,
                    "detector_score": round(face.score, DIGITS),
                    **said,
                    **{name: round(value, DIGITS) for name, value in asdict(face.quality).items()},
                    "warnings": escaped("; ".join(notes)),
                }
            )
    return pa.Table.from_pylist(found, schema=SCHEMA)


def judge(bundle: Bundle, vectors: NDArray[np.float32], level: float | None = None) -> list[dict[str, Any]]:
    """What the model says of vectors (N, D): the number columns of N rows.

    Raises
    ------
    UserError
        A number is not finite, as weights that are large beyond reason give.
    """
    if not len(vectors):
        return []
    place = bundle.place_of(level)
    said = bundle.method(vectors)
    groups = bundle.groups(said.mean)
    lower, upper = bundle.calibration.bounds(said, groups)
    columns = {
        "prediction": said.mean,
        "lower": lower[:, place],
        "upper": upper[:, place],
        "spread": said.spread,
        "distance": nearest(vectors, bundle.reference.vectors),
    }
    if not all(np.isfinite(column).all() for column in columns.values()):
        raise UserError(
            f"{bundle.folder} gives predictions that are no finite numbers: train and export anew"
        )
    numbers = [
        # a number that rounds to nothing has no sign
        dict(zip(columns, (round(float(value), DIGITS) + 0.0 for value in row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    fixed: dict[str, Any] = {"level": bundle.calibration.levels[place], "threshold": bundle.threshold}
    if bundle.threshold is None:
        return [{**one, **fixed} for one in numbers]
    chances = bundle.calibration.cdf(said, bundle.threshold, groups)
    return [
        {**one, **fixed, "probability_under": round(float(chance), CHANCE_DIGITS)}
        for one, chance in zip(numbers, chances, strict=True)
    ]
