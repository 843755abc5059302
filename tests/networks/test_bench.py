"""The programs that fill tables for hours: what they take for done, and what there is once they stop."""

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.accuracy import cnn_dlib, cnn_table
from bench.accuracy.networks import Project, Results
from pipeline.core.errors import UserError

FACES = 40


def project(margin: float = 0.25) -> Any:
    """Faces as `Project` reads them, without a folder; all test."""
    faces = SimpleNamespace(
        face_ids=[f"face{number}" for number in range(FACES)],
        split=np.array(["test", "validation"] * (FACES // 2)),
        targets=torch.linspace(20, 60, FACES)[:, None],
        rows=lambda split: np.flatnonzero(faces.split == split),
    )
    made = SimpleNamespace(faces=faces, margin=margin, groups=lambda ids: {})
    made.described = lambda: Project.described(made)
    return made


def given(**changes: Any) -> argparse.Namespace:
    plain = {"seeds": 2, "losses": ["mse", "dldl_v2"], "networks": ["resnet18"], "epochs": 4}
    dlib = {"rate": 1e-3, "backbone_factor": 1.0, "weight_decay": 0.01, "batch": 32, "padding": None}
    rest = {"unfolded": False, "raw": False, "seed": 1, "members": 10}
    return argparse.Namespace(**(plain | dlib | rest | changes))


def test_ripples_are_left_out_of_one_rate_and_counted_in_the_other() -> None:
    smooth = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    shapes = np.tile(smooth, (FACES, 1))
    shapes[:, 1] = smooth[0] - 5e-4  # a step down before the peak, too small to see
    scores = Project.measured(project(), np.full(FACES, 40.0), shapes)
    assert (scores["unimodal"], scores["prominence"], scores["unimodal_strict"]) == (1.0, 0.05, 0.0)


def test_every_setting_that_changes_a_row_is_in_its_key() -> None:
    vectors = np.zeros((FACES, 4), np.float32)
    first = cnn_table.keys_of(given(), project(), vectors)
    assert len({str(key) for key in first}) == 8
    for other in (
        cnn_table.keys_of(given(epochs=5), project(), vectors),
        cnn_table.keys_of(given(), project(margin=0.4), vectors),
    ):
        assert not {str(key) for key in first} & {str(key) for key in other}
    changed = cnn_table.keys_of(given(), project(), vectors + 1)
    assert [key == same for key, same in zip(first, changed, strict=True)] == [False, True] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 5},
        {"rate": 1e-4},
        {"backbone_factor": 0.1},
        {"weight_decay": 0.0},
        {"batch": 16},
        {"padding": 0.1},
        {"unfolded": True},
        {"raw": True},
        {"seed": 2},
    ],
)
def test_another_setting_of_the_network_is_another_row_of_all(change: dict[str, Any]) -> None:
    first, other = (cnn_dlib.keys_of(given(**some), project()) for some in ({}, change))
    assert [key == same for key, same in zip(first, other, strict=True)] == [False] * 4


def test_more_mlps_leave_the_network_as_it_is() -> None:
    first, other = (cnn_dlib.keys_of(given(**some), project()) for some in ({}, {"members": 3}))
    assert [key == same for key, same in zip(first, other, strict=True)] == [True, False, False, False]


def test_a_table_that_is_stopped_shows_what_there_is_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "out.csv", cnn_table.KEYS, cnn_table.COLUMNS)
    wanted = cnn_table.keys_of(given(), project(), np.zeros((FACES, 4), np.float32))
    made: list[Any] = []

    def make(key: Any) -> Any:
        made.append(key)
        if len(made) == 3:
            time.sleep(60)
        return {"test_mae": float(len(made)), "seconds": 1.0}

    cnn_table.fill(results, wanted, make, minutes=0.2 / 60)
    said = capsys.readouterr().out
    assert "stopped: run the same command again to go on" in said
    assert "2 of 8 results" in said
    assert "| resnet18 | mse | 1 | 2.00 |" in said
    assert "| resnet18 | dldl_v2 | 0 | – |" in said
    assert "one mode (prominence over 5%)" in said
    cnn_table.fill(results, wanted, make, minutes=None)
    assert "8 of 8 results" in capsys.readouterr().out
    assert len(made) == 9, "the one that was stopped is made again, those before are not"


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    Results(path, ("what",), ("mae",)).get({"what": "a"}, lambda: {"mae": 1.0})
    with pytest.raises(UserError, match=r"out\.csv has other columns than what, faces, mae: name another"):
        Results(path, ("what", "faces"), ("mae",)).find({"what": "a", "faces": 3})
