"""What a step, an epoch and a checkpoint are, for Lightning; the mathematics lies elsewhere."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from pipeline.core.seeds import derive_seed
from pipeline.losses.base import stop_unless_finite
from pipeline.losses.combo import packed
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.loading import Batch
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.recipe import Recipe
from pipeline.training.networks.schedules import Schedule, build_optimizer, build_schedule

HISTORY_KEY, SCHEDULE_KEY = "vec2age_history", "vec2age_schedule"
Row = dict[str, float | int | str]


class Training(pl.LightningModule):
    """A network, its criterion and its recipe.

    Parameters
    ----------
    network, criterion, recipe
        What is trained, towards what, and how.
    seed
        Of everything random in a step, such as dropout, anew in every epoch: a resumed run goes on alike.
    steps_per_epoch
        For schedules that must know where they end.
    """

    def __init__(
        self, network: FaceNetwork, criterion: Criterion, recipe: Recipe, *, seed: int, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.recipe = recipe
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.history: list[Row] = []
        self._sums: dict[str, Tensor] = {}
        self._judged: list[tuple[Tensor, Tensor]] = []
        self._schedule: Schedule | None = None
        self._schedule_state: dict[str, Any] | None = None

    def configure_optimizers(self) -> Optimizer:
        """The optimiser over head and backbone. Its schedule stays here.

        Lightning moves the rate after it has written an epoch's checkpoint, and does not make up for it when
        a run is resumed.
        """
        recipe = self.recipe
        groups = self.network.groups(recipe.lr, recipe.backbone_factor, recipe.weight_decay)
        optimizer = build_optimizer(groups, recipe)
        self._schedule = build_schedule(optimizer, recipe, self.steps_per_epoch * recipe.epochs)
        return optimizer

    def on_train_start(self) -> None:
        """Take up the schedule of a resumed run."""
        if self._schedule is not None and self._schedule_state is not None:
            self._schedule.scheduler.load_state_dict(self._schedule_state)

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw the backbone, and seed what is random."""
        self.network.frozen = self.current_epoch < self.recipe.frozen_epochs
        self.network.train()
        torch.manual_seed(derive_seed(self.seed, "noise", self.current_epoch, self.global_rank))
        self._sums, self._judged = {}, []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of a batch; one that is not finite ends the run with a sentence."""
        loss: Tensor = self.criterion(self.network(batch.pixels), batch.targets, batch.weights)
        where = f"epoch {self.current_epoch + 1}, step {self.global_step + 1}"
        stop_unless_finite(loss.detach(), self.criterion.loss, where)
        self._add("train_loss", loss.detach() * len(batch.rows))
        self._add("faces", torch.tensor(float(len(batch.rows)), device=loss.device))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the rate by a step."""
        if self._schedule is not None:
            self._schedule.after_step()

    def on_train_epoch_end(self) -> None:
        """Move the rate by an epoch."""
        if self._schedule is not None:
            self._schedule.after_epoch(float(self.history[-1]["val_loss"]))

    def validation_step(self, batch: Batch, index: int) -> None:
        """Keep what the network puts out, in float32."""
        self._judged.append((packed(self.network(batch.pixels)), batch.targets))

    def on_validation_epoch_end(self) -> None:
        """Loss and error of all validation faces, of all devices, and a row of history."""
        sums = {
            name: self.trainer.strategy.reduce(value, reduce_op="sum") for name, value in self._sums.items()
        }
        # At once: not every loss is a mean over faces, whose value would not depend on how they are batched.
        output, targets = (
            self._of_all_devices(torch.cat(parts)) for parts in zip(*self._judged, strict=True)
        )
        self._judged = []
        means = {
            "val_loss": float(self.criterion(output, targets)),
            "val_mae": float((self.criterion.prediction(output) - targets).abs().mean()),
        }
        where = f"epoch {self.current_epoch + 1}, on validation faces"
        stop_unless_finite(torch.tensor(means["val_loss"]), self.criterion.loss, where)
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "phase": "head" if self.network.frozen else "all",
                "lr": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
                "train_loss": float(sums["train_loss"] / sums["faces"]),
                **means,
            }
        )
        # Already of all devices.
        self.log_dict(means, rank_zero_only=False, sync_dist=False, prog_bar=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history and the schedule go with the weights."""
        checkpoint[HISTORY_KEY] = self.history
        checkpoint[SCHEDULE_KEY] = self._schedule and self._schedule.scheduler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And come back with them."""
        self.history = list(checkpoint[HISTORY_KEY])
        self._schedule_state = checkpoint[SCHEDULE_KEY]

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _of_all_devices(self, rows: Tensor) -> Tensor:
        """The rows of every device, of which some may have one less than others."""
        if self.trainer.world_size == 1:
            return rows
        counts = cast(Tensor, self.all_gather(torch.tensor(len(rows), device=rows.device)))
        missing = int(counts.max()) - len(rows)
        padding = [0, 0] * (rows.ndim - 1) + [0, missing]
        gathered = cast(Tensor, self.all_gather(functional.pad(rows, padding)))
        return torch.cat([some[:count] for some, count in zip(gathered, counts.tolist(), strict=True)])
