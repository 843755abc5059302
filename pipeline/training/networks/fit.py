"""Train one network by Lightning's Trainer; what was interrupted goes on where its last epoch ended."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from pipeline.augmentation.transforms import Augmentation
from pipeline.core.errors import UserError
from pipeline.encoders.precision import has_native_bfloat16
from pipeline.training.networks.checkpoints import keepers
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.lightning import (
    BEST,
    DONE,
    LAST,
    AtomicCheckpoints,
    Identity,
    fit,
    has_stopped,
    quiet,
    read_checkpoint,
    threads,
    usable,
)
from pipeline.training.networks.loading import EpochOrder, FaceData, Faces, loader
from pipeline.training.networks.module import HISTORY_KEY, Row, Training
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.recipe import Machine, Recipe


@dataclass(frozen=True)
class Fitted:
    """A trained network, the epoch of its weights, and a row of history for every epoch."""

    network: FaceNetwork
    best_epoch: int
    history: list[Row]
    seconds: float


@dataclass(frozen=True)
class Material:
    """What a network learns from and is chosen on; see `FaceData` for the rest."""

    train: Faces
    validation: Faces
    size: int
    augment: Augmentation | None = None
    signs: torch.Tensor | None = None


class Progress(Callback):
    """Tells after every epoch how far training is."""

    def __init__(self, tell: Callable[[Row], None]) -> None:
        self.tell = tell

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Tell the last row of history."""
        if isinstance(pl_module, Training):
            self.tell(pl_module.history[-1])


class Loaders(pl.LightningDataModule):
    """The two loaders, with each device's share."""

    def __init__(self, material: Material, recipe: Recipe, machine: Machine, seed: int) -> None:
        super().__init__()
        self.material = material
        self.batch_size = max(1, recipe.batch_size // machine.devices)
        self.machine = machine
        self.seed = seed
        # Of a resumed run: processes begin to load before Lightning says which epoch it is.
        self.first_epoch = 0

    def setup(self, stage: str) -> None:
        """Limit the threads of a device's own process."""
        torch.set_num_threads(self.machine.threads or torch.get_num_threads())

    def train_dataloader(self) -> Any:
        """Shuffled and augmented."""
        material = self.material
        data = FaceData(material.train, material.size, material.augment, material.signs, self.seed)
        return loader(data, self._order(len(data), self.seed), self.batch_size, self.machine.loaders)

    def val_dataloader(self) -> Any:
        """As they are; without augmentation there is nothing to do beside the network."""
        data = FaceData(self.material.validation, self.material.size)
        return loader(data, self._order(len(data), None), self.batch_size, 0)

    def _order(self, faces: int, seed: int | None) -> EpochOrder:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        order = EpochOrder(faces, seed, self.batch_size, rank, world)
        order.set_epoch(self.first_epoch)
        return order


def fit_network(
    network: FaceNetwork,
    criterion: Criterion,
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    checkpoints: Path,
    identity: str = "",
    machine: Machine | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> Fitted:
    """Train a network and give it the weights that are to be kept.

    Parameters
    ----------
    network
        With the weights that it starts from; trained in place.
    criterion
        What it learns.
    material
        What it learns from.
    recipe, machine
        How, and on what.
    seed
        Of order, augmentation and dropout.
    checkpoints
        A folder for the state after every epoch. A run that finds one of its own goes on from there, and one
        that was done before is not trained again. Remove it once the result is kept elsewhere.
    identity
        Text that names everything that decides the result; a checkpoint of another is not used.
    on_epoch
        Called with every epoch's row of history; not where several devices train, in processes of their own.

    Returns
    -------
    Fitted
        The same weights whether it was interrupted or not, on the same number of threads.

    Raises
    ------
    UserError
        A loss is not finite (with its name, epoch and step), there are too few faces for one batch, or a
        checkpoint is damaged.
    """
    machine = machine or Machine()
    loaders = Loaders(material, recipe, machine, seed)
    share = EpochOrder(len(material.train), seed, loaders.batch_size, 0, machine.devices)
    steps = math.ceil(len(share) / loaders.batch_size)
    if steps < 1:
        raise UserError(f"{len(material.train)} training faces are too few for {machine.devices} devices")
    network.to(memory_format=torch.channels_last)
    module = Training(network, criterion, recipe, seed=seed, steps_per_epoch=steps)
    tellers = [Progress(on_epoch)] if on_epoch and machine.devices == 1 else []
    resumable = usable(checkpoints, identity)
    start = time.perf_counter()
    done = (checkpoints / DONE).exists()
    if resumable is not None:
        written = read_checkpoint(resumable)
        loaders.first_epoch = len(written[HISTORY_KEY])
        done = done or has_stopped(written)
    if not done:
        train(module, loaders, checkpoints, resumable, [Identity(identity), *tellers], recipe, machine)
        (checkpoints / DONE).touch()
    found = read_checkpoint(checkpoints / LAST)
    history: list[Row] = found[HISTORY_KEY]
    kept = found if recipe.choose == "last" else read_checkpoint(checkpoints / BEST)
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in kept["state_dict"].items() if k.startswith(prefix)}
    network.load_state_dict(state)
    network.frozen = False
    return Fitted(network.eval().cpu(), len(kept[HISTORY_KEY]), history, time.perf_counter() - start)


def train(
    module: Training,
    loaders: Loaders,
    checkpoints: Path,
    resumable: Path | None,
    callbacks: list[Callback],
    recipe: Recipe,
    machine: Machine,
) -> None:
    """Train from the start, or from a checkpoint; what came of it is in the checkpoints."""
    with quiet(), threads(machine.threads), torch.random.fork_rng():
        trainer = pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            strategy="auto" if machine.devices == 1 else "ddp_spawn_find_unused_parameters_true",
            precision=lightning_precision(recipe.precision, module),  # type: ignore[arg-type]
            max_epochs=recipe.epochs,
            gradient_clip_val=recipe.clip,
            callbacks=[*keepers(checkpoints, recipe), *callbacks],
            logger=False,
            plugins=[AtomicCheckpoints()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            sync_batchnorm=machine.devices > 1 and torch.cuda.is_available() and machine.accelerator != "cpu",
        )
        fit(trainer, module, loaders, resumable)


def lightning_precision(precision: str, network: nn.Module) -> str:
    """Lightning's name of a precision; `auto` asks the hardware, and the network.

    On processors, convolutions of single channels (EfficientNet, MobileNet) take twice as long in bfloat16 as
    in float32, whereas others take half as long.
    """
    if precision == "auto":
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        single = any(one.groups == one.in_channels > 1 for one in convolutions)
        fast = has_native_bfloat16() and (torch.cuda.is_available() or not single)
        precision = "bfloat16" if fast else "float32"
    return "bf16-mixed" if precision == "bfloat16" else "32-true"
