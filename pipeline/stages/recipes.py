"""How models on vectors are trained, out of params.yaml, for every stage that trains some."""

from typing import Any

from pipeline.params.training import Adaptive, Sgd, Train


def fixed_rate(wanted: Train, optimizer: str) -> float:
    """An optimiser's learning rate under policy `fixed`."""
    own: Adaptive | Sgd = getattr(wanted, optimizer)
    return own.lr


def recipe_settings(wanted: Train, optimizer: str, policy: str) -> dict[str, Any]:
    """What a training recipe is built from: the shared settings and the optimiser's own."""
    shared = wanted.recipe.model_dump()
    loss = shared.pop("loss")
    own: dict[str, Any] = getattr(wanted, optimizer).model_dump(exclude={"lr"})
    if "swa_lr" in own:
        own["swa_lr"] = own["swa_lr"][policy]
    return {
        "optimizer": optimizer,
        "loss": loss["name"],
        "loss_settings": loss["settings"],
        **shared,
        **own,
    }
