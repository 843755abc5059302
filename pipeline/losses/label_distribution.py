"""Losses on a predicted distribution over ordered labels: logits (N, C) against values (N,).

Source of equation numbers: Li et al., Unimodal-Concentrated Loss: Fully Adaptive Label Distribution Learning
for Ordinal Regression, CVPR 2022. Every loss here is a weighted sum of the terms below, so that all
combinations of its Tables 4 and 6 are `LabelDistributionLoss` with other weights.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.base import widened
from pipeline.losses.labels import LabelledLoss, Labels, nearest

# The least weight of the unimodal term that trained in Li et al.'s Table 5; at 0.1 the loss became NaN.
ENOUGH_UNIMODAL = 10.0


class Distribution:
    """Softmax probabilities over labels (equation 2), with the moments that several terms share."""

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        self.labels = labels
        self.log_p = logits.log_softmax(-1)
        self.p = self.log_p.exp()

    @cached_property
    def mean(self) -> Tensor:
        """The expectation (equation 3), (..., N)."""
        return (self.p * self.labels).sum(-1)

    @cached_property
    def variance(self) -> Tensor:
        """The variance (equation 8), (..., N)."""
        return (self.p * (self.labels - self.mean.unsqueeze(-1)).square()).sum(-1)


def softmax_term(predicted: Distribution, target: Tensor) -> Tensor:
    """-ln p of the label nearest to the target; of two equally near, the lower (equation 17, first term)."""
    return -predicted.log_p.gather(-1, nearest(predicted.labels, target).unsqueeze(-1)).squeeze(-1)


def divergence_term(predicted: Distribution, target: Tensor, sigma: float) -> Tensor:
    """KL(d || p) from the Gaussian label d of width `sigma` around the target (equation 1)."""
    log_d = (-(predicted.labels - target.unsqueeze(-1)).square() / (2 * sigma**2)).log_softmax(-1)
    return (log_d.exp() * (log_d - predicted.log_p)).sum(-1)


def expectation_term(predicted: Distribution, target: Tensor) -> Tensor:
    """|mean - target|."""
    return (predicted.mean - target).abs()


def mean_term(predicted: Distribution, target: Tensor) -> Tensor:
    """(mean - target)^2 / 2 (equation 17, second term)."""
    return (predicted.mean - target).square() / 2


def variance_term(predicted: Distribution, target: Tensor) -> Tensor:
    """The variance (equation 17, third term)."""
    return predicted.variance


def unimodal_term(predicted: Distribution, target: Tensor) -> Tensor:
    """By how much neighbours are in the wrong order: rising before the target, falling after (equation 4)."""
    before = predicted.labels[:-1] < target.unsqueeze(-1)
    falls = predicted.p[..., :-1] - predicted.p[..., 1:]
    return torch.where(before, falls, -falls).clamp_min(0).sum(-1)


def concentrated_term(predicted: Distribution, target: Tensor, min_variance: float) -> Tensor:
    """Half of ln v + (mean - target)^2 / v (equation 10 without its constant), v at least `min_variance`."""
    variance = predicted.variance
    # The floor changes the value and not the slope: a wrong and too certain distribution is still pushed to
    # widen, by a gradient that stays finite, where clamping would leave it certain for ever.
    variance = variance + (min_variance - variance).clamp_min(0).detach()
    return (variance.log() + (predicted.mean - target).square() / variance) / 2


class LabelDistributionLoss(LabelledLoss):
    """A weighted sum of terms on the distribution over labels; predictions are its expectation.

    Parameters
    ----------
    labels
        The values of the C labels in ascending order; or their number, for 0..C-1; or None, for 0..C-1 with
        C from the logits.
    softmax, divergence, expectation, mean, variance, unimodal, concentrated
        The terms' weights.
    sigma
        Width of the Gaussian label of `divergence`, in units of the labels.
    min_variance
        Floor of the variance in `concentrated`. None: step^2 / 12 for labels `step` apart, the variance that
        rounding to labels has by itself, below which the targets say nothing.

    Raises
    ------
    UserError
        If the labels are fewer than two or not ascending, or all weights are 0.

    Examples
    --------
    The combination "softmax, mean and variance" of Table 4:

    >>> loss = LabelDistributionLoss(labels=3, softmax=1.0, mean=0.2, variance=0.05)
    >>> loss(torch.zeros(1, 3), torch.tensor([1.0]))
    tensor(1.1319)
    >>> loss.prediction(torch.tensor([[0.0, 0.0, 50.0]]))
    tensor([2.])
    """

    def __init__(
        self,
        labels: Labels = None,
        *,
        softmax: float = 0.0,
        divergence: float = 0.0,
        expectation: float = 0.0,
        mean: float = 0.0,
        variance: float = 0.0,
        unimodal: float = 0.0,
        concentrated: float = 0.0,
        sigma: float = 2.0,
        min_variance: float | None = None,
    ) -> None:
        super().__init__(labels)
        self.sigma = sigma
        self.min_variance = min_variance
        self.weights = {
            "softmax": softmax,
            "divergence": divergence,
            "expectation": expectation,
            "mean": mean,
            "variance": variance,
            "unimodal": unimodal,
            "concentrated": concentrated,
        }
        if not any(self.weights.values()):
            raise UserError(f"a label-distribution loss needs a weight for one of {', '.join(self.weights)}")
        if sigma <= 0:
            raise UserError(f"sigma {sigma:g} of a label-distribution loss: it must be above 0")

    def _predicted(self, logits: Tensor) -> Distribution:
        return Distribution(logits, self.values(logits.shape[-1], logits))

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the terms; terms of weight 0 are not computed."""
        predicted = self._predicted(output)
        terms: dict[str, Callable[[], Tensor]] = {
            "softmax": lambda: softmax_term(predicted, target),
            "divergence": lambda: divergence_term(predicted, target, self.sigma),
            "expectation": lambda: expectation_term(predicted, target),
            "mean": lambda: mean_term(predicted, target),
            "variance": lambda: variance_term(predicted, target),
            "unimodal": lambda: unimodal_term(predicted, target),
            "concentrated": lambda: concentrated_term(predicted, target, self._floor(predicted.labels)),
        }
        parts = [weight * terms[name]() for name, weight in self.weights.items() if weight]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _floor(self, labels: Tensor) -> float:
        if self.min_variance is not None:
            return self.min_variance
        step = (float(labels[-1]) - float(labels[0])) / (len(labels) - 1)
        return step**2 / 12

    def probabilities(self, output: Tensor) -> Tensor:
        """The softmax of the logits (equation 2)."""
        return widened(output).softmax(-1)

    def prediction(self, output: Tensor) -> Tensor:
        """The expectation of the distribution (equation 3)."""
        return self.expectation(output)

    @property
    def remedy(self) -> str:
        """As for every loss; and more weight for the unimodal term where the concentrated one has none."""
        weight = self.weights["unimodal"]
        if not self.weights["concentrated"] or self.weights["softmax"] or weight >= ENOUGH_UNIMODAL:
            return super().remedy
        return (
            f"{super().remedy}, or weigh the unimodal term by {ENOUGH_UNIMODAL:g} or more, not by {weight:g} "
            "(with 0.1 the concentrated term became NaN in Li et al.'s Table 5 too)"
        )


