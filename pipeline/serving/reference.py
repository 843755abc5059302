"""What the training faces were like, so that a new face which is like none of them can be told."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.seeds import derive_seed
from pipeline.faces.quality import Quality
from pipeline.training.mlp.stack import EVALUATION_ROWS
from pipeline.training.mlp.workers import Workers

# Where a measure is bad at one end only: angles and shares have no lower limit, and no face is too sharp.
LOWER = ("sharpness", "exposure", "face_size")
UPPER = ("exposure", "dark_fraction", "bright_fraction", "roll", "yaw", "pitch")
ANGLES = ("roll", "yaw", "pitch")
EDGE = 0.005  # the share of training faces beyond each end of their range
FAR = 0.99  # the share of validation faces that are nearer to a training face


def chosen(face_ids: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows of at most so many faces, by hash: the same faces in whatever order they come."""
    order = sorted(range(len(face_ids)), key=lambda row: derive_seed(seed, "reference", face_ids[row]))
    return sorted(order[:count])


def nearest(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean distance (N,) of each vector to the nearest of the reference.

    In blocks of one fixed shape on one core, so that a face's distance depends on no other face.

    Examples
    --------
    >>> nearest(np.zeros((1, 2), np.float32), np.array([[3, 4], [6, 8]], np.float32))
    array([5.])
    """
    known = torch.from_numpy(np.ascontiguousarray(reference))
    squares = known.square().sum(1)

    def block(start: int, space: None) -> torch.Tensor:
        part = torch.from_numpy(np.ascontiguousarray(vectors[start : start + EVALUATION_ROWS]))
        rows = torch.zeros(EVALUATION_ROWS, known.shape[1])
        rows[: len(part)] = part
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, least over b, and only for the nearest without its rounding
        index = torch.addmm(squares, rows, known.T, alpha=-2).argmin(1)
        return (rows - known[index]).double().square().sum(1).sqrt()[: len(part)]

    with Workers(1, lambda: None) as pool:
        parts = pool.map(block, range(0, len(vectors), EVALUATION_ROWS))
    return torch.cat([torch.empty(0, dtype=torch.float64), *parts]).numpy()


@dataclass(frozen=True)
class Reference:
    """Training faces to compare with.

    Attributes
    ----------
    vectors
        (n, D) of some of them.
    limit
        The distance to the nearest of these within which nearly all validation faces lie.
    lowest, highest
        The range of the training targets.
    quality
        By measure the range of nearly all training faces; empty where there were no pictures.
    """

    vectors: NDArray[np.float32]
    limit: float
    lowest: float
    highest: float
    quality: Mapping[str, tuple[float, float]]

    @classmethod
    def learn(
        cls,
        vectors: NDArray[np.float32],
        validation: NDArray[np.float32],
        target: NDArray[np.float64],
        measures: Mapping[str, NDArray[np.float64]],
    ) -> "Reference":
        """From training vectors, validation vectors, training targets, and training faces' quality."""
        quality = {}
        for name, values in measures.items():
            sound = np.abs(values) if name in ANGLES else values
            low, high = np.quantile(sound, [EDGE, 1 - EDGE])
            quality[name] = (float(low), float(high))
        limit = float(np.quantile(nearest(validation, vectors), FAR))
        return cls(vectors, limit, float(target.min()), float(target.max()), quality)

    def described(self) -> dict[str, Any]:
        """Everything but the vectors, as JSON takes it."""
        quality = {name: list(ends) for name, ends in self.quality.items()}
        return {"limit": self.limit, "lowest": self.lowest, "highest": self.highest, "quality": quality}

    def warnings(self, prediction: float, distance: float, quality: Quality | None, unit: str) -> list[str]:
        """What makes this prediction doubtful, each as a word to count by and a sentence.

        Examples
        --------
        >>> known = Reference(np.zeros((1, 2), np.float32), 0.5, 1.0, 18.0, {})
        >>> known.warnings(30.0, 0.75, None, "years")[0]
        'far_from_training: its vector is 0.75 from the nearest training face, nearly all are within 0.5'
        """
        found = []
        if distance > self.limit:
            found.append(
                f"far_from_training: its vector is {distance:.3g} from the nearest training face, "
                f"nearly all are within {self.limit:.3g}"
            )
        if not self.lowest <= prediction <= self.highest:
            found.append(
                f"outside_training_range: predicted {prediction:.3g} {unit}, "
                f"trained on {self.lowest:g} to {self.highest:g}"
            )
        measured = {} if quality is None else asdict(quality)
        for name, (low, high) in self.quality.items():
            value = abs(measured.get(name, low)) if name in ANGLES else measured.get(name, low)
            if name in LOWER and value < low:
                found.append(f"low_{name}: {value:.3g}, training faces have {low:.3g} or more")
            if name in UPPER and value > high:
                found.append(f"high_{name}: {value:.3g}, training faces have {high:.3g} or less")
        return found
