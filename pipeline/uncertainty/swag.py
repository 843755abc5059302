"""SWAG: a Gaussian over weights, from where SGD wanders around a trained model.

Source: Maddox et al., A simple baseline for Bayesian uncertainty in deep learning, NeurIPS 2019, algorithm 1.
Of several members it is MultiSWAG: Wilson and Izmailov, Bayesian deep learning and a probabilistic
perspective of generalization, NeurIPS 2020.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.training.mlp.data import Order
from pipeline.training.mlp.material import Material
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.setup import Setup, prepare
from pipeline.training.mlp.stack import SeedStack, Workspace


@dataclass(frozen=True)
class Trajectory:
    """What algorithm 1 keeps of the weights at the end of every epoch.

    Attributes
    ----------
    mean, variance
        (row,) the SWA solution, and the diagonal: mean square less squared mean, never negative.
    deviations
        (K, row) the last K weights, each less the mean as it was then.

    Examples
    --------
    >>> found = Trajectory.of(torch.tensor([[1.0], [3.0], [5.0]]), rank=2)
    >>> found.mean, found.deviations.flatten()
    (tensor([3.]), tensor([1., 2.]))
    """

    mean: Tensor
    variance: Tensor
    deviations: Tensor

    @classmethod
    def of(cls, weights: Sequence[Tensor] | Tensor, rank: int) -> "Trajectory":
        """From the weights (row,) of each epoch, in order."""
        first = weights[0].double()
        mean, square = torch.zeros_like(first), torch.zeros_like(first)
        deviations: list[Tensor] = []
        for count, row in enumerate(weights, start=1):
            # in double: a mean square less a squared mean leaves nothing of float's seven digits
            mean.lerp_(row.double(), 1 / count)
            square.lerp_(row.double().square(), 1 / count)
            deviations = [*deviations, row.double() - mean][-rank:]
        variance = (square - mean.square()).clamp_min(0)
        return cls(mean.float(), variance.float(), torch.stack(deviations).float())

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Weights (count, row) drawn from N(mean, variance / 2 + D D^T / (2 (K - 1))): equation 1."""
        drawn = []
        rank = len(self.deviations)
        for _ in range(count):
            diagonal = torch.randn(self.mean.shape, generator=generator) * self.variance.sqrt()
            low_rank = self.deviations.T @ torch.randn(rank, generator=generator)
            drawn.append(self.mean + diagonal / math.sqrt(2) + low_rank / math.sqrt(2 * max(1, rank - 1)))
        return torch.stack(drawn)


def swag(
    members: Members,
    which: Sequence[int],
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    lr: float = 1e-4,
    momentum: float = 0.9,
    epochs: int = 20,
    rank: int = 10,
    samples: int = 30,
    workers: int | None = None,
) -> Members:
    """Go on from trained members with SGD at a constant rate, and draw models from around the path.

    Parameters
    ----------
    members, which
        Trained members, and the numbers of those to start from.
    material, recipe
        What they were trained on, and how; the optimiser is replaced by plain SGD.
    seed
        Batch orders and draws derive from it and a member's own seed.
    lr, momentum, epochs
        Of the SGD; the weights are kept at the end of every epoch.
    rank
        How many deviations the low-rank part takes (K).
    samples
        How many models are drawn, shared evenly among the members.
    workers
        Threads; the numbers do not depend on them.

    Returns
    -------
    Members
        The samples, as models to predict with.

    Raises
    ------
    UserError
        If a path leaves the finite numbers, with its rate.
    """
    m = material
    setup = prepare(m.train_x, m.train_y, m.val_x, m.val_y, m.train_weight, recipe, "cpu")
    shares = [len(part) for part in torch.arange(samples).tensor_split(len(which))]

    def one(task: tuple[int, int], space: Workspace) -> Tensor:
        member, share = task
        if not share:
            return members.rows.new_zeros(0, members.layout.row)
        own = derive_seed(seed, "swag", members.seeds[member])
        path = wander(setup, members.rows[member], own, lr, momentum, epochs, space)
        generator = torch.Generator().manual_seed(derive_seed(own, "samples"))
        return Trajectory.of(path, rank).sample(share, generator)

    with setup.workers(workers, 1) as pool:
        rows = torch.cat(pool.map(one, list(zip(which, shares, strict=True))))
    if not rows.isfinite().all():
        raise UserError(f"SWAG's weights became infinite at the rate {lr:g}: lower calibrate.swag.lr")
    return replace(
        members, rows=rows, seeds=tuple(derive_seed(seed, "swag sample", k) for k in range(samples))
    )


def wander(
    setup: Setup, row: Tensor, seed: int, lr: float, momentum: float, epochs: int, space: Workspace
) -> list[Tensor]:
    """The weights (row,) at the end of each epoch of SGD that starts from a trained member's."""
    generators = [torch.Generator().manual_seed(derive_seed(seed, "dropout"))]
    stack = SeedStack(setup.layout, row[None].clone(), setup.recipe.dropout, generators)
    (parameter,) = stack.parameters
    optimizer = torch.optim.SGD(
        [parameter], lr=lr, momentum=momentum, weight_decay=setup.recipe.weight_decay, fused=True
    )
    order = Order(len(setup.train.targets), seed)
    path = []
    for _ in range(epochs):
        for batch in torch.split(order.epoch()[None], setup.recipe.batch_size, dim=1):
            _, gradients = stack.losses_and_gradients(setup.train, batch, setup.loss, space)
            parameter.grad = gradients[0]
            optimizer.step()
        path.append(stack.rows[0].clone())
    return path
