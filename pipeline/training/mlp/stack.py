"""Several members as one program: weights (members, in, out), one batched product per layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.losses.base import Loss
from pipeline.training.mlp.data import Faces
from pipeline.training.mlp.layers import Layer, Layout

EVALUATION_ROWS = 1024
"""Faces per block outside training; fixed, since the rounding of a product depends on its shape."""


class Workspace:
    """The buffers of one worker, kept from step to step and from stack to stack.

    Gradients live here and not with the members: a row is written, used by the optimiser and overwritten
    while it is still in the cache.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        self.layout, self.dtype, self.device = layout, dtype, device
        self._buffers: dict[tuple[str, int, tuple[int, ...]], Tensor] = {}
        self._layers: dict[tuple[str, int], list[Layer]] = {}

    def take(self, name: str, members: int, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A zeroed buffer (members, *shape) on first use, the same memory with its contents later."""
        key = (name, members, shape)
        if key not in self._buffers:
            self._buffers[key] = torch.zeros(members, *shape, dtype=dtype or self.dtype, device=self.device)
        return self._buffers[key]

    def layers(self, name: str, members: int) -> list[Layer]:
        """The layers of the buffer (members, row) of that name: views made once, not in every step."""
        key = (name, members)
        if key not in self._layers:
            self._layers[key] = self.layout.unpack(self.take(name, members, self.layout.row))
        return self._layers[key]


class SeedStack:
    """Members that are trained together.

    Parameters
    ----------
    layout
        The layers.
    rows
        (members, layout.row), float32: the members' parameters, trained in place.
    dropout
        Probability of dropping a hidden unit.
    generators
        One per member, for dropout.

    Examples
    --------
    >>> layout = Layout((512, 512, 256, 128, 1))
    >>> stack = SeedStack(layout, layout.initial([1, 2, 3]))
    >>> [tuple(weight.shape) for weight, bias in layout.unpack(stack.rows)]
    [(3, 512, 512), (3, 512, 256), (3, 256, 128), (3, 128, 1)]
    >>> stack.outputs(torch.zeros(7, 512)).shape
    torch.Size([3, 7])
    """

    def __init__(
        self,
        layout: Layout,
        rows: Tensor,
        dropout: float = 0.0,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.layers = layout.unpack(rows)
        self.dropout = dropout
        self.generators = list(generators)
        self.parameters = [nn.Parameter(row) for row in rows]

    def keep(self, which: Sequence[int]) -> None:
        """Drop all members but these: their tensors shrink, and no arithmetic is spent on the others."""
        self.rows = self.rows[list(which)]
        self.layers = self.layout.unpack(self.rows)
        self.parameters = [self.parameters[k] for k in which]
        if self.generators:
            self.generators = [self.generators[k] for k in which]
        for parameter, row in zip(self.parameters, self.rows, strict=True):
            parameter.data = row

    @torch.no_grad()
    def losses_and_gradients(
        self, faces: Faces, batch: Tensor, loss: Loss, space: Workspace
    ) -> tuple[Tensor, Tensor]:
        """One batch per member, forward and backward.

        The backward pass is written out: into reused buffers, without the gradient of the input, and on
        this network it is a dozen lines. Only the loss is left to autograd.

        Parameters
        ----------
        faces
            The training faces; vectors in the workspace's type.
        batch
            Row numbers (members, B).
        loss
            Called with outputs and targets of shape (members, B, ...).
        space
            The caller's buffers.

        Returns
        -------
        tuple
            Losses (members,), and gradients (members, row) in float32, valid until the next call.
        """
        members, size = batch.shape
        layers = self.layers
        if space.dtype != self.rows.dtype:
            space.take("rows", members, self.layout.row).copy_(self.rows)
            layers = space.layers("rows", members)
        hidden = [space.take("activation0", members, size, self.layout.widths[0])]
        torch.index_select(faces.vectors, 0, batch.flatten(), out=hidden[0].flatten(0, 1))
        for depth, (weight, bias) in enumerate(layers, start=1):
            after = space.take(f"activation{depth}", members, size, weight.shape[2])
            torch.baddbmm(bias, hidden[-1], weight, out=after)
            if depth < len(layers):
                after.relu_()
                self._drop(after, space, depth)
            hidden.append(after)

        outputs = hidden[-1].float().detach().requires_grad_()
        weights = None if faces.weights is None else faces.weights[batch]
        with torch.enable_grad():
            losses = loss(_squeezed(outputs), faces.targets[batch], weights)
            (delta,) = torch.autograd.grad(losses, outputs, torch.ones_like(losses))
        delta = delta.to(space.dtype)

        gradients = space.take("gradient", members, self.layout.row)
        parts = space.layers("gradient", members)
        for depth in reversed(range(len(layers))):
            weight_part, bias_part = parts[depth]
            torch.bmm(hidden[depth].transpose(1, 2), delta, out=weight_part)
            torch.sum(delta, 1, keepdim=True, out=bias_part)
            if depth:
                before = space.take(f"delta{depth}", members, size, layers[depth][0].shape[1])
                delta = torch.bmm(delta, layers[depth][0].transpose(1, 2), out=before)
                # zero where the unit was off, be it by ReLU or by dropout
                torch.ops.aten.threshold_backward.grad_input(delta, hidden[depth], 0, grad_input=delta)
                if self.dropout:
                    delta.div_(1 - self.dropout)
        if gradients.dtype != torch.float32:
            wide = space.take("gradient32", members, self.layout.row, dtype=torch.float32)
            gradients = wide.copy_(gradients)
        return losses.detach(), gradients

    def _drop(self, activations: Tensor, space: Workspace, depth: int) -> None:
        if self.dropout:
            mask = space.take(f"mask{depth}", *activations.shape)
            for part, generator in zip(mask, self.generators, strict=True):
                part.bernoulli_(1 - self.dropout, generator=generator)
            activations.mul_(mask).div_(1 - self.dropout)

    @torch.no_grad()
    def outputs(self, vectors: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (members, N) or (members, N, C) for vectors (N, D), dropout off, member by member.

        Parameters
        ----------
        vectors
            Shared by all members; computed in their type.
        rows
            Other parameters (members, row) in place of the stack's own, such as averaged ones.
        """
        rows = (self.rows if rows is None else rows).to(vectors.dtype)
        members = []
        for row in rows:
            layers = self.layout.unpack(row[None])
            blocks = []
            for block in torch.split(vectors, EVALUATION_ROWS):
                for depth, (weight, bias) in enumerate(layers, start=1):
                    block = torch.addmm(bias[0], block, weight[0])
                    if depth < len(layers):
                        block.relu_()
                blocks.append(block)
            members.append(torch.cat(blocks))
        return _squeezed(torch.stack(members).float())


def _squeezed(outputs: Tensor) -> Tensor:
    return outputs.squeeze(-1) if outputs.shape[-1] == 1 else outputs
