"""Losses on C - 1 yes-or-no questions, 'is the target above label k?', in place of C labels.

CORAL and CORN are coral-pytorch's (Raschka), called by our names; OR-CNN has CORAL's formula, its questions
being answered by weights of their own.
"""

from collections.abc import Sequence

import torch
from coral_pytorch.dataset import proba_to_label
from coral_pytorch.losses import coral_loss
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.base import times_weight, widened
from pipeline.losses.labels import LabelledLoss, Labels, nearest


class OrdinalLoss(LabelledLoss):
    """The cross-entropies of all questions, summed.

    Parameters
    ----------
    labels
        As for every loss over labels. Targets between two labels count as the nearer one.
    importance
        The weight of each of the C - 1 questions; None: all 1.
    """

    importance: Tensor | None

    def __init__(self, labels: Labels = None, importance: Sequence[float] | None = None) -> None:
        super().__init__(labels)
        values = None if importance is None else torch.as_tensor(importance, dtype=torch.float32)
        if values is not None and self.labels is not None and len(values) != len(self.labels) - 1:
            labels = len(self.labels)
            raise UserError(
                f"{len(values)} weights of importance for {labels} labels: give one for each but the last"
            )
        self.register_buffer("importance", values, persistent=False)

    @property
    def outputs(self) -> int | None:
        """One less than there are labels, None while these are left to the outputs."""
        return None if self.labels is None else len(self.labels) - 1

    def ranks(self, output: Tensor, target: Tensor) -> Tensor:
        """How many labels each target is above, (..., N)."""
        return nearest(self.values(output.shape[-1] + 1, output), target)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """As coral_pytorch.losses.coral_loss, for any leading dimensions."""
        questions = torch.arange(output.shape[-1], device=output.device)
        levels = (questions < self.ranks(output, target).unsqueeze(-1)).to(output.dtype)
        weights = None if self.importance is None else self.importance.to(output.dtype)
        return summed(output, levels, weights).view(target.shape)

    def above(self, output: Tensor) -> Tensor:
        """The probability of each 'yes', (..., N, C - 1)."""
        return widened(output).sigmoid()

    def probabilities(self, output: Tensor) -> Tensor:
        """The probability of each label: how much less probable 'yes' is above it than below it.

        Where the answers contradict each other ('above 30, but not above 20') the later one is lowered.
        """
        above = self.above(output).cummin(-1).values
        ones, zeros = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
        return torch.cat([ones, above], -1) - torch.cat([above, zeros], -1)

    def prediction(self, output: Tensor) -> Tensor:
        """The label that is above as many as there are answers 'yes', as all three papers have it."""
        above = self.above(output)
        rank: Tensor = proba_to_label(above.flatten(0, -2)).view(above.shape[:-1])
        return self.values(output.shape[-1] + 1, above)[rank]


def summed(logits: Tensor, levels: Tensor, weights: Tensor | None) -> Tensor:
    """coral-pytorch's loss of every sample, in one dimension; `weights` broadcast against `levels`."""
    rows = (logits.flatten(0, -2), levels.flatten(0, -2))
    if weights is not None and weights.ndim > 1:
        weights = weights.flatten(0, -2)
    result: Tensor = coral_loss(*rows, importance_weights=weights, reduction=None)
    return result


class CORALLoss(OrdinalLoss):
    """Consistent rank logits: all questions share one weight vector and differ in their bias.

    Source: Cao, Mirjalili and Raschka, Rank consistent ordinal regression for neural networks, Pattern
    Recognition Letters 2020, equation 4. Consistency needs coral_pytorch.layers.CoralLayer as the last layer.

    Examples
    --------
    >>> loss = CORALLoss(labels=[20.0, 30.0, 40.0])
    >>> logits = torch.tensor([[4.0, -2.0]])
    >>> loss(logits, torch.tensor([30.0])), loss.prediction(logits)
    (tensor(0.1451), tensor([30.]))
    """


class ORCNNLoss(OrdinalLoss):
    """Ordinal regression by independent binary classifiers.

    Source: Niu et al., Ordinal regression with multiple output CNN for age estimation, CVPR 2016, equation 2.
    Its two outputs for each question appear here as one, their difference, which is the same function.
    """


class CORNLoss(OrdinalLoss):
    """Conditional questions: whether it is above label k, given that it is above label k - 1.

    Source: Shi, Cao and Raschka, Deep neural networks for rank-consistent ordinal regression based on
    conditional probabilities, 2021, equation 8: only samples above label k - 1 take part in question k, and
    the mean is over all answers that were asked for, not over samples.

    Examples
    --------
    >>> loss = CORNLoss(labels=3)
    >>> loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 2.0]))
    tensor(1.0444)
    """

    def __init__(self, labels: Labels = None) -> None:
        super().__init__(labels)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The cross-entropies of the questions that a sample takes part in, summed."""
        questions = torch.arange(output.shape[-1], device=output.device)
        ranks = self.ranks(output, target).unsqueeze(-1)
        levels, asked = (questions < ranks).to(output.dtype), (questions <= ranks).to(output.dtype)
        return summed(output, levels, asked).view(target.shape)

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean over all answers, those of a sample times its weight."""
        losses = self.per_sample(output, target)
        asked = (self.ranks(output, target.to(losses.dtype)) + 1).clamp_max(output.shape[-1])
        return times_weight(losses, weight).sum(-1) / asked.sum(-1)

    def above(self, output: Tensor) -> Tensor:
        """The product of the conditional probabilities up to each question."""
        return widened(output).sigmoid().cumprod(-1)
