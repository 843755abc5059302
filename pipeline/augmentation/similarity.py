"""How alike two pictures are to every encoder."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.encoders.encoder import Vectors


def cosine(a: Vectors, b: Vectors, widths: Sequence[int] = ()) -> npt.NDArray[np.float64]:
    """The cosine similarity of vectors, row by row: a.b / (|a| |b|), the smallest over the encoders.

    With several encoders each part of the vectors is compared apart, since in the whole the encoder with the
    longest vectors would decide alone. The smallest similarity is what counts: a face is lost when it is lost
    to one of them, and nothing was learnt only when nothing changed for all.

    Source: Anda et al., Vec2UAge, equation 1. The vectors are taken raw, as the encoder gives them. The
    paper adds that components cannot be negative and the angle is therefore at most 90 degrees. That does
    not hold for these encoders: components of FaceNet's and dlib's vectors have either sign, so that the
    similarity may be anything from -1 to 1 (EfficientNet-Lite0's averages of ReLU6 outputs are never
    negative).

    Parameters
    ----------
    a, b
        (N, D).
    widths
        How wide each encoder's part is, together D; by default there is one.

    Returns
    -------
    ndarray
        (N,) between -1 and 1; NaN where a vector, or a part of it, is all zeros.

    Examples
    --------
    >>> cosine(np.array([[1, 0], [2, 0]]), np.array([[-3, 0], [1, 1]])).round(4).tolist()
    [-1.0, 0.7071]
    """
    ends = np.cumsum(widths or [a.shape[1]])[:-1]
    parts = zip(np.split(a, ends, axis=1), np.split(b, ends, axis=1), strict=True)
    similarity: npt.NDArray[np.float64] = np.min([_cosine(x, y) for x, y in parts], axis=0)
    return similarity


def _cosine(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        similarity: npt.NDArray[np.float64] = (x * y).sum(axis=1) / np.sqrt(
            (x * x).sum(axis=1) * (y * y).sum(axis=1)
        )
    return similarity
