"""Readers of picture sets."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets import LeftOutWarning
from pipeline.datasets.readers.utkface import MalformedNameWarning, parse_name


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def by_path(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in table.to_pylist()}


# csv


def test_csv_takes_all_other_columns_as_groups_and_finds_the_subject(tmp_path: Path) -> None:
    put(tmp_path, "x/a.jpg", "x/b.jpg")
    (tmp_path / "labels.csv").write_text(
        "\ufeffpath,target,subject,gender,note\nx/a.jpg,12.5,s1,male,\nx/b.jpg,3,,female,old\n\n"
    )
    rows = by_path(datasets.read("csv", tmp_path, rejects=Rejects()))
    assert rows["x/a.jpg"]["target"] == 12.5
    assert (rows["x/a.jpg"]["subject"], rows["x/a.jpg"]["gender"], rows["x/a.jpg"]["note"]) == (
        "s1",
        "male",
        None,
    )
    assert rows["x/b.jpg"]["subject"] is None
    assert rows["x/a.jpg"]["dataset"] == "csv"


def test_csv_columns_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("file,score,who,split\na.jpg,4.5,s,train\n")
    table = datasets.read(
        "csv",
        tmp_path,
        rejects=Rejects(),
        table="t.csv",
        path_column="file",
        target_column="score",
        subject_column="who",
        groups=[],
    )
    assert table.drop_columns(["face_id"]).to_pylist() == [
        {"path": "a.jpg", "target": 4.5, "subject": "s", "dataset": "csv"}
    ]


def test_a_parquet_table_reads_like_the_csv(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_text("path,target,subject,zone\na.jpg,5,1,7\nb.jpg,6,2,\n")
    columns = {"path": ["a.jpg", "b.jpg"], "target": [5, 6], "subject": [1, 2], "zone": [7.0, None]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    one, two = (
        datasets.read("csv", tmp_path, rejects=Rejects(), table=name) for name in ("t.csv", "t.parquet")
    )
    assert one.equals(two)


def test_csv_bad_rows_cost_themselves_only(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "labels.csv").write_bytes(
        b"path,target,gender\na.jpg,5,male\nb.jpg,5\nc.jpg,old,male\ncaf\xe9.jpg,5,m\xe9\n,5,male\n"
        b"a.jpg,5,m\xe4nn\n"
    )
    rejects = Rejects()
    table = datasets.read("csv", tmp_path, rejects=rejects)
    assert table.num_rows == 1
    details = sorted(str(row["detail"]) for row in rejects.rows)
    assert details[0] == "labels.csv, line 3: 2 fields where the header has 3"
    assert details[1] == "labels.csv, line 4: the target 'old' is not a finite number"
    assert "labels.csv, line 5: the path is not valid UTF-8" in details[2]
    assert "labels.csv, line 6: the path is empty" in details[3]
    assert details[4] == "labels.csv, line 7: gender is not UTF-8 text: save the table in UTF-8"
    assert rejects.table().num_rows == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "labels.csv is empty: it must begin with a header"),
        ("path,target\n", "labels.csv lists no face"),
        ("path,age\na.jpg,5\n", "labels.csv has no column 'target': it has path, age"),
        (
            "path;target\na.jpg;5\n",
            "has no column 'path': it has the one column 'path;target'; separate fields by",
        ),
        ("path, target\na.jpg, 5\n", "has no column 'target': it has path, ' target'"),
        (
            "path,a\0b\na.jpg,5\n",
            r"has no column 'target': it has path, a\\x00b; set data.settings.target_column",
        ),
        ("path,target,path\na,5,b\n", "labels.csv: column 3 is called 'path'"),
        ("path,target,\na,5,b\n", "labels.csv: column 3 is called ''"),
        ("path,target,face_id\na,5,b\n", "group column 'face_id'"),
        ('path,target\n"a.jpg,5\n', "labels.csv, line 2: unexpected end of data"),
        ("path,target\n" + "x" * 200_000 + ",5\n", "labels.csv, line 2: field larger than"),
    ],
)
def test_refuses_an_unusable_csv_in_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        datasets.read("csv", tmp_path)


def test_a_table_in_utf_16_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,target\na.jpg,5\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"labels\.csv is UTF-16 text: save it as UTF-8"):
        datasets.read("csv", tmp_path)


def test_refuses_a_missing_table_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"labels.csv does not exist: name the table with the setting 'table'"
    ):
        datasets.read("csv", tmp_path)
    (tmp_path / "t.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UserError, match=r"t.parquet is not a readable Parquet file"):
        datasets.read("csv", tmp_path, table="t.parquet")


# utkface


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1_0_0_20161219140623097.jpg.chip.jpg", (1, "male", "White")),
        ("116_1_4_20170112220255503.jpg", (116, "female", "Other")),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", (24, "male", "Black")),
        ("55_0_0_20170116232725357jpg.chip.jpg", (55, "male", "White")),
        ("44_1_4_20170116235150272.pg.chip.jpg", (44, "female", "Other")),
        ("61_1_20170109142408075.jpg.chip.jpg", (61, None, None)),
        ("39_1_20170116174525125.jpg.chip.jpg", (39, None, None)),
        ("61_3_20170109150557335.jpg.chip.jpg", (61, None, None)),
        ("30_7_2_20170109150557335.jpg.chip.jpg", (30, None, "Asian")),
        ("30_1_9_20170109150557335.jpg.chip.jpg", (30, "female", None)),
        ("_1_2_20170109150557335.jpg", None),
        ("20170109150557335.jpg", None),
        ("131_1_2_20170109150557335.jpg", None),
        ("2017_1_2_x.jpg", None),
        ("\u0662\u0664_1_2_x.jpg", None),
    ],
)
def test_utkface_names(name: str, expected: tuple[int, str | None, str | None] | None) -> None:
    assert parse_name(name) == expected


def test_utkface_keeps_malformed_names_counts_them_and_rejects_the_ageless(tmp_path: Path) -> None:
    put(
        tmp_path,
        "part1/26_1_2_20170116184024662.jpg.chip.jpg",
        "part2/61_1_20170109142408075.jpg.chip.jpg",
        "part2/face.jpg",
        "part2/notes.txt",
        "part2/more.txt",
    )
    rejects = Rejects()
    with pytest.warns(MalformedNameWarning, match=r"1 name.*61_1_20170109142408075"):
        rows = by_path(datasets.read("utkface", tmp_path, rejects=rejects))
    assert len(rows) == 2
    row = rows["part1/26_1_2_20170116184024662.jpg.chip.jpg"]
    assert (row["target"], row["gender"], row["ethnicity"]) == (26, "female", "Asian")
    row = rows["part2/61_1_20170109142408075.jpg.chip.jpg"]
    assert (row["target"], row["gender"], row["ethnicity"]) == (61, None, None)
    assert rejects.counts() == {"bad_name": 1, "not_a_picture": 1}
    assert "2 file(s) ending in '.txt'" in str(rejects.rows[0]["detail"])


def test_utkface_names_that_are_not_utf8_do_not_stop_it(tmp_path: Path) -> None:
    put(tmp_path, "26_1_2_20170116184024662.jpg")
    (tmp_path / os.fsdecode(b"27_1_2_caf\xe9.jpg")).write_bytes(b"x")
    rejects = Rejects()
    assert datasets.read("utkface", tmp_path, rejects=rejects).num_rows == 1
    assert rejects.counts() == {"bad_path": 1}
    assert rejects.table()["path"].to_pylist() == ["27_1_2_caf\\xe9.jpg"]


def test_a_linked_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "data/26_1_2_x.jpg", "elsewhere/27_1_2_x.jpg")
    (tmp_path / "data/28_1_2_linked.jpg").symlink_to(tmp_path / "elsewhere")
    rejects = Rejects()
    assert datasets.read("utkface", tmp_path / "data", rejects=rejects).num_rows == 1
    assert rejects.counts() == {"outside_root": 1}


# fgnet


def test_fgnet_names_give_subject_and_age(tmp_path: Path) -> None:
    put(tmp_path, "images/001A02.JPG", "images/001A43a.JPG", "images/082A18b.jpg", "images/1A2.JPG")
    put(tmp_path, "points/001a02.pts")
    rejects = Rejects()
    rows = by_path(datasets.read("fgnet", tmp_path, rejects=rejects))
    assert {path: (row["subject"], row["target"]) for path, row in rows.items()} == {
        "images/001A02.JPG": ("001", 2.0),
        "images/001A43a.JPG": ("001", 43.0),
        "images/082A18b.jpg": ("082", 18.0),
    }
    assert rejects.counts() == {"bad_name": 1, "not_a_picture": 1}


# benchmark_json


def record(path: str, **fields: Any) -> dict[str, Any]:
    box = [-57, -95, 372, -83, 360, 346, -69, 334]
    return {"img_path": path, "id_num": 638660, "age": 15, "gender": "M", "database": "AFAD-Full"} | {
        "folder": 0,
        "aligned_bbox": box,
        **fields,
    }


def test_benchmark_json_keeps_subject_gender_and_folder(tmp_path: Path) -> None:
    put(tmp_path, "AFAD/a.jpg", "AFAD/b.jpg", "AFAD/c.jpg")
    rows = [
        record("AFAD/a.jpg"),
        record("AFAD/b.jpg", gender="F", age=16.5, folder=9, id_num="n7"),
        {"img_path": "AFAD/c.jpg", "age": 20, "folder": 3},
        record("AFAD/d.jpg"),
        record("AFAD/a.jpg", age=None),
        {"age": 20},
        "nonsense",
    ]
    (tmp_path / "database.json").write_text(json.dumps(rows))
    rejects = Rejects()
    found = by_path(datasets.read("benchmark_json", tmp_path, rejects=rejects))
    wanted = ("target", "subject", "gender", "folder")
    assert {path: tuple(row[name] for name in wanted) for path, row in found.items()} == {
        "AFAD/a.jpg": (15.0, "638660", "male", "0"),
        "AFAD/b.jpg": (16.5, "n7", "female", "9"),
        "AFAD/c.jpg": (20.0, None, None, "3"),
    }
    assert rejects.counts() == {"bad_row": 2, "missing_file": 1, "missing_target": 1}
    assert any(
        "database.json, record 7: 'nonsense' is not an object" in str(r["detail"]) for r in rejects.rows
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must hold a list of records, not dict"),
        ("{}", "must hold a list of records, not dict"),
        ("[]", "holds no record"),
        ("[" * 200_000, "too many nested brackets"),
        ("\xff", "is not UTF-8 text"),
    ],
)
def test_refuses_what_is_not_a_benchmark_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "database.json").write_bytes(content.encode("latin1"))
    with pytest.raises(UserError, match=message):
        datasets.read("benchmark_json", tmp_path)


# read and prepare


def test_names_the_reader_the_setting_or_the_root_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown data set 'faces': choose one of sample, csv"):
        datasets.read("faces", tmp_path)
    with pytest.raises(UserError, match="has no setting 'tabel'"):
        datasets.read("csv", tmp_path, tabel="x")
    with pytest.raises(UserError, match=r"nowhere does not exist: set data\.root"):
        datasets.read("utkface", tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no picture"):
        datasets.read("fgnet", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        datasets.read("fgnet", tmp_path / "file")


def test_without_a_collector_what_is_left_out_is_warned_about(tmp_path: Path) -> None:
    put(tmp_path, "001A02.JPG", "nobody.jpg")
    with pytest.warns(LeftOutWarning, match="bad_name: 1"):
        datasets.read("fgnet", tmp_path)
    (tmp_path / "nobody.jpg").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert datasets.read("fgnet", tmp_path).num_rows == 1


def test_prepare_leaves_found_pictures_alone(tmp_path: Path) -> None:
    put(tmp_path, "001A02.JPG")
    before = sorted(tmp_path.rglob("*"))
    datasets.prepare("fgnet", tmp_path, workers=2)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="unknown data set"):
        datasets.prepare("faces", tmp_path)


def test_every_registered_reader_can_be_imported_and_takes_rejects() -> None:
    import inspect

    for name in datasets.REGISTRY.names():
        parameters = inspect.signature(datasets.REGISTRY.factory(name)).parameters
        assert {"root", "rejects"} <= set(parameters), name


def test_readers_change_nothing_in_the_root(tmp_path: Path) -> None:
    put(tmp_path, "001A02.JPG", "002A03.JPG", "x.JPG")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    datasets.read("fgnet", tmp_path, rejects=Rejects())
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before
