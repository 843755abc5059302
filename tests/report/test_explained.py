"""Sections made of the tables that explain commands write."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline.core.tables import write_table
from pipeline.report import page
from pipeline.report.explained import Explained, scatter, sections
from pipeline.report.page import Page, Picture


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def put(folder: Path, name: str, kind: str, columns: dict[str, object], **settings: object) -> None:
    write_table(pa.table(columns), folder / f"{name}.parquet", "vec2age explain", {"kind": kind, **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    put(
        tmp_path,
        "faces",
        "heat",
        {
            "text": ["30 → 31.5"] * 2,
            **{name: [png(9), png(200)] for name in ("picture", "overlay", "guided")},
        },
        title="Grad-CAM of an age",
        caption="Layer level4.",
    )
    plane = rng.normal(size=(2, 40)).astype(np.float32)
    put(
        tmp_path,
        "digits",
        "projection",
        {"x": plane[0], "y": plane[1], "label": [str(k % 12) for k in range(40)]},
        title="t-SNE of features",
        colour="class",
    )
    put(
        tmp_path,
        "ages",
        "projection",
        {"x": plane[0], "y": plane[1], "value": np.arange(40.0)},
        title="UMAP of vectors",
        colour="age (years)",
    )
    y, x = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-1, 1, 5)] * 2, indexing="ij"))
    ratio = [None if abs(a) > 0.6 or abs(b) > 0.6 else 0.1 for a, b in zip(x, y, strict=True)]
    for name in ("CE", "MAM-SoftMax"):
        put(
            tmp_path,
            f"plane_{name}",
            "plane",
            {"x": x, "y": y, "loss": 0.01 + x**2 + y**2, "ratio": pa.array(ratio, pa.float64())},
            title=name,
        )
    write_table(pa.table({"a": [1]}), tmp_path / "other.parquet", "somebody", {})
    return tmp_path


def test_every_kind_of_table_becomes_a_picture_of_a_section(folder: Path) -> None:
    made = sections(folder)
    assert [section.title for section in made] == [
        "Where networks look",
        "How vectors and features lie",
        "Loss landscapes",
    ]
    names = [block.name for section in made for block in section.blocks if isinstance(block, Picture)]
    assert names == [
        "explain_faces",
        "explain_ages",
        "explain_digits",
        "explain_landscape",
        "explain_hessian",
    ]
    for section in made:
        for block in section.blocks:
            assert isinstance(block, Picture)
            assert Image.open(io.BytesIO(block.png)).size[0] > 300
            assert block.alt
    landscape = made[2].blocks[0]
    assert isinstance(landscape, Picture)
    assert landscape.caption == "At the trained weights (the middle) CE: 0.01, MAM-SoftMax: 0.01."


def test_the_same_tables_give_the_same_page(folder: Path) -> None:
    first, second = (page.render(Page("title", sections=sections(folder))) for _ in range(2))
    assert first == second
    assert "Grad-CAM of an age" in first
    assert "Layer level4." in first


def test_without_tables_there_is_no_section(tmp_path: Path) -> None:
    assert sections(tmp_path / "nowhere") == []


def test_flat_and_broken_planes_are_drawn_too(tmp_path: Path) -> None:
    y, x = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-1, 1, 3)] * 2, indexing="ij"))
    for name, loss in (
        ("flat", np.zeros(9)),
        ("nan", np.where(x > 0, np.nan, 1.0)),
        ("inf", np.where(x > 0, np.inf, -1.0)),
    ):
        none = pa.nulls(9, pa.float64())
        put(
            tmp_path,
            name,
            "plane",
            {"x": x, "y": y, "loss": pa.array(loss, from_pandas=False), "ratio": none},
            title=name,
        )
    assert len(sections(tmp_path)[0].blocks) == 1


def test_ten_classes_have_ten_colours() -> None:
    frame = pd.DataFrame({"x": np.arange(20.0), "y": 0.0, "label": [str(k % 10) for k in range(20)]})
    figure = Figure()
    axes = figure.add_subplot()
    scatter(figure, axes, Explained("digits", {"title": "t-SNE"}, frame), legend=False)
    assert len({tuple(group.get_facecolor()[0]) for group in axes.collections}) == 10


def test_a_page_of_figures_alone_has_no_empty_summary(folder: Path) -> None:
    assert "Summary" not in page.render(Page("Inside", sections=sections(folder)))
    assert "Summary" in page.render(Page("Inside", findings=["one"], sections=sections(folder)))
