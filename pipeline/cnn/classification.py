"""Training a classifier on pictures in memory: one network, one seed, the best epoch kept."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.cnn.arrays import Batches, Distortion, Labels, Pictures, as_tensor, class_weights
from pipeline.cnn.classifier import Classifier, Design
from pipeline.errors import UserError
from pipeline.seeds import derive_seed

SCALES = (1 / 255, 1 / 512)
"""What pixels are multiplied by, first and later (EmoSynthNet thesis, section 3.3.2)."""
PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class ClassificationRecipe:
    """How a classifier is trained; the defaults are the thesis's (section 3.3.2) but for the epochs.

    Parameters
    ----------
    architecture, architecture_settings
        A name of timm's, and its settings.
    loss, loss_settings
        A classification loss of `pipeline.losses`.
    optimizer, lr, momentum, weight_decay
        `adam` or `sgd`; momentum is that of SGD.
    lr_patience, lr_factor
        Epochs without a better validation loss until the rate falls, and by what factor.
    stop_patience
        And until training stops; null goes on to the last epoch.
    balance
        Whether samples are weighted by the inverse frequency of their class; not with losses that weigh
        classes by themselves (`class_balanced`, `dwb`), where rare ones would count twice.
    second_scale_from
        From which share of the epochs on pixels are scaled by 1/512 in place of 1/255; null: never.
    zoom, shear, flip
        Distortion of training pictures; see `Distortion`.
    precision
        `bfloat16` runs the network under autocast, the loss in float32.
    """

    architecture: str = "emosynthnet"
    architecture_settings: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "mam_softmax"
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 64
    epochs: int = 15
    lr_patience: int = 5
    lr_factor: float = 0.1
    stop_patience: int | None = None
    balance: bool = True
    second_scale_from: float | None = 0.5
    zoom: float = 0.2
    shear: float = 0.2
    flip: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"

    def scale(self, epoch: int) -> float:
        """What pixels are multiplied by in an epoch, counted from 0.

        Examples
        --------
        >>> recipe = ClassificationRecipe(epochs=10, second_scale_from=0.5)
        >>> [round(1 / recipe.scale(epoch)) for epoch in (0, 4, 5, 9)]
        [255, 255, 512, 512]
        """
        later = self.second_scale_from is not None and epoch >= self.second_scale_from * self.epochs
        return SCALES[1] if later else SCALES[0]


class Trained(NamedTuple):
    """What `fit_classifier` gives: the classifier of the best epoch, its number, and a row for each epoch."""

    classifier: Classifier
    best_epoch: int
    history: pd.DataFrame


class Module(pl.LightningModule):
    """What a step is; the mathematics is elsewhere."""

    def __init__(
        self, design: Design, recipe: ClassificationRecipe, weights: Tensor | None, seed: int
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network, self.loss = design.build()
        self.weights = weights
        self.distortion = Distortion(recipe.zoom, recipe.shear, recipe.flip)
        self.draws = torch.Generator().manual_seed(derive_seed(seed, "distortion"))
        self.sums: dict[str, list[float]] = {}
        self.rows: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def measured(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        """The loss of a batch, added to the epoch's sums."""
        pictures, labels = batch
        images = pictures.float() * self.recipe.scale(self.current_epoch)
        if split == "train" and (self.recipe.zoom or self.recipe.shear or self.recipe.flip):
            images = self.distortion(images, self.draws)
        output = self.network(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast(images.device.type, enabled=False):
            output = output.float()
            weight = None if self.weights is None else self.weights.to(labels.device)[labels]
            value: Tensor = self.loss(output, labels, weight)
        right = (self.loss.prediction(output.detach()) == labels).sum()
        sums = self.sums.setdefault(split, [0.0, 0.0, 0.0])
        numbers = (value.item() * len(labels), right.item(), len(labels))
        self.sums[split] = [total + number for total, number in zip(sums, numbers, strict=True)]
        return value

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """A step; a loss that is no number ends the training."""
        value = self.measured(batch, "train")
        if not torch.isfinite(value):
            raise UserError(
                f"the loss {self.recipe.loss} is {value.item()} in epoch {self.current_epoch + 1}, batch "
                f"{batch_idx + 1}: take a lower learning rate than {self.recipe.lr:g}"
            )
        return value

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The same, measured only."""
        self.measured(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Note the epoch; keep its weights if its validation loss is the lowest so far."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        row: dict[str, float] = {
            "epoch": self.current_epoch + 1,
            "lr": optimizer.param_groups[0]["lr"],
            "scale": self.recipe.scale(self.current_epoch),
        }
        for split, (total, right, count) in sorted(self.sums.items()):
            row |= {f"{split}_loss": total / count, f"{split}_accuracy": right / count}
        self.sums = {}
        self.rows.append(row)
        loss = row["val_loss"] if math.isfinite(row["val_loss"]) else math.inf
        self.log("val_loss", loss)
        if self.best is None or loss < self.best[0]:
            state = {name: value.detach().clone() for name, value in self.state_dict().items()}
            self.best = (loss, self.current_epoch, state)

    def configure_optimizers(self) -> Any:
        """The optimiser over network and loss, its rate lowered on plateaus."""
        recipe = self.recipe
        shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(self.parameters(), **shared)
            if recipe.optimizer == "adam"
            else torch.optim.SGD(self.parameters(), momentum=recipe.momentum, **shared)
        )
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=recipe.lr_patience, factor=recipe.lr_factor
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


def fit_classifier(
    train: tuple[Pictures, Labels],
    validation: tuple[Pictures, Labels],
    classes: Sequence[str],
    recipe: ClassificationRecipe,
    seed: int,
    accelerator: str = "auto",
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
    with torch.random.fork_rng(), silence():
        torch.manual_seed(derive_seed(seed, "weights"))
        module = Module(design, recipe, weights, seed)
        for name, some in (("training", labels), ("validation", wanted)):
            check_labels(module, some, len(classes), name)
        torch.manual_seed(derive_seed(seed, "dropout"))
        trainer = quiet_trainer(recipe, accelerator)
        loaders = (
            DataLoader(Batches(pictures, labels, recipe.batch_size, seed), batch_size=None),
            DataLoader(Batches(as_tensor(validation[0]), wanted, recipe.batch_size), batch_size=None),
        )
        trainer.fit(module, *loaders)
    assert module.best is not None, "an epoch ended"
    _, best, state = module.best
    module.load_state_dict(state)
    described = {"seed": seed, "recipe": asdict(recipe), "best_epoch": best + 1}
    classifier = Classifier(design, module.network.eval(), module.loss.eval(), recipe.scale(best), described)
    return Trained(classifier, best + 1, pd.DataFrame(module.rows))


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


@contextmanager
def silence() -> Iterator[None]:
    """Keep Lightning from greeting, advising and warning about how many processes load its data."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)


def quiet_trainer(recipe: ClassificationRecipe, accelerator: str) -> pl.Trainer:
    """Lightning without files, bars or greetings."""
    stopping: list[pl.Callback] = []
    if recipe.stop_patience is not None:
        stopping.append(pl.callbacks.EarlyStopping("val_loss", patience=recipe.stop_patience))
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=PRECISIONS[recipe.precision],
        max_epochs=recipe.epochs,
        logger=False,
        callbacks=stopping,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
