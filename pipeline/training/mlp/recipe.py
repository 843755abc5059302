"""How one member is trained: everything but its seed and its learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.core.errors import UserError

OPTIMIZERS = ("adam", "adagrad", "sgd", "swa")


@dataclass(frozen=True)
class Recipe:
    """The settings that all members of a stack share; the defaults are the paper's where it gives one.

    Source: Anda et al., Vec2UAge, 2021, sections 3.5 and 3.6, and 4.5 for the early stop's patience; batch
    size, the plateau's patience and factor, and the SWA steps from its published code.

    Parameters
    ----------
    optimizer
        adam, adagrad, sgd or swa (SGD with averaged weights).
    momentum
        Of sgd and swa.
    weight_decay
        L2 penalty, as torch.optim adds it to the gradient.
    swa_start, swa_freq
        Optimiser steps after which averaging starts, and between two averages.
    swa_lr
        Learning rate from `swa_start` on, which then overrides plateaus; None stays at the member's own.
    swa_lr_min
        None: a constant rate. Otherwise each cycle of `swa_freq` steps falls linearly from the rate to this
        one, and its end is what is averaged.
    loss, loss_settings
        A name of `pipeline.losses` and its settings; a label-distribution loss without `labels` gets one
        label per whole number from the lowest to the highest target.
    hidden, dropout
        Widths of the hidden layers; probability of dropping a hidden unit.
    standardise
        Bring every coordinate of the vectors to mean 0 and variance 1, learnt on the training faces.
    batch_size, epochs
        Faces per step; passes over the training faces at most.
    lr_patience, lr_factor
        Epochs without a better validation loss before the learning rate is multiplied by the factor.
    stop_patience
        Epochs without a better validation loss before a member stops.
    precision
        What the matrices are multiplied in; weights and optimiser state are float32 either way.

    Raises
    ------
    UserError
        For a value out of range, with the setting's name.

    Examples
    --------
    >>> Recipe(optimizer="sgd", momentum=0.9).batch_size
    64
    >>> Recipe(optimizer="rmsprop")
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: unknown optimizer 'rmsprop': choose one of adam, adagrad, sgd, swa
    """

    optimizer: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    swa_start: int = 10
    swa_freq: int = 5
    swa_lr: float | None = 0.05
    swa_lr_min: float | None = None
    loss: str = "mse"
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (512, 256, 128)
    dropout: float = 0.0
    standardise: bool = False
    batch_size: int = 64
    epochs: int = 100
    lr_patience: int = 5
    lr_factor: float = 0.1
    stop_patience: int = 10
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"unknown precision {self.precision!r}: choose float32 or bfloat16")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("batch_size", "epochs", "stop_patience", "swa_freq"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("momentum", "weight_decay", "swa_start", "lr_patience"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("hidden", all(width >= 1 for width in self.hidden), "widths of at least 1")
        self._require("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._require("lr_factor", 0 < self.lr_factor < 1, "between 0 and 1")
        self._require("swa_lr", self.swa_lr is None or self.swa_lr > 0, "above 0")
        self._require("swa_lr_min", self.swa_lr_min is None or self.swa_lr_min > 0, "above 0")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise UserError(f"{name} is {getattr(self, name)!r}: it must be {what}")
