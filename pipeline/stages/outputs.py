"""What stages write beside tables, and take away."""

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.stages import files
from pipeline.tables import atomic_file


def empty_folder(path: Path) -> None:
    """Make a folder that belongs to a stage, without anything a former run left in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def remove(*paths: Path) -> None:
    """Remove what a former run of a stage wrote, as DVC does: if this one fails, nobody goes on with it."""
    for path in paths:
        path.unlink(missing_ok=True)


def uncalibrated() -> str | None:
    """Why the stage calibrate calibrated nothing; None where it did, or has not run."""
    if not files.UNCALIBRATED.is_file():
        return None
    return files.UNCALIBRATED.read_text(encoding="utf-8").strip()


def write_json(tree: dict[str, Any], path: Path) -> None:
    """Write numbers for people and `dvc metrics`, atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps(tree, indent=2, allow_nan=False).encode() + b"\n")
