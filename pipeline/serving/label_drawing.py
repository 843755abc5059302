"""Boxes and labels drawn on a picture: labels lie inside it, whatever its shape and the face's place."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from PIL import Image, ImageDraw, ImageFont

COLOUR, DOUBTFUL, PAPER = (0, 114, 178), (213, 94, 0), (235, 235, 235)
SMALLEST = 12
"""Pixels of the smallest type that is easily read."""
MANY = 1e6
"""From here on a number is written with its power of ten."""

Edges = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Label:
    """A face's box, cut at the picture's edges, what is written about it, and how large that is."""

    box: Edges
    text: str
    width: int
    height: int
    colour: tuple[int, int, int]


def drawn_on(image: Image.Image, rows: Sequence[dict[str, Any]]) -> Image.Image:
    """A picture with every face's box, prediction and interval; orange where a warning makes it doubtful.

    Pixels keep their places. A picture too small for a label gets paper at its right and lower edges.

    Parameters
    ----------
    image
        The upright picture, which is changed.
    rows
        Of the table of predictions, for its faces.
    """
    size = max(SMALLEST, min(image.size) // 25)
    font = ImageFont.load_default(size)
    labels = [label_of(row, image.size, font, size) for row in rows]
    image = with_room(image, labels)
    pen = ImageDraw.Draw(image)
    taken: list[Edges] = []
    for label in labels:
        pen.rectangle(label.box, outline=label.colour, width=max(2, size // 8))
    for label in labels:  # after all boxes, so that none is drawn through a label
        place = place_of(label, image.size, taken)
        taken.append(place)
        pen.rectangle(place, fill=label.colour)
        middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        pen.text(middle, label.text, fill=(255, 255, 255), font=font, anchor="mm")
    return image


def label_of(row: dict[str, Any], size: tuple[int, int], font: Font, points: int) -> Label:
    """The label of a row, for a picture of this width and height."""
    text = f"{number(row['prediction'])} ({number(row['lower'])} to {number(row['upper'])})"
    left, _, right, _ = font.getbbox(text)
    edges = ((row["left"], size[0]), (row["top"], size[1]), (row["right"], size[0]), (row["bottom"], size[1]))
    x0, y0, x1, y1 = (min(max(round(edge), 0), limit - 1) for edge, limit in edges)
    return Label(
        (x0, y0, max(x0, x1), max(y0, y1)),
        text,
        math.ceil(right - left) + points // 2,
        math.ceil(points * 1.3),
        DOUBTFUL if row["warnings"] else COLOUR,
    )


def number(value: float) -> str:
    """A number for a label: without decimals, and short however large it is."""
    return f"{value:.0f}" if abs(value) < MANY else f"{value:.1e}"


def with_room(image: Image.Image, labels: Sequence[Label]) -> Image.Image:
    """The picture, with paper at its right and lower edges where labels would not fit or hide everything."""
    height = max((label.height for label in labels), default=0)
    wide = max([image.width, *(label.width + 1 for label in labels)])
    high = image.height + height + 1 if image.height < 4 * height else image.height
    if (wide, high) == image.size:
        return image
    paper = Image.new("RGB", (wide, high), PAPER)
    paper.paste(image)
    return paper


def place_of(label: Label, size: tuple[int, int], taken: Sequence[Edges]) -> Edges:
    """Where a label lies: above its box, below or inside, shifted into the picture, off other labels."""
    x0, y0, x1, y1 = label.box
    tops = (y0 - label.height, y1 + 1, y0, y1 - label.height)
    lefts = (x0, x1 - label.width)
    places = []
    for fits, top, left in product((True, False), tops, lefts):
        inside = 0 <= top <= size[1] - 1 - label.height
        if fits and not inside:
            continue
        x = min(max(left, 0), size[0] - 1 - label.width)
        y = min(max(top, 0), size[1] - 1 - label.height)
        places.append((x, y, x + label.width, y + label.height))
    return next((place for place in places if not any(overlap(place, other) for other in taken)), places[0])


def overlap(one: Edges, other: Edges) -> bool:
    """Whether two rectangles share a pixel."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
