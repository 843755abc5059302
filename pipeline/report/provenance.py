"""What a run's numbers were made from: revision, versions, hashes of inputs."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pipeline.core.tables import producer_of, sha256

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


def revision() -> dict[str, str]:
    """The version control's name for the last commit; nothing without git.

    Whether files were changed since is not asked: git would run filters and hooks of the repository for it.
    """
    # An object that is missing may not be fetched: a repository says by which program.
    careful = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    settings = ["-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    command = ["git", *settings, "describe", "--always", "--tags"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **careful})
    except FileNotFoundError:
        return {}
    return {"revision": done.stdout.decode(errors="backslashreplace").strip()} if done.returncode == 0 else {}
