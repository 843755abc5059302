"""What the programs on whole networks share: the faces of a project, one network's scores, rows of a CSV."""

import csv
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from pipeline.config import load
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import read_table, rows_of
from pipeline.metrics import bias_score, cumulative_score, mae, unimodality_rate
from pipeline.metrics.unimodality import PROMINENCE
from pipeline.training.networks.material import Goal, Labelled, labelled

SETTINGS = "settings"
"""The column with everything else that decides a row, as one text."""
GROUPS = ("gender", "ethnicity")
MEASURED = ("test_mae", "cs5", "unimodal", "prominence", "unimodal_strict")
MEASURED += (*(f"{name}_bias" for name in GROUPS), "val_mae")
"""What `Project.measured` gives, as far as the faces and the loss allow."""
Row = dict[str, Any]


class Project:
    """A folder in which `dvc repro embed` has run; `limit` takes so many of its faces, every n-th."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.crops = folder / "data/crops"
        self.margin = load(folder / "params.yaml").crop.margin
        self.manifest = read_table(folder / "data/manifest.parquet")
        splits = read_table(folder / "data/splits.parquet").sort_by("face_id")
        if limit:
            kept = np.linspace(0, len(splits) - 1, min(limit, len(splits))).round().astype(int)
            splits = splits.take(pa.array(kept))
        self.faces: Labelled = labelled(self.manifest, splits, Goal(), Rejects())

    def described(self) -> str:
        """Which faces with which pictures, targets and splits, as a short hash."""
        faces = self.faces
        text = [*faces.face_ids, *faces.split.tolist(), str(self.margin)]
        return hashlib.sha256("\n".join(text).encode() + faces.targets.numpy().tobytes()).hexdigest()[:12]

    def groups(self, face_ids: list[str]) -> dict[str, np.ndarray]:
        """The group columns of some faces."""
        rows = rows_of(self.manifest, pa.chunked_array([face_ids], pa.string()))
        known = [name for name in GROUPS if name in rows.column_names]
        return {name: np.array(rows[name].to_pylist(), dtype=object) for name in known}

    def measured(self, prediction: ArrayLike, shapes: np.ndarray | None) -> Row:
        """Scores of predictions (N,) and distributions (N, C) for all faces of the project in order."""
        test = self.faces.rows("test")
        predicted = np.asarray(prediction, dtype=np.float64)
        targets = self.faces.targets[:, 0].double().numpy()
        validation = self.faces.rows("validation")
        groups = self.groups([self.faces.face_ids[row] for row in test])
        return {
            "test_mae": float(mae(predicted[test], targets[test])),
            "cs5": float(cumulative_score(predicted[test], targets[test], 5)),
            # Peaks up to `prominence` are not counted; strictly, every one is.
            "unimodal": "" if shapes is None else unimodality_rate(shapes[test], PROMINENCE),
            "prominence": PROMINENCE,
            "unimodal_strict": "" if shapes is None else unimodality_rate(shapes[test], 0.0),
            **{
                f"{name}_bias": float(bias_score(predicted[test], targets[test], column))
                for name, column in groups.items()
            },
            "val_mae": float(mae(predicted[validation], targets[validation])),
        }


class Results:
    """A CSV that grows by a row a result, so that an interrupted program goes on where it was.

    `keys` are the columns that say which result a row is, and hold all that changes a number; `columns` are
    what is measured, empty where a result has none.
    """

    def __init__(self, path: Path, keys: tuple[str, ...], columns: tuple[str, ...]) -> None:
        self.path = path
        self.keys = keys
        self.header = [*keys, *columns]

    def rows(self) -> list[Row]:
        """All rows so far, as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != self.header:
                raise UserError(f"{self.path} has other columns than {', '.join(self.header)}: name another")
            return list(reader)

    def find(self, key: Row) -> Row | None:
        """The result of a key, if the file has it."""
        same = (row for row in self.rows() if all(row[name] == str(key[name]) for name in self.keys))
        return next(same, None)

    def get(self, key: Row, make: Callable[[], Row]) -> Row:
        """The result of a key: the one in the file, or one made now and written."""
        found = self.find(key)
        if found is not None:
            return found
        row = {**key, **{name: rounded(value) for name, value in make().items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.header)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
        told = {name: value for name, value in row.items() if name != SETTINGS}
        print(", ".join(f"{name} {value}" for name, value in told.items()), flush=True)
        return row


def settings_text(*parts: Any) -> str:
    """Settings as one text: dataclasses by their fields, all else as JSON has it."""
    plain = [asdict(part) if is_dataclass(part) and not isinstance(part, type) else part for part in parts]
    return json.dumps(plain, sort_keys=True)


def rounded(value: Any) -> Any:
    """Six digits of a number."""
    return f"{value:.6g}" if isinstance(value, float) else value


def spread(rows: list[Row], column: str, digits: int = 2) -> str:
    """Mean and standard deviation over seeds; a dash where there is none."""
    values = [float(row[column]) for row in rows if row.get(column) not in ("", None)]
    if not values:
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
