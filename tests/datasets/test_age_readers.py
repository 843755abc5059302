"""Readers of age sets, each on a tiny set in the true format."""

import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.readers.appa_real import MissingAttributesWarning


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def read(name: str, root: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], Rejects]:
    rejects = Rejects()
    table = datasets.read(name, root, rejects=rejects, workers=2, **settings)
    assert table["dataset"].unique().to_pylist() == [name]
    return {row["path"]: row for row in table.to_pylist()}, rejects


def columns(rows: dict[str, dict[str, Any]], *names: str) -> dict[str, tuple[Any, ...]]:
    return {path: tuple(row[name] for name in names) for path, row in rows.items()}


# morph2


MORPH = (
    "Album2/009055_1M54.JPG",
    "Album2/009055_2M55.JPG",
    "Album2/100001_00F19.jpg",
    "Album2/100002_0M101.JPG",
)


def test_morph2_names_give_subject_gender_and_age(tmp_path):
    put(tmp_path, *MORPH, "Album2/notes.JPG", "Album2/009055_1X54.JPG", "readme.txt")
    rows, rejects = read("morph2", tmp_path)
    assert columns(rows, "target", "subject", "gender", "ethnicity") == {
        "Album2/009055_1M54.JPG": (54.0, "009055", "male", None),
        "Album2/009055_2M55.JPG": (55.0, "009055", "male", None),
        "Album2/100001_00F19.jpg": (19.0, "100001", "female", None),
        "Album2/100002_0M101.JPG": (101.0, "100002", "male", None),
    }
    assert rejects.counts() == {"bad_name": 2, "not_a_picture": 1}


def test_morph2_takes_ethnicity_from_its_table(tmp_path):
    put(tmp_path, *MORPH)
    header = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo\n"
    lines = [
        "9055,1,05/01/1950,08/17/2004,B,M,NULL,54,0,NULL,Album2/009055_1M54.JPG",
        "9055,2,05/01/1950,08/17/2005,w,M,NULL,55,365,NULL,Album2/009055_2M55.JPG",
        "100001,0,05/01/1985,08/17/2004,?,F,NULL,19,0,NULL,Album2/100001_00F19.JPG",
        "too,few,fields",
    ]
    (tmp_path / "morph.csv").write_text(header + "\n".join(lines))
    rows, rejects = read("morph2", tmp_path, table="morph.csv", subjects=False)
    assert columns(rows, "ethnicity", "subject") == {
        "Album2/009055_1M54.JPG": ("Black", None),
        "Album2/009055_2M55.JPG": ("White", None),
        "Album2/100001_00F19.jpg": (None, None),
        "Album2/100002_0M101.JPG": (None, None),
    }
    assert rejects.counts() == {"bad_row": 1, "unmatched": 1}
    (tmp_path / "wrong.csv").write_text("photo,age\n")
    with pytest.raises(UserError, match=r"wrong.csv has no column 'race': it has photo, age"):
        read("morph2", tmp_path, table="wrong.csv")


# appa_real


def appa_real(root: Path) -> None:
    put(root, *(f"train/00000{k}.jpg{end}" for k in range(3) for end in ("", "_face.jpg")))
    put(root, "valid/000003.jpg", "test/000004.jpg")
    header = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
    (root / "gt_avg_train.csv").write_text(
        header + "000000.jpg,37,5.0540540540540544,1.2,4\n000001.jpg,38,20.5,4.2,18\n000002.jpg,38,x,4.2,\n"
        "missing.jpg,38,20.5,4.2,18\n000001.jpg,38\n"
    )
    (root / "gt_avg_valid.csv").write_text(header + "000003.jpg,37,30.25,1.2,33\n")
    (root / "gt_avg_test.csv").write_text(header + "000004.jpg,37,60,1.2,61\n")
    attributes = "file,gender,race,makeup,time,happiness\n"
    (root / "allcategories_train.csv").write_text(
        attributes + "000000.jpg,male,caucasian,notclear,modernphoto,slightlyhappy\n"
        "000001.jpg,female,asian,makeup,modernphoto,neutral\n000001.jpg,male,asian,makeup,modernphoto,neutral\n"
    )
    (root / "allcategories_valid.csv").write_text(attributes)
    (root / "allcategories_test.csv").write_text(
        attributes + "000004.jpg,male,afroamerican,,oldphoto,other\n"
    )


