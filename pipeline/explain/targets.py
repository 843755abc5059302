"""What about an output is to be explained: one number for each picture.

A target takes the output of one picture, without the batch dimension, and gives a scalar that gradients
flow from; this is the convention of the package grad-cam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.core.errors import UserError

Target = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ClassScore:
    """The score of one class; of the most probable one if none is named.

    Examples
    --------
    >>> ClassScore()(torch.tensor([1.0, 3.0]))
    tensor(3.)
    """

    index: int | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """The score, before any softmax."""
        if output.ndim != 1:
            raise ValueError(f"the output of a picture has shape {tuple(output.shape)}, not (classes,)")
        if self.index is None:
            return output.max()
        if not -len(output) <= self.index < len(output):
            raise UserError(f"class {self.index} cannot be explained: the network has {len(output)}")
        return output[self.index]


@dataclass(frozen=True)
class Value:
    """A predicted number: the only one, or that at a position (yaw, pitch or roll of a pose).

    Examples
    --------
    >>> Value()(torch.tensor([21.5]))
    tensor(21.5000)
    """

    index: int = 0

    def __call__(self, output: Tensor) -> Tensor:
        """The number."""
        return output.reshape(-1)[self.index]


@dataclass(frozen=True)
class Expectation:
    """The mean of a predicted label distribution: softmax of the scores, times the labels.

    Source: Li et al., Unimodal-Concentrated Loss, 2022, equation 3.

    Parameters
    ----------
    labels
        The values of the labels; 0, 1, 2, ... if not given.

    Examples
    --------
    >>> Expectation((20.0, 30.0))(torch.tensor([1.0, 1.0]))
    tensor(25.)
    """

    labels: Sequence[float] | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """The expectation."""
        if self.labels is None:
            values = torch.arange(len(output), dtype=output.dtype, device=output.device)
        else:
            values = torch.as_tensor(self.labels, dtype=output.dtype, device=output.device)
        if values.shape != output.shape:
            raise ValueError(
                f"the output of a picture has shape {tuple(output.shape)} for {len(values)} labels"
            )
        return (output.softmax(-1) * values).sum()
