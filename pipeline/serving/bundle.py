"""A model bundle: everything that a prediction depends on, in a folder of safetensors and JSON files.

Nothing in it is ever executed: there is no pickle. Every file's sha256 stands in bundle.json, whose own
sha256 is the model's id, so that a table of predictions names the very bytes it was made with.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.artifacts import described_as, plain_json, read_arrays_of, read_small
from pipeline.core.errors import UserError
from pipeline.core.files import Unusable, open_inside
from pipeline.core.tables import first_line
from pipeline.encoders import Encoder
from pipeline.encoders.encoder import combine
from pipeline.faces.extract import Face, Settings
from pipeline.serving.description import CALIBRATION, FORMAT, MODEL, REFERENCE, Description, Known
from pipeline.serving.rebuilt_encoders import EncoderSettings, matching_encoders
from pipeline.serving.reference import Reference
from pipeline.training.mlp.members import Members
from pipeline.uncertainty.conformal import PREDICTION, Calibration, bands_of
from pipeline.uncertainty.methods import Method
from pipeline.uncertainty.stored_methods import KEY, load_calibrations

DESCRIPTION = "bundle.json"
ID_DIGITS = 16
LARGEST = 2 * 2**30
"""Bytes that a bundle's files may have together: 1,000 models of the paper's size have 1.7 GB."""
AGAIN = "export the model again"


@dataclass(frozen=True)
class Bundle:
    """A loaded model.

    Attributes
    ----------
    id
        The first digits of the sha256 of bundle.json.
    described
        bundle.json.
    method, calibration
        What predicts, and how far to believe it.
    reference
        What the training faces were like.
    folder
        Where it lies, for the encoders' weights.
    """

    id: str
    described: Description
    method: Method
    calibration: Calibration
    reference: Reference
    folder: Path

    @property
    def level(self) -> float:
        """The level of the interval that is shown unless another is asked for."""
        return self.described.level

    @property
    def threshold(self) -> float | None:
        """The age that is asked about: 'under 18?'."""
        return self.described.threshold

    @property
    def unit(self) -> str:
        """Of the target."""
        return self.described.target.unit

    @cached_property
    def crop(self) -> Settings:
        """How faces are found and cut out: as they were for training."""
        return self.described.crop.settings()

    @cached_property
    def encoders(self) -> list[Encoder]:
        """The encoders, proven to be those of the training vectors.

        Raises
        ------
        UserError
            One of them would give other vectors here, or the model knows no encoder.
        """
        encoder = self.described.encoder
        files = {name: self.folder / name for name in self.described.files}
        return matching_encoders(EncoderSettings.of(encoder.model_dump(), files), encoder.fingerprints)

    def encode(self, faces: list[Face]) -> NDArray[np.float32]:
        """The vectors (N, D) of cut-out faces, as the stage embed makes them; (0, D) for none."""
        width = self.method.members.layout.widths[0]
        if not faces:
            return np.empty((0, width), dtype=np.float32)
        images = np.stack([face.pixels for face in faces])
        landmarks = np.stack([face.landmarks for face in faces])
        arrays: dict[str, list[NDArray[np.float32]]] = {}
        for encoder in self.encoders:
            arrays.setdefault(encoder.name, []).append(encoder.encode(images, landmarks))
        return combine(arrays, self.described.encoder.combine)

    def groups(self, prediction: NDArray[np.float64]) -> NDArray[np.str_] | None:
        """The groups that were calibrated by themselves, where a prediction tells them; else None."""
        known = self.described.groups
        if known.by == PREDICTION:
            return bands_of(prediction, known.bands)
        # Of one group there is nothing to choose from; of several the widest interval is taken.
        return None

    def place_of(self, level: float | None) -> int:
        """Which of the calibrated levels.

        Raises
        ------
        UserError
            It is not among them.
        """
        wanted = self.level if level is None else level
        if wanted not in self.calibration.levels:
            known = ", ".join(f"{one:g}" for one in self.calibration.levels)
            raise UserError(f"level {wanted:g} was not calibrated: choose one of {known}")
        return self.calibration.levels.index(wanted)


def load(folder: Path, *, pictures: bool = True) -> Bundle:
    """Load a bundle, and believe nothing in it, whoever made its hashes fit.

    Parameters
    ----------
    folder
        What `vec2age export` wrote.
    pictures
        Check at once that the encoders here give the vectors it was trained on. Without, it can only be
        asked about vectors.

    Raises
    ------
    UserError
        A file is missing, changed or of another format, a number in it is none that training gives, parts do
        not fit each other, or an encoder's fingerprint differs.
    """
    path = folder / DESCRIPTION
    if not os.path.lexists(path):
        raise UserError(f"{folder} is no model bundle: name a folder that vec2age export wrote")
    data = read_small(path, again=AGAIN)
    described = description_in(data, path)
    # absolute: weights are read with the first picture, when the program may be in another folder
    inside = folder.absolute()
    check_files(folder, described.files)
    bundle = Bundle(
        id=hashlib.sha256(data).hexdigest()[:ID_DIGITS],
        described=described,
        method=Method(
            described.method,
            Members.load(inside / MODEL, AGAIN),
            described.distribution,
            described.probabilities,
        ),
        calibration=only_one(inside / CALIBRATION),
        reference=reference_in(inside / REFERENCE),
        folder=inside,
    )
    check_parts(bundle)
    _ = bundle.crop  # whatever is out of its range shows now
    if pictures:
        check_width(bundle)
    return bundle


def description_in(data: bytes, path: Path) -> Description:
    """bundle.json, checked; another format is said before anything else of it is asked."""
    with contextlib.suppress(ValueError):
        tree = plain_json(data)
        found = tree.get("format") if isinstance(tree, dict) else None
        if type(found) is not int or found != FORMAT:
            shown = repr(found)[:40]
            raise UserError(f"{path} has the format {shown}, this program reads {FORMAT}: {AGAIN}")
    return described_as(Description, data, path, AGAIN)


def only_one(path: Path) -> Calibration:
    """The calibration of a bundle, which has one."""
    found = load_calibrations(path, AGAIN)
    if len(found) > 1:
        raise UserError(f"{path} holds {len(found)} calibrations, not one: {AGAIN}")
    return found[0]


def reference_in(path: Path) -> Reference:
    """What the training faces were like."""
    arrays, text = read_arrays_of(path, KEY, again=AGAIN)
    known = described_as(Known, text, path, AGAIN)
    if set(arrays) != {"vectors"} or arrays["vectors"].ndim != 2:
        raise UserError(f"{path} does not hold one table of vectors alone: {AGAIN}")
    return Reference(arrays["vectors"], known.limit, known.lowest, known.highest, known.quality)


def check_parts(bundle: Bundle) -> None:
    """Refuse a bundle whose parts are each in order, and not of one model.

    Raises
    ------
    UserError
        With the part.
    """
    described, calibration, members = bundle.described, bundle.calibration, bundle.method.members
    width, own = members.layout.widths[0], bundle.reference.vectors.shape[1]
    if own != width:
        raise UserError(f"{bundle.folder / REFERENCE} is {own} wide, the model takes {width}: {AGAIN}")
    if (calibration.method, calibration.kind) != (described.method, described.kind):
        raise UserError(
            f"{bundle.folder / CALIBRATION} is of {calibration.method[:40]} {calibration.kind}, the model "
            f"is {described.method} {described.kind}: {AGAIN}"
        )
    bundle.place_of(None)
    try:
        said = bundle.method(np.zeros((1, width), dtype=np.float32))
        ends = calibration.bounds(said, bundle.groups(said.mean))
        chance = calibration.cdf(said, bundle.threshold or 0.0)
    # what shapes raise where a method says no quantiles, or another number of them
    except (UserError, ValueError, LookupError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(
            f"{bundle.folder}: its calibration does not fit its model ({first_line(error)}): {AGAIN}"
        ) from error
    if not np.isfinite([*ends, chance[:, None].repeat(ends[0].shape[1], 1)]).all():
        raise UserError(f"{bundle.folder}: its calibration gives no finite numbers: {AGAIN}")


def check_width(bundle: Bundle) -> None:
    """Refuse a bundle whose encoders, built now, do not give vectors as wide as its model takes."""
    none: dict[str, list[NDArray[np.float32]]] = {}
    try:
        encoders = bundle.encoders
    # what encoders raise for settings of theirs of another type
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        path = bundle.folder / DESCRIPTION
        raise UserError(f"{path}: no encoder can be built so ({first_line(error)}): {AGAIN}") from error
    for encoder in encoders:
        none.setdefault(encoder.name, []).append(np.empty((0, encoder.dim), dtype=np.float32))
    given = combine(none, bundle.described.encoder.combine).shape[1]
    own = bundle.method.members.layout.widths[0]
    if given != own:
        raise UserError(f"{bundle.folder}: its encoders give {given} numbers, its model takes {own}")


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse a bundle with a file missing or changed; files that it does not list are never opened."""
    inside, left = os.path.realpath(folder), LARGEST
    for name, expected in files.items():
        path = folder / name
        try:
            with open_inside(inside, name, empty=True) as file:
                left -= os.fstat(file.fileno()).st_size
                if left < 0:
                    raise UserError(f"{path} makes the bundle larger than {LARGEST:,} bytes: {AGAIN}")
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except Unusable as error:
            problem = "missing" if error.reason == "missing_file" else str(error)
            raise UserError(f"{path} is {problem}: {AGAIN}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}): {AGAIN}") from None
        if found != expected:
            raise UserError(f"{path} is not the file that was exported: its sha256 differs; {AGAIN}")
