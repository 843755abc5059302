"""Label files made to cost memory or time: each is read, or refused in a sentence, within bounds."""

import gzip
import hashlib
import io
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets import listing, manifest, path_variants
from pipeline.datasets.formats import limited

MEGA = 2**20
STARTING = 5.0
"""Seconds of CPU time to start and end a reader, and to hash what is named, above what parsing may take."""


def workbook(path: Path, sheet: bytes, strings: bytes = b"<sst/>") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", strings)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)


def laughs() -> bytes:
    named = "".join(f'<!ENTITY {chr(c + 1)} "{f"&{chr(c)};" * 10}">' for c in range(97, 107))
    text = f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY a "ha">{named}]><x>&k;</x>'
    return text.encode("utf-16")


def sheets(
    make: Callable[[float], bytes], strings: Callable[[float], bytes] = lambda scale: b"<sst/>"
) -> Any:
    def put(root: Path, scale: float) -> dict[str, Any]:
        workbook(root / "t.xlsx", make(scale), strings(scale))
        return {"name": "scut_fbp", "table": "t.xlsx"}

    return put


def table(content: Callable[[float], bytes], name: str = "labels.csv") -> Any:
    def put(root: Path, scale: float) -> dict[str, Any]:
        (root / "a.jpg").write_bytes(b"a")
        (root / name).write_bytes(content(scale))
        return {"name": "csv", "table": name}

    return put


def parquet(columns: Callable[[float], dict[str, Any]], **options: Any) -> Any:
    def content(scale: float) -> bytes:
        file = io.BytesIO()
        pq.write_table(pa.table(columns(scale)), file, **options)
        return file.getvalue()

    return table(content, "t.parquet")


def file(reader: str, name: str, content: Callable[[float], bytes], **settings: Any) -> Any:
    def put(root: Path, scale: float) -> dict[str, Any]:
        (root / "a.jpg").write_bytes(b"a")
        (root / name).write_bytes(content(scale))
        return {"name": reader, **settings}

    return put


def mat(values: Callable[[float], Any], name: str = "wiki") -> Callable[[float], bytes]:
    def content(scale: float) -> bytes:
        target = io.BytesIO()
        savemat(target, {name: values(scale)}, do_compression=True)
        return target.getvalue()

    return content


def claimed(scale: float) -> bytes:
    """A variable that claims to be a cell of a thousand million cells."""
    target = io.BytesIO()
    cells = np.empty((1, 3), dtype=object)
    cells[0, :] = ["a", "b", "c"]
    savemat(target, {"wiki": cells})
    return target.getvalue().replace(struct.pack("<IIii", 5, 8, 1, 3), struct.pack("<IIii", 5, 8, 1, 10**9))


def inflating(scale: float) -> bytes:
    """A variable of four gigabytes in four megabytes."""
    head, size = mat(lambda _: 1.0)(1)[:128], int(4000 * scale)
    pack = zlib.compressobj(9)
    told = struct.pack("<IIIIII", 14, size * MEGA + 56, 6, 8, 6, 0) + struct.pack(
        "<IIii", 5, 8, size, MEGA // 8
    )
    name = struct.pack("<II", 1, 4) + b"wiki" + bytes(4) + struct.pack("<II", 9, size * MEGA)
    parts = [pack.compress(told + name), *(pack.compress(bytes(MEGA)) for _ in range(size)), pack.flush()]
    packed = b"".join(parts)
    return head + struct.pack("<II", 15, len(packed)) + packed


def flood(unit: bytes, count: int) -> Callable[[float], bytes]:
    def content(scale: float) -> bytes:
        target = io.BytesIO()
        with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6, mtime=0) as packed:
            packed.write(b"path,target\n")
            for _ in range(int(count * scale)):
                packed.write(unit)
        return target.getvalue()

    return content


def many(count: int, scale: float) -> int:
    return int(count * scale)


