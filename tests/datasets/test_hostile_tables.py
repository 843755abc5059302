"""Tables from strangers and tables as people have them: limits, types, words for nothing, paths, joins."""

import gzip
import io
import os
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.core.rejects import MOST_ALIKE, Rejects
from pipeline.datasets import read
from pipeline.datasets.formats import limited
from pipeline.datasets.joins import FewMatchesWarning
from pipeline.datasets.listing import lines_of
from pipeline.datasets.path_variants import OtherSuffixWarning


@pytest.fixture
def faces(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def targets(table):
    return dict(zip(table["path"].to_pylist(), table["target"].to_pylist(), strict=True))


def test_a_reader_that_takes_too_much_memory_ends_in_a_sentence(faces, monkeypatch):
    monkeypatch.setattr(limited, "ROOM", 64 << 20)
    monkeypatch.setattr(limited, "ROOM_PER_BYTE", 0)
    with gzip.open(faces / "labels.csv", "wb") as file:
        file.write(b"path,target\n" + b"x" * (200 << 20))
    with pytest.raises(UserError, match=r"labels.csv takes more than 64 MiB of memory to read"):
        read("csv", faces, rejects=Rejects())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_ends_with_the_command_that_is_killed(ended_by):
    code = (
        "import pathlib, time; from pipeline.datasets.formats.limited import within_limits\n"
        "def build(rejects): print('reading', flush=True); time.sleep(60); print('went on', flush=True)\n"
        "within_limits(build, None, pathlib.Path())"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as other:
        assert other.stdout.readline() == "reading\n"
        other.send_signal(ended_by)
        assert other.stdout.read() == ""  # which nobody has open any longer


def test_a_workbook_in_utf_16_with_an_entity_is_refused(tmp_path):
    sheet = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    (tmp_path / "t.xlsx").write_bytes(packed.getvalue())
    with pytest.raises(UserError, match="declares a document type"):
        read("scut_fbp", tmp_path, rejects=Rejects(), table="t.xlsx")


def test_rows_alike_are_counted_beyond_a_number(faces):
    (faces / "labels.csv").write_text("path,target\na.jpg,5\n" + "x\n" * (MOST_ALIKE + 7))
    rejects = Rejects()
    read("csv", faces, rejects=rejects)
    assert rejects.counts() == {"bad_row": MOST_ALIKE + 7}
    assert "and 7 more with this reason" in rejects.table()["detail"].to_pylist()


@pytest.mark.parametrize("word", ["nan", "None", "NA", "n/a", "NULL", "-", " ", "?"])
def test_words_for_nothing_are_no_person(faces, word):
    (faces / "labels.csv").write_text(f"path,target,subject,gender\na.jpg,5,{word},{word}\nb.jpg,6,0,Na\n")
    table = read("csv", faces, rejects=Rejects()).sort_by("path")
    assert table["subject"].to_pylist() == [None, "0"]
    assert table["gender"].to_pylist() == [None, "Na"]


def test_arrow_types_are_read_as_what_they_say_or_refused(faces):
    columns = {
        "path": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "target": pa.array([Decimal("5.5"), Decimal("6.0")]),
        "gender": pa.array([b"m", b"f"]),
    }
    pq.write_table(pa.table(columns), faces / "t.parquet")
    table = read("csv", faces, rejects=Rejects(), table="t.parquet")
    assert targets(table) == {"a.jpg": 5.5, "b.jpg": 6.0}
    assert set(table["gender"].to_pylist()) == {"m", "f"}
    for odd in ([[1], [2]], [{"x": 1}, {"x": 2}], [b"\xff", b"m"]):
        pq.write_table(pa.table({**columns, "odd": pa.array(odd)}), faces / "t.parquet")
        with pytest.raises(UserError, match="column 'odd' is"):
            read("csv", faces, rejects=Rejects(), table="t.parquet")


def test_two_columns_or_keys_of_one_name_are_refused(faces):
    twice = pa.table([pa.array(["a.jpg"]), pa.array([5]), pa.array([6])], ["path", "target", "target"])
    pq.write_table(twice, faces / "t.parquet")
    with pytest.raises(UserError, match="column 3 is called 'target'"):
        read("csv", faces, rejects=Rejects(), table="t.parquet")
    (faces / "database.json").write_text('[{"img_path": "a.jpg", "age": 5, "age": 6}]')
    with pytest.raises(UserError, match="the key 'age' occurs twice"):
        read("benchmark_json", faces, rejects=Rejects())


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\npath;target\na.jpg;5\n",
        "\n\npath,target\na.jpg,5\n",
        ",path,target\n0,a.jpg,5\n",
        "Unnamed: 0,path,target\n0,a.jpg,5\n",
        "path,target\n a.jpg ,5\n",
        "path,target\n.\\a.jpg,5\n",
        "path,target\na.JPG,5\n",
        "path,target\n%61.jpg,5\n",
    ],
)
def test_tables_that_people_have_are_read(faces, content):
    (faces / "labels.csv").write_text(content)
    table = read("csv", faces, rejects=Rejects())
    assert targets(table) == {"a.jpg": 5.0}
    assert table.column_names == ["face_id", "path", "target", "subject", "dataset"]


