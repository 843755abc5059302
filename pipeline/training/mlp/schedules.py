"""When a member's learning rate falls, and when the member stops: by its own validation loss."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pipeline.training.mlp.recipe import Recipe


class Schedule:
    """torch's ReduceLROnPlateau, and early stopping as Lightning has it, for one member.

    Parameters
    ----------
    optimizer
        The member's.
    recipe
        Gives the two patiences and the factor.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe) -> None:
        self.plateau = ReduceLROnPlateau(optimizer, factor=recipe.lr_factor, patience=recipe.lr_patience)
        self.patience = recipe.stop_patience
        self.best = math.inf
        self.waited = 0

    def step(self, val_loss: float) -> bool:
        """Take in one epoch's validation loss; True where it is the best so far."""
        self.plateau.step(val_loss)
        improved = val_loss < self.best
        self.best = min(val_loss, self.best)
        self.waited = 0 if improved else self.waited + 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether the member has gone without a better loss for as long as it may."""
        return self.waited >= self.patience
