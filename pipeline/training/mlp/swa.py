"""Stochastic weight averaging, in optimiser steps."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD


class SWA(SGD):
    """SGD that averages its weights along the way; `averaged` is the model to validate and keep.

    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization, 2018,
    algorithm 1; its steps counted as torchcontrib.optim.SWA in automatic mode counts them.

    Parameters
    ----------
    parameter
        The one tensor that is trained.
    lr, momentum, weight_decay
        As for SGD; `lr` holds for the first `swa_start` steps.
    swa_start, swa_freq
        After `swa_start` steps, every step whose number `swa_freq` divides enters the average.
    swa_lr
        Rate from step `swa_start` on; None leaves `lr` to its scheduler.
    swa_lr_min
        None for a constant rate, otherwise the rate at the end of each cycle of `swa_freq` steps.

    Examples
    --------
    >>> weights = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = SWA(weights, lr=1.0, swa_start=0, swa_freq=1, swa_lr=None)
    >>> for _ in range(2):
    ...     weights.grad = torch.tensor([1.0])
    ...     optimizer.step()
    >>> weights.data, optimizer.averaged
    (tensor([-1.]), tensor([-0.5000]))
    """

    def __init__(
        self,
        parameter: torch.nn.Parameter,
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        swa_start: int = 10,
        swa_freq: int = 5,
        swa_lr: float | None = 0.05,
        swa_lr_min: float | None = None,
        **settings: Any,
    ) -> None:
        parameters: Iterable[torch.nn.Parameter] = [parameter]
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, **settings)
        self.parameter = parameter
        self.swa_start, self.swa_freq = swa_start, swa_freq
        self.swa_lr, self.swa_lr_min = swa_lr, swa_lr_min
        self.steps = 0
        self.averages = 0
        self.average: Tensor | None = None

    @property
    def averaged(self) -> Tensor:
        """The averaged weights; the weights themselves while nothing has been averaged."""
        return self.parameter.detach() if self.average is None else self.average

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of SGD, and the average where it is due."""
        (group,) = self.param_groups
        scheduled = group["lr"]
        if self.steps >= self.swa_start:
            group["lr"] = self._rate(scheduled)
        super().step(closure)
        if self.swa_lr is None:
            group["lr"] = scheduled  # a cycle is laid over the rate that a scheduler goes on steering
        self.steps += 1
        if self.steps > self.swa_start and self.steps % self.swa_freq == 0:
            if self.average is None:
                self.average = torch.zeros_like(self.parameter)
            self.averages += 1
            self.average.lerp_(self.parameter, 1 / self.averages)

    def _rate(self, scheduled: float) -> float:
        high = scheduled if self.swa_lr is None else self.swa_lr
        if self.swa_lr_min is None:
            return high
        along = (self.steps % self.swa_freq + 1) / self.swa_freq
        return (1 - along) * high + along * self.swa_lr_min
