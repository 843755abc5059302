"""What losses over ordered labels share: the labels' values, and which of them a target stands for."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.base import Loss, refuse_targets

Labels = Sequence[float] | Tensor | int | None


def checked_labels(labels: Labels) -> Tensor | None:
    """The labels' values (C,), ascending; None where they are left to the logits.

    Raises
    ------
    UserError
        If they are fewer than two or not ascending.
    """
    if labels is None:
        return None
    values = torch.as_tensor(range(labels) if isinstance(labels, int) else labels, dtype=torch.float32)
    if len(values) < 2 or not (values.diff() > 0).all():
        raise UserError(f"labels {list(map(float, values))}: give two or more values in ascending order")
    return values


class LabelledLoss(Loss):
    """A loss on the outputs (..., N, K) of a network that tells C ordered labels apart.

    Parameters
    ----------
    labels
        The values of the C labels in ascending order; or their number, for 0..C-1; or None, for 0..C-1 with
        C from the outputs.
    """

    output_dims = 1
    labels: Tensor | None

    def __init__(self, labels: Labels = None) -> None:
        super().__init__()
        self.register_buffer("labels", checked_labels(labels), persistent=False)

    @abstractmethod
    def probabilities(self, output: Tensor) -> Tensor:
        """The probability of each label, (..., N, C)."""

    @property
    def outputs(self) -> int | None:
        """How many numbers a network must put out; None while the labels are left to the outputs."""
        return None if self.labels is None else len(self.labels)

    def values(self, count: int, like: Tensor) -> Tensor:
        """The values of `count` labels, in the type and on the device of a tensor.

        Raises
        ------
        ValueError
            If there are labels, but another number of them.
        """
        if self.labels is None:
            return torch.arange(count, dtype=like.dtype, device=like.device)
        if len(self.labels) != count:
            raise ValueError(f"logits have shape {tuple(like.shape)} for {len(self.labels)} labels")
        return self.labels.to(like.dtype)

    def expectation(self, output: Tensor) -> Tensor:
        """The mean of the labels under their probabilities, (..., N) (Li et al., equation 3)."""
        p = self.probabilities(output)
        return (p * self.values(p.shape[-1], p)).sum(-1)

    def spread(self, output: Tensor) -> Tensor:
        """The variance of the labels under their probabilities, (..., N) (Li et al., equation 8)."""
        p = self.probabilities(output)
        labels = self.values(p.shape[-1], p)
        mean = (p * labels).sum(-1, keepdim=True)
        return (p * (labels - mean).square()).sum(-1)

    def check_targets(self, target: Tensor) -> None:
        """Refuse targets further than half a step outside the labels."""
        super().check_targets(target)
        if self.labels is not None:
            low, high = float(self.labels[0]), float(self.labels[-1])
            margin = (high - low) / (len(self.labels) - 1) / 2
            outside = (target < low - margin) | (target > high + margin)
            refuse_targets(outside, target, f"outside the labels {low:g} to {high:g}")


def nearest(labels: Tensor, target: Tensor) -> Tensor:
    """The position of the label nearest to each target; of two equally near, the lower.

    For whole numbers as labels this is ceil(target - 1/2), ComboLoss's discretisation (section 2.2).

    Examples
    --------
    >>> nearest(torch.arange(1.0, 6.0), torch.tensor([2.5, 2.51, 9.0]))
    tensor([1, 2, 4])
    """
    return (labels - target.unsqueeze(-1)).abs().argmin(-1)
