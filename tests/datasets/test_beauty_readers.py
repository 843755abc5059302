"""Readers of attractiveness sets, each on a tiny set in the true format."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.readers.scut_fbp5500 import FOLDS, LABELS, SIXTY, MissingDivisionWarning


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(name: str, root: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], Rejects]:
    rejects = Rejects()
    table = datasets.read(name, root, rejects=rejects, **settings)
    return {row["path"]: row for row in table.to_pylist()}, rejects


def columns(rows: dict[str, dict[str, Any]], *names: str) -> dict[str, tuple[Any, ...]]:
    return {path: tuple(row[name] for name in names) for path, row in rows.items()}


# scut_fbp


NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
STRINGS = f"<sst {NAMESPACE}><si><t>Image</t></si><si><r><t>Attractive</t></r><r><t>ness</t></r></si></sst>"
SHEET = f"""<?xml version="1.0" encoding="UTF-8"?>
<worksheet {NAMESPACE}><dimension ref="A1:C7"/><sheetData>
<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>
<row r="2"><c r="A2"><v>1</v></c><c r="B2"><v>2.6285714285714286</v></c><c r="C2"><v>0.9</v></c></row>
<row r="3"><c r="A3" t="str"><v>2</v></c><c r="B3" s="1"><f>1+2</f><v>3</v></c></row>
<row r="4"><c r="A4"><v>3</v></c></row>
<row r="5"><c r="A5" t="inlineStr"><is><t>mean</t></is></c><c r="B5"><v>3.1</v></c></row>
<row r="6"><c r="A6"><v>4</v></c><c r="B6" t="s"><v>0</v></c></row>
<row r="7"/>
<row r="8"><c r="A8"><v>5.5</v></c><c r="B8"><v>3.1</v></c></row>
</sheetData></worksheet>"""


def workbook(path: Path, sheet: str = SHEET, **more: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/sharedStrings.xml", STRINGS)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        for name, text in more.items():
            archive.writestr(name, text)


LABEL_BOOK = "Rating_Collection/Attractiveness label.xlsx"


def test_scut_fbp_reads_its_workbook(tmp_path):
    put(tmp_path, *(f"Data_Collection/SCUT-FBP-{k}.jpg" for k in range(1, 5)))
    workbook(tmp_path / LABEL_BOOK)
    rows, rejects = read("scut_fbp", tmp_path)
    assert columns(rows, "target", "gender", "ethnicity", "subject") == {
        "Data_Collection/SCUT-FBP-1.jpg": (2.6285714285714286, "female", "Asian", None),
        "Data_Collection/SCUT-FBP-2.jpg": (3.0, "female", "Asian", None),
    }
    assert rejects.counts() == {"bad_row": 2, "bad_target": 1, "missing_target": 1}
    assert any("label.xlsx, row 5: 'mean' is not the number" in str(row["detail"]) for row in rejects.rows)


def test_scut_fbp_reads_the_same_as_csv(tmp_path):
    put(tmp_path, "Data_Collection/SCUT-FBP-1.jpg")
    write(tmp_path / "labels.csv", "Image,label,std\n1,2.5,0.9\nx,3,1\n9,3,1\n")
    rows, rejects = read("scut_fbp", tmp_path, table="labels.csv")
    assert columns(rows, "target") == {"Data_Collection/SCUT-FBP-1.jpg": (2.5,)}
    assert rejects.counts() == {"bad_row": 1, "missing_file": 1}
    write(tmp_path / "one.csv", "Image\n1\n")
    with pytest.raises(UserError, match="must have two columns"):
        read("scut_fbp", tmp_path, table="one.csv")


def test_a_workbook_that_is_none_or_hostile_is_refused(tmp_path):
    path = tmp_path / LABEL_BOOK
    write(path, "not a zip")
    with pytest.raises(UserError, match="not a readable Excel workbook"):
        read("scut_fbp", tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(UserError, match="has no sheet"):
        read("scut_fbp", tmp_path)
    workbook(path, SHEET[:-30])
    with pytest.raises(UserError, match="is damaged"):
        read("scut_fbp", tmp_path)
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    workbook(path, SHEET.replace("<worksheet", f"{laughs}<worksheet"))
    with pytest.raises(UserError, match="declares a document type"):
        read("scut_fbp", tmp_path)
    workbook(path, "<worksheet>" + " " * (65 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="has more than 64 MiB"):
        read("scut_fbp", tmp_path)
    workbook(path, f"<worksheet {NAMESPACE}/>")
    with pytest.raises(UserError, match="lists no face"):
        read("scut_fbp", tmp_path)


# scut_fbp5500


def scut_fbp5500(root: Path) -> list[str]:
    names = ["AF1.jpg", "AM2.jpg", "CF3.jpg", "CM4.jpg", "CF5.jpg"]
    put(root, *(f"Images/{name}" for name in names))
    labels = {name: f"{name} {2 + k / 3:.6f}" for k, name in enumerate(names)}
    write(root / LABELS, "\n".join([*labels.values(), "AF9.jpg 3.0", "AF1.jpg", "", "CF5.jpg high"]) + "\n")
    write(root / SIXTY / "train.txt", "\n".join(labels[name] for name in names[:3]))
    write(root / SIXTY / "test.txt", "\n".join([*(labels[name] for name in names[3:]), "AF1.jpg 2.0"]))
    for k, name in enumerate(names, 1):
        folder = root / FOLDS / f"cross_validation_{k}"
        write(folder / f"test_{k}.txt", labels[name] + "\n")
        write(folder / f"train_{k}.txt", "\n".join(labels[other] for other in names if other != name))
    return names


def test_scut_fbp5500_has_groups_and_its_official_divisions(tmp_path):
    scut_fbp5500(tmp_path)
    rows, rejects = read("scut_fbp5500", tmp_path)
    assert columns(rows, "target", "gender", "ethnicity", "split_60_40", "fold") == {
        "Images/AF1.jpg": (2.0, "female", "Asian", "train", "1"),
        "Images/AM2.jpg": (2.333333, "male", "Asian", "train", "2"),
        "Images/CF3.jpg": (2.666667, "female", "Caucasian", "train", "3"),
        "Images/CM4.jpg": (3.0, "male", "Caucasian", "test", "4"),
        "Images/CF5.jpg": (3.333333, "female", "Caucasian", "test", "5"),
    }
    assert rejects.counts() == {"bad_row": 2, "bad_target": 1, "missing_file": 1, "unmatched": 2}
    details = [str(row["detail"]) for row in rejects.rows]
    assert any("test.txt, line 3: the picture 'AF1.jpg' is in part train too" in detail for detail in details)


def test_scut_fbp5500_says_which_division_it_lacks(tmp_path):
    scut_fbp5500(tmp_path)
    (tmp_path / SIXTY / "test.txt").unlink()
    with pytest.warns(MissingDivisionWarning, match=r"test.txt does not exist"):
        rows, _ = read("scut_fbp5500", tmp_path)
    assert rows["Images/CM4.jpg"]["split_60_40"] is None
    (tmp_path / LABELS).write_text("\n")
    with pytest.warns(MissingDivisionWarning), pytest.raises(UserError, match="lists no face"):
        read("scut_fbp5500", tmp_path)


# hotornot


def hotornot(root: Path) -> None:
    put(root, "hotornot_face/female_18_RRRUHEA_face_0.jpg", "hotornot_face/female_25_AB_C_face_1.jpg")
    put(root, "hotornot_face/odd.jpg")
    rows = [
        "female_18_RRRUHEA_face_0.bmp,1.25,{}",
        "female_25_AB_C_face_1.bmp,-0.5,{}",
        "odd.bmp,0.125,train",
    ]
    write(root / "eccv2010_split1.csv", "\n".join([rows[0].format("train"), rows[1].format("test"), rows[2]]))
    write(
        root / "eccv2010_split2.csv",
        "\n".join(
            [rows[0].format("test"), rows[1].format("train"), "odd.bmp,0.5,test", "x.bmp,1", "y.bmp,1,both"]
        ),
    )


def test_hotornot_has_scores_subjects_and_five_divisions(tmp_path):
    hotornot(tmp_path)
    rows, rejects = read("hotornot", tmp_path)
    assert columns(rows, "target", "subject", "gender", "division1", "division2", "division5") == {
        "hotornot_face/female_18_RRRUHEA_face_0.jpg": (1.25, "RRRUHEA", "female", "train", "test", None),
        "hotornot_face/female_25_AB_C_face_1.jpg": (-0.5, "AB_C", "female", "test", "train", None),
        "hotornot_face/odd.jpg": (0.125, None, None, "train", None, None),
    }
    assert rejects.counts() == {"bad_row": 3}
    details = " ".join(str(row["detail"]) for row in rejects.rows)
    assert "the score of 'odd.bmp' is '0.5', and '0.125' in eccv2010_split1.csv, line 3" in details
    assert "eccv2010_split2.csv, line 4: 'x.bmp,1' is not a name, a score, and train or test" in details


def test_hotornot_refuses_a_folder_without_its_tables(tmp_path):
    with pytest.raises(UserError, match=r"holds no eccv2010_split1.csv with faces"):
        read("hotornot", tmp_path)
