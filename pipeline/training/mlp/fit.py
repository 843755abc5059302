"""Train all members: each with its own seed, rate, batch order, plateaus and end."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.core.errors import UserError
from pipeline.training.mlp.data import Order
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.optimizers import build as build_optimizer
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.schedules import Schedule
from pipeline.training.mlp.setup import Setup, prepare
from pipeline.training.mlp.stack import Workspace
from pipeline.training.mlp.swa import SWA

Outcome = Literal["training", "stopped early", "all epochs", "diverged", "pruned"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one member: the learning rate it ended with, and its losses."""

    member: int
    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_mae: float


@dataclass(frozen=True)
class Score:
    """What became of one member; losses and MAE are those of its best epoch (0: none was finite)."""

    member: int
    seed: int
    learning_rate: float
    epochs: int
    best_epoch: int
    train_loss: float
    val_loss: float
    val_mae: float
    outcome: Outcome

    @property
    def diverged(self) -> bool:
        """Whether a loss became infinite or NaN; the weights kept are those of the best epoch before."""
        return self.outcome == "diverged"


@dataclass(frozen=True)
class StackResult:
    """Trained members, how they fared, and every epoch in the order member, epoch.

    `seconds` holds the time that each member took: the only part that differs from run to run.
    """

    members: Members
    scores: tuple[Score, ...]
    history: tuple[EpochRecord, ...]
    seconds: tuple[float, ...]


OnEpoch = Callable[[Sequence[EpochRecord]], Collection[int] | None]