SHEET = b'<worksheet><sheetData><row r="2"><c r="A2"><v>1</v></c></row>'
ATTACKS: dict[str, Callable[[Path, float], dict[str, Any]]] = {
    "a workbook in UTF-16 with entities": sheets(lambda scale: laughs()),
    "nested XML": sheets(lambda scale: b"<a>" * many(20_000_000, scale)),
    "nested XML, closed": sheets(
        lambda scale: b"<a>" * many(9_000_000, scale) + b"</a>" * many(9_000_000, scale)
    ),
    "a workbook of empty texts": sheets(
        lambda scale: SHEET + b"</sheetData></worksheet>",
        lambda scale: b"<sst>" + b"<si/>" * many(13_000_000, scale) + b"</sst>",
    ),
    "a row of cells": sheets(
        lambda scale: (
            b"<worksheet><row r='2'>" + b"<c r='A2'/>" * many(5_000_000, scale) + b"</row></worksheet>"
        )
    ),
    "attributes": sheets(
        lambda scale: b"<worksheet " + b" ".join(b"a%d=''" % k for k in range(many(4_000_000, scale))) + b"/>"
    ),
    "a MATLAB file that inflates": file("imdb_wiki", "wiki.mat", inflating),
    "a MATLAB file that claims": file("imdb_wiki", "wiki.mat", claimed),
    "a pose that inflates": file(
        "aflw2000", "a.mat", mat(lambda scale: np.zeros(many(50_000_000, scale)), "Pose_Para")
    ),
    "a CSV of 50,000 columns": table(
        lambda scale: (
            b"path,target,"
            + b",".join(b"c%d" % k for k in range(50_000))
            + b"\n"
            + (b"a.jpg,5" + b",x" * 50_000 + b"\n") * many(20, scale)
        )
    ),
    "a CSV of columns of one name": table(lambda scale: b"path,target" + b",x" * many(1_000_000, scale)),
    "one file a million times": table(lambda scale: b"path,target\n" + b"a.jpg,5\n" * many(1_000_000, scale)),
    "one file with a million targets": table(
        lambda scale: b"path,target\n" + b"".join(b"a.jpg,%d\n" % k for k in range(many(300_000, scale)))
    ),
    "a quote that never ends": table(lambda scale: b'path,target\n"' + b"x\n" * many(20_000_000, scale)),
    "bad rows": table(lambda scale: b"path,target\n" + b"x\n" * many(10_000_000, scale)),
    "a gzip bomb of one line": table(flood(b"x" * MEGA, 4000), "t.csv.gz"),
    "a gzip bomb of blank lines": table(flood(b"\n" * MEGA, 2000), "t.csv.gz"),
    "a gzip bomb of rows": table(flood(b"a.jpg,5\n" * (MEGA // 8), 1000), "t.csv.gz"),
    "JSON of 20 million lists": file(
        "benchmark_json", "database.json", lambda scale: b"[" + b"[]," * many(20_000_000, scale) + b"[]]"
    ),
    "nested JSON": file("benchmark_json", "database.json", lambda scale: b"[" * many(20_000_000, scale)),
    "a long number": file(
        "benchmark_json", "database.json", lambda scale: b"[" + b"9" * many(30_000_000, scale) + b"]"
    ),
    "a long text": file(
        "benchmark_json", "database.json", lambda scale: b'["' + b"x" * many(60_000_000, scale)
    ),
    "escapes": file("vec2uage_json", "a.json", lambda scale: b'{"' + b"\\u0041" * many(9_000_000, scale)),
    "keys": file(
        "vec2uage_json", "a.json", lambda scale: b"{" + b'"":0,' * many(5_000_000, scale) + b'"":0}'
    ),
    "30 million MEMOIZE": file(
        "selfie_fv", "a.pkl", lambda scale: b"\x80\x04]" + b"\x94" * many(30_000_000, scale)
    ),
    "marks": file("selfie_fv", "a.pkl", lambda scale: b"\x80\x04" + b"(" * many(10_000_000, scale)),
    "nested tuples": file(
        "selfie_fv", "a.pkl", lambda scale: b"\x80\x04)" + b"\x85" * many(3_000_000, scale) + b"."
    ),
    "lists of lists": file("selfie_fv", "a.pkl", lambda scale: b"\x80\x04" + b"]" * many(10_000_000, scale)),
    "a long text many times": parquet(
        lambda scale: {
            "path": ["a.jpg"] * 20_000,
            "target": [1.0] * 20_000,
            "group": pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * many(MEGA, scale)]),
        },
        store_schema=False,  # so that it is text to whoever reads it, 20 GB of it
    ),
    "a dictionary of one": parquet(
        lambda scale: {
            "path": pa.DictionaryArray.from_arrays(np.zeros(many(20_000_000, scale), np.int32), ["a.jpg"]),
            "target": np.zeros(many(20_000_000, scale)),
        }
    ),
    "nulls": parquet(
        lambda scale: {
            "path": pa.nulls(many(50_000_000, scale), pa.string()),
            "target": pa.nulls(many(50_000_000, scale), pa.float64()),
        }
    ),
    "50,000 columns": parquet(
        lambda scale: {
            "path": ["a.jpg"],
            "target": [1.0],
            **{f"c{k}": ["x"] for k in range(many(50_000, scale))},
        }
    ),
    "vectors of zeros": file(
        "vectors",
        "v.parquet",
        lambda scale: (
            lambda target: (
                pq.write_table(
                    pa.table(
                        {
                            "face_id": ["a", "b"],
                            "target": [1.0, 2.0],
                            "vector": pa.array([np.zeros(many(100_000_000, scale), np.float32)] * 2),
                        }
                    ),
                    target,
                ),
                target.getvalue(),
            )[1]
        )(io.BytesIO()),
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_made_to_cost_is_read_or_refused_within_bounds(
    name, tmp_path, watched, cases, record_property
):
    settings = ATTACKS[name](tmp_path, cases(1000, 1) / 1000)

    def read(given: dict[str, Any]) -> str:
        rejects = Rejects()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = datasets.read(root=tmp_path, rejects=rejects, **given)
            except UserError as error:
                return str(error)
        return f"{found.num_rows} faces, {rejects.counts()}"

    datasets.REGISTRY.factory(settings["name"])
    (one,) = watched(read, [settings])
    path = max(tmp_path.rglob("*"), key=lambda path: path.stat().st_size)
    size = path.stat().st_size
    counted = size * limited.EXPANDS.get(path.suffix, 1)
    said = f"{name} ({size / 1e6:.1f} MB): {one.worked:.1f} s, {one.rise / MEGA:.0f} MiB: {one.result!s:.150}"
    record_property("figures", said)
    print(said)  # noqa: T201
    assert one.raised is None
    assert one.died is None
    # what docs/security.md gives to a file of this size, and what this process had set aside before
    assert one.rise <= limited.ROOM + limited.ROOM_PER_BYTE * counted + one.reserved
    assert one.worked <= limited.work_for(counted) + STARTING
    assert "\n" not in one.result
    assert len(one.result) < 2000


@pytest.fixture
def one_face(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "labels.csv").write_text("path,target\na.jpg,5\n")
    return tmp_path


def endless(value: object) -> None:
    while True:
        pass


def test_a_reader_that_works_too_long_ends_in_a_sentence(one_face, monkeypatch):
    monkeypatch.setattr(limited, "WORK", 1)
    monkeypatch.setattr(manifest, "number", endless)
    with pytest.raises(UserError, match=r"labels.csv takes more than 1 s to read: it is damaged, or made to"):
        datasets.read("csv", one_face, rejects=Rejects())


def test_a_reader_that_never_goes_on_ends_in_a_sentence(one_face, monkeypatch):
    monkeypatch.setattr(limited, "IDLE", 1)
    monkeypatch.setattr(limited, "IDLE_PER_WORK", 0)
    monkeypatch.setattr(manifest, "number", lambda value: time.sleep(10_000))
    with pytest.raises(UserError, match=r"labels.csv could not be read in 1 s: it is damaged, or made to"):
        datasets.read("csv", one_face, rejects=Rejects())


def test_hashing_images_may_take_longer_than_labels(one_face, monkeypatch):
    digest = listing.digest

    def slow(*given: str) -> str:
        start = time.process_time()
        while time.process_time() < start + 3:
            pass
        return digest(*given)

    monkeypatch.setattr(limited, "WORK", 1)
    monkeypatch.setattr(path_variants, "digest", slow)
    assert datasets.read("csv", one_face, rejects=Rejects()).num_rows == 1


def test_a_file_is_hashed_once_however_often_it_is_named(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a.jpg")
    rows = "a.jpg,5\n./a.jpg,5\n.//a.jpg,5\nhard.jpg,5\nb.jpg,6\n"
    (tmp_path / "labels.csv").write_text("path,target\n" + rows * 200)
    real, log = hashlib.file_digest, tmp_path / "log"
    monkeypatch.setattr(hashlib, "file_digest", lambda file, *how: _note(log, file.name) or real(file, *how))
    monkeypatch.setattr(manifest.os, "cpu_count", lambda: 1)  # threads may read one file at the same time
    rejects = Rejects()
    assert datasets.read("csv", tmp_path, rejects=rejects).num_rows == 2
    assert rejects.counts() == {"duplicate": 998}
    assert [Path(name).name for name in log.read_text().split()] == ["a.jpg", "b.jpg"]


def _note(log: Path, name: str) -> None:
    """Written to a file, since the reader works in another process."""
    with log.open("a") as file:
        file.write(f"{name}\n")
