"""The multilayer perceptron on face vectors, alone and as one flat row of numbers."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

ALIGNMENT = 16
"""Parameters start at multiples of 64 bytes: matrix kernels round alike only on alike aligned memory."""

# torch.manual_seed is the whole process's: two threads that make members would deal each other's numbers.
_GLOBAL_GENERATOR = threading.Lock()


Layer = tuple[Tensor, Tensor]
"""Views of weights (members, in, out) and biases (members, 1, out)."""


class MLP(nn.Module):
    """Linear layers with ReLU between them, and dropout after each ReLU where it is asked for.

    Source: Anda et al., Vec2UAge, 2021, section 3.5 and Figure 6.

    Parameters
    ----------
    in_features
        Width of the vectors.
    hidden
        Widths of the hidden layers.
    out_features
        1 for a number, C for the logits of C labels.
    dropout
        Probability of dropping a hidden unit while training.

    Examples
    --------
    >>> model = MLP(512)
    >>> sum(p.numel() for p in model.parameters())
    427009
    >>> model(torch.zeros(3, 512)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (512, 256, 128),
        out_features: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], out_features))

    def forward(self, vectors: Tensor) -> Tensor:
        """Outputs (N,) for one output, (N, C) for C, from vectors (N, in_features)."""
        outputs: Tensor = self.layers(vectors)
        return outputs.squeeze(-1) if outputs.shape[-1] == 1 else outputs

    def linears(self) -> list[nn.Linear]:
        """The linear layers, from input to output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


@dataclass(frozen=True)
class Layout:
    """Where each layer of an MLP lies in one flat row of numbers.

    Parameters
    ----------
    widths
        Input, hidden layers, outputs.

    Examples
    --------
    >>> layout = Layout((512, 512, 256, 128, 1))
    >>> layout.parameters, layout.row
    (427009, 427024)
    """

    widths: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of one member."""
        return sum((before + 1) * after for before, after in self._layers())

    @property
    def row(self) -> int:
        """Length of one member's row: its parameters, each layer's padded to the alignment."""
        return sum(_padded(before * after) + _padded(after) for before, after in self._layers())

    def _layers(self) -> list[tuple[int, int]]:
        return list(pairwise(self.widths))

    def unpack(self, rows: Tensor) -> list[Layer]:
        """Views of rows (members, row), per layer: weights (members, in, out), biases (members, 1, out)."""
        layers, start = [], 0
        for before, after in self._layers():
            weight = rows[:, start : start + before * after].view(len(rows), before, after)
            start += _padded(before * after)
            bias = rows[:, start : start + after].view(len(rows), 1, after)
            start += _padded(after)
            layers.append((weight, bias))
        return layers

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Rows (members, row) of fresh members: what `MLP(...)` is after torch.manual_seed(seed)."""
        rows = torch.zeros(len(seeds), self.row)
        with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]), torch.no_grad():
            for row, seed in zip(rows, seeds, strict=True):
                torch.manual_seed(seed)
                model = MLP(self.widths[0], self.widths[1:-1], self.widths[-1])
                for (weight, bias), linear in zip(self.unpack(row[None]), model.linears(), strict=True):
                    weight[0].copy_(linear.weight.T)
                    bias[0, 0].copy_(linear.bias)
        return rows

    def module(self, row: Tensor, dropout: float = 0.0) -> MLP:
        """One member's row as an ordinary `MLP`."""
        with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]), torch.no_grad():
            model = MLP(self.widths[0], self.widths[1:-1], self.widths[-1], dropout)
            for (weight, bias), linear in zip(self.unpack(row[None]), model.linears(), strict=True):
                linear.weight.copy_(weight[0].T)
                linear.bias.copy_(bias[0, 0])
        return model


def _padded(length: int) -> int:
    return math.ceil(length / ALIGNMENT) * ALIGNMENT