def test_appa_real_reads_ages_attributes_and_its_division(tmp_path):
    appa_real(tmp_path)
    rows, rejects = read("appa_real", tmp_path)
    names = ("target", "gender", "ethnicity", "expression", "makeup", "folder")
    assert columns(rows, *names) == {
        "train/000000.jpg": (4.0, "male", "caucasian", "slightlyhappy", "notclear", "train"),
        "train/000001.jpg": (18.0, None, "asian", "neutral", "makeup", "train"),
        "valid/000003.jpg": (33.0, None, None, None, None, "validation"),
        "test/000004.jpg": (61.0, "male", "afroamerican", "other", None, "test"),
    }
    assert rejects.counts() == {
        "bad_row": 1,
        "duplicate_row": 1,
        "missing_file": 1,
        "missing_target": 1,
        "unmatched": 2,
    }
    assert any("gt_avg_train.csv, line 6: 2 fields" in str(row["detail"]) for row in rejects.rows)


def test_appa_real_can_take_apparent_ages_and_its_own_crops(tmp_path):
    appa_real(tmp_path)
    rows, rejects = read("appa_real", tmp_path, target="apparent", aligned=True)
    assert columns(rows, "target") == {
        "train/000000.jpg_face.jpg": (5.0540540540540544,),
        "train/000001.jpg_face.jpg": (20.5,),
    }
    assert rejects.counts()["bad_target"] == 1


def test_appa_real_says_which_attributes_it_lacks(tmp_path):
    appa_real(tmp_path)
    (tmp_path / "allcategories_train.csv").write_text("File,Gender\n000000.jpg,male\n")
    (tmp_path / "allcategories_test.csv").unlink()
    with pytest.warns(MissingAttributesWarning) as warned:
        rows, _ = read("appa_real", tmp_path)
    messages = [str(warning.message) for warning in warned]
    assert any("allcategories_train.csv tells no ethnicity, expression, makeup" in m for m in messages)
    assert any("allcategories_test.csv does not exist" in m for m in messages)
    assert rows["train/000000.jpg"]["gender"] == "male"
    assert rows["train/000000.jpg"]["ethnicity"] is None


def test_appa_real_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(UserError, match=r"holds no gt_avg_train.csv with faces"):
        read("appa_real", tmp_path)
    appa_real(tmp_path)
    with pytest.raises(UserError, match="target 'age' of appa_real: choose one of real, apparent"):
        read("appa_real", tmp_path, target="age")
    (tmp_path / "gt_avg_test.csv").write_text("file,age\nx.jpg,5\n")
    with pytest.raises(UserError, match=r"gt_avg_test.csv has no column 'file_name': it has file, age"):
        read("appa_real", tmp_path)


# agedb and afad


def test_agedb_names_give_subject_age_and_gender(tmp_path):
    put(
        tmp_path,
        "0_MariaCallas_35_f.jpg",
        "12_Jean_Paul_101_m.jpg",
        "13_Nobody_f.jpg",
        "14_Somebody_35_x.jpg",
    )
    rows, rejects = read("agedb", tmp_path)
    assert columns(rows, "target", "subject", "gender") == {
        "0_MariaCallas_35_f.jpg": (35.0, "MariaCallas", "female"),
        "12_Jean_Paul_101_m.jpg": (101.0, "Jean_Paul", "male"),
    }
    assert rejects.counts() == {"bad_name": 2}
    assert "not of the form 0_MariaCallas_35_f.jpg" in str(rejects.rows[0]["detail"])


@pytest.mark.parametrize("folder", ["", "AFAD-Full/"])
def test_afad_folders_give_age_and_gender(tmp_path, folder):
    put(tmp_path, f"{folder}15/111/638660-1.jpg", f"{folder}15/111/638660-2.jpg", f"{folder}40/112/1-0.jpg")
    put(tmp_path, f"{folder}40/113/2-0.jpg", f"{folder}x/112/3-0.jpg", f"{folder}40/112/face.jpg", "4-0.jpg")
    rows, rejects = read("afad", tmp_path)
    assert columns(rows, "target", "subject", "gender") == {
        f"{folder}15/111/638660-1.jpg": (15.0, "638660", "male"),
        f"{folder}15/111/638660-2.jpg": (15.0, "638660", "male"),
        f"{folder}40/112/1-0.jpg": (40.0, "1", "female"),
    }
    assert rejects.counts() == {"bad_name": 4}


# imdb_wiki


def cells(items: list[Any]) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    for place, item in enumerate(items):
        made[0, place] = item
    return made


def born(year: int, month: int, day: int = 1) -> float:
    return date(year, month, day).toordinal() + 366


ENTRIES: list[dict[str, Any]] = [
    {
        "path": "17/10000217_1981-05-05_2009.jpg",
        "dob": born(1981, 5, 5),
        "taken": 2009,
        "name": "Sami Jauhojärvi",
    },
    {"path": "12/100012_1948-07-03_2008.jpg", "dob": born(1948, 7, 3), "taken": 2008, "gender": 0},
    {"path": "a/unknown_gender.jpg", "gender": np.nan, "name": ""},
    {"path": "a/no_face.jpg", "score": -np.inf},
    {"path": "a/weak.jpg", "score": 0.5},
    {"path": "a/two.jpg", "second": 2.5},
    {"path": "a/unborn.jpg", "dob": born(1990, 1), "taken": 1980},
    {"path": "a/old.jpg", "dob": born(1800, 1)},
    {"path": "a/no_date.jpg", "dob": 0.0},
    {"path": "a/nan_date.jpg", "dob": np.nan},
    {"path": "../outside.jpg"},
    {"path": []},
]


