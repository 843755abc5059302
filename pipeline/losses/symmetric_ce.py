"""Cross-entropies that lean on what is still wrong, or on classes that are rare.

Equation numbers are those of the EmoSynthNet thesis; where its text contradicts itself, docs/emosynthnet.md
says what was taken.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.class_losses import ClassificationLoss, of_target, one_hot

SMALLEST = 1e-12
"""Under a power, a base of zero would have no slope for exponents below one."""


class SymmetricCrossEntropyLoss(ClassificationLoss):
    """Cross-entropy, and the same scaled by how wrong the batch and the sample still are.

    Source: equations 4.3 to 4.6. The batch is weighed by alpha = mean ||y - p||^2 and a sample by
    ||(1 - y) - p||, so that loss = ce_weight (-ln p_y) + error_weight alpha ||(1 - y) - p|| (-ln p_y).

    Parameters
    ----------
    ce_weight, error_weight
        The thesis's alpha and beta of equation 4.6, 0.5 each. With error_weight 0 it is plain cross-entropy.
    classes
        How many there are; None leaves it to the scores.

    Examples
    --------
    One of two classes at p = 1/2: alpha = 1/2 and the sample's weight sqrt(1/2).

    >>> SymmetricCrossEntropyLoss()(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.4691)
    """

    def __init__(self, ce_weight: float = 0.5, error_weight: float = 0.5, classes: int | None = None) -> None:
        super().__init__(classes)
        if min(ce_weight, error_weight) < 0 or ce_weight + error_weight == 0:
            raise UserError(
                f"weights {ce_weight:g} and {error_weight:g} of the symmetric cross-entropy: "
                "neither may be negative, nor both 0"
            )
        self.ce_weight = ce_weight
        self.error_weight = error_weight

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum of both terms; alpha is shared by the batch."""
        log_p = output.log_softmax(-1)
        p, label = log_p.exp(), one_hot(target, output)
        ce = -of_target(log_p, target)
        alpha = (label - p).square().sum(-1).mean(-1, keepdim=True)
        weight: Tensor = torch.linalg.vector_norm((1 - label) - p, dim=-1)
        return self.ce_weight * ce + self.error_weight * alpha * weight * ce


class FocalLoss(ClassificationLoss):
    """Cross-entropy with well classified samples turned down: -alpha (1 - p_y)^gamma ln p_y (equation 4.2).

    Source: Lin et al., Focal loss for dense object detection, 2017.

    Examples
    --------
    >>> FocalLoss(gamma=2.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.1733)
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 1.0, classes: int | None = None) -> None:
        super().__init__(classes)
        if gamma < 0 or alpha <= 0:
            raise UserError(f"focal loss: gamma {gamma:g} must not be negative, alpha {alpha:g} be above 0")
        self.gamma = gamma
        self.alpha = alpha

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The turned down cross-entropy."""
        log_p = of_target(output.log_softmax(-1), target)
        if not self.gamma:
            return -self.alpha * log_p
        wrong = -torch.expm1(log_p)
        return -self.alpha * wrong.clamp_min(SMALLEST).pow(self.gamma) * log_p


class ClassBalancedLoss(FocalLoss):
    """Focal loss or cross-entropy, weighted by the inverse effective number of a class's samples.

    Source: Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, equation 5;
    weights (1 - beta) / (1 - beta^n), scaled to a mean of 1 over the classes.

    Parameters
    ----------
    counts
        Training samples of every class.
    beta
        0 weighs all classes alike, towards 1 they are weighed by the inverse of their number.
    gamma
        Of the focal loss; 0 is cross-entropy.

    Raises
    ------
    UserError
        If a class has no sample, or beta is not in [0, 1).

    Examples
    --------
    >>> ClassBalancedLoss([10, 90], beta=0.9).class_weights
    tensor([1.2111, 0.7889])
    """

    class_weights: Tensor

    def __init__(self, counts: Sequence[int], beta: float = 0.999, gamma: float = 0.0) -> None:
        super().__init__(gamma, classes=len(counts))
        if not 0 <= beta < 1:
            raise UserError(f"beta {beta:g} of the class-balanced loss: it must be at least 0 and below 1")
        weights = (1 - beta) / (1 - beta ** checked_counts(counts))
        self.register_buffer("class_weights", (weights / weights.mean()).float(), persistent=False)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, times the weight of the sample's class."""
        return super().formula(output, target) * self.class_weights[target.long()]


class DWBLoss(ClassificationLoss):
    """Cross-entropy whose class weights grow with the error: -w_y^(1 - p_y) ln p_y - sum_j p_j (1 - p_j).

    Source: Fernando and Tsokos, Dynamically weighted balanced loss, 2021; equations 2.9 and 2.10, with
    w_j = ln(max n / n_j) + 1. The second term rewards doubt and so calibrates; it makes the loss negative
    where a network is right and unsure.

    Parameters
    ----------
    counts
        Training samples of every class.

    Examples
    --------
    >>> DWBLoss([50, 50])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.1931)
    """

    class_weights: Tensor

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__(len(counts))
        numbers = checked_counts(counts)
        self.register_buffer("class_weights", ((numbers.max() / numbers).log() + 1).float(), persistent=False)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """Both terms."""
        log_p = output.log_softmax(-1)
        p = log_p.exp()
        log_right = of_target(log_p, target)
        weight = self.class_weights[target.long()].pow(-torch.expm1(log_right))
        return -weight * log_right - (p * (1 - p)).sum(-1)


def checked_counts(counts: Sequence[int]) -> Tensor:
    """Samples of every class as float64, none of them zero."""
    numbers = torch.as_tensor(counts, dtype=torch.float64)
    empty = (numbers <= 0).nonzero()
    if len(empty):
        raise UserError(f"class {int(empty[0])} has no training sample: a balanced loss needs one of each")
    return numbers
