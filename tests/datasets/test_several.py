"""Several data sets as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects


def put(root: Path, *names: str, same: bytes | None = None) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(same or name.encode())


def read(root: Path, parts: Any) -> tuple[dict[str, dict[str, Any]], Rejects, list[str]]:
    rejects = Rejects()
    table = datasets.read("several", root, rejects=rejects, parts=parts, workers=2)
    assert table["face_id"].to_pylist() == sorted(table["face_id"].to_pylist())
    return {row["path"]: row for row in table.to_pylist()}, rejects, table.column_names


PARTS = [{"name": "fgnet", "folder": "FGNET"}, {"name": "agedb", "folder": "age/AgeDB"}]


def test_paths_subjects_and_groups_say_where_a_face_is_from(tmp_path):
    put(tmp_path, "FGNET/001A02.JPG", "FGNET/x.JPG", "age/AgeDB/0_001_35_f.jpg")
    rows, rejects, columns = read(tmp_path, PARTS)
    assert columns == ["face_id", "path", "target", "subject", "dataset", "gender"]
    told = {
        path: (row["target"], row["subject"], row["dataset"], row["gender"]) for path, row in rows.items()
    }
    assert told == {
        "FGNET/001A02.JPG": (2.0, "FGNET/001", "fgnet", None),
        "age/AgeDB/0_001_35_f.jpg": (35.0, "age/AgeDB/001", "agedb", "female"),
    }
    assert [(row["reason"], row["path"]) for row in rejects.rows] == [("bad_name", "FGNET/x.JPG")]


def test_a_face_in_two_sets_is_kept_once_and_not_at_all_if_they_disagree(tmp_path):
    put(tmp_path, "FGNET/001A02.JPG", "age/AgeDB/0_A_2_f.jpg", same=b"agree")
    put(tmp_path, "FGNET/002A30.JPG", "age/AgeDB/1_B_31_m.jpg", same=b"disagree")
    rows, rejects, _ = read(tmp_path, PARTS)
    assert set(rows) == {"FGNET/001A02.JPG"}
    assert rejects.counts() == {"conflicting_targets": 2, "duplicate": 1}
    assert rejects.rows[0]["face_id"]


def test_further_numbers_come_last_and_settings_reach_the_readers(tmp_path):
    put(tmp_path, "A/image1.jpg", "B/001A02.JPG")
    savemat(tmp_path / "A/image1.mat", {"Pose_Para": np.radians([[30.0, 20.0, 10.0]])})
    parts = [
        {"name": "fgnet", "folder": "B", "settings": None},
        {"name": "aflw2000", "folder": "A", "settings": {"target": "roll"}},
    ]
    rows, _, columns = read(tmp_path, parts)
    assert columns[-3:] == ["yaw", "pitch", "roll"]
    assert rows["A/image1.jpg"]["target"] == pytest.approx(10)
    assert rows["B/001A02.JPG"]["yaw"] is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([PARTS[0]], "two data sets or more"),
        ([PARTS[0], {"name": "agedb"}], r"parts.1 must have a name and a folder"),
        ([PARTS[0], {**PARTS[1], "root": "x"}], r"parts.1 must have a name and a folder"),
        ([PARTS[0], "agedb"], r"parts.1 must have a name and a folder"),
        ([PARTS[0], {"name": "agedb", "folder": "FGNET"}], "two of them lie in the folder 'FGNET'"),
        ([PARTS[0], {"name": "agedb", "folder": "../x"}], "must lie below data.root"),
        ([PARTS[0], {"name": "agedb", "folder": "/x"}], "must lie below data.root"),
        ([PARTS[0], {"name": "several", "folder": "x"}], "several cannot be a part"),
        ([PARTS[0], {"name": "sample", "folder": "x"}], "sample cannot be a part"),
        ([PARTS[0], {"name": "agdb", "folder": "x"}], "unknown data set 'agdb'"),
        ([PARTS[0], {"name": "agedb", "folder": "nowhere"}], "nowhere does not exist"),
    ],
)
def test_parts_that_make_no_set_are_refused(tmp_path, parts, message):
    put(tmp_path, "FGNET/001A02.JPG")
    with pytest.raises(UserError, match=message):
        read(tmp_path, parts)
