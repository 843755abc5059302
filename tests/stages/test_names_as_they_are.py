"""Names that templates, formats, patterns or mathematics would parse stand on the page as they are."""

import html
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core.tables import read_table, write_table
from pipeline.stages import locations
from pipeline.stages.running import run_stage

NAMES = ("$x^{$", "[x]", "<b>", "%s", "{0}", "{{ 7*7 }}", "\\frac", "a|b", "*", "&amp;")


def test_groups_of_any_name_are_evaluated_reported_and_shown_as_they_are(
    make_project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, "train.policies=[fixed]", "calibrate.policy=fixed")
    monkeypatch.chdir(tmp_path)
    faces = read_table(locations.FACES)
    groups = pa.array([NAMES[number // 5 % len(NAMES)] for number in range(faces.num_rows)])
    write_table(
        faces.append_column("$kind_{<i>", groups), locations.FACES, "vec2age embed", {"encoders": "none"}
    )
    run_stage("find_lr", 1, optimizer="adam")
    run_stage("train", 1, optimizer="adam", policy="fixed")
    run_stage("evaluate", 1)
    run_stage("report", 1)
    page = locations.PAGE.read_text(encoding="utf-8")
    for name in (*NAMES, "$kind_{<i>"):
        assert html.escape(name, quote=False) in page, name
    assert any(os.scandir(locations.FIGURES))
