"""The pinball loss: several quantiles of the target from one network."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.base import Loss

MEDIAN = 0.5


class PinballLoss(Loss):
    """The mean over quantiles of p (y - q) where y is above the predicted quantile q, (1 - p)(q - y) below.

    Its minimum is reached where every output is the quantile of its probability, whatever the distribution.

    Source: Koenker and Bassett, Regression quantiles, Econometrica 46, 1978; as a network's loss in Romano,
    Patterson and Candès, Conformalized quantile regression, NeurIPS 2019, equation 8.

    Parameters
    ----------
    quantiles
        The Q probabilities in ascending order, 0.5 among them: outputs are (N, Q).

    Raises
    ------
    UserError
        If the probabilities are not ascending, not between 0 and 1, or lack 0.5.

    Examples
    --------
    >>> loss = PinballLoss(quantiles=[0.1, 0.5, 0.9])
    >>> loss(torch.tensor([[0.0, 5.0, 10.0]]), torch.tensor([10.0]))
    tensor(1.1667)
    >>> loss.prediction(torch.tensor([[4.0, 9.0, 6.0]]))
    tensor([6.])
    """

    output_dims = 1
    probabilities: Tensor

    def __init__(self, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> None:
        super().__init__()
        values = [float(value) for value in quantiles]
        ascending = all(one < other for one, other in pairwise([0.0, *values, 1.0]))
        if not ascending or MEDIAN not in values:
            raise UserError(
                f"quantiles {values} of the pinball loss: give ascending numbers between 0 and 1, "
                f"{MEDIAN} among them"
            )
        self.median = values.index(MEDIAN)
        self.register_buffer("probabilities", torch.tensor(values, dtype=torch.float64), persistent=False)

    @property
    def outputs(self) -> int:
        """One for each quantile."""
        return len(self.probabilities)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean pinball loss over quantiles."""
        if output.shape[-1] != self.outputs:
            raise ValueError(f"output has shape {tuple(output.shape)} for {self.outputs} quantiles")
        error = target.unsqueeze(-1) - output
        p = self.probabilities.to(output.dtype)
        return torch.maximum(p * error, (p - 1) * error).mean(-1)

    def quantiles(self, output: Tensor) -> Tensor:
        """The predicted quantiles in ascending order, (..., N, Q).

        Outputs of separate quantiles may cross; sorting them never makes the loss larger.

        Source: Chernozhukov, Fernández-Val and Galichon, Quantile and probability curves without crossing,
        Econometrica 78, 2010.
        """
        return output.sort(-1).values

    def prediction(self, output: Tensor) -> Tensor:
        """The predicted median."""
        return self.quantiles(output)[..., self.median]
