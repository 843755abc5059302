"""What a run's numbers were made from: revision, versions, hashes of inputs."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError
from pipeline.tables import producer_of

PACKAGES = ("vec2age", "torch", "numpy", "scikit-learn", "pyarrow")


def provenance(faces: Path, others: Sequence[Path] = ()) -> dict[str, str]:
    """Name to value, for the report's last section.

    Parameters
    ----------
    faces
        embeddings/faces.parquet, whose metadata name its encoders.
    others
        More inputs to hash.

    Raises
    ------
    UserError
        An input is missing.
    """
    encoders = producer_of(faces)["settings"].get("encoders", "none: the data set holds vectors")
    return {
        **revision(),
        "encoders": str(encoders),
        **{f"sha256 of {path.as_posix()}": sha256(path) for path in (faces, *others)},
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
    }


def sha256(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it (dvc repro)") from None


def revision() -> dict[str, str]:
    """The version control's name for the code, marked where files are changed; nothing without git."""
    command = ["git", "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    return {"revision": done.stdout.strip()} if done.returncode == 0 else {}
