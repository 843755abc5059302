"""What the members of a training share: checked faces on a device, the loss, the layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.losses.base import Loss
from pipeline.training.mlp.data import Faces, Order, Standardisation, checked_faces
from pipeline.training.mlp.layers import Layout
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.stack import SeedStack, Workspace
from pipeline.training.mlp.workers import Workers


@dataclass(frozen=True)
class Setup:
    """Everything that is the same for all members, ready to compute with."""

    recipe: Recipe
    device: torch.device
    train: Faces
    validation: Faces
    standardisation: Standardisation | None
    loss: Loss
    loss_settings: dict[str, Any]
    layout: Layout

    def stack(self, seeds: Sequence[int]) -> SeedStack:
        """Fresh members of these seeds."""
        generators = [
            torch.Generator(self.device).manual_seed(derive_seed(seed, "dropout")) for seed in seeds
        ]
        rows = self.layout.initial(seeds).to(self.device)
        return SeedStack(self.layout, rows, self.recipe.dropout, generators)

    def order(self, seed: int) -> Order:
        """The batch order of one member."""
        return Order(len(self.train.targets), seed)

    def default_stack_size(self, members: int) -> int:
        """One on a CPU, all on an accelerator: see `fit_stack`."""
        return 1 if self.device.type == "cpu" else members

    def workers(self, count: int | None, stack_size: int) -> Workers[Workspace]:
        """Threads for stacks of this size: one core each for single members, all for a larger stack."""
        dtype = self.train.vectors.dtype
        cores = 1 if stack_size == 1 else torch.get_num_threads()
        return Workers(count, lambda: Workspace(self.layout, dtype, self.device), cores)

    def members(self, rows: Tensor, seeds: Sequence[int]) -> Members:
        """Trained rows, with what it takes to predict."""
        return Members(
            self.layout, rows, tuple(seeds), self.recipe.loss, self.loss_settings, self.standardisation
        )


def prepare(
    train_x: Any,
    train_y: Any,
    val_x: Any,
    val_y: Any,
    train_weight: Any,
    recipe: Recipe,
    device: str | torch.device,
) -> Setup:
    """Check and move the faces, learn the standardisation, build the loss, lay out the layers.

    Raises
    ------
    UserError
        As `fit_stack`.
    """
    device = torch.device(device)
    train = checked_faces(train_x, train_y, train_weight, "training")
    validation = checked_faces(val_x, val_y, None, "validation")
    width = train.vectors.shape[1]
    if validation.vectors.shape[1] != width:
        raise UserError(
            f"training vectors are {width} wide, validation vectors {validation.vectors.shape[1]}"
        )
    loss, settings = build_loss(recipe, train.targets, validation.targets)
    standardisation = Standardisation.learn(train.vectors) if recipe.standardise else None
    dtype = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32

    def placed(faces: Faces) -> Faces:
        vectors = faces.vectors if standardisation is None else standardisation(faces.vectors)
        weights = None if faces.weights is None else faces.weights.to(device)
        return Faces(vectors.to(device, dtype), faces.targets.to(device), weights)

    return Setup(
        recipe=recipe,
        device=device,
        train=placed(train),
        validation=placed(validation),
        standardisation=standardisation,
        loss=loss.to(device),
        loss_settings=settings,
        layout=Layout((width, *recipe.hidden, loss.outputs or 1)),
    )


def build_loss(recipe: Recipe, train: Tensor, validation: Tensor) -> tuple[Loss, dict[str, Any]]:
    """The recipe's loss, and its settings with what was left to the targets filled in.

    Labels cover all targets; what else a loss learns, such as the sizes of classes, is learnt on training
    targets.

    Raises
    ------
    UserError
        For a loss that a stack cannot be trained with, or a target that the loss is not defined for, named
        with its row (validation after training).
    """
    losses.refuse(recipe.loss, losses.NOT_IN_A_STACK, "a stack")
    settings = dict(recipe.loss_settings)
    loss = losses.build(recipe.loss, **settings)
    targets = torch.cat([train, validation])
    loss.check_targets(targets)
    if loss.outputs is None:
        low, high = math.floor(float(targets.min())), math.ceil(float(targets.max()))
        settings["labels"] = list(range(low, max(high, low + 1) + 1))
        loss = losses.build(recipe.loss, **settings)
    if loss.output_dims and loss.outputs == 1:
        raise UserError(
            f"loss {recipe.loss!r} with two labels is one output: in a stack, use softmax for two"
        )
    learnt = loss.learn(train)
    return (
        (losses.build(recipe.loss, **settings, **learnt), settings | learnt) if learnt else (loss, settings)
    )
