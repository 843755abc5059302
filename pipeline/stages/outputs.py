"""What stages write beside tables."""

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.tables import atomic_file


def empty_folder(path: Path) -> None:
    """Make a folder that belongs to a stage, without anything a former run left in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def write_json(tree: dict[str, Any], path: Path) -> None:
    """Write numbers for people and `dvc metrics`, atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps(tree, indent=2, allow_nan=False).encode() + b"\n")
