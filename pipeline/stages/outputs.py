"""What stages write beside tables, and what others left of it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.tables import atomic_file
from pipeline.stages import locations


def uncalibrated() -> str | None:
    """Why the stage calibrate calibrated nothing; None where it did, or has not run."""
    if not locations.UNCALIBRATED.is_file():
        return None
    return locations.UNCALIBRATED.read_text(encoding="utf-8").strip()


def write_json(tree: dict[str, Any], path: Path) -> None:
    """Write numbers for people and `dvc metrics`, atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps(tree, indent=2, allow_nan=False).encode() + b"\n")


def unlike_dvc_lock(path: Path, stage: str) -> bool:
    """Whether somebody ran a stage by hand, and what it wrote is not what dvc.lock has of it.

    DVC compares settings and code, not files outside: its next run may bring back what it has.
    """
    lock = Path("dvc.lock")
    if "DVC_STAGE" in os.environ or not lock.is_file():
        return False
    try:
        outs = YAML(typ="safe").load(lock)["stages"][stage]["outs"]
        recorded = {out["path"]: out["md5"] for out in outs}[path.as_posix()]
    except (YAMLError, LookupError, TypeError):
        return False  # it never ran this stage
    with path.open("rb") as file:
        return bool(recorded != hashlib.file_digest(file, "md5").hexdigest())
