"""What build_manifest keeps, and what it names and leaves out."""

import errno
import hashlib
import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.manifest import Record, build_manifest, number, within


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.jpg").write_bytes(f"picture {name}".encode())
    return folder


def reasons(root: Path, *records: Record) -> dict[str | None, tuple[str | None, str | None]]:
    """Reason and detail of each reject, by path."""
    rejects = Rejects()
    build_manifest(records, root, "test", rejects)
    return {row["path"]: (row["reason"], row["detail"]) for row in rejects.rows}


def test_face_id_is_the_files_sha256_and_rows_are_sorted_by_it(root: Path) -> None:
    records = [Record(f"{name}.jpg", 5, "s1", {"gender": "male"}) for name in "abc"]
    table = build_manifest(records, root, "test", Rejects())
    assert table.schema.names == ["face_id", "path", "target", "subject", "dataset", "gender"]
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double", *["string"] * 3]
    for row in table.to_pylist():
        assert row["face_id"] == hashlib.sha256((root / row["path"]).read_bytes()).hexdigest()
    assert table["face_id"].to_pylist() == sorted(table["face_id"].to_pylist())


def test_the_same_manifest_whatever_the_order_and_the_number_of_threads(root: Path) -> None:
    (root / "a copy.jpg").write_bytes((root / "a.jpg").read_bytes())
    records = [Record(name, 5) for name in ("a.jpg", "a copy.jpg", "b.jpg", "c.jpg")]
    first, second = Rejects(), Rejects()
    one = build_manifest(records, root, "test", first, workers=1)
    many = build_manifest(records[::-1], root, "test", second, workers=4)
    assert one.equals(many)
    assert first.table().equals(second.table())


def test_equal_files_are_kept_once_and_the_kept_one_is_named(root: Path) -> None:
    (root / "z.jpg").write_bytes((root / "a.jpg").read_bytes())
    rejects = Rejects()
    table = build_manifest([Record("z.jpg", 5), Record("a.jpg", 5.0)], root, "test", rejects)
    assert table["path"].to_pylist() == ["a.jpg"]
    assert rejects.counts() == {"duplicate": 1}
    assert rejects.rows[0]["path"] == "z.jpg"
    assert "'a.jpg', which is kept" in str(rejects.rows[0]["detail"])


def test_a_group_that_equal_files_disagree_about_becomes_unknown(root: Path) -> None:
    (root / "z.jpg").write_bytes((root / "a.jpg").read_bytes())
    records = [
        Record("a.jpg", 5, "p", {"gender": "male", "hair": "red"}),
        Record("z.jpg", 5, "q", {"gender": "female", "hair": "red"}),
    ]
    rejects = Rejects()
    row = build_manifest(records, root, "test", rejects).to_pylist()[0]
    assert (row["gender"], row["hair"], row["subject"]) == (None, "red", "p")
    assert "gender differs ('male' there, 'female' here) and is taken as unknown" in str(
        rejects.rows[0]["detail"]
    )
    assert "subject differs, 'p' is kept" in str(rejects.rows[0]["detail"])


def test_one_file_with_two_targets_is_rejected_whole_with_both_values(root: Path) -> None:
    (root / "z.jpg").write_bytes((root / "a.jpg").read_bytes())
    records = [Record("a.jpg", 30, where="t.csv, line 2"), Record("z.jpg", 35), Record("b.jpg", 1)]
    rejects = Rejects()
    table = build_manifest(records, root, "test", rejects)
    assert table["path"].to_pylist() == ["b.jpg"]
    assert rejects.counts() == {"conflicting_targets": 2}
    for row in rejects.rows:
        assert "'a.jpg' says 30, 'z.jpg' says 35" in str(row["detail"])
    assert str(rejects.rows[0]["detail"]).startswith("t.csv, line 2: ")


@pytest.mark.parametrize(
    ("path", "reason", "phrase"),
    [
        ("../secret.jpg", "outside_root", "'..'"),
        ("b/../../secret.jpg", "outside_root", "'..'"),
        ("/etc/hostname", "outside_root", "absolute"),
        ("link_out.jpg", "outside_root", "symlink"),
        ("folder_out/secret.jpg", "outside_root", "symlink"),
        ("dangling.jpg", "dangling_symlink", "symlink to nothing"),
        ("circle.jpg", "dangling_symlink", "symlink to nothing"),
        ("nowhere.jpg", "missing_file", "no such file"),
        ("a.jpg/b.jpg", "missing_file", "no such file"),
        ("empty.jpg", "empty_file", "no bytes"),
        ("pipe.jpg", "not_a_file", "pipe"),
        ("socket.jpg", "not_a_file", "socket"),
        ("folder.jpg", "not_a_file", "folder"),
        (".", "not_a_file", "folder"),
        ("", "bad_path", "empty"),
        ("nul\0.jpg", "bad_path", "NUL"),
        ("caf\udce9.jpg", "bad_path", "UTF-8"),
        ("x" * 5000, "unreadable", "too long"),
    ],
)
def test_rejects_a_file_that_cannot_be_taken(root: Path, path: str, reason: str, phrase: str) -> None:
    secret = root.parent / "secret.jpg"
    secret.write_bytes(b"secret")
    (root / "link_out.jpg").symlink_to(secret)
    (root / "folder_out").symlink_to(root.parent)
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    (root / "empty.jpg").touch()
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.jpg"))
        ((found, detail),) = reasons(root, Record(path, 5), Record("a.jpg", 5)).values()
    assert found == reason
    assert phrase in str(detail)


