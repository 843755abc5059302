"""Activations under observation: never in place, and guided on the way back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.relu_: torch.relu,
    Tensor.relu_: torch.relu,
    F.relu_: F.relu,
    F.elu_: F.elu,
    F.leaky_relu_: F.leaky_relu,
    F.selu_: F.selu,
    F.celu_: F.celu,
    F.rrelu_: F.rrelu,
    F.hardtanh_: F.hardtanh,
    torch.threshold_: F.threshold,
    torch.tanh_: torch.tanh,
    Tensor.tanh_: torch.tanh,
    torch.sigmoid_: torch.sigmoid,
    Tensor.sigmoid_: torch.sigmoid,
}
# ReLU6 calls hardtanh. Sigmoids are not among them: inside networks they open and close gates.
ACTIVATIONS = frozenset(
    {
        torch.relu,
        Tensor.relu,
        F.relu,
        F.relu6,
        F.hardtanh,
        F.prelu,
        Tensor.prelu,
        F.rrelu,
        F.leaky_relu,
        F.threshold,
        F.elu,
        F.selu,
        F.celu,
        F.gelu,
        F.silu,
        F.mish,
        F.hardswish,
        F.softplus,
        F.logsigmoid,
        F.softsign,
        torch.tanh,
        Tensor.tanh,
        F.hardshrink,
        F.softshrink,
        F.tanhshrink,
    }
)


class OutOfPlace(TorchFunctionMode):
    """Within it activations leave their inputs as they are, whatever a network asks for.

    What a hook has seen of a layer would otherwise be overwritten by the activation after it.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's."""
        settings = dict(kwargs or {})
        function = IN_PLACE.get(function, function)
        if settings.get("inplace"):
            settings["inplace"] = False
        if function in ACTIVATIONS:
            return self.activated(function(*args, **settings))
        return function(*args, **settings)

    def activated(self, output: Tensor) -> Tensor:
        """What is to be done with an activation's output."""
        return output


class Guided(OutOfPlace):
    """Within it, gradients that flow back through an activation lose what is negative.

    Source: Springenberg et al., Striving for simplicity: the all convolutional net, 2015, section 3.4. There
    for ReLU; an ELU or GELU is guided in the same way. It reaches layers and functional calls alike.
    """

    def activated(self, output: Tensor) -> Tensor:
        """The output, with a gate for its gradient."""
        return cast(Tensor, PositiveGradient.apply(output))


class PositiveGradient(torch.autograd.Function):
    """The identity, whose gradient is cut off below zero."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        """As they are."""
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """What is positive."""
        return gradients[0].clamp_min(0)
