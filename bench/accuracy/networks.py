"""What the programs on whole networks share: the faces of a project, one network's scores, rows of a CSV."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from pipeline.cnn.material import Goal, Labelled, labelled
from pipeline.metrics import bias_score, cumulative_score, mae, unimodality_rate
from pipeline.params import load
from pipeline.rejects import Rejects
from pipeline.tables import read_table, rows_of

VISIBLE = 1e-3
"""Steps of probability below this one are not counted as peaks; `unimodal_strict` counts all."""
GROUPS = ("gender", "ethnicity")
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
            "unimodal": "" if shapes is None else unimodality_rate(shapes[test], VISIBLE),
            "unimodal_strict": "" if shapes is None else unimodality_rate(shapes[test]),
            **{
                f"{name}_bias": float(bias_score(predicted[test], targets[test], column))
                for name, column in groups.items()
            },
            "val_mae": float(mae(predicted[validation], targets[validation])),
        }


class Results:
    """A CSV that grows by a row a result, so that an interrupted program goes on where it was.

    `keys` are the columns that say which result a row is.
    """

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path = path
        self.keys = keys

    def rows(self) -> list[Row]:
        """All rows so far, as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def get(self, key: Row, make: Callable[[], Row]) -> Row:
        """The result of a key: the one in the file, or one made now and written."""
        for row in self.rows():
            if all(row[name] == str(key[name]) for name in self.keys):
                return row
        row = {**key, **{name: rounded(value) for name, value in make().items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        return row


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
