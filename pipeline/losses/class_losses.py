"""Losses of classification: scores of C classes, (N, C), against class numbers 0..C-1, (N,)."""

from torch import Tensor
from torch.nn import functional

from pipeline.losses.base import Loss, refuse_targets


def of_target(scores: Tensor, target: Tensor) -> Tensor:
    """The scores (..., N, C) of each sample's own class, (..., N)."""
    return scores.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    """Class numbers (..., N) as rows of zeros with a single one, shaped and typed like scores (..., N, C)."""
    return functional.one_hot(target.long(), like.shape[-1]).to(like.dtype)


class ClassificationLoss(Loss):
    """A loss whose targets are class numbers and whose predictions are, too.

    Parameters
    ----------
    classes
        How many there are; None leaves it to the scores.
    """

    output_dims = 1

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self.classes = classes

    @property
    def outputs(self) -> int | None:
        """The number of classes, None while it is left to the scores."""
        return self.classes

    def logits(self, output: Tensor) -> Tensor:
        """The scores (..., N, C) that an output stands for once training is over, without any margin."""
        return output

    def probabilities(self, output: Tensor) -> Tensor:
        """The predicted probability of every class, (..., N, C)."""
        return self.logits(output).softmax(-1)

    def prediction(self, output: Tensor) -> Tensor:
        """The number of the most probable class, (..., N)."""
        return self.logits(output).argmax(-1)

    def check_targets(self, target: Tensor) -> None:
        """Refuse what is not the number of a class."""
        super().check_targets(target)
        wrong = (target != target.round()) | (target < 0)
        allowed = "a class is a whole number from 0"
        if self.classes is not None:
            wrong = wrong | (target > self.classes - 1)
            allowed = f"{allowed} to {self.classes - 1}"
        refuse_targets(wrong, target, allowed)


class CrossEntropyLoss(ClassificationLoss):
    """-ln p of the sample's class (thesis, equations 2.12 and 2.14).

    Classes are weighted through the samples: `weight = class_weights[target]`. torch.nn.CrossEntropyLoss
    divides by the batch's sum of weights, which takes from rare classes; here it is the number of samples.

    Examples
    --------
    >>> import torch
    >>> CrossEntropyLoss()(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.6931)
    """

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """As torch.nn.functional.cross_entropy."""
        return -of_target(output.log_softmax(-1), target)


class OneHotMSELoss(ClassificationLoss):
    """Mean squared difference of the class probabilities and the one-hot label (thesis, Tables 3.1 and 4.1).

    Examples
    --------
    >>> import torch
    >>> OneHotMSELoss()(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.2500)
    """

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The squared difference, averaged over classes."""
        return (output.softmax(-1) - one_hot(target, output)).square().mean(-1)
