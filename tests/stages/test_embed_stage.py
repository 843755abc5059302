"""The stage embed of ready-made vectors: which columns of the manifest go on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import config
from pipeline.core.tables import read_table, vector_type, write_table
from pipeline.stages import embed, locations
from pipeline.stages.uncertain import groups_of

PROJECT = Path(__file__).resolve().parents[2]
FACES = 12


def embedded(subjects: list[str | None]) -> pa.Table:
    """embeddings/faces.parquet of a manifest with these subjects, in the current folder."""
    ids = [f"{number:064x}" for number in range(FACES)]
    vectors = np.random.default_rng(0).normal(size=FACES * 4).astype(np.float32)
    manifest = {
        "face_id": ids,
        "path": [f"{one}.jpg" for one in ids],
        "target": np.arange(FACES, dtype=float),
        "subject": pa.array(subjects, pa.string()),
        "dataset": ["made up"] * FACES,
        "gender": pa.array(["f", "m"] * (FACES // 2), pa.string()),
    }
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors), type=vector_type(4))
    field = pa.field("vector", vector_type(4), nullable=False)
    ready = pa.table({"face_id": ids}).append_column(field, column)
    splits = pa.table({"face_id": ids, "split": ["train", "validation", "test"] * (FACES // 3)})
    for table, path in (
        (pa.table(manifest), locations.MANIFEST),
        (ready, locations.READY_VECTORS),
        (splits, locations.SPLITS),
    ):
        write_table(table, path, "test")
    embed.run(config.load(PROJECT / "params.yaml"), 1)
    return read_table(locations.FACES)


def test_whom_faces_show_goes_on_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subjects = [None, *(f"s{number // 3}" for number in range(1, FACES))]
    faces = embedded(subjects)
    assert faces.column_names == ["face_id", "target", "subject", "gender", "split", "vector"]
    assert faces["subject"].to_pylist() == subjects
    assert faces.schema.field("subject").type == pa.string()
    assert faces.schema.field("subject").nullable
    found = groups_of(faces.drop_columns(["vector"]), "age", [6])
    assert set(found) == {"age", "gender"}
    place = faces.column_names.index("gender")
    unknown = faces.drop_columns(["vector"]).set_column(
        place, "gender", pa.array([None] * FACES, pa.string())
    )
    assert set(groups_of(unknown, "age", [6])["gender"]) == {"unknown"}


def test_where_nobody_is_known_there_is_no_such_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert embedded([None] * FACES).column_names == ["face_id", "target", "gender", "split", "vector"]
