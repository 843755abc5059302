"""A backbone and a head as one network."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.backbones.trunks import Trunk
from pipeline.losses.combo import ComboOutput
from pipeline.training.networks.heads import ComboHead, CoralHead, DistributionHead, ValueHead

Head = ValueHead | DistributionHead | ComboHead | CoralHead


class FaceNetwork(nn.Module):
    """Pixels in, what a loss takes out.

    While `frozen`, the backbone is as in inference: no gradients reach it, and its batch normalisation keeps
    its statistics.
    """

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.frozen = False

    def train(self, mode: bool = True) -> Self:
        """As for every module; a frozen backbone stays as it is in inference."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features (N, width) of pixels (N, 3, H, W), 0 to 255."""
        # Not requires_grad: the same parameters are of one optimiser before and after they thaw.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features: Tensor = self.trunk(pixels)
        return features

    def forward(self, pixels: Tensor) -> Tensor | ComboOutput:
        """What the loss takes, for N pictures."""
        output: Tensor | ComboOutput = self.head(self.features(pixels))
        return output

    def groups(self, lr: float, backbone_factor: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups of parameters for an optimiser: the head's, and the backbone's at its own rate."""
        return [
            {"params": list(self.head.parameters()), "lr": lr, "weight_decay": weight_decay},
            {
                "params": list(self.trunk.parameters()),
                "lr": lr * backbone_factor,
                "weight_decay": weight_decay,
            },
        ]