def imdb(root: Path, kind: str = "wiki", drop: str = "") -> None:
    def column(name: str, default: Any) -> list[Any]:
        return [entry.get(name, default) for entry in ENTRIES]

    table = {
        "dob": np.array([column("dob", born(1970, 1))]),
        "photo_taken": np.array([column("taken", 2000)], dtype=np.uint16),
        "full_path": cells(column("path", "")),
        "gender": np.array([column("gender", 1.0)]),
        "name": cells(column("name", "A. Name")),
        "face_location": cells([np.array([[1.0, 2, 3, 4]])] * len(ENTRIES)),
        "face_score": np.array([column("score", 3.0)]),
        "second_face_score": np.array([column("second", np.nan)]),
    }
    table.pop(drop, None)
    savemat(root / f"{kind}.mat", {kind: table}, do_compression=True)
    put(root, *(entry["path"] for entry in ENTRIES if entry["path"] and ".." not in entry["path"]))


@pytest.mark.parametrize("kind", ["wiki", "imdb"])
def test_imdb_wiki_ages_are_those_in_the_middle_of_the_year(tmp_path, kind):
    imdb(tmp_path, kind)
    rows, rejects = read("imdb_wiki", tmp_path)
    assert columns(rows, "target", "subject", "gender") == {
        "17/10000217_1981-05-05_2009.jpg": (28.0, "Sami Jauhojärvi", "male"),
        "12/100012_1948-07-03_2008.jpg": (59.0, "A. Name", "female"),
        "a/unknown_gender.jpg": (30.0, None, None),
    }
    assert rejects.counts() == {
        "bad_age": 4,
        "bad_path": 1,
        "no_face": 2,
        "outside_root": 1,
        "second_face": 1,
    }
    assert any(f"{kind}.mat, entry 9: born on day 0" in str(row["detail"]) for row in rejects.rows)


def test_imdb_wiki_can_keep_what_its_detector_doubted(tmp_path):
    imdb(tmp_path)
    rows, rejects = read("imdb_wiki", tmp_path, min_face_score=None, second_face=True)
    assert {"a/no_face.jpg", "a/weak.jpg", "a/two.jpg"} < set(rows)
    assert set(rejects.counts()) == {"bad_age", "bad_path", "outside_root"}


def test_imdb_wiki_refuses_a_file_of_another_form(tmp_path):
    with pytest.raises(UserError, match=r"wiki.mat does not exist"):
        read("imdb_wiki", tmp_path)
    imdb(tmp_path, drop="dob")
    with pytest.raises(UserError, match=r"wiki.mat has no field 'dob': it has photo_taken, full_path"):
        read("imdb_wiki", tmp_path)
    data = (tmp_path / "wiki.mat").read_bytes()
    (tmp_path / "wiki.mat").write_bytes(data[:-40])
    with pytest.raises(UserError, match=r"wiki.mat cannot be read: cut short"):
        read("imdb_wiki", tmp_path)
    savemat(tmp_path / "wiki.mat", {"faces": 1.0})
    with pytest.raises(UserError, match="must hold a struct called 'wiki'"):
        read("imdb_wiki", tmp_path)
    savemat(tmp_path / "wiki.mat", {"wiki": np.ones((2, 2))})
    with pytest.raises(UserError, match="must hold a struct called 'wiki'"):
        read("imdb_wiki", tmp_path)


def test_imdb_wiki_refuses_fields_that_do_not_fit(tmp_path):
    fields = ("dob", "photo_taken", "full_path", "gender", "name", "face_score", "second_face_score")
    two = {name: np.ones((1, 2)) for name in fields}
    savemat(tmp_path / "wiki.mat", {"wiki": {**two, "gender": np.ones((1, 3))}})
    with pytest.raises(UserError, match=r"its fields have \[2, 3\] entries"):
        read("imdb_wiki", tmp_path)
    savemat(tmp_path / "wiki.mat", {"wiki": {**two, "dob": cells(["a", "b"])}})
    with pytest.raises(UserError, match="the field 'dob' must hold numbers"):
        read("imdb_wiki", tmp_path)


def test_readers_change_nothing_and_give_the_same_table_with_any_number_of_workers(tmp_path):
    imdb(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, many = (
            datasets.read("imdb_wiki", tmp_path, rejects=Rejects(), workers=number) for number in (1, 4)
        )
    assert one.equals(many)
    assert isinstance(one, pa.Table)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