class SoftmaxLoss(LabelDistributionLoss):
    """Cross-entropy with the label nearest to the target."""

    def __init__(self, labels: Labels = None) -> None:
        super().__init__(labels, softmax=1.0)


class DLDLLoss(LabelDistributionLoss):
    """KL divergence from a Gaussian label.

    Source: Gao et al., Deep label distribution learning with label ambiguity, 2017.
    """

    def __init__(self, labels: Labels = None, sigma: float = 2.0) -> None:
        super().__init__(labels, divergence=1.0, sigma=sigma)


class DLDLv2Loss(LabelDistributionLoss):
    """KL divergence from a Gaussian label, and the absolute error of the expectation.

    Source: Gao et al., Age estimation using expectation of label distribution learning, 2018.
    """

    def __init__(self, labels: Labels = None, sigma: float = 2.0, expectation_weight: float = 1.0) -> None:
        super().__init__(labels, divergence=1.0, expectation=expectation_weight, sigma=sigma)


class MeanVarianceLoss(LabelDistributionLoss):
    """Cross-entropy, squared error of the mean, and variance (equations 16, 17).

    Source: Pan et al., Mean-Variance loss for deep age estimation from a face, 2018.
    """

    def __init__(
        self, labels: Labels = None, mean_weight: float = 0.2, variance_weight: float = 0.05
    ) -> None:
        super().__init__(labels, softmax=1.0, mean=mean_weight, variance=variance_weight)


class UnimodalLoss(LabelDistributionLoss):
    """Neighbouring probabilities rise up to the target and fall after it (equation 4)."""

    def __init__(self, labels: Labels = None) -> None:
        super().__init__(labels, unimodal=1.0)


class ConcentratedLoss(LabelDistributionLoss):
    """Likelihood of the target under a normal of the distribution's mean and variance (equations 7-10)."""

    def __init__(self, labels: Labels = None, min_variance: float | None = None) -> None:
        super().__init__(labels, concentrated=1.0, min_variance=min_variance)


class UnimodalConcentratedLoss(LabelDistributionLoss):
    """Concentrated plus `unimodal_weight` times unimodal (equation 15; 1000 in the paper).

    Examples
    --------
    >>> loss = UnimodalConcentratedLoss(labels=[20.0, 21.0, 22.0])
    >>> bool(loss(torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([21.0])) < 0)
    True
    """

    def __init__(
        self, labels: Labels = None, unimodal_weight: float = 1000.0, min_variance: float | None = None
    ) -> None:
        super().__init__(labels, concentrated=1.0, unimodal=unimodal_weight, min_variance=min_variance)


class SoftmaxConcentratedLoss(LabelDistributionLoss):
    """Cross-entropy plus concentrated: the first row of Tables 4 and 6."""

    def __init__(
        self, labels: Labels = None, softmax_weight: float = 1.0, min_variance: float | None = None
    ) -> None:
        super().__init__(labels, softmax=softmax_weight, concentrated=1.0, min_variance=min_variance)


class UnimodalMeanVarianceLoss(LabelDistributionLoss):
    """Unimodal plus mean and variance: the fourth row of Tables 4 and 6."""

    def __init__(
        self,
        labels: Labels = None,
        unimodal_weight: float = 1000.0,
        mean_weight: float = 0.2,
        variance_weight: float = 0.05,
    ) -> None:
        super().__init__(labels, unimodal=unimodal_weight, mean=mean_weight, variance=variance_weight)
