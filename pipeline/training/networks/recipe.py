"""How a whole network is trained: everything but its seed, its backbone and its loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.core.errors import UserError

OPTIMIZERS = ("sgd", "adam", "adamw", "adadelta")
PRECISIONS = ("float32", "bfloat16", "auto")
SCHEDULES = ("constant", "step", "plateau", "halving", "one_cycle")


@dataclass(frozen=True)
class HeadRecipe:
    """What stands on the backbone; see `pipeline.training.networks.heads`.

    Parameters
    ----------
    hidden
        Widths of hidden layers.
    activation
        Of the output of losses between numbers: none, sigmoid, tanh.
    span
        Low and high end of the targets, which such an output then holds on a scale from 0 to 1. None: in the
        targets' own unit.
    drop_rate
        Of the dropout before every layer.
    normalise
        Bring features to mean 0 and variance 1 first: pretrained ones may share a large part.
    """

    hidden: tuple[int, ...] = ()
    activation: Literal["none", "sigmoid", "tanh"] = "none"
    span: tuple[float, float] | None = None
    drop_rate: float = 0.0
    normalise: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.span is not None:
            object.__setattr__(self, "span", tuple(self.span))
            if len(self.span) != 2 or not self.span[0] < self.span[1]:
                raise UserError(f"span is {list(self.span)}: it must be a low and a higher number")
        elif self.activation != "none":
            raise UserError(f"activation {self.activation!r} needs a span: low and high end of the targets")


@dataclass(frozen=True)
class Recipe:
    """The settings that all networks of a run share.

    Parameters
    ----------
    optimizer
        sgd, adam, adamw or adadelta.
    lr
        Learning rate of the head, the highest under a schedule that moves it.
    backbone_factor
        The backbone's rate is so many times the head's.
    momentum
        Of sgd.
    weight_decay
        L2 penalty (adamw: decoupled).
    batch_size
        Faces per step, those of all devices together.
    epochs
        Passes over the training faces at most.
    frozen_epochs
        In the first so many only the head trains.
    schedule, schedule_settings
        How the rate moves; see `pipeline.training.networks.schedules`.
    stop_patience
        Epochs without a better validation error before training stops; None: it never does.
    clip
        Largest norm of the gradients; None: any.
    precision
        What convolutions are computed in: float32, bfloat16, or auto (bfloat16 where the hardware has it).
        Weights and losses are float32 either way.
    choose
        Which weights are kept: those with the lowest validation error (`best`), or the `last`.

    Raises
    ------
    UserError
        For a value out of range, with the setting's name.

    Examples
    --------
    >>> Recipe(optimizer="sgd", momentum=0.9, schedule="step").batch_size
    32
    >>> Recipe(epochs=0)
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: epochs is 0: it must be at least 1
    """

    optimizer: str = "adamw"
    lr: float = 1e-3
    backbone_factor: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    frozen_epochs: int = 0
    schedule: str = "constant"
    schedule_settings: Mapping[str, Any] = field(default_factory=dict)
    stop_patience: int | None = None
    clip: float | None = None
    precision: str = "float32"
    choose: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("schedule", SCHEDULES),
            ("choose", ("best", "last")),
        ):
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        for name in ("batch_size", "epochs"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("momentum", "weight_decay", "frozen_epochs", "backbone_factor"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("lr", self.lr > 0, "above 0")
        self._require("clip", self.clip is None or self.clip > 0, "above 0")
        self._require("stop_patience", self.stop_patience is None or self.stop_patience >= 1, "at least 1")
        self._require("frozen_epochs", self.frozen_epochs <= self.epochs, f"at most epochs ({self.epochs})")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise UserError(f"{name} is {getattr(self, name)!r}: it must be {what}")


@dataclass(frozen=True)
class Machine:
    """What a network is trained on.

    Parameters
    ----------
    accelerator
        Lightning's: auto, cpu, gpu, ...
    devices
        How many; more than one train together (DDP).
    threads
        Of one device when it is the processor; results depend on it, so that a number makes them the same on
        every machine. None: as many as there are cores.
    loaders
        Processes that read and augment pictures; 0: none beside the training. Results do not depend on it.
    """

    accelerator: str = "auto"
    devices: int = 1
    threads: int | None = None
    loaders: int = 2
