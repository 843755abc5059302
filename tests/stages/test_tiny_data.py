"""Stages on as few faces as there can be: each gives its result."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.augmentation.augmented_tables import calibration_table
from pipeline.config.profiles import use
from pipeline.core.rejects import Rejects
from pipeline.core.tables import vector_type, write_table
from pipeline.stages import ingest, locations
from pipeline.stages.running import run_stage

CHANGES = (
    "train.policies=[fixed]",
    "train.seeds=1",
    "evaluate.baselines=[mean, ridge, svr]",
    "calibrate.optimizer=adam",
    "calibrate.policy=fixed",
    "calibrate.views=0",
    "calibrate.min_faces=1",
    "calibrate.levels=[0.3, 0.5]",
    "export.level=0.5",
    "calibrate.swag.epochs=2",
    "calibrate.swag.samples=3",
    "calibrate.quantile.seeds=1",
)
STAGES = ("find_lr", "train", "calibrate", "evaluate", "report")


def write_faces(counts: dict[str, int], groups: int, *, one_target: bool, subjects: bool) -> None:
    splits = [split for split, count in counts.items() for _ in range(count)]
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(len(splits), 6)).astype(np.float32)
    columns = {
        "face_id": [sha256(str(number).encode()).hexdigest() for number in range(len(splits))],
        "target": [15.0 if one_target else 15.0 + number for number in range(len(splits))],
        "split": splits,
        "gender": [("female", "male")[number % groups] for number in range(len(splits))],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(6)),
    }
    if subjects:
        columns["subject"] = [f"s{number}" for number in range(len(splits))]
    faces = pa.table(columns)
    write_table(faces, locations.FACES, "vec2age embed", {"encoders": "none"})
    none = faces.slice(0, 0).append_column("parent_id", pa.array([], pa.string()))
    write_table(none, locations.AUGMENTED, "vec2age augment")
    write_table(calibration_table([], (0.6, 0.98), {}), locations.CALIBRATION, "vec2age augment")
    write_table(pa.table({"bin": pa.array([], pa.int64())}), locations.BALANCE, "vec2age augment")
    write_table(ingest.NO_VECTORS, locations.READY_VECTORS, "vec2age ingest")
    write_table(Rejects().table(), locations.REJECTS, "vec2age split")


@pytest.mark.parametrize(
    ("counts", "groups", "one_target", "subjects", "stages"),
    [
        ({"train": 1, "validation": 1, "test": 1}, 1, True, True, STAGES[:-1]),
        ({"train": 2, "validation": 1, "test": 1}, 1, False, False, STAGES),
        ({"train": 2, "validation": 2, "test": 1}, 2, True, False, STAGES[:-1]),
        ({"train": 20, "validation": 9, "test": 1}, 1, False, True, STAGES[:-1]),
        ({"train": 20, "validation": 1, "test": 9}, 2, False, True, STAGES[:-1]),
    ],
)
def test_so_few_faces_are_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_project: Callable[..., Path],
    counts: dict[str, int],
    groups: int,
    one_target: bool,
    subjects: bool,
    stages: tuple[str, ...],
) -> None:
    monkeypatch.chdir(make_project(tmp_path, *CHANGES))
    use(Path("none.yaml"), ["calibrate.groups=gender"], Path("params.yaml"))
    write_faces(counts, groups, one_target=one_target, subjects=subjects)
    options = {"find_lr": {"optimizer": "adam"}, "train": {"optimizer": "adam", "policy": "fixed"}}
    for name in stages:
        run_stage(name, 1, **options.get(name, {}))
    assert not locations.UNCALIBRATED.exists()
    assert json.loads(locations.METRICS.read_text())
    assert locations.PAGE.exists() == ("report" in stages)
