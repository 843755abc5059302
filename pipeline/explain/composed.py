"""Several steps as one network, so that gradients reach from a prediction back to the pixels."""

from collections.abc import Callable

from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]


class Chain(nn.Module):
    """Steps one after the other: networks, whose parameters it shares, and plain functions.

    Examples
    --------
    >>> import torch
    >>> twice = Chain(nn.Flatten(), lambda x: 2 * x)
    >>> twice(torch.ones(1, 1, 2)).tolist()
    [[2.0, 2.0]]
    """

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self.steps = steps
        self.parts = nn.ModuleDict(
            {f"step{k}": step for k, step in enumerate(steps) if isinstance(step, nn.Module)}
        )

    def forward(self, values: Tensor) -> Tensor:
        """Through all steps."""
        for step in self.steps:
            values = step(values)
        return values
