"""What all losses share: shape checks, half precision, weights, the mean over samples."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError


def weighted_mean(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of w l over the last dimension.

    Weights have a mean of 1 over the data set, not in each batch: divided by the batch's own sum of weights,
    rare groups would lose by it, since a batch that holds more of a rare group has a larger sum.

    Examples
    --------
    >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0]))
    tensor(3.)
    """
    return times_weight(losses, weight).mean(-1)


def times_weight(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The losses of samples times their weights; `ValueError` where there is not one for each."""
    if weight is None:
        return losses
    if weight.shape != losses.shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, the losses have {tuple(losses.shape)}")
    return losses * weight.to(losses.dtype)


class TargetError(UserError):
    """A target that a loss is not defined for: its row, and what is wrong with it."""

    def __init__(self, target: float, row: int, why: str) -> None:
        super().__init__(f"target {target:g} in row {row}: {why}")
        self.row = row
        self.why = why


def refuse_targets(wrong: Tensor, target: Tensor, sentence: str) -> None:
    """Raise `TargetError` naming the first target for which `wrong` holds, and its row."""
    rows = wrong.nonzero()
    if len(rows):
        row = int(rows[0, 0])
        raise TargetError(target[row].item(), row, sentence)


def widened(output: Tensor) -> Tensor:
    """Half precision as float32, which probabilities and their moments need; all else as it is."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


class Loss(nn.Module, ABC):
    """A loss of one batch, as a weighted mean of the losses of its samples.

    A subclass writes `formula`, and what its paper adds to it. Half-precision outputs are taken to float32
    first: variances, logarithms and sums over labels do not survive 8 or 11 bits.
    """

    output_dims = 0
    """Dimensions of an output beyond those of a target: 0 for one number, 1 for (N, C)."""

    @abstractmethod
    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample, shaped like `target`; any leading dimensions stay."""

    @property
    def outputs(self) -> int | None:
        """How many numbers a network must put out for this loss; None where any number will do."""
        return 1

    def prediction(self, output: Tensor) -> Tensor:
        """The predicted values that outputs stand for, on the scale of the targets."""
        return widened(output)

    @property
    def remedy(self) -> str:
        """What to do when this loss stops being a number."""
        return "lower the learning rate"

    def learn(self, target: Tensor) -> dict[str, Any]:
        """Settings that this loss takes from the training targets (N,), where it was not given them."""
        return {}

    def check_targets(self, target: Tensor) -> None:
        """Refuse targets (N,) for which this loss is not defined, once, before a training.

        Raises
        ------
        UserError
            With the row and value of the first such target.
        """
        refuse_targets(~target.isfinite(), target, "not a finite number, correct or remove it")

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample.

        Parameters
        ----------
        output
            (..., N) or, for losses on logits, (..., N, C).
        target
            (..., N). Leading dimensions, such as the members of a stack, are kept.

        Returns
        -------
        Tensor
            (..., N), float32 or wider.

        Raises
        ------
        ValueError
            If the shapes do not belong together; both are named.
        """
        if output.shape[: output.ndim - self.output_dims] != target.shape:
            wanted = "(N, C) and (N,)" if self.output_dims else "(N,) and (N,)"
            raise ValueError(
                f"output has shape {tuple(output.shape)} and target {tuple(target.shape)}: not {wanted}"
            )
        output = widened(output)
        return self.formula(output, target.to(output.dtype))

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The weighted mean over the samples: a scalar for (N,) targets, one per member for (members, N).

        Parameters
        ----------
        output, target
            As in `per_sample`.
        weight
            One non-negative number per sample, shaped like `target`; of mean 1 over the data set, so that
            every batch gives each sample, and so each group, its share.
        """
        return weighted_mean(self.per_sample(output, target), weight)


class DivergedError(UserError):
    """A loss that is no longer a number; the sentence says where it happened and what to do."""


def stop_unless_finite(value: Tensor, loss: Loss, where: str) -> None:
    """Stop a training whose loss became infinite or NaN, instead of letting it go on silently.

    Parameters
    ----------
    value
        What the loss returned: a scalar, or one number per member.
    loss
        The loss itself, which knows what may help.
    where
        The place in the training, for the message: "epoch 3, step 120".

    Raises
    ------
    DivergedError
        If a value is not finite.

    Examples
    --------
    >>> from pipeline.losses import build
    >>> stop_unless_finite(torch.tensor(float("nan")), build("mse"), "epoch 3, step 120")
    Traceback (most recent call last):
        ...
    pipeline.losses.base.DivergedError: MSELoss became nan in epoch 3, step 120: lower the learning rate
    """
    wrong = value[~value.isfinite()]
    if wrong.numel():
        raise DivergedError(
            f"{type(loss).__name__} became {wrong.flatten()[0].item():g} in {where}: {loss.remedy}"
        )
