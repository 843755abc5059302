"""What stands on a backbone's features: one number, numbers for ordered labels, both, or either for angles.

A head for K targets puts out K of everything, side by side in dimension 1; for one target that dimension is
left out, as the losses expect it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from coral_pytorch.layers import CoralLayer
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.losses.combo import ComboOutput

Activation = Literal["none", "sigmoid", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"none": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def layers(
    features: int, hidden: Sequence[int], outputs: int, drop_rate: float, normalise: bool
) -> nn.Sequential:
    """Fully connected layers with ReLU between them, and dropout before each.

    `normalise` brings features to mean 0 and variance 1 first (batch normalisation without weights): those of
    a network trained for something else share a large part that says nothing here.
    """
    stack: list[nn.Module] = [nn.BatchNorm1d(features, affine=False)] if normalise else []
    for width in hidden:
        stack += [nn.Dropout(drop_rate), nn.Linear(features, width), nn.ReLU(inplace=True)]
        features = width
    return nn.Sequential(*stack, nn.Dropout(drop_rate), nn.Linear(features, outputs))


class ValueHead(nn.Module):
    """One number for each target.

    Source: the report on age regression with bias control, Table 1, whose best has two hidden layers with
    ReLU and a sigmoid on a scaled target; its "ResNet50 as it is" is `hidden=()` with no activation.

    Parameters
    ----------
    features
        Width of the features.
    targets
        How many targets.
    hidden
        Widths of the hidden layers; the report does not give its own.
    activation
        Of the output: none, sigmoid or tanh.
    drop_rate
        Of the dropout before every layer.
    normalise
        Bring features to mean 0 and variance 1 first.
    centre, spread
        (targets,) each, or None: what is put out is centre + spread times the last layer, which begins at 0,
        so that training starts from the targets' mean and the learning rate does not depend on their unit.

    Examples
    --------
    >>> ValueHead(8, hidden=(4, 4), activation="sigmoid")(torch.zeros(3, 8)).shape
    torch.Size([3])
    >>> ValueHead(8, targets=3)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        features: int,
        targets: int = 1,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "none",
        drop_rate: float = 0.0,
        normalise: bool = False,
        centre: Sequence[float] | None = None,
        spread: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"activation {activation!r} is unknown: choose one of {', '.join(ACTIVATIONS)}")
        self.layers = layers(features, hidden, targets, drop_rate, normalise)
        if centre is not None:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)
        self.activation = ACTIVATIONS[activation]()
        self.register_buffer("centre", torch.tensor(centre or [0.0] * targets))
        self.register_buffer("spread", torch.tensor(spread or [1.0] * targets))

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) to (N,), or (N, targets) for several."""
        values: Tensor = self.activation(self.layers(features).float()) * self.spread + self.centre
        return values.squeeze(1) if values.shape[1] == 1 else values


class DistributionHead(nn.Module):
    """Logits of C ordered labels for each target; for yaw, pitch and roll there are three targets.

    Examples
    --------
    >>> DistributionHead(8, outputs=200, targets=3)(torch.zeros(2, 8)).shape
    torch.Size([2, 3, 200])
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        targets: int = 1,
        *,
        hidden: Sequence[int] = (),
        drop_rate: float = 0.0,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.targets = targets
        self.layers = layers(features, hidden, outputs * targets, drop_rate, normalise)

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) to (N, C), or (N, targets, C) for several."""
        logits: Tensor = self.layers(features)
        return logits if self.targets == 1 else logits.view(len(logits), self.targets, -1)


class ComboHead(nn.Module):
    """ComboLoss's two branches on the same features.

    Source: Xu and Xiang, ComboLoss, 2020, section 2.1: a classification module beside the last layer.

    Examples
    --------
    >>> ComboHead(8, labels=5)(torch.zeros(3, 8)).logits.shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        features: int,
        labels: int,
        *,
        hidden: Sequence[int] = (),
        drop_rate: float = 0.0,
        normalise: bool = False,
        centre: Sequence[float] | None = None,
        spread: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        same: dict[str, Any] = {"hidden": hidden, "drop_rate": drop_rate, "normalise": normalise}
        self.value = ValueHead(features, centre=centre, spread=spread, **same)
        self.classes = DistributionHead(features, labels, **same)

    def forward(self, features: Tensor) -> ComboOutput:
        """(N, features) to values (N,) and logits (N, C)."""
        return ComboOutput(self.value(features), self.classes(features).float())


class CoralHead(nn.Module):
    """CORAL's last layer, whose C - 1 questions share their weights and differ in their bias.

    Source: Cao, Mirjalili and Raschka, Rank consistent ordinal regression for neural networks, 2020.

    Examples
    --------
    >>> CoralHead(8, questions=100)(torch.zeros(3, 8)).shape
    torch.Size([3, 100])
    """

    def __init__(self, features: int, questions: int) -> None:
        super().__init__()
        self.layer = CoralLayer(features, questions + 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) to (N, C - 1)."""
        logits: Tensor = self.layer(features)
        return logits
