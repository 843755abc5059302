"""What methods and kinds of calibration are called."""

from pipeline.metrics.calibration import Judged

METHODS = {
    "single": "single model, best on validation",
    "ensemble": "ensemble",
    "swag": "SWAG",
    "views": "augmented views",
    "quantile": "quantile regression",
    "distribution": "label distributions",
    "network": "whole networks, label distributions",
}
KINDS = {
    "raw": "raw",
    "split": "split conformal",
    "local": "locally weighted conformal",
    "cqr": "conformalised quantiles",
}
BEST_KINDS = ("local", "cqr")
"""The kinds that charts show: intervals as wide as the face is hard."""


def names(one: Judged) -> dict[str, str]:
    """Method and kind, and both in words."""
    return {"method": one.method, "kind": one.kind, "title": title_of(one.method, one.kind)}


def title_of(method: str, kind: str) -> str:
    """Method and kind in words.

    Examples
    --------
    >>> title_of("ensemble", "local")
    'ensemble, locally weighted conformal'
    """
    return f"{METHODS.get(method, method)}, {KINDS.get(kind, kind)}"


def percent(level: float) -> str:
    """A level as part of a column's name.

    Examples
    --------
    >>> percent(0.9), percent(0.975)
    ('90', '97.5')
    """
    return f"{100 * level:g}"
