"""How a classifier is trained, and what a step, an epoch and a checkpoint of its training are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.training.networks.arrays import Distortion
from pipeline.training.networks.classifier import Design

SCALES = (1 / 255, 1 / 512)
"""What pixels are multiplied by, first and later (EmoSynthNet thesis, section 3.3.2)."""
TRAINING_KEY = "vec2age_classifier_training"
Row = dict[str, float]


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
        Whether training samples are weighted by the inverse frequency of their class; not with losses that
        weigh classes by themselves (`class_balanced`, `dwb`), where rare ones would count twice.
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
        self.seed = seed
        self.draws = torch.Generator()
        self.sums = (0.0, 0, 0)
        self.judged: list[tuple[Tensor, Tensor]] = []
        self.rows: list[Row] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.plateau: ReduceLROnPlateau | None = None
        self.plateau_state: dict[str, Any] | None = None

    def on_train_start(self) -> None:
        """Take up the schedule of a resumed run."""
        if self.plateau is not None and self.plateau_state is not None:
            self.plateau.load_state_dict(self.plateau_state)

    def on_train_epoch_start(self) -> None:
        """Seed what is random, anew in every epoch: a resumed run goes on alike."""
        torch.manual_seed(derive_seed(self.seed, "dropout", self.current_epoch))
        self.draws.manual_seed(derive_seed(self.seed, "distortion", self.current_epoch))
        self.sums, self.judged = (0.0, 0, 0), []

    def on_train_epoch_end(self) -> None:
        """Lower the rate where the validation loss does not fall any more."""
        if self.plateau is not None:
            self.plateau.step(self.val_loss)

    def output_of(self, images: Tensor) -> Tensor:
        """What the network puts out for scaled pictures, in float32."""
        output: Tensor = self.network(images.to(memory_format=torch.channels_last))
        return output.float()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """A step; a loss that is no number ends the training."""
        pictures, labels = batch
        images = pictures.float() * self.recipe.scale(self.current_epoch)
        if self.recipe.zoom or self.recipe.shear or self.recipe.flip:
            images = self.distortion(images, self.draws)
        output = self.output_of(images)
        weight = None if self.weights is None else self.weights.to(labels.device)[labels]
        with torch.autocast(images.device.type, enabled=False):
            value: Tensor = self.loss(output, labels, weight)
        if not torch.isfinite(value):
            raise UserError(
                f"the loss {self.recipe.loss} is {value.item()} in epoch {self.current_epoch + 1}, batch "
                f"{batch_idx + 1}: take a lower learning rate than {self.recipe.lr:g}"
            )
        total, right, count = self.sums
        self.sums = (
            total + value.item() * len(labels),
            right + self.count_right(output.detach(), labels),
            count + len(labels),
        )
        return value

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the network puts out."""
        pictures, labels = batch
        output = self.output_of(pictures.float() * self.recipe.scale(self.current_epoch))
        self.judged.append((output, labels))

    def count_right(self, output: Tensor, labels: Tensor) -> int:
        """How many pictures are called what they are."""
        return int((self.loss.prediction(output) == labels).sum())

    def on_validation_epoch_end(self) -> None:
        """Note the epoch; keep its weights if its validation loss is the lowest so far."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        total, right, count = self.sums
        # Of all pictures at once: the symmetric cross-entropy of a picture depends on those beside it.
        output, labels = (torch.cat(parts) for parts in zip(*self.judged, strict=True))
        self.judged = []
        self.rows.append(
            {
                "epoch": self.current_epoch + 1,
                "lr": optimizer.param_groups[0]["lr"],
                "scale": self.recipe.scale(self.current_epoch),
                "train_loss": total / count,
                "train_accuracy": right / count,
                "val_loss": self.loss(output, labels).item(),
                "val_accuracy": self.count_right(output, labels) / len(labels),
            }
        )
        loss = self.val_loss
        self.log("val_loss", loss)
        if self.best is None or loss < self.best[0]:
            state = {name: value.detach().clone() for name, value in self.state_dict().items()}
            self.best = (loss, self.current_epoch, state)

    @property
    def val_loss(self) -> float:
        """The validation loss of the last epoch."""
        loss = self.rows[-1]["val_loss"]
        return loss if math.isfinite(loss) else math.inf

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser over network and loss. Its rate is lowered here.

        Lightning moves the rate after it has written an epoch's checkpoint, and does not make up for it when
        a run is resumed.
        """
        recipe = self.recipe
        shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(self.parameters(), **shared)
            if recipe.optimizer == "adam"
            else torch.optim.SGD(self.parameters(), momentum=recipe.momentum, **shared)
        )
        self.plateau = ReduceLROnPlateau(optimizer, patience=recipe.lr_patience, factor=recipe.lr_factor)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """History, best weights and schedule go with the last weights."""
        checkpoint[TRAINING_KEY] = {
            "rows": self.rows,
            "best": self.best,
            "plateau": self.plateau and self.plateau.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And come back with them."""
        found = checkpoint[TRAINING_KEY]
        self.rows = list(found["rows"])
        self.best = found["best"]
        self.plateau_state = found["plateau"]
