"""A chart as data: what is drawn, said once, and drawn twice (as a PNG and as an interactive figure).

A chart has one pair of axes and any number of marks. Colours are positions in `PALETTE`; every colour
comes with its own symbol and dash, so that no difference rests on colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from pipeline.core.credentials import masked
from pipeline.core.files import escaped

# After Okabe and Ito's palette for all kinds of colour vision, its light tones darkened until each has
# a contrast of at least 3:1 on white and on the page's dark background.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA5C9F", "#B07D00", "#7A828E")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")

Numbers = Sequence[float]


@dataclass(frozen=True)
class Axis:
    """An axis: its label with the unit, linear or logarithmic, over numbers or over categories in order."""

    label: str
    log: bool = False
    categories: tuple[str, ...] = ()
    from_zero: bool = False


@dataclass(frozen=True)
class Line:
    """A line through points, with a band from `low` to `high` where they are given.

    A faint one is thin, shares colour and name with its companion, and is not in the legend.
    """

    name: str
    x: Numbers
    y: Numbers
    colour: int
    faint: bool = False
    low: Numbers = ()
    high: Numbers = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Dots:
    """Single points."""

    name: str
    x: Numbers
    y: Numbers
    colour: int
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Strips:
    """For each category all its points beside a box of their quartiles.

    `categories` and `values` are aligned: one entry a point. Several strips share a category side by side.
    """

    name: str
    categories: Sequence[str]
    values: Numbers
    colour: int
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """A bar for each category; several share a category side by side."""

    name: str
    categories: Sequence[str]
    values: Numbers
    colour: int
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Intervals:
    """For each category, on the vertical axis, a point and its interval on the horizontal one."""

    name: str
    categories: Sequence[str]
    values: Numbers
    low: Numbers
    high: Numbers
    colour: int
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Paths:
    """Lines across categories, one height a category each: parallel coordinates.

    `heights` holds one row a path; `labels` one text a path.
    """

    name: str
    categories: Sequence[str]
    heights: Sequence[Numbers]
    colour: int
    labels: Sequence[str] = ()


Mark = Line | Dots | Strips | Bars | Intervals | Paths


@dataclass(frozen=True)
class Chart:
    """A figure: `name` is its file's, `alt` says in words what it shows, `reference` draws a line at an x."""

    name: str
    title: str
    alt: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    caption: str = ""
    reference: float | None = field(default=None)


def shown(part: Any) -> Any:
    """A chart, or a part of one, in whose texts passwords are hidden and what cannot be seen is escaped."""
    if isinstance(part, str):
        return escaped(masked(part))
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{one.name: shown(getattr(part, one.name)) for one in fields(part)})
    if isinstance(part, list | tuple) and any(isinstance(one, str) or is_dataclass(one) for one in part):
        return type(part)(shown(one) for one in part)
    return part