def test_a_symlink_that_stays_inside_the_root_is_followed(root: Path) -> None:
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    table = build_manifest([Record("inside.jpg", 5)], root, "test", Rejects())
    assert table["path"].to_pylist() == ["inside.jpg"]


def test_a_root_that_is_itself_a_symlink_is_fine(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert build_manifest([Record("a.jpg", 5)], root.parent / "alias", "test", Rejects()).num_rows == 1


def test_rejects_a_device_without_opening_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("a device was opened")

    monkeypatch.setattr(os, "open", refuse)
    (root / "null.jpg").symlink_to("/dev/null")
    # The root is / so that the device lies inside it.
    rejects = Rejects()
    build_manifest([Record("dev/null", 5)], Path("/"), "test", rejects)
    assert rejects.counts() == {"not_a_file": 1}


def test_rejects_an_unreadable_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(name: str, flags: int, **options: Any) -> int:
        if str(name).endswith("b.jpg"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, **options)

    monkeypatch.setattr(os, "open", refuse)
    found = reasons(root, Record("a.jpg", 5), Record("b.jpg", 5))
    assert found == {"b.jpg": ("unreadable", "cannot be read (Permission denied)")}


def test_rejects_a_file_whose_reading_fails_half_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert reasons(root, Record("a.jpg", 5))["a.jpg"] == ("unreadable", "reading failed (Input/output error)")


def test_files_are_opened_read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = os.open, []

    def note(name: str, flags: int, **options: Any) -> int:
        seen.append(flags)
        return real(name, flags, **options)

    monkeypatch.setattr(os, "open", note)
    build_manifest([Record("a.jpg", 5)], root, "test", Rejects())
    assert seen
    assert all(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) == 0 for flags in seen)


@pytest.mark.parametrize(
    ("value", "reason", "phrase"),
    [
        (None, "missing_target", "missing"),
        ("  ", "missing_target", "missing"),
        (float("nan"), "missing_target", "missing"),
        (float("inf"), "bad_target", "inf"),
        ("nan", "missing_target", "missing"),
        ("1e999", "bad_target", "'1e999'"),
        (10**400, "bad_target", "not a finite number"),
        ("twelve", "bad_target", "'twelve'"),
        ("1_0", "bad_target", "'1_0'"),
        ("\u0661\u0662", "bad_target", "not a finite number"),
        (True, "bad_target", "True"),
        ([12], "bad_target", "[12]"),
    ],
)
def test_rejects_a_target_that_is_not_a_finite_number(
    root: Path, value: object, reason: str, phrase: str
) -> None:
    found = reasons(root, Record("a.jpg", value, where="labels.csv, line 7"))
    assert found["a.jpg"][0] == reason
    assert str(found["a.jpg"][1]).startswith("labels.csv, line 7: ")
    assert phrase in str(found["a.jpg"][1])


@pytest.mark.parametrize(("value", "target"), [(" +7.50 ", 7.5), ("-30", -30.0), (".5e1", 5.0), (12, 12.0)])
def test_takes_plain_numbers_negative_ones_too(value: object, target: float) -> None:
    assert number(value) == target


def test_a_name_with_a_newline_is_kept_as_it_is(root: Path) -> None:
    (root / "new\nline é.jpg").write_bytes(b"x")
    (root / "new\nempty.jpg").touch()
    rejects = Rejects()
    table = build_manifest([Record("new\nline é.jpg", 5), Record("new\nempty.jpg", 5)], root, "test", rejects)
    assert table["path"].to_pylist() == ["new\nline é.jpg"]
    assert rejects.rows[0]["path"] == "new\\nempty.jpg"


@pytest.mark.parametrize("name", ["split", "operation", "similarity", "parent_id", "prediction"])
def test_refuses_a_group_named_like_a_column_of_a_table_to_come(name: str, root: Path) -> None:
    with pytest.raises(UserError, match=f"group column '{name}' has a name that tables of vec2age use"):
        build_manifest([Record("a.jpg", 5, groups={name: "x"})], root, "test", Rejects())


def test_within_keeps_both_limits_and_names_what_is_outside(root: Path) -> None:
    records = [Record(f"{name}.jpg", age) for name, age in zip("abc", (1, 18, 19), strict=True)]
    table = build_manifest(records, root, "test", Rejects())
    rejects = Rejects()
    assert sorted(within(table, 1, 18, rejects)["target"].to_pylist()) == [1, 18]
    assert rejects.rows[0]["detail"] == "the target 19 is not between 1 and 18"
    assert rejects.rows[0]["path"] == "c.jpg"
    assert within(table, None, None, Rejects()).equals(table)


def test_large_files_are_hashed_in_pieces(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "big.jpg").write_bytes(os.urandom(3 << 20))
    sizes = []
    real = io.BufferedReader.readinto

    class Watched(io.BufferedReader):
        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            sizes.append(len(buffer))
            return real(self, buffer)

    monkeypatch.setattr(
        "pipeline.core.files.open", lambda name, mode, opener: Watched(io.FileIO(name)), raising=False
    )
    table = build_manifest([Record("big.jpg", 5)], root, "test", Rejects())
    assert table["face_id"].to_pylist() == [hashlib.sha256((root / "big.jpg").read_bytes()).hexdigest()]
    assert len(sizes) > 3
    assert max(sizes) <= 1 << 20
