"""The loss around a trained network: its values on a plane, and how far from convex it is there.

Source: Li et al., Visualizing the loss landscape of neural nets, 2018; EmoSynthNet thesis, section 4.3 with
equation 4.21 and Figures 4.4 and 4.5.

The objective is an `nn.Module` that is called on a batch and gives a scalar, such as `Objective`; its
parameters are what is moved. It is left as it was.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.core.errors import UserError
from pipeline.core.progress import track

BASIS = 12
"""Lanczos vectors before a restart; scipy's 20 would cost a third more products for digits nobody needs."""

Batch = tuple[Tensor, ...]
Grid = npt.NDArray[np.float64]


class Objective(nn.Module):
    """A network and its loss as one module: (images, targets) to a scalar."""

    def __init__(self, network: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch."""
        return cast(Tensor, self.loss(self.network(images), targets))


@dataclass(frozen=True)
class Plane:
    """Values over a plane of weights: `values[i, j]` at theta + x[j] delta + y[i] eta."""

    x: Grid
    y: Grid
    values: Grid

    @property
    def failed(self) -> int:
        """Points without a value (NaN)."""
        return int(np.isnan(self.values).sum())

    @property
    def drawable(self) -> bool:
        """Whether finite values are on two rows and two columns at least, as contours need."""
        finite = np.isfinite(self.values)
        return bool(min(finite.any(axis=0).sum(), finite.any(axis=1).sum()) >= 2)


Direction = Mapping[str, Tensor]


class NoExtremesError(UserError):
    """The extremes of a Hessian that were not found at some weights."""


def direction(objective: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction whose every filter is as long as the filter of the network it moves.

    Source: Li et al., section 4 (filter normalisation). A filter is all that makes one output: a row of a
    linear layer, a kernel of a convolution. Biases and batch normalisation are not moved.

    Examples
    --------
    >>> found = direction(nn.Linear(3, 2), seed=1)
    >>> found["weight"].shape, float(found["bias"].abs().sum())
    (torch.Size([2, 3]), 0.0)
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for prefix, module in objective.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            if parameter.ndim < 2:
                found[name] = torch.zeros_like(parameter)
                continue
            others = [axis for axis in range(parameter.ndim) if axis != output_axis(module, name)]
            lengths = [
                torch.linalg.vector_norm(t.detach(), dim=others, keepdim=True) for t in (parameter, draw)
            ]
            found[name] = draw * lengths[0] / lengths[1].clamp_min(torch.finfo(draw.dtype).tiny)
    return found


def output_axis(module: nn.Module, name: str) -> int:
    """The axis of a weight that counts outputs."""
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    class_vectors = name.rpartition(".")[2] == "W"  # (features, classes) in pytorch-metric-learning
    return 1 if transposed or class_vectors else 0


def loss_plane(
    objective: nn.Module,
    batches: Sequence[Batch],
    directions: tuple[Direction, Direction],
    radius: float = 1.0,
    steps: int = 21,
) -> Plane:
    """The mean loss over batches on a square plane around the weights (equation 4.21).

    Parameters
    ----------
    objective
        See the module; in evaluation mode, so that batch normalisation uses what it has learnt.
    batches
        The arguments of its calls, weighted by the length of the first.
    directions
        delta and eta, as `direction` draws them.
    radius
        How far the plane reaches to each side; 1 moves a filter by its own length.
    steps
        Points on each axis; odd, so that the weights themselves are one of them.
    """
    axis = axis_of(radius, steps)
    values = np.empty((steps, steps))
    counts = [len(batch[0]) for batch in batches]
    with evaluating(objective), torch.no_grad():
        for (i, j), moved in walk(objective, directions, axis):
            losses = [float(functional_call(objective, moved, batch)) for batch in batches]
            values[i, j] = np.average(losses, weights=counts)
    return Plane(axis, axis, values)


def ratio_plane(
    objective: nn.Module,
    batch: Batch,
    directions: tuple[Direction, Direction],
    radius: float = 1.0,
    steps: int = 9,
    tolerance: float = 1e-2,
) -> Plane:
    """|lambda_min / lambda_max| of the Hessian over the plane: where it is near 0 the loss is convex.

    Parameters are those of `loss_plane`, for one batch, and the relative tolerance of the eigenvalues. Where
    these are not found the value is NaN: one steep corner does not cost the hours of all other points.
    """
    axis = axis_of(radius, steps)
    values = np.empty((steps, steps))
    for (i, j), moved in walk(objective, directions, axis):
        try:
            lowest, highest = hessian_extremes(objective, batch, tolerance=tolerance, at=moved)
        except NoExtremesError:
            lowest, highest = np.nan, np.nan
        values[i, j] = abs(lowest / highest) if highest else np.nan
    return Plane(axis, axis, values)


def hessian_extremes(
    objective: nn.Module,
    batch: Batch,
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
    at: Mapping[str, Tensor] | None = None,
) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of the Hessian of the loss by the parameters.

    By implicitly restarted Lanczos on Hessian-vector products, without the matrix (scipy's eigsh).

    Parameters
    ----------
    objective, batch
        The loss and what it is called on.
    tolerance
        Relative accuracy of the eigenvalues.
    seed
        Of the vector to start from.
    at
        Other parameters in place of the objective's own.

    Raises
    ------
    NoExtremesError
        If the loss or a product is not finite, or Lanczos does not converge.

    Examples
    --------
    The Hessian of the mean of (w x - y)^2 at x = 1 and x = 3 is 2 mean x^2 = 10 for a single weight:

    >>> line = nn.Linear(1, 1, bias=False)
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> hessian_extremes(Objective(line, nn.MSELoss()), (x, x))
    (10.0, 10.0)
    """
    hessian = hessian_operator(objective, batch, at)
    start = np.random.default_rng(seed).normal(size=hessian.shape[0])
    first = dominant(hessian, start, tolerance)
    # Seen from one end of the spectrum the other is the furthest, even where it is next to zero and Lanczos
    # would look for its digits for ever.
    second = first + dominant(hessian - first * identity(len(start)), start, tolerance)
    return min(first, second), max(first, second)


def identity(size: int) -> LinearOperator:
    """The operator that changes nothing."""
    return LinearOperator((size, size), matvec=lambda vector: vector, dtype=np.float64)


def dominant(operator: LinearOperator, start: Grid, tolerance: float) -> float:
    """The eigenvalue of the largest size."""
    if len(start) < 3:
        values = np.linalg.eigvalsh(operator @ np.eye(len(start)))
        return float(values[np.abs(values).argmax()])
    if not np.linalg.norm(operator @ start):
        return 0.0  # of nothing there is no Krylov space
    try:
        (value,) = eigsh(
            operator,
            k=1,
            which="LM",
            v0=start,
            ncv=min(BASIS, len(start)),
            tol=tolerance,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence as error:
        raise NoExtremesError(
            f"the Hessian's extremes were not found to {tolerance:g}: raise the tolerance"
        ) from error
    return float(value)


def hessian_operator(
    objective: nn.Module, batch: Batch, at: Mapping[str, Tensor] | None = None
) -> LinearOperator:
    """The Hessian as a scipy operator: each product is one backward pass through the gradient."""
    given = dict(objective.named_parameters()) if at is None else at
    own = {name: given[name].detach().clone().requires_grad_() for name, _ in objective.named_parameters()}
    parameters = list(own.values())
    size = sum(parameter.numel() for parameter in parameters)
    with evaluating(objective), torch.enable_grad():
        loss = functional_call(objective, own, batch)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    flat = torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).reshape(-1)
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
    )

    def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        along = torch.from_numpy(np.ascontiguousarray(vector.reshape(-1))).to(flat)
        columns = torch.autograd.grad(flat @ along, parameters, retain_graph=True, allow_unused=True)
        found = torch.cat(
            [
                (torch.zeros_like(parameter) if column is None else column).reshape(-1)
                for parameter, column in zip(parameters, columns, strict=True)
            ]
        )
        if not found.isfinite().all():
            raise NoExtremesError("a Hessian-vector product is not finite: the loss overflows here")
        return found.double().cpu().numpy()

    return LinearOperator((size, size), matvec=product, dtype=np.float64)


def axis_of(radius: float, steps: int) -> Grid:
    """Where along a direction the loss is looked at; the middle, where the weights are, is 0 to the bit."""
    if steps < 3 or steps % 2 == 0 or not 0 < radius < math.inf:
        raise UserError(
            f"a plane of {steps} steps and radius {radius:g}: an odd number from 3 on and a finite radius "
            "above 0 are needed"
        )
    half = steps // 2
    return radius * (np.arange(-half, half + 1) / half)


def walk(
    objective: nn.Module, directions: tuple[Direction, Direction], axis: Grid
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Every point of the plane, row by row, with the parameters there."""
    centre = {name: parameter.detach() for name, parameter in objective.named_parameters()}
    across, up = directions
    points = [(i, j) for i in range(len(axis)) for j in range(len(axis))]
    for i, j in track(points, "walking the plane"):
        moved = {
            name: value + float(axis[j]) * across[name] + float(axis[i]) * up[name]
            for name, value in centre.items()
        }
        yield (i, j), moved


@contextmanager
def evaluating(objective: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while."""
    training = objective.training
    objective.eval()
    try:
        yield
    finally:
        objective.train(training)
