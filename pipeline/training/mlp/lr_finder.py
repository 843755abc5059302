"""The learning-rate range test, for all members at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.optim import Optimizer

from pipeline.core.errors import UserError
from pipeline.training.mlp.optimizers import build as build_optimizer
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.setup import Setup, prepare
from pipeline.training.mlp.stack import Workspace

SMOOTHING = 0.98
SKIP_BEGIN, SKIP_END = 10, 1


@dataclass
class RangeTest:
    """The curve of one member: the rate of each step, and the smoothed loss that it met.

    Examples
    --------
    >>> losses = [9.0] * 14 + [5.0, 4.0] + [3.9] * 4
    >>> test = RangeTest(seed=1, rates=[0.1 * k for k in range(1, 21)], losses=losses)
    >>> round(test.suggestion, 1)
    1.5
    """

    seed: int
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stopped: bool = False
    _average: float = 0.0
    _best: float = 0.0

    def take(self, rate: float, loss: float, stop_factor: float | None) -> None:
        """Add the loss of one batch; a loss `stop_factor` times above the best ends the test."""
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        step = len(self.losses) + 1
        smoothed = self._average / (1 - SMOOTHING ** (step + 1))
        self.stopped = stop_factor is not None and step > 1 and smoothed > stop_factor * self._best
        if step == 1 or smoothed < self._best:
            self._best = smoothed
        self.rates.append(rate)
        self.losses.append(smoothed)

    @property
    def suggestion(self) -> float | None:
        """The rate where the smoothed loss falls most steeply, the first 10 points and the last left out.

        None where fewer than two finite points are left, or the loss falls nowhere.
        """
        losses = torch.tensor(self.losses[SKIP_BEGIN:-SKIP_END])
        rates = torch.tensor(self.rates[SKIP_BEGIN:-SKIP_END])
        finite = losses.isfinite()
        if not (losses[finite].diff() < 0).any():  # slopes between rates so close together are never quite 0
            return None
        (slopes,) = torch.gradient(losses[finite], spacing=[rates[finite]])
        steepest = finite.nonzero().flatten()[slopes.argmin()]
        return self.rates[SKIP_BEGIN + int(steepest)]


def find_lr(
    train_x: Any,
    train_y: Any,
    *,
    seeds: Sequence[int],
    recipe: Recipe | None = None,
    min_lr: float = 1e-8,
    max_lr: float = 1.0,
    steps: int = 100,
    stop_factor: float | None = 4.0,
    train_weight: Any = None,
    device: str | torch.device = "cpu",
    stack_size: int | None = None,
    workers: int | None = None,
    on_tested: Callable[[int], object] | None = None,
) -> list[RangeTest]:
    """Test rising learning rates on every member, as Lightning's Tuner.lr_find does on one.

    Source: Smith, Cyclical learning rates for training neural networks, 2017, section 3.3.

    Each member starts as it does in `fit_stack`: same initial weights, same batches. Under SWA it is plain
    SGD that is tested, since averaging would impose its own rate after a few steps.

    Parameters
    ----------
    train_x, train_y
        Vectors (N, D) and targets (N,).
    seeds
        One per member.
    recipe
        How the members are going to be trained.
    min_lr, max_lr, steps
        The first rate, the last, and how many; they rise exponentially.
    stop_factor
        A member's test ends when its smoothed loss exceeds its best by this factor; None: never.
    train_weight, device, stack_size, workers
        As in `fit_stack`.
    on_tested
        Called from a worker's thread with the number of members that it has just done with.

    Raises
    ------
    UserError
        As `fit_stack`; and for rates that do not rise.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 256)[:, None]
    >>> (test,) = find_lr(x, 5 * x[:, 0], seeds=[3], recipe=Recipe(hidden=(8,)))
    >>> 1e-8 < test.suggestion < 1
    True
    """
    if not 0 < min_lr < max_lr:
        raise UserError(f"learning rates from {min_lr:g} to {max_lr:g}: they must be above 0 and rise")
    if steps < SKIP_BEGIN + SKIP_END + 2:
        raise UserError(f"{steps} steps of the learning-rate finder: at least {SKIP_BEGIN + SKIP_END + 2}")
    recipe = recipe or Recipe()
    setup = prepare(train_x, train_y, train_x, train_y, train_weight, recipe, device)
    size = stack_size or setup.default_stack_size(len(seeds))
    groups = [list(seeds[start : start + size]) for start in range(0, len(seeds), size)]
    rates = [min_lr, *(min_lr * (max_lr / min_lr) ** (k / steps) for k in range(2, steps + 1))]

    def test(group: list[int], space: Workspace) -> list[RangeTest]:
        done = _test(setup, group, rates, stop_factor, space)
        if on_tested is not None:
            on_tested(len(group))
        return done

    with setup.workers(workers, size) as pool:
        return [result for part in pool.map(test, groups) for result in part]


def _test(
    setup: Setup, seeds: list[int], rates: list[float], stop_factor: float | None, space: Workspace
) -> list[RangeTest]:
    recipe = setup.recipe
    plain = replace(recipe, optimizer="sgd") if recipe.optimizer == "swa" else recipe
    stack = setup.stack(seeds)
    optimizers: list[Optimizer] = [build_optimizer(row, rates[0], plain) for row in stack.parameters]
    orders = [setup.order(seed) for seed in seeds]
    results = [RangeTest(seed) for seed in seeds]
    batches: list[torch.Tensor] = []
    for rate in rates:
        if not batches:
            epoch = torch.stack([order.epoch() for order in orders]).to(setup.device)
            batches = list(torch.split(epoch, recipe.batch_size, dim=1))
        losses, gradients = stack.losses_and_gradients(setup.train, batches.pop(0), setup.loss, space)
        for k, loss in enumerate(losses.tolist()):
            if not results[k].stopped:
                results[k].take(rate, loss, stop_factor)
                optimizers[k].param_groups[0]["lr"] = rate
                stack.parameters[k].grad = gradients[k]
                optimizers[k].step()
        if all(result.stopped for result in results):
            break
    return results
