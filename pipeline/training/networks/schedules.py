"""Optimisers of a backbone and its head, and how their learning rates move: torch's own, by name."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from torch.optim import SGD, Adadelta, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from pipeline.core.errors import UserError
from pipeline.training.networks.recipe import Recipe


class Schedule(NamedTuple):
    """A scheduler of torch's, and whether it moves after every step or every epoch."""

    scheduler: LRScheduler | ReduceLROnPlateau
    every: Literal["step", "epoch"]

    def after_step(self) -> None:
        """Move the rate if it moves by steps."""
        if self.every == "step":
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """Move the rate if it moves by epochs."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        elif self.every == "epoch":
            self.scheduler.step()


def build_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    """The optimiser of a recipe over groups of parameters, each with its own rate."""
    fused = recipe.clip is None  # Lightning cannot clip what a fused optimiser might unscale itself
    builders: dict[str, Callable[..., Optimizer]] = {
        "sgd": partial(SGD, momentum=recipe.momentum, fused=fused),
        "adam": partial(Adam, fused=fused),
        "adamw": partial(AdamW, fused=fused),
        "adadelta": Adadelta,
    }
    return builders[recipe.optimizer](groups)


def step(optimizer: Optimizer, epochs: int = 50, factor: float = 0.1) -> Schedule:
    """Times `factor` after every so many epochs (ComboLoss: 0.1 after each 50)."""
    return Schedule(StepLR(optimizer, epochs, factor), "epoch")


def halving(optimizer: Optimizer, steps: int = 10_000, factor: float = 0.5) -> Schedule:
    """Times `factor` after every so many steps (Unimodal-Concentrated: halved after each 10,000)."""
    return Schedule(StepLR(optimizer, steps, factor), "step")


def plateau(optimizer: Optimizer, patience: int = 5, factor: float = 0.1) -> Schedule:
    """Times `factor` after so many epochs without a better validation loss."""
    return Schedule(ReduceLROnPlateau(optimizer, factor=factor, patience=patience), "epoch")


def one_cycle(optimizer: Optimizer, total_steps: int, warmup: float = 0.3) -> Schedule:
    """Up to the recipe's rate during a share of all steps, then down to nearly nothing.

    Source: Smith and Topin, Super-Convergence, 2018.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    momentum = "betas" in optimizer.defaults or optimizer.defaults.get("momentum", 0) > 0
    scheduler = OneCycleLR(
        optimizer, highest, total_steps=total_steps, pct_start=warmup, cycle_momentum=momentum
    )
    return Schedule(scheduler, "step")


def build_schedule(optimizer: Optimizer, recipe: Recipe, total_steps: int) -> Schedule | None:
    """The schedule of a recipe; None for a constant rate.

    Raises
    ------
    UserError
        For a setting that the schedule does not have.
    """
    if recipe.schedule == "constant":
        return None
    builders: dict[str, Callable[..., Schedule]] = {
        "step": step,
        "halving": halving,
        "plateau": plateau,
        "one_cycle": partial(one_cycle, total_steps=total_steps),
    }
    try:
        return builders[recipe.schedule](optimizer, **recipe.schedule_settings)
    except TypeError as error:
        settings = ", ".join(recipe.schedule_settings)
        raise UserError(
            f"schedule {recipe.schedule!r} does not take the settings {settings}: {error}"
        ) from None
