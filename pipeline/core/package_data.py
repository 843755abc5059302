"""Files of weights that lie in installed packages."""

from importlib.util import find_spec
from pathlib import Path

from pipeline.core.errors import UserError

LANDMARK_MODEL = "shape_predictor_5_face_landmarks.dat"
LANDMARK_SHA256 = "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"


def package_file(package: str, relative: str, distribution: str) -> Path:
    """Find a data file inside an installed package, which is located but never imported.

    Parameters
    ----------
    package
        The importable name. face_recognition_models cannot be imported without pkg_resources, which
        modern setuptools no longer brings, so that the package is only looked up.
    relative
        The file's posix path inside the package.
    distribution
        What to name in `pip install`.

    Raises
    ------
    UserError
        When the package or the file is missing.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise UserError(f"{relative} of the package {distribution} is missing: pip install {distribution}")


def dlib_model(name: str) -> Path:
    """Find one of dlib's models, by file name, in the package face-recognition-models."""
    return package_file("face_recognition_models", f"models/{name}", "face-recognition-models")
