"""torch's own optimisers, one per member, each over the member's whole row at once."""

from torch import nn
from torch.optim import SGD, Adagrad, Adam, Optimizer

from pipeline.core.errors import UserError
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.swa import SWA


def build(parameter: nn.Parameter, learning_rate: float, recipe: Recipe) -> Optimizer:
    """The optimiser of one member.

    A member's parameters are one row, so that its update is one fused kernel over contiguous memory, and
    torch's schedulers and state are used as they are.

    Parameters
    ----------
    parameter
        The member's row.
    learning_rate
        Its initial rate.
    recipe
        Names the optimiser and its settings.

    Raises
    ------
    UserError
        If the learning rate is not a positive number.
    """
    if not 0 < learning_rate < float("inf"):
        raise UserError(f"learning rate {learning_rate!r}: it must be a number above 0")
    decay = recipe.weight_decay
    if recipe.optimizer == "adam":
        return Adam([parameter], lr=learning_rate, weight_decay=decay, fused=True)
    if recipe.optimizer == "adagrad":
        # the one optimiser whose fused form exists on CPUs only
        fused = parameter.device.type == "cpu"
        return Adagrad([parameter], lr=learning_rate, weight_decay=decay, fused=fused)
    if recipe.optimizer == "sgd":
        return SGD([parameter], lr=learning_rate, momentum=recipe.momentum, weight_decay=decay, fused=True)
    return SWA(
        parameter,
        lr=learning_rate,
        momentum=recipe.momentum,
        weight_decay=decay,
        swa_start=recipe.swa_start,
        swa_freq=recipe.swa_freq,
        swa_lr=recipe.swa_lr,
        swa_lr_min=recipe.swa_lr_min,
        fused=True,
    )
