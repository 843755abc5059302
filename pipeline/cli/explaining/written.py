"""How `vec2age explain` keeps what it finds: a table each, and one page of all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import write_table
from pipeline.explain.columns import plane_columns
from pipeline.explain.landscape import Batch, Objective, axis_of, direction, loss_plane, ratio_plane
from pipeline.report import explained, page
from pipeline.report.page import Page
from pipeline.stages import locations

PRODUCER = "vec2age explain"
NAMES: dict[str, str] = {"tsne": "t-SNE", "umap": "UMAP"}


def keep(name: str, kind: str, columns: dict[str, Any], title: str, **settings: Any) -> list[str]:
    """Write one table, and the page of all tables so far."""
    path = put(name, kind, columns, title, **settings)
    write_page()
    return [str(path)]


def put(name: str, kind: str, columns: dict[str, Any], title: str, **settings: Any) -> Path:
    """Write one table."""
    path = locations.EXPLAINED / f"{name}.parquet"
    write_table(pa.table(columns), path, PRODUCER, {"kind": kind, "title": title, **settings})
    return path


def write_page() -> Path:
    """The page of everything that was explained; the report has the same sections."""
    made = explained.sections(locations.EXPLAINED)
    target = locations.EXPLAINED / "index.html"
    page.write(Page("What networks look at", "Made by vec2age explain.", sections=made), target)
    return target


def check_axes(radius: float, steps: int, ratio_steps: int) -> None:
    """Refuse planes without a middle before anything is computed."""
    axis_of(radius, steps)
    if ratio_steps:
        axis_of(radius, ratio_steps)


def keep_planes(
    name: str,
    title: str,
    objective: Objective,
    batches: Sequence[Batch],
    seed: int,
    radius: float,
    steps: int,
    ratio_steps: int,
) -> list[str]:
    """Draw the loss around a network over batches, then the Hessian's ratio over all of them as one.

    The loss is written before the ratio is computed, which takes far longer and may be interrupted.
    """
    delta, eta = (direction(objective, derive_seed(seed, "explain", "direction", way)) for way in ("δ", "η"))
    plane = loss_plane(objective, batches, (delta, eta), radius, steps)
    if not plane.drawable:
        finite = np.isfinite(plane.values).sum()
        raise UserError(
            f"{title}: the loss is a finite number at {finite} of {plane.values.size} points of the plane, "
            f"too few to draw: choose a radius smaller than {radius:g}"
        )
    if not ratio_steps:
        return keep(name, "plane", plane_columns(plane), title, radius=radius)
    put(name, "plane", plane_columns(plane), title, radius=radius)
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    ratio = ratio_plane(objective, whole, (delta, eta), radius, ratio_steps)
    settings: dict[str, Any] = {"radius": radius}
    if ratio.failed:
        settings["caption"] = (
            f"{title}: the Hessian's ratio was not found at {ratio.failed} of {ratio.values.size} points."
        )
    written = keep(name, "plane", plane_columns(plane, ratio), title, **settings)
    return [*written, settings["caption"]] if ratio.failed else written
