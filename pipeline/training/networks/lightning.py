"""What all trainings by Lightning share: checkpoints that belong to one run, threads, and silence."""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.multiprocessing.spawn import ProcessRaisedException

from pipeline.backbones.weights import read_torch
from pipeline.core.errors import WORKER_LOST, UserError
from pipeline.core.source_code import source_of
from pipeline.core.tables import atomic_file
from pipeline.losses.base import DivergedError

IDENTITY_KEY = "vec2age_identity"
LAST, BEST, DONE = "last.ckpt", "best.ckpt", "done"
LOADER_LOST = re.compile(r"^DataLoader worker \(pid.*(by signal: Killed|exited unexpectedly)", re.DOTALL)
"""What torch says of a process that loads batches and was killed; it has no class of its own for that."""
CODE = (
    "training/networks",
    "augmentation/transforms",
    "backbones",
    "dlib",
    "encoders",
    "faces",
    "core/package_data",
    "losses",
    "metrics",
    "core/files",
    "core/artifacts",
    "core/rejects",
    "core/seeds",
    "core/tables",
)
"""The packages and modules that decide what a training gives; a test keeps the list."""


class Identity(Callback):
    """What a checkpoint belongs to: it is of no use to a run of other settings, faces or code."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Write it."""
        checkpoint[IDENTITY_KEY] = self.identity


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole, with nothing in the system's folder of temporary files.

    Lightning writes there first: what it was killed over stays for good, and from another disk the file
    would arrive piece by piece.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one."""
        with atomic_file(Path(path)) as file:
            torch.save(checkpoint, file)


def identity_text(described: Mapping[str, Any]) -> str:
    """Text that is the same for the same run: what describes it, and the code that trains."""
    code = hashlib.sha256(source_of(*CODE)).hexdigest()
    return json.dumps({**described, "code": code}, sort_keys=True)


def usable(checkpoints: Path, identity: str) -> Path | None:
    """The checkpoint of this very run, if there is one; another's, or a damaged one, is removed."""
    last = checkpoints / LAST
    if os.path.lexists(last):
        with contextlib.suppress(UserError):
            if read_checkpoint(last).get(IDENTITY_KEY) == identity:
                return last
    shutil.rmtree(checkpoints, ignore_errors=True)
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; nothing in it is executed."""
    try:
        content = read_torch(path)
    except UserError as error:
        raise UserError(f"the checkpoint {path} is damaged: remove it and train again") from error
    if not isinstance(content, dict):
        raise UserError(f"the checkpoint {path} is none of Lightning's: remove it and train again")
    return content


def has_stopped(checkpoint: dict[str, Any]) -> bool:
    """Whether the epoch after which a checkpoint was written was the last that its patience allowed.

    Lightning does not look at that when it resumes: it would train one epoch more.
    """
    states: dict[str, dict[str, Any]] = checkpoint["callbacks"]
    stops = [state for key, state in states.items() if key.startswith(EarlyStopping.__name__)]
    return any(state["wait_count"] >= state["patience"] for state in stops)


def fit(
    trainer: pl.Trainer, module: pl.LightningModule, loaders: pl.LightningDataModule, resumable: Path | None
) -> None:
    """Run the Trainer; what it does to exceptions is undone."""
    try:
        trainer.fit(module, datamodule=loaders, ckpt_path=resumable, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except ProcessRaisedException as error:
        said = str(error).strip().splitlines()[-1]
        name, _, sentence = said.partition(": ")
        if name.startswith("pipeline.") and name.endswith("Error"):
            raise (DivergedError if name.endswith(DivergedError.__name__) else UserError)(sentence) from None
        raise
    except RuntimeError as error:
        if LOADER_LOST.search(str(error)):
            raise UserError(WORKER_LOST) from error
        raise


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from telling users about GPUs and loaders that they did not ask about."""
    names = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
