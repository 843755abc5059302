"""From vectors to a number: the MLP, and hundreds of seeds of it trained as one program."""

from importlib import import_module
from typing import Any

PLACES = {
    "MLP": "pipeline.training.mlp.layers",
    "Members": "pipeline.training.mlp.members",
    "Recipe": "pipeline.training.mlp.recipe",
    "SeedStack": "pipeline.training.mlp.stack",
    "find_lr": "pipeline.training.mlp.lr_finder",
    "fit_stack": "pipeline.training.mlp.fit",
}


def __getattr__(name: str) -> Any:
    # torch is imported by whoever trains, not by whoever lists what there is
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
