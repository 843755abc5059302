"""Variants of a training: a loss under a name of its own, with what differs from the other trainings."""

import copy
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import UserError


def varied(section: Mapping[str, Any], name: str, loss: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of every training as they are for one variant.

    Parameters
    ----------
    section
        The settings of every training, nested mappings; they stay as they are.
    name, loss
        The variant and its loss.
    changes
        Values by the dotted keys that they replace, such as `recipe.lr`.

    Raises
    ------
    UserError
        A change names a key that the section does not have, or the variants themselves.

    Examples
    --------
    >>> varied({"losses": ["mse"], "recipe": {"lr": 0.1}}, "slow", "l1", {"recipe.lr": 0.01})
    {'losses': ['l1'], 'recipe': {'lr': 0.01}, 'variants': {}}
    """
    tree = copy.deepcopy(dict(section)) | {"variants": {}, "losses": [loss]}
    for key, value in changes.items():
        *path, last = key.split(".")
        place: Any = tree
        for part in path:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or last not in place or key == "variants":
            raise UserError(f"variant {name!r} changes {key!r}, which finetune does not have")
        place[last] = value
    return tree
