"""A small painter's kit for the rendered sample: curves, soft masks, and paint in linear light.

A canvas is a float32 array (H, W, 3) in which 1.0 is white and values are proportional to light, so that
shadows and mixtures look as they do in a photograph. The transfer curve is a plain square root.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

DEPTH = 0.6
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mask:
    """A soft-edged shape: where it lies on the canvas and how far (0-1) it covers each pixel there."""

    rows: slice
    columns: slice
    alpha: Array


def linear(colour: npt.ArrayLike) -> Array:
    """A display colour (0-255) in linear light."""
    light: Array = np.square(np.asarray(colour, np.float32) / np.float32(255))
    return light


def displayed(canvas: Array, grain: Array | float = 0.0) -> npt.NDArray[np.uint8]:
    """The canvas as 8-bit display values, with film grain (H, W) added in the same units."""
    values = np.sqrt(np.maximum(canvas, 0)) * 255 + (0.5 + np.asarray(grain, np.float32))[..., None]
    bytewise: npt.NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return bytewise


def curve(points: npt.ArrayLike, closed: bool = True, steps: int = 8) -> Array:
    """A Catmull-Rom curve through points (N, 2), sampled `steps` times between neighbours."""
    p = np.asarray(points, np.float32)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([p[:1], p, p[-1:]])
    t = (np.arange(steps, dtype=np.float32) / steps)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    sampled = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    flat = sampled.reshape(-1, 2)
    return (flat if closed else np.vstack([flat, p[-1:]])).astype(np.float32)


def polygon(*corners: tuple[float, float]) -> Array:
    """The outline with these corners."""
    return np.array(corners, np.float32)


def ellipse(x: float, y: float, rx: float, ry: float, corners: int = 24) -> Array:
    """The outline of an upright ellipse."""
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1).astype(np.float32)


def stroke(points: Array, widths: Sequence[float]) -> Array:
    """The outline of a line (N, 2) whose thickness varies along it."""
    along = np.empty_like(points)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), np.float32(1e-6))
    places = np.linspace(0, len(widths) - 1, len(points))
    half = (np.interp(places, range(len(widths)), widths) / 2).astype(np.float32) / length
    offset = along[:, ::-1] * np.array([-1, 1], np.float32) * half[:, None]
    return np.vstack([points + offset, (points - offset)[::-1]])


def mask(outlines: Sequence[Array], size: int, blur: float = 0.0) -> Mask:
    """The insides of outlines (N, 2) in pixels, antialiased, with edges softened by `blur` pixels."""
    border = int(3 * blur) + 2
    points = outlines[0] if len(outlines) == 1 else np.vstack(outlines)
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - border, 0, size - 1)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + border, low + 1, size)
    width, height = (int(v) for v in high - low)
    fine = 4 if width * height < 10_000 else 2
    image = Image.new("L", (width * fine, height * fine))
    pencil = ImageDraw.Draw(image)
    for outline in outlines:
        # Pillow addresses pixels by their centres, the outline by their corners.
        pencil.polygon(((outline - low) * fine - 0.5).ravel().tolist(), fill=255)
    image = image.reduce(fine)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    alpha = np.asarray(image, np.float32) / np.float32(255)
    return Mask(slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), alpha)


def paint(canvas: Array, shape: Mask, colour: Array, opacity: float = 1.0) -> None:
    """Lay a colour (3,), or one for each pixel of the mask (h, w, 3), over the canvas."""
    area = canvas[shape.rows, shape.columns]
    area += (shape.alpha * np.float32(opacity))[..., None] * (colour - area)


def shade(canvas: Array, shape: Mask, *factor: float) -> None:
    """Multiply the light under a mask, per channel or evenly: below 1 is a shadow, above 1 a glow."""
    area = canvas[shape.rows, shape.columns]
    area *= 1 + shape.alpha[..., None] * (np.asarray(factor, np.float32) - 1)


def within(inner: Mask, outer: Mask) -> Mask:
    """The part of one mask that another one covers."""

    def overlap(a: slice, b: slice) -> slice:
        start = max(a.start, b.start)
        return slice(start, max(start, min(a.stop, b.stop)))

    rows, columns = overlap(inner.rows, outer.rows), overlap(inner.columns, outer.columns)

    def part(shape: Mask) -> Array:
        y, x = shape.rows.start, shape.columns.start
        return shape.alpha[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]

    return Mask(rows, columns, part(inner) * part(outer))


def enlarged(values: Array, size: int) -> Array:
    """A square of values (n, n), enlarged smoothly to (size, size)."""
    picture = Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def noise(rng: np.random.Generator, cells: int, size: int) -> Array:
    """Smooth noise of about unit spread on a square of `size` pixels, with features 1/cells of its side."""
    return enlarged(rng.standard_normal((cells, cells), np.float32), size)


@dataclass(frozen=True)
class Pose:
    """Where a head is on the canvas: from half face widths around the eyes to pixels."""

    size: int
    unit: float
    x: float
    y: float
    roll: float
    yaw: float
    pitch: float

    def turned(self, u: npt.ArrayLike) -> tuple[Array, Array]:
        """How far the head's turn moves what lies at `u` on its front, sideways and down."""
        z = DEPTH * np.sqrt(np.maximum(0.0, 1 - np.square(np.asarray(u, np.float32))))
        return z * np.float32(np.sin(np.radians(self.yaw))), z * np.float32(np.sin(np.radians(self.pitch)))

    def pixels(self, points: npt.ArrayLike, on_face: bool = True) -> Array:
        """Points (N, 2) of the head in pixels; those on the face follow its turn, the outline does not."""
        p = np.array(points, np.float32)
        if on_face:
            across, down = self.turned(p[:, 0])
            p[:, 0] += across
            p[:, 1] += down
        c, s = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        x = self.x + self.unit * (p[:, 0] * c - p[:, 1] * s)
        y = self.y + self.unit * (p[:, 0] * s + p[:, 1] * c)
        return np.stack([x, y], axis=1).astype(np.float32)

    def grid(self, area: Mask) -> tuple[Array, Array]:
        """The head coordinates of each pixel of a mask's area."""
        y, x = np.mgrid[area.rows, area.columns].astype(np.float32)
        x, y = (x + 0.5 - self.x) / self.unit, (y + 0.5 - self.y) / self.unit
        c, s = (np.float32(f(np.radians(self.roll))) for f in (np.cos, np.sin))
        return x * c + y * s, y * c - x * s

    def mask(self, *outlines: Array, blur: float = 0.0, on_face: bool = True) -> Mask:
        """The insides of outlines in head coordinates; `blur` is in half face widths."""
        points = self.pixels(outlines[0] if len(outlines) == 1 else np.vstack(outlines), on_face)
        ends = np.cumsum([len(outline) for outline in outlines])
        return mask(np.split(points, ends[:-1]), self.size, blur * self.unit)


def moved(points: Array, down: float) -> Array:
    """An outline moved downwards."""
    return points + np.array([0, down], np.float32)


def both(right: Array) -> tuple[Array, Array]:
    """An outline on the right of the face, and its counterpart on the left."""
    return right, right * np.array([-1, 1], np.float32)


def mirrored(right: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A symmetrical outline from its right half, top to bottom."""
    return right + [(-x, y) for x, y in reversed(right) if abs(x) > 1e-6]
