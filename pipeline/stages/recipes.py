"""How models on vectors are trained, out of params.yaml, for every stage that trains some."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.training_sections import Adaptive, RecipeParams, Sgd, Train


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


def under_keys(settings: Mapping[str, Any], optimizer: str, policy: str) -> dict[str, Any]:
    """Settings of a recipe, as `recipe_settings` gives them or a table records them, by params.yaml's keys.

    Examples
    --------
    >>> under_keys({"loss": "mse", "swa_lr": None, "momentum": 0.0}, "swa", "found")
    {'train.recipe.loss.name': 'mse', 'train.swa.swa_lr.found': None, 'train.swa.momentum': 0.0}
    """
    special = {
        "loss": "train.recipe.loss.name",
        "loss_settings": "train.recipe.loss.settings",
        "swa_lr": f"train.swa.swa_lr.{policy}",
        "balance": "train.balance",
        "find_lr": "find_lr",
    }
    shared = {name: f"train.recipe.{name}" for name in RecipeParams.model_fields}
    places = shared | special
    return {places.get(name, f"train.{optimizer}.{name}"): value for name, value in settings.items()}
