"""Encoders: a crop in, a vector out.

Every encoder is looked up by name and built with the same settings; nothing heavy is imported and no
weights are read before the first picture is encoded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.backbones.views import View
from pipeline.core.registry import Registry
from pipeline.encoders.encoder import Combine, Encoder, combine

__all__ = ["REGISTRY", "Combine", "Encoder", "View", "build", "build_all", "combine"]

REGISTRY: Registry[Encoder] = Registry(
    "encoder",
    {
        "dlib": "pipeline.encoders.dlib_torch:build_dlib",
        "facenet": "pipeline.encoders.facenet:facenet",
        "efficientnet_lite0": "pipeline.encoders.efficientnet_lite0:efficientnet_lite0",
        "finetuned": "pipeline.encoders.finetuned:finetuned",
    },
)


def build(name: str, *, margin: float = 0.25, view: View | None = None, **settings: object) -> Encoder:
    """Build one encoder for one view.

    Parameters
    ----------
    name
        A name of `REGISTRY`.
    margin
        The margin that the crops were cut with, as a fraction of the detected box.
    view
        The view; None is the plain one.
    settings
        `precision` (fp32, bfloat16, auto) and `compile` for all; and the encoder's own.

    Raises
    ------
    UserError
        For an unknown name or setting, missing or wrong weights.
    """
    return REGISTRY.build(name, margin=margin, view=view or View(), **settings)


def build_all(
    names: Sequence[str],
    views: Sequence[View],
    *,
    margin: float = 0.25,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **common: object,
) -> list[Encoder]:
    """Build every encoder for every view, in this order: names, then views.

    Parameters
    ----------
    names, views
        Encoders and the views to take with each.
    margin
        The margin that the crops were cut with.
    settings
        By name, what belongs to one encoder alone.
    common
        `precision` and `compile`, for all.
    """
    return [
        build(name, margin=margin, view=view, **common, **(settings or {}).get(name, {}))
        for name in names
        for view in views
    ]
