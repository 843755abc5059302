"""The states of a network in training, so that what was interrupted goes on."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from pipeline.cnn.recipe import Recipe
from pipeline.encoders.weights import UNREADABLE
from pipeline.errors import UserError

IDENTITY_KEY = "vec2age_identity"
LAST, BEST, DONE = "last.ckpt", "best.ckpt", "done"


class Identity(Callback):
    """What a checkpoint belongs to: it is of no use to a run of other settings or faces."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Write it."""
        checkpoint[IDENTITY_KEY] = self.identity


def keepers(checkpoints: Path, recipe: Recipe) -> list[Callback]:
    """What keeps the last state and the best weights, and stops where nothing gets better."""
    last = ModelCheckpoint(
        checkpoints, filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="val_mae",
        save_top_k=1,
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    stop = [EarlyStopping("val_mae", patience=recipe.stop_patience)] if recipe.stop_patience else []
    return [best, *stop, last]


def usable(checkpoints: Path, identity: str) -> Path | None:
    """The checkpoint of this very run, if there is one; another's, or a damaged one, is removed."""
    last = checkpoints / LAST
    if last.exists():
        with contextlib.suppress(UserError):
            if read_checkpoint(last).get(IDENTITY_KEY) == identity:
                return last
    shutil.rmtree(checkpoints, ignore_errors=True)
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; nothing in it is executed."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UserError(f"the checkpoint {path} is damaged: remove it and train again") from error
    return content
