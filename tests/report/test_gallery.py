import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import config
from pipeline.core.tables import write_table
from pipeline.evaluation.table import Table
from pipeline.report import augmentation_tables, gallery
from pipeline.report.page import Page, Picture, render
from pipeline.stages import locations, report

PROJECT = Path(__file__).resolve().parents[2]

MEASURED = pd.DataFrame(
    {
        "operation": ["flip", "rotation(max_left=25,max_right=25)"],
        "count": [500, 500],
        "mean": [0.95, 0.7],
        "std": [0.01, 0.1],
        "p5": [0.9, 0.5],
        "median": [0.95, 0.7],
        "p95": [0.97, 0.9],
        "kept": [1.0, 0.8],
        "table_1": [0.8599, 0.6656],
    }
)
AGES = pd.DataFrame(
    {
        "bin": [1, 2],
        "limits": ["[0.5, 1)", "[1, 1.5)"],
        "originals": [3, 5],
        "augmented": [2, 0],
        "unfilled": [0, 0],
        "total": 5,
    }
)


def pictures() -> Picture:
    rng = np.random.default_rng(0)
    original, one, other = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return gallery.examples(original, {"flip": one, "rotation(max_left=25,max_right=25)": other})


def test_the_gallery_shows_the_original_and_one_picture_of_each_operation() -> None:
    shown = pictures()
    assert "2 augmentation operations" in shown.alt
    assert Image.open(io.BytesIO(shown.png)).size[0] > 400
    assert shown == pictures(), "the same bytes again"


def test_the_section_puts_similarities_beside_the_papers_and_names_what_was_not_filled() -> None:
    text = render(
        Page("t", sections=[gallery.section(augmentation_tables.tables(MEASURED, AGES, "age"), pictures())])
    )
    for expected in ("0.8599", "0.6656", "0.9500", "80%", "not filled", 'id="figure-augmentation"'):
        assert expected in text


NOT_MEASURED, NOT_WANTED = MEASURED.iloc[:0], AGES.assign(augmented=0, unfilled=0)
FAILED = NOT_WANTED.assign(unfilled=[0, 2])


@pytest.mark.parametrize(
    ("measured", "ages", "names"),
    [
        (MEASURED, NOT_WANTED, ["augmentation"]),
        (NOT_MEASURED, AGES, ["augmentation_balance"]),
        (NOT_MEASURED, FAILED, ["augmentation_balance"]),
        (NOT_MEASURED, NOT_WANTED, []),
    ],
)
def test_each_table_is_shown_where_it_has_something_to_say(
    measured: pd.DataFrame, ages: pd.DataFrame, names: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [table.name for table in augmentation_tables.tables(measured, ages, "age")] == names
    for path, frame in ((locations.CALIBRATION, measured), (locations.BALANCE, ages)):
        write_table(pa.Table.from_pandas(frame), path, "vec2age augment")
    sections = report.augmentation_section(config.load(PROJECT / "params.yaml"))
    shown = [block.name for one in sections for block in one.blocks if isinstance(block, Table)]
    assert shown == names


def test_the_tables_keep_their_names_for_csv_and_vanish_where_nothing_was_augmented() -> None:
    tables = augmentation_tables.tables(MEASURED, AGES, "age")
    assert [table.name for table in tables] == ["augmentation", "augmentation_balance"]
    assert augmentation_tables.tables(MEASURED.iloc[:0], AGES.iloc[:0], "age") == []
