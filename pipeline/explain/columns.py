"""What was looked into as columns of tables, the ones that `pipeline.report.explained` draws."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from torch import Tensor, nn

from pipeline.explain.gradcam import Heat, Sign, grad_cam, guided_gradients, seen_through
from pipeline.explain.landscape import Plane
from pipeline.explain.pictures import Pictures, in_colour, of_gradients, overlaid
from pipeline.explain.targets import Target


def points(plane: Any, values: Sequence[Any] | Any) -> dict[str, Any]:
    """Coordinates (N, 2), and what they are coloured by: texts as labels, numbers as values.

    Examples
    --------
    >>> points(np.zeros((2, 2)), ["a", "b"])["label"]
    ['a', 'b']
    """
    named = "value" if np.asarray(values).dtype.kind == "f" else "label"
    return {"x": plane[:, 0], "y": plane[:, 1], named: list(values)}


def plane_columns(plane: Plane, ratio: Plane | None = None) -> dict[str, Any]:
    """Two grids as rows; a point that is on one alone is null in the other."""
    found: dict[tuple[float, float], list[float | None]] = {}
    for position, grid in enumerate((plane, ratio)):
        if grid is None:
            continue
        for i, y in enumerate(grid.y):
            for j, x in enumerate(grid.x):
                found.setdefault((float(x), float(y)), [None, None])[position] = float(grid.values[i, j])
    return {
        "x": [x for x, _ in found],
        "y": [y for _, y in found],
        "loss": pa.array([loss for loss, _ in found.values()], pa.float64()),
        "ratio": pa.array([ratio for _, ratio in found.values()], pa.float64()),
    }


def heat_columns(
    network: nn.Module,
    inputs: Tensor,
    pictures: Pictures,
    texts: Sequence[str],
    target: Target,
    layer: str | None,
    sign: Sign,
) -> dict[str, Any]:
    """Pictures, their heat and their guided gradients, as PNG files in columns.

    This is all that explaining another kind of network takes: its inputs (N, C, H, W), the pictures they
    stand for at the same size, a text for each, and what is to be explained.
    """
    heat: Heat = grad_cam(network, inputs, layer, target, sign)
    shown = {
        "picture": in_colour(pictures),
        "overlay": overlaid(pictures, heat),
        "guided": of_gradients(seen_through(heat, guided_gradients(network, inputs, target))),
    }
    return {"text": list(texts)} | {name: [png(one) for one in some] for name, some in shown.items()}


def png(pixels: Pictures) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png")
    return buffer.getvalue()
