"""What a method says of a face beyond one number: a prediction, its spread, perhaps quantiles.

A single model, a deep ensemble, samples of SWAG, quantile regression, predicted label distributions and
augmented views all come down to `Predicted`, which `uncertainty_conformal` calibrates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.labels import LabelledLoss
from pipeline.losses.quantile import PinballLoss
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.stack import EVALUATION_ROWS
from pipeline.training.mlp.workers import Workers
from pipeline.uncertainty.raw import Predicted, row_interp

FloatArray = NDArray[np.float64]

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))


def probabilities_for(levels: Sequence[float]) -> tuple[float, ...]:
    """The quantiles a network predicts so that every level has its bounds, and a CRPS enough in between.

    Examples
    --------
    >>> probabilities_for([0.9, 0.95])[:3]
    (0.025, 0.05, 0.1)
    """
    bounds = {round((1 + sign * level) / 2, 6) for level in levels for sign in (-1, 1)}
    return tuple(sorted({*GRID, *bounds}))


def predicted(
    members: Members,
    vectors: Any,
    *,
    distribution: bool = False,
    probabilities: Sequence[float] = GRID,
    workers: int | None = 1,
) -> Predicted:
    """What members say of vectors together.

    Members of the pinball loss give the mean of their quantiles (Vincent's average); others the mean and the
    spread of their predictions: a deep ensemble, or one model with a spread of 0.

    Source: Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation
    using deep ensembles, NeurIPS 2017, section 2.4; the noise within a face, which their networks predict,
    is added by the calibration.

    Parameters
    ----------
    members
        One or more.
    vectors
        (N, D).
    distribution
        Mix the label distributions that members predict, in place of their expectations.
    probabilities
        Of the quantiles, where `distribution` is asked for.
    workers
        Threads, each with one member at a time; the numbers do not depend on them.

    Raises
    ------
    UserError
        For vectors of another width or not finite; for a distribution where none is predicted.

    Examples
    --------
    >>> from pipeline.training.mlp.layers import Layout
    >>> layout = Layout((4, 3, 1))
    >>> said = predicted(Members(layout, layout.initial([7, 8]), (7, 8)), torch.ones(5, 4))
    >>> said.mean.shape, bool((said.spread > 0).all())
    ((5,), True)
    """
    loss = losses.build(members.loss, **members.loss_settings)
    outputs = outputs_of(members, vectors, workers)
    if distribution:
        if not isinstance(loss, LabelledLoss) or loss.labels is None:
            raise UserError(
                f"models of the loss {members.loss!r} predict no label distribution: choose another method"
            )
        p = loss.probabilities(outputs.double()).numpy()
        return of_distributions(p, loss.labels.numpy(), probabilities)
    if isinstance(loss, PinballLoss):
        quantiles = loss.quantiles(outputs).double().mean(0).numpy()
        return of_quantiles(quantiles, tuple(loss.probabilities.tolist()))
    return of_members(loss.prediction(outputs).numpy())


def outputs_of(members: Members, vectors: Any, workers: int | None = 1) -> torch.Tensor:
    """Outputs (members, N, ...) in blocks of one fixed shape, whatever N is.

    A product's rounding depends on its shape: filled up with zeros to whole blocks, a face's numbers depend
    neither on how many others are asked for nor on how many threads there are.
    """
    given = torch.as_tensor(vectors, dtype=torch.float32)
    count = len(given)
    if count == 0:
        raise UserError("there is no vector to predict for")
    missing = -count % EVALUATION_ROWS
    filled = torch.cat([given, given.new_zeros(missing, *given.shape[1:])]) if missing else given

    def one(member: int, space: None) -> torch.Tensor:
        alone = replace(members, rows=members.rows[[member]], seeds=(members.seeds[member],))
        return alone.outputs(filled)[0, :count]

    with Workers(workers, lambda: None) as pool:
        return torch.stack(pool.map(one, range(len(members))))


def of_members(predictions: ArrayLike) -> Predicted:
    """Mean and sample standard deviation over members, (members, N); of one member the spread is 0.

    Examples
    --------
    >>> said = of_members([[4.0, 6.0], [6.0, 6.0]])
    >>> said.mean, said.spread
    (array([5., 6.]), array([1.41421356, 0.        ]))
    """
    stack = np.asarray(predictions, dtype=np.float64)
    spread = stack.std(axis=0, ddof=1) if len(stack) > 1 else np.zeros(stack.shape[1])
    return Predicted(stack.mean(axis=0), spread)


def of_quantiles(quantiles: FloatArray, probabilities: Sequence[float]) -> Predicted:
    """The median, and as spread half the distance between the quantiles of about one standard deviation.

    Parameters
    ----------
    quantiles
        (N, Q), ascending.
    probabilities
        (Q,), ascending.
    """
    low, middle, high = row_interp(quantiles, probabilities, np.array([0.16, 0.5, 0.84])).T
    return Predicted(middle, (high - low) / 2, quantiles, tuple(probabilities))


def of_distributions(p: ArrayLike, labels: ArrayLike, probabilities: Sequence[float] = GRID) -> Predicted:
    """Label distributions, mixed over members: expectation, standard deviation, quantiles.

    This is where an end-to-end network's predicted distribution comes in, too. The mass of a label is
    spread evenly over its step, so that the distribution function has no jumps.

    Parameters
    ----------
    p
        (members, N, C) or (N, C), rows that sum to 1.
    labels
        (C,), ascending and evenly spaced.
    probabilities
        Of the quantiles, ascending.

    Examples
    --------
    >>> said = of_distributions([[0.0, 1.0, 0.0]], [20, 21, 22], [0.25, 0.5])
    >>> said.mean, said.quantiles
    (array([21.]), array([[20.75, 21.  ]]))
    """
    stack = np.asarray(p, dtype=np.float64)
    mixed = stack.mean(axis=0) if stack.ndim == 3 else stack
    values = np.asarray(labels, dtype=np.float64)
    mean = mixed @ values
    variance = np.clip(mixed @ values**2 - mean**2, 0, None)
    step = (values[-1] - values[0]) / (values.size - 1)
    edges = np.concatenate([values - step / 2, values[-1:] + step / 2])
    below = np.concatenate([np.zeros((len(mixed), 1)), np.cumsum(mixed, axis=1)], axis=1)
    wanted = np.asarray(probabilities, dtype=np.float64)
    quantiles = np.stack([inverted(row, edges, wanted) for row in below])
    return Predicted(mean, np.sqrt(variance), quantiles, tuple(probabilities))


def inverted(below: FloatArray, edges: FloatArray, wanted: FloatArray) -> FloatArray:
    """Where a distribution function, given at edges, reaches the wanted probabilities."""
    # flat parts, where labels have no mass, would have no inverse: the last edge before a rise is theirs
    rises = np.flatnonzero(np.diff(below) > 0)
    corners = np.union1d(rises, rises + 1)
    return np.interp(wanted, below[corners], edges[corners])


def of_views(views: Sequence[ArrayLike]) -> Predicted:
    """Monte Carlo over augmented views: mean and spread over every view and member of a face.

    Parameters
    ----------
    views
        Of each of N faces the predictions (members, views of this face), its own picture among them.

    Examples
    --------
    >>> said = of_views([[[4.0, 6.0]], [[5.0]]])
    >>> said.mean, said.spread
    (array([5., 5.]), array([1.41421356, 0.        ]))
    """
    flat = [np.asarray(view, dtype=np.float64).ravel() for view in views]
    spread = [float(one.std(ddof=1)) if one.size > 1 else 0.0 for one in flat]
    return Predicted(np.array([one.mean() for one in flat]), np.array(spread))


@dataclass(frozen=True)
class Method:
    """A way of predicting: its members, and whether their label distributions are mixed."""

    name: str
    members: Members
    distribution: bool = False
    probabilities: tuple[float, ...] = GRID

    def __call__(self, vectors: Any, workers: int | None = 1) -> Predicted:
        """What it says of vectors (N, D)."""
        return predicted(
            self.members,
            vectors,
            distribution=self.distribution,
            probabilities=self.probabilities,
            workers=workers,
        )