class Member:
    """One member in training: what is its own, beside its row in the stack."""

    def __init__(
        self, number: int, seed: int, rate: float, order: Order, optimizer: Optimizer, recipe: Recipe
    ) -> None:
        self.number, self.seed, self.rate = number, seed, rate
        self.order = order
        self.optimizer = optimizer
        self.schedule = Schedule(optimizer, recipe)
        self.outcome: Outcome = "training"
        self.history: list[EpochRecord] = []
        self.best: EpochRecord | None = None
        self.seconds = 0.0

    def weights(self, row: Tensor) -> Tensor:
        """What is validated and kept: the averaged weights under SWA, else the row itself."""
        return self.optimizer.averaged if isinstance(self.optimizer, SWA) else row

    def learning_rate(self) -> float:
        """The optimiser's present rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def score(self) -> Score:
        """What became of it."""
        best = self.best or EpochRecord(self.number, 0, self.rate, math.nan, math.nan, math.nan)
        return Score(
            member=self.number,
            seed=self.seed,
            learning_rate=self.rate,
            epochs=len(self.history),
            best_epoch=best.epoch,
            train_loss=best.train_loss,
            val_loss=best.val_loss,
            val_mae=best.val_mae,
            outcome=self.outcome,
        )


class Training:
    """One stack in training, an epoch at a time."""

    def __init__(
        self, setup: Setup, members: range, seeds: Sequence[int], rates: Sequence[float], kept: Tensor
    ) -> None:
        recipe = setup.recipe
        self.setup = setup
        self.kept = kept
        self.stack = setup.stack([seeds[k] for k in members])
        self.members = [
            Member(
                k, seeds[k], rates[k], setup.order(seeds[k]), build_optimizer(row, rates[k], recipe), recipe
            )
            for k, row in zip(members, self.stack.parameters, strict=True)
        ]
        for member, row in zip(self.members, self.stack.rows, strict=True):
            kept[member.number].copy_(row)

    def epoch(self, space: Workspace) -> list[EpochRecord]:
        """Train every member for one epoch, then validate it."""
        started = time.perf_counter()
        setup = self.setup
        orders = torch.stack([member.order.epoch() for member in self.members]).to(setup.device)
        total = torch.zeros(len(self.members), device=setup.device)
        for batch in torch.split(orders, setup.recipe.batch_size, dim=1):
            losses, gradients = self.stack.losses_and_gradients(setup.train, batch, setup.loss, space)
            for member, parameter, gradient in zip(
                self.members, self.stack.parameters, gradients, strict=True
            ):
                parameter.grad = gradient
                member.optimizer.step()
            total += losses * batch.shape[1]
        means = (total / orders.shape[1]).tolist()
        rows = torch.stack([m.weights(row) for m, row in zip(self.members, self.stack.rows, strict=True)])
        val_losses, val_maes = self._validate(rows)
        for index, member in enumerate(self.members):
            record = EpochRecord(
                member.number,
                len(member.history) + 1,
                member.learning_rate(),
                means[index],
                val_losses[index],
                val_maes[index],
            )
            self._take(member, record, rows[index])
        elapsed = (time.perf_counter() - started) / len(self.members)
        for member in self.members:
            member.seconds += elapsed
        return [member.history[-1] for member in self.members]

    @torch.no_grad()
    def _validate(self, rows: Tensor) -> tuple[list[float], list[float]]:
        validation, loss = self.setup.validation, self.setup.loss
        outputs = self.stack.outputs(validation.vectors, rows)
        targets = validation.targets.expand(len(rows), -1)
        errors = (loss.prediction(outputs) - targets).abs().mean(-1)
        return loss(outputs, targets).tolist(), errors.tolist()

    def _take(self, member: Member, record: EpochRecord, row: Tensor) -> None:
        member.history.append(record)
        if not (math.isfinite(record.train_loss) and math.isfinite(record.val_loss)):
            member.outcome = "diverged"
            return
        if member.schedule.step(record.val_loss):
            member.best = record
            self.kept[member.number].copy_(row)
        if member.schedule.exhausted:
            member.outcome = "stopped early"
        elif record.epoch == self.setup.recipe.epochs:
            member.outcome = "all epochs"

    def shrink(self) -> list[Member]:
        """Let members that have come to their end leave the stack; they are returned."""
        ended = [member for member in self.members if member.outcome != "training"]
        if ended:
            self.stack.keep([k for k, m in enumerate(self.members) if m.outcome == "training"])
            self.members = [member for member in self.members if member.outcome == "training"]
        return ended


def fit_stack(
    train_x: Any,
    train_y: Any,
    val_x: Any,
    val_y: Any,
    *,
    seeds: Sequence[int],
    learning_rates: Sequence[float] | float,
    recipe: Recipe | None = None,
    train_weight: Any = None,
    device: str | torch.device = "cpu",
    stack_size: int | None = None,
    workers: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> StackResult:
    """Train one member per seed, all at once.

    A member's result is that of the same seed trained alone: initial weights as under
    `torch.manual_seed(seed)`, batches as from `DataLoader(shuffle=True)` with a generator of that seed, and
    learning rate, averaging, plateaus, early stop and end of its own. A member whose loss becomes infinite
    or NaN is marked and leaves; it changes nobody else's numbers.

    Parameters
    ----------
    train_x, train_y, val_x, val_y
        Vectors (N, D) and targets (N,), arrays or tensors.
    seeds
        One per member.
    learning_rates
        One for all, or one per member.
    recipe
        Everything else about the training; None is the paper's.
    train_weight
        One positive number per training face, or None. Only their ratios matter.
    device
        A torch device.
    stack_size
        Members per stack. None: one on a CPU, where a stack of one stays in a core's cache and its numbers
        are bit for bit the same in any company; all of them on an accelerator, where one batched product
        per layer fills the device.
    workers
        Threads, each training one stack at a time; None: as many as torch has.
    on_epoch
        Called after each epoch with the records of all members still training, in their order; the numbers
        of members that it returns are stopped ("pruned").

    Returns
    -------
    StackResult
        With each member's weights of its best validation loss.

    Raises
    ------
    UserError
        For vectors, targets, weights, seeds or settings that cannot be trained on.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 80)[:, None]
    >>> recipe = Recipe(hidden=(8,), epochs=3)
    >>> result = fit_stack(x, 2 * x[:, 0], x, 2 * x[:, 0], seeds=[1, 2], learning_rates=0.01, recipe=recipe)
    >>> [(score.seed, score.epochs, score.outcome) for score in result.scores]
    [(1, 3, 'all epochs'), (2, 3, 'all epochs')]
    """
    if len(seeds) == 0:
        raise UserError("no seeds to train: list at least one")
    rates = [learning_rates] * len(seeds) if isinstance(learning_rates, int | float) else list(learning_rates)
    if len(rates) != len(seeds):
        raise UserError(
            f"{len(seeds)} seeds, but {len(rates)} learning rates: give one per seed, or one for all"
        )
    setup = prepare(train_x, train_y, val_x, val_y, train_weight, recipe or Recipe(), device)
    size = stack_size or setup.default_stack_size(len(seeds))
    kept = torch.zeros(len(seeds), setup.layout.row)
    trainings = [
        Training(setup, range(len(seeds))[start : start + size], seeds, rates, kept)
        for start in range(0, len(seeds), size)
    ]
    ended: list[Member] = []
    with setup.workers(workers, size) as pool:
        while trainings:
            records = pool.map(Training.epoch, trainings)
            stopped = on_epoch([r for part in records for r in part]) if on_epoch is not None else None
            for training in trainings:
                for member in training.members:
                    if stopped and member.number in stopped and member.outcome == "training":
                        member.outcome = "pruned"
                ended += training.shrink()
            trainings = [training for training in trainings if training.members]
    ended.sort(key=lambda member: member.number)
    return StackResult(
        members=setup.members(kept, seeds),
        scores=tuple(member.score() for member in ended),
        history=tuple(record for member in ended for record in member.history),
        seconds=tuple(member.seconds for member in ended),
    )
