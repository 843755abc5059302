"""Losses between one predicted number and its target, both of shape (N,)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.losses.base import Loss, refuse_targets, widened


class MSELoss(Loss):
    """Squared error: (output - target)^2.

    Examples
    --------
    >>> MSELoss()(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 1.0]), weight=torch.tensor([1.5, 0.5]))
    tensor(4.)
    """

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The squared difference."""
        return (output - target).square()


class L1Loss(Loss):
    """Absolute error: |output - target|."""

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The absolute difference."""
        return (output - target).abs()


class SmoothL1Loss(Loss):
    """Squared error / (2 beta) below `beta`, |error| - beta / 2 above.

    Source: Girshick, Fast R-CNN, 2015, equation 3 (there beta = 1).
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """As torch.nn.SmoothL1Loss."""
        return functional.smooth_l1_loss(output, target, reduction="none", beta=self.beta)


class HuberLoss(Loss):
    """Half the squared error below `delta`, delta (|error| - delta / 2) above.

    Source: Huber, Robust estimation of a location parameter, 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """As torch.nn.HuberLoss."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta)


def log_cosh(error: Tensor) -> Tensor:
    """ln(cosh(error)), written so that no cosh overflows: error + softplus(-2 error) - ln 2."""
    return error + functional.softplus(-2 * error) - math.log(2)


class LogCoshLoss(Loss):
    """ln(cosh(output - target)): quadratic for small errors, absolute for large ones.

    Examples
    --------
    >>> LogCoshLoss()(torch.tensor([1000.0]), torch.tensor([0.0]))
    tensor(999.3068)
    """

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The stable logarithm of the hyperbolic cosine."""
        return log_cosh(output - target)


class SmoothHuberLoss(Loss):
    """ln(cosh(error)) below `delta`, |error| from `delta` on.

    Source: Xu, Fan and Xiang, Hierarchical multi-task network (HMTNet), 2019, compared in ComboLoss, Table 4.
    The two pieces do not meet at delta (0.29 against 0.8 at the default): only their slopes train a network.
    """

    def __init__(self, delta: float = 0.8) -> None:
        super().__init__()
        self.delta = delta

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """Log-cosh for small errors, the absolute error for the others."""
        error = output - target
        return torch.where(error.abs() < self.delta, log_cosh(error), error.abs())


class PoissonLoss(Loss):
    """Negative log likelihood of a Poisson distribution, without the term that no output changes.

    Parameters
    ----------
    log_input
        True: outputs are logarithms of the rate, loss exp(output) - target output, and predictions are
        exp(output), so that any linear head will do. False: outputs are rates and must be positive (a
        sigmoid or softplus head), loss output - target ln(output + eps).
    eps
        Keeps the logarithm finite where an output is 0.
    """

    def __init__(self, log_input: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.log_input = log_input
        self.eps = eps

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """As torch.nn.PoissonNLLLoss with full=False."""
        return functional.poisson_nll_loss(
            output, target, log_input=self.log_input, full=False, eps=self.eps, reduction="none"
        )

    def prediction(self, output: Tensor) -> Tensor:
        """The rate."""
        return widened(output).exp() if self.log_input else widened(output)

    @property
    def remedy(self) -> str:
        """As for every loss; and outputs that are rates must be positive."""
        return super().remedy if self.log_input else f"{super().remedy}, or use a sigmoid: rates are positive"

    def check_targets(self, target: Tensor) -> None:
        """Refuse negative counts."""
        super().check_targets(target)
        refuse_targets(target < 0, target, "the Poisson loss takes no negative target")


class MSLELoss(Loss):
    """Squared difference of logarithms: (ln(1 + output) - ln(1 + target))^2; negative outputs count as 0."""

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The squared logarithmic error."""
        return (output.clamp_min(0).log1p() - target.log1p()).square()

    def check_targets(self, target: Tensor) -> None:
        """Refuse negative targets."""
        super().check_targets(target)
        refuse_targets(target < 0, target, "the mean squared logarithmic error takes no negative target")


class RelativeLoss(Loss):
    """Base of the two losses that divide by the target."""

    def check_targets(self, target: Tensor) -> None:
        """Refuse zeros."""
        super().check_targets(target)
        refuse_targets(
            target == 0, target, "a percentage error divides by it: use another loss or leave it out"
        )


class MAPELoss(RelativeLoss):
    """Absolute error in percent of the target: 100 |output - target| / |target|.

    Examples
    --------
    >>> MAPELoss()(torch.tensor([18.0]), torch.tensor([20.0]))
    tensor(10.)
    """

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The absolute percentage error."""
        return 100 * ((output - target) / target).abs()


class MSPELoss(RelativeLoss):
    """Squared relative error in percent: 100 ((output - target) / target)^2."""

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The squared percentage error."""
        return 100 * ((output - target) / target).square()
