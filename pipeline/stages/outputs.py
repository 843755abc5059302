"""Folders that stages own."""

import shutil
from pathlib import Path


def empty_folder(path: Path) -> None:
    """Make a folder that belongs to a stage, without anything a former run left in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