def test_a_compressed_table_absolute_paths_and_other_unicode_forms(faces):
    (faces / "caf\u00e9.jpg").write_bytes(b"c")
    with gzip.open(faces / "labels.csv.gz", "wt", encoding="utf-8") as file:
        file.write(f"path,target\n{faces.resolve()}/a.jpg,5\ncafe\u0301.jpg,6\n")
    table = read("csv", faces, rejects=Rejects(), table="labels.csv.gz")
    assert targets(table) == {"a.jpg": 5.0, "caf\u00e9.jpg": 6.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04", "Excel workbook"), (b"<html>", "web page"), (b"{", "JSON"), (b"PAR1", "Parquet")],
)
def test_what_is_no_csv_is_named(faces, content, message):
    (faces / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read("csv", faces, rejects=Rejects())


def test_an_unknown_column_names_the_setting_and_the_nearest(faces):
    (faces / "labels.csv").write_text("Path,target\na.jpg,5\n")
    with pytest.raises(UserError, match=r"set data.settings.path_column to the one .* perhaps 'Path'"):
        read("csv", faces, rejects=Rejects())


def test_missing_files_hint_at_another_ending(faces):
    (faces / "labels.csv").write_text("path,target\na.png,5\nb.jpg,6\n")
    with pytest.warns(
        OtherSuffixWarning, match=r"1 of 2 paths .* exist with the suffix .jpg in place of .png"
    ):
        read("csv", faces, rejects=Rejects())


def test_a_side_table_says_how_many_it_names(tmp_path):
    for number in range(3):
        (tmp_path / f"00905{number}_1M54.JPG").write_bytes(b"%d" % number)
    (tmp_path / "t.csv").write_text("photo,race\n009050_1M54.JPG,B\n009050_1M54.JPG,W\n")
    rejects = Rejects()
    with pytest.warns(FewMatchesWarning, match="names 1 of 3 images"):
        table = read("morph2", tmp_path, rejects=rejects, table="t.csv")
    assert set(table["ethnicity"].to_pylist()) == {None}
    assert rejects.counts() == {"conflicting_rows": 1, "unmatched": 1}
    (tmp_path / "t.csv").write_text("photo,race\nx/y_009050_1M54.JPG,B\n")
    with pytest.raises(UserError, match="names none of 3 images"):
        read("morph2", tmp_path, rejects=Rejects(), table="t.csv")


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (
            [0, 0],
            pa.timestamp("us", tz="Foo/Bar"),
            "'seen' of type timestamp.us, tz=Foo/Bar. .*Foo/Bar not found",
        ),
        ([0, 2**62], pa.timestamp("us"), "'seen' of type timestamp.us. .*beyond the years 1 to 9999"),
        ([0, 2**62], pa.timestamp("us", tz="Europe/Berlin"), "beyond the years 1 to 9999"),
        ([0, -(2**31)], pa.date32(), "'seen' of type date32.* .*beyond the years 1 to 9999"),
    ],
)
def test_dates_that_arrow_cannot_write_are_refused(faces, values, kind, why):
    table = pa.table({"path": ["a.jpg", "b.jpg"], "target": [1.0, 2.0], "seen": pa.array(values, kind)})
    pq.write_table(table, faces / "labels.parquet")
    with pytest.raises(UserError, match=why):
        read("csv", faces, rejects=Rejects(), table="labels.parquet")


def test_a_group_whose_name_is_not_utf8_is_refused(faces):
    (faces / "labels.csv").write_bytes(b"path,target,caf\xe9\na.jpg,5,x\nb.jpg,6,y\n")
    with pytest.raises(UserError, match=r"group column 'caf\\udce9' has a name that is not UTF-8"):
        read("csv", faces, rejects=Rejects())


def test_long_names_of_columns_are_cut_in_a_sentence(faces):
    (faces / "labels.csv").write_text(f"path,{'a' * 5000}\na.jpg,5\n")
    with pytest.raises(UserError, match=r"has no column 'target': it has path, 'a{59}\.\.\.") as raised:
        read("csv", faces, rejects=Rejects())
    assert len(str(raised.value)) < 300


def test_only_line_ends_end_a_line_of_a_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa 1\r\n\nb\x0b2\x85\rc\xe2\x80\xa8 3\n")
    assert [(where, line.strip()) for where, line in lines_of(path)] == [
        ("list.txt, line 1", "a 1"),
        ("list.txt, line 3", "b\x0b2\udc85"),
        ("list.txt, line 4", "c\u2028 3"),
    ]


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
@pytest.mark.parametrize("year", [1, 1677, 1969, 2263, 9998])
def test_dates_of_any_year_are_read_as_they_are(faces, year, tz):
    moment = datetime(year, 6, 30, 11, 59, tzinfo=UTC)
    for unit in ("s", "us", "ns") if year == 1969 else ("s", "us"):
        seen = pa.array([moment, None], pa.timestamp(unit, tz))
        table = pa.table({"path": ["a.jpg", "b.jpg"], "target": [1.0, 2.0], "seen": seen})
        pq.write_table(table, faces / "labels.parquet")
        found = read("csv", faces, rejects=Rejects(), table="labels.parquet")["seen"].to_pylist()
        (text,) = filter(None, found)
        back = datetime.fromisoformat(text)
        # an offset is written in minutes, and was none of whole ones before 1893
        assert abs(back.replace(tzinfo=back.tzinfo or UTC) - moment) < timedelta(minutes=1)


def test_files_of_any_year_are_read_as_they_are(faces):
    (faces / "labels.csv").write_text("path,target\na.jpg,5\nb.jpg,6\n")
    before = read("csv", faces, rejects=Rejects())
    for seconds in (-(2**31), -1, 0, 2**33):  # as far as common file systems go
        for path in faces.iterdir():
            os.utime(path, (seconds, seconds))
        assert read("csv", faces, rejects=Rejects()).equals(before)
