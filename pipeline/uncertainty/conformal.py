"""Intervals and probabilities that hold as often as they say: conformal calibration on validation faces.

The quantile itself (`pipeline.metrics.calibration.conformal_quantile`) is a line, written out here and held
to MAPIE by the tests: MAPIE's calibrated objects can be neither saved without pickle nor split into groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.tables import SUBJECT
from pipeline.metrics.calibration import faces_needed
from pipeline.metrics.groups import named
from pipeline.uncertainty.raw import Difficulty, Predicted
from pipeline.uncertainty.shapes import Bounds, Normal, Scored, Shape, Shifted

FloatArray = NDArray[np.float64]
Texts = NDArray[np.str_]

ALL = "all"
PREDICTION = "prediction"
RAW, SPLIT, LOCAL, CQR = "raw", "split", "local", "cqr"


@dataclass(frozen=True)
class Calibration:
    """One method, calibrated in one way; for all faces and, where asked for, for each group by itself.

    Attributes
    ----------
    method, kind
        Such as `ensemble` and `local`. Kinds: `raw` (uncalibrated), `split` (one width for all), `local`
        (weighted by the expected error), `cqr` (the method's own quantiles, moved).
    levels
        The levels that intervals are asked for.
    shapes
        By group; `all` is always there, and stands in for groups that had too few faces.
    faces
        By group, how many validation faces it was learnt from.
    """

    method: str
    kind: str
    levels: tuple[float, ...]
    shapes: Mapping[str, Shape]
    faces: Mapping[str, int]

    def bounds(self, said: Predicted, groups: Texts | None = None) -> Bounds:
        """Lower and upper bounds, (N, levels) each.

        Parameters
        ----------
        said
            What the method says of N faces.
        groups
            (N,) which group each belongs to. None where nobody knows: the widest bounds of all groups then
            hold for every one of them.
        """
        if groups is None:
            every = [shape.bounds(said, self.levels) for shape in self.shapes.values()]
            return np.min([low for low, _ in every], axis=0), np.max([high for _, high in every], axis=0)
        lower, upper = np.empty((2, len(said), len(self.levels)))
        for shape, rows in self._parts(groups):
            lower[rows], upper[rows] = shape.bounds(said.take(rows), self.levels)
        return lower, upper

    def cdf(self, said: Predicted, at: FloatArray | float, groups: Texts | None = None) -> FloatArray:
        """The probability (N,) that targets lie below `at`, a number or (N,); groups None: as for all."""
        points = np.broadcast_to(np.asarray(at, dtype=np.float64), len(said))
        found = np.empty(len(said))
        for shape, rows in self._parts(np.full(len(said), ALL) if groups is None else groups):
            found[rows] = shape.cdf(said.take(rows), points[rows])
        return found

    def quantiles(
        self, said: Predicted, probabilities: FloatArray, groups: Texts | None = None
    ) -> FloatArray:
        """Quantiles (N, K); groups as for `cdf`."""
        found = np.empty((len(said), len(probabilities)))
        for shape, rows in self._parts(np.full(len(said), ALL) if groups is None else groups):
            found[rows] = shape.quantiles(said.take(rows), probabilities)
        return found

    def _parts(self, groups: Texts) -> list[tuple[Shape, NDArray[np.intp]]]:
        known = np.where(np.isin(groups, list(self.shapes)), groups, ALL)
        return [(self.shapes[str(name)], np.flatnonzero(known == name)) for name in np.unique(known)]


def kinds_of(said: Predicted) -> tuple[str, ...]:
    """The kinds of calibration that a method can have."""
    return (RAW, SPLIT, LOCAL) if said.quantiles is None else (RAW, SPLIT, CQR)


def calibrate(
    method: str,
    training: tuple[Predicted, FloatArray] | None,
    validation: tuple[Predicted, FloatArray],
    levels: Sequence[float],
    *,
    groups: Texts | None = None,
    min_faces: int = 1,
) -> list[Calibration]:
    """Calibrate a method in every kind it can have.

    Parameters
    ----------
    method
        Its name.
    training
        What it says of training faces, and their targets: noise and difficulty are learnt from them. None
        will do for a method with quantiles, which takes neither.
    validation
        The same of validation faces: everything that is promised is learnt from them, and from no other.
    levels
        Such as 0.9.
    groups
        (N,) of the validation faces: each group is calibrated by itself (Mondrian), as well as all together.
    min_faces
        Smaller groups are not, nor those too small for the highest level.

    Raises
    ------
    UserError
        Where there are too few validation faces for the highest level.
    """
    said, target = validation
    needed = faces_needed(max(levels))
    if len(said) < needed:
        raise UserError(
            f"{len(said)} validation faces are too few to calibrate intervals of {100 * max(levels):g}%: it "
            f"takes {needed}; enlarge the validation split or lower calibrate.levels"
        )
    if training is not None:
        trained, trained_target = training
        noise = float(np.sqrt(np.mean((trained_target - trained.mean) ** 2)))
        difficulty = Difficulty.learn(trained, trained_target)
    elif said.quantiles is None:
        raise ValueError(f"{method} has no quantiles: what it says of training faces is needed")
    parts = {ALL: np.arange(len(said))}
    if groups is not None:
        for name in np.unique(groups):
            rows = np.flatnonzero(groups == name)
            if len(rows) >= max(min_faces, needed):
                parts.setdefault(str(name), rows)  # a group that is called all shares the calibration of all

    def shape(kind: str, rows: NDArray[np.intp]) -> Shape:
        some, wanted = said.take(rows), target[rows]
        if kind == SPLIT:
            return Scored.learn(some, wanted)
        if kind == LOCAL:
            return Scored.learn(some, wanted, difficulty)
        if kind == CQR:
            return Shifted.learn(some, wanted, levels)
        return Normal(noise) if said.quantiles is None else Shifted.none(some, levels)

    return [
        Calibration(
            method,
            kind,
            tuple(levels),
            # what was not calibrated is the same for every group
            {name: shape(kind, rows) for name, rows in parts.items() if kind != RAW or name == ALL},
            {name: len(rows) for name, rows in parts.items() if kind != RAW or name == ALL},
        )
        for kind in kinds_of(said)
    ]


def band_names(edges: Sequence[float]) -> list[str]:
    """The bands between edges in words.

    Examples
    --------
    >>> band_names([13, 18])
    ['under 13', '13 to under 18', '18 and over']
    """
    if not edges:
        return [ALL]
    inner = [f"{low:g} to under {high:g}" for low, high in pairwise(edges)]
    return [f"under {edges[0]:g}", *inner, f"{edges[-1]:g} and over"]


def bands_of(values: FloatArray, edges: Sequence[float]) -> Texts:
    """Each value's band in words, (N,).

    Examples
    --------
    >>> bands_of(np.array([5.0, 18.0]), [13, 18])
    array(['under 13', '18 and over'], dtype='<U14')
    """
    names = np.array(band_names(edges))
    found: Texts = names[np.digitize(values, np.asarray(edges, dtype=np.float64))]
    return found


@dataclass(frozen=True)
class Groups:
    """By what faces are grouped: nothing, bands of the prediction, or a column of the faces.

    Attributes
    ----------
    by
        None, `prediction`, or a group column's name.
    bands
        The limits of the bands.
    """

    by: str | None = None
    bands: tuple[float, ...] = ()

    def of(self, said: Predicted, faces: pa.Table) -> Texts | None:
        """Each face's group (N,).

        Raises
        ------
        UserError
            The faces have no such column.
        """
        if self.by is None:
            return None
        if self.by == PREDICTION:
            return bands_of(said.mean, self.bands)
        known = {field.name for field in faces.schema if not pa.types.is_nested(field.type)} - {SUBJECT}
        if self.by not in known:
            raise UserError(f"the faces have no group column {self.by!r}: change calibrate.groups")
        return named(faces[self.by].to_pylist())
