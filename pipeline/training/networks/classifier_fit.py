"""Training a classifier on pictures in memory; what was interrupted goes on where its last epoch ended."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.training.networks.arrays import Batches, Labels, Pictures, as_tensor, class_weights
from pipeline.training.networks.classifier import Classifier, Design
from pipeline.training.networks.classifier_module import ClassificationRecipe, Module, Row
from pipeline.training.networks.lightning import (
    DONE,
    AtomicCheckpoints,
    Identity,
    fit,
    has_stopped,
    identity_text,
    quiet,
    read_checkpoint,
    threads,
    usable,
)

PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class Trained(NamedTuple):
    """What `fit_classifier` gives: the classifier of the best epoch, its number, and a row for each epoch."""

    classifier: Classifier
    best_epoch: int
    history: pd.DataFrame


class Progress(pl.Callback):
    """Tells after every epoch how far training is."""

    def __init__(self, tell: Callable[[Row], None]) -> None:
        self.tell = tell

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Tell the last row of history."""
        if isinstance(pl_module, Module):
            self.tell(pl_module.rows[-1])


def fit_classifier(
    train: tuple[Pictures, Labels],
    validation: tuple[Pictures, Labels],
    classes: Sequence[str],
    recipe: ClassificationRecipe,
    seed: int,
    accelerator: str = "auto",
    *,
    checkpoints: Path | None = None,
    thread_count: int | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> Trained:
    """Train one classifier; the epoch with the lowest validation loss is kept.

    Parameters
    ----------
    train, validation
        uint8 pictures (N, H, W) or (N, H, W, C), and class numbers (N,).
    classes
        The names of the classes.
    recipe
        How.
    seed
        From it and their own names the weights, the order of pictures, dropout and distortion are drawn.
    accelerator
        Lightning's: `auto`, `cpu`, `gpu`.
    checkpoints
        A folder for the state after every epoch. A run that finds one of its own goes on from there, and one
        that was done before is not trained again. Remove it once the result is kept elsewhere; None: nothing
        is written.
    thread_count
        Threads that torch uses; None: as many as it does. The same number gives the same bytes.
    on_epoch
        Called with every epoch's row of history.

    Returns
    -------
    Trained
        The same whether it was interrupted or not, on the same number of threads.

    Raises
    ------
    UserError
        For labels that are no class, an unknown architecture, loss or setting, and a loss that becomes NaN.
    """
    pictures = as_tensor(train[0])
    labels, wanted = torch.as_tensor(train[1]), torch.as_tensor(validation[1])
    counts = np.bincount(np.asarray(train[1]), minlength=len(classes))
    height, width, colours = pictures.shape[2], pictures.shape[3], pictures.shape[1]
    design = Design(
        recipe.architecture,
        dict(recipe.architecture_settings),
        recipe.loss,
        dict(recipe.loss_settings),
        tuple(classes),
        (height, width, colours),
        tuple(int(count) for count in counts),
    )
    balance = recipe.balance and not design.weighs_classes
    weights = class_weights(labels, len(classes)) if balance else None
    with torch.random.fork_rng(), quiet(), threads(thread_count):
        torch.manual_seed(derive_seed(seed, "weights"))
        module = Module(design, recipe, weights, seed)
        for name, some in (("training", labels), ("validation", wanted)):
            check_labels(module, some, len(classes), name)
        learnt = Batches(pictures, labels, recipe.batch_size, seed)
        judged = Batches(as_tensor(validation[0]), wanted, recipe.batch_size)
        identity = identity_of(design, recipe, seed, [train, validation], accelerator)
        resumable = None if checkpoints is None else usable(checkpoints, identity)
        done = checkpoints is not None and (checkpoints / DONE).exists()
        if resumable is not None:
            found = read_checkpoint(resumable)
            module.on_load_checkpoint(found)
            learnt.rounds = len(module.rows)
            done = done or has_stopped(found)
        if not done:
            callbacks = [] if on_epoch is None else [Progress(on_epoch)]
            trainer = quiet_trainer(
                recipe, accelerator, [*callbacks, *keepers(recipe, checkpoints, identity)]
            )
            fit(trainer, module, Loaders(learnt, judged), resumable)
            if checkpoints is not None:
                (checkpoints / DONE).touch()
    assert module.best is not None, "an epoch ended"
    _, best, state = module.best
    module.load_state_dict(state)
    described = {"seed": seed, "recipe": asdict(recipe), "best_epoch": best + 1}
    classifier = Classifier(design, module.network.eval(), module.loss.eval(), recipe.scale(best), described)
    return Trained(classifier, best + 1, pd.DataFrame(module.rows))


class Loaders(pl.LightningDataModule):
    """Batches to learn from, and to be judged by."""

    def __init__(self, learnt: Batches, judged: Batches) -> None:
        super().__init__()
        self.learnt = learnt
        self.judged = judged

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """In the order of the epoch."""
        return loader(self.learnt)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """As they are."""
        return loader(self.judged)


def loader(batches: Batches) -> DataLoader[tuple[Tensor, Tensor]]:
    """Complete batches, which need no further process."""
    # Else it would draw from the generator that dropout draws from.
    return DataLoader(batches, batch_size=None, generator=torch.Generator().manual_seed(0))


def identity_of(
    design: Design,
    recipe: ClassificationRecipe,
    seed: int,
    parts: Sequence[tuple[Pictures, Labels]],
    accelerator: str,
) -> str:
    """Text that is the same for the same run: settings, pictures, classes, threads, code."""
    seen = hashlib.sha256()
    for pictures, labels in parts:
        seen.update(np.ascontiguousarray(pictures).data)
        seen.update(np.ascontiguousarray(labels).data)
    return identity_text(
        {
            "design": asdict(design),
            "recipe": asdict(recipe),
            "seed": seed,
            "pictures": seen.hexdigest(),
            "machine": [torch.get_num_threads(), accelerator],
        }
    )


def check_labels(module: Module, labels: Tensor, classes: int, split: str) -> None:
    """Refuse labels that are no class, and a split without pictures."""
    if not len(labels):
        raise UserError(f"there is no {split} picture: nothing can be learnt or chosen")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        raise UserError(
            f"{split} label {int(labels[row])} in row {row}: there are classes 0 to {classes - 1}"
        )
    module.loss.check_targets(labels.float())


def keepers(recipe: ClassificationRecipe, checkpoints: Path | None, identity: str) -> list[pl.Callback]:
    """What stops where nothing gets better, and keeps the last state."""
    found: list[pl.Callback] = []
    if recipe.stop_patience is not None:
        found.append(EarlyStopping("val_loss", patience=recipe.stop_patience))
    if checkpoints is not None:
        last = ModelCheckpoint(
            checkpoints,
            filename="last",
            save_top_k=1,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        found += [Identity(identity), last]
    return found


def quiet_trainer(recipe: ClassificationRecipe, accelerator: str, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning without files of its own, bars or greetings."""
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=PRECISIONS[recipe.precision],
        max_epochs=recipe.epochs,
        logger=False,
        plugins=[AtomicCheckpoints()],
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
