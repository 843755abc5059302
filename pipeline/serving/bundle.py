"""A model bundle: everything that a prediction depends on, in a folder of safetensors and JSON files.

Nothing in it is ever executed: there is no pickle. Every file's sha256 stands in bundle.json, whose own
sha256 is the model's id, so that a table of predictions names the very bytes it was made with.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders import Encoder
from pipeline.encoders.base import combine
from pipeline.errors import UserError
from pipeline.faces.extract import Face, Settings
from pipeline.faces.quality import Thresholds
from pipeline.regression.members import Members
from pipeline.regression.uncertainty import Method
from pipeline.regression.uncertainty_conformal import PREDICTION, Calibration, bands_of
from pipeline.regression.uncertainty_files import (
    load_calibrations,
    read_arrays,
)
from pipeline.serving.encoding import EncoderSettings, matching_encoders
from pipeline.serving.reference import Reference
from pipeline.tables import sha256

FORMAT = 1
DESCRIPTION = "bundle.json"
MODEL, CALIBRATION, REFERENCE = "model.safetensors", "calibration.safetensors", "reference.safetensors"
NEEDED = (MODEL, CALIBRATION, REFERENCE)
ID_DIGITS = 16
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


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
    described: Mapping[str, Any]
    method: Method
    calibration: Calibration
    reference: Reference
    folder: Path

    @property
    def level(self) -> float:
        """The level of the interval that is shown unless another is asked for."""
        return float(self.described["level"])

    @property
    def threshold(self) -> float | None:
        """The age that is asked about: 'under 18?'."""
        value = self.described["threshold"]
        return None if value is None else float(value)

    @property
    def unit(self) -> str:
        """Of the target."""
        return str(self.described["target"]["unit"])

    @cached_property
    def crop(self) -> Settings:
        """How faces are found and cut out: as they were for training."""
        given = dict(self.described["crop"])
        given["detectors"] = tuple(given["detectors"])
        given["thresholds"] = Thresholds.of(given["thresholds"])
        return Settings(**given)

    @cached_property
    def encoders(self) -> list[Encoder]:
        """The encoders, proven to be those of the training vectors.

        Raises
        ------
        UserError
            One of them would give other vectors here, or the model knows no encoder.
        """
        encoder = self.described["encoder"]
        files = {name: self.folder / name for name in self.described["files"]}
        return matching_encoders(EncoderSettings.of(encoder, files), encoder["fingerprints"])

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
        return combine(arrays, self.described["encoder"]["combine"])

    def groups(self, prediction: NDArray[np.float64]) -> NDArray[np.str_] | None:
        """The groups that were calibrated by themselves, where a prediction tells them; else None."""
        known = self.described["groups"]
        if known["by"] == PREDICTION:
            return bands_of(prediction, known["bands"])
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
    """Load a bundle, and believe nothing in it that was not written with it.

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
        A file is missing, changed or of another format, or an encoder's fingerprint differs.
    """
    path = folder / DESCRIPTION
    try:
        data = path.read_bytes()
        described = json.loads(data)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is no model bundle: name a folder that vec2age export wrote") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): export the model again") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else None
        raise UserError(f"{path} has the format {found!r}, this program reads {FORMAT}: export it again")
    check_files(folder, described)
    try:
        bundle = _assembled(folder, described, hashlib.sha256(data).hexdigest()[:ID_DIGITS])
        if pictures:
            check_width(bundle)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise UserError(f"{path} lacks or garbles {error}: export the model again") from error
    return bundle


def check_width(bundle: Bundle) -> None:
    """Refuse a bundle whose encoders, built now, do not give vectors as wide as its model takes."""
    none: dict[str, list[NDArray[np.float32]]] = {}
    for encoder in bundle.encoders:
        none.setdefault(encoder.name, []).append(np.empty((0, encoder.dim), dtype=np.float32))
    given = combine(none, bundle.described["encoder"]["combine"]).shape[1]  # refuses an unknown way, too
    own = bundle.method.members.layout.widths[0]
    if given != own:
        raise UserError(f"{bundle.folder}: its encoders give {given} numbers, its model takes {own}")


def check_files(folder: Path, described: Mapping[str, Any]) -> None:
    """Refuse a bundle with a file missing or changed; files that it does not list are never opened."""
    listed = described.get("files")
    if not isinstance(listed, dict) or not set(NEEDED) <= set(listed):
        raise UserError(f"{folder / DESCRIPTION} does not list {', '.join(NEEDED)}: export the model again")
    for name, expected in listed.items():
        if not NAME.fullmatch(name):
            raise UserError(f"{folder / DESCRIPTION} lists the file {name!r}, which is no plain name")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing: export the model again")
        if sha256(path) != expected:
            raise UserError(f"{path} is not the file that was exported: its sha256 differs; export it again")


def _assembled(folder: Path, described: Mapping[str, Any], identity: str) -> Bundle:
    (calibration,) = load_calibrations(folder / CALIBRATION)
    arrays, about = read_arrays(folder / REFERENCE)
    quality = {name: (float(low), float(high)) for name, (low, high) in about["quality"].items()}
    reference = Reference(arrays["vectors"], about["limit"], about["lowest"], about["highest"], quality)
    method = Method(
        described["method"],
        Members.load(folder / MODEL),
        described["distribution"],
        tuple(described["probabilities"]),
    )
    # absolute: weights are read with the first picture, when the program may be in another folder
    bundle = Bundle(identity, described, method, calibration, reference, folder.absolute())
    bundle.place_of(None)
    _ = bundle.crop, bundle.unit, bundle.threshold  # whatever is garbled shows now
    return bundle
