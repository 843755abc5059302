"""Pictures to predictions: the crop stage's own crops, hostile files, interruption, formats, warnings."""

import contextlib
import csv
import errno
import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps

import pipeline
from pipeline.core.errors import UserError
from pipeline.core.files import printable
from pipeline.core.tables import atomic_file
from pipeline.encoders.encoder import combine
from pipeline.faces.extract import Face, Settings, crop_file
from pipeline.faces.images import decode
from pipeline.faces.quality import Quality
from pipeline.serving import looking, overlay, prediction_files
from pipeline.serving import parts as parts_module
from pipeline.serving import run as run_module
from pipeline.serving.bundle import Bundle
from pipeline.serving.inputs import Source, count, walk
from pipeline.serving.looking import Seen, look
from pipeline.serving.memory import in_memory
from pipeline.serving.overlay import NotDrawnWarning, copy_path, draw_all
from pipeline.serving.rows import SCHEMA, rows
from pipeline.serving.run import predict_files
from pipeline.serving.stream import Block, blocks, encoded

PROJECT = Path(__file__).resolve().parents[2]
Pixels = npt.NDArray[np.uint8]
Pictures = tuple[Path, dict[str, str]]
LIMITS = {"workers": 1, "timeout": 600}


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if path != root
    }


@pytest.fixture(scope="module")
def finished(
    model: Bundle, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, int]]:
    """The predictions of the whole folder, one worker, blocks of five files."""
    root, _ = pictures
    output = tmp_path_factory.mktemp("out") / "ages.parquet"
    before = state(root)
    counts = predict_files([root], model, output, workers=1, block_files=5)
    assert state(root) == before, "inputs are opened read-only"
    assert [path.name for path in output.parent.iterdir()] == ["ages.parquet"]
    return output, counts


@pytest.mark.parametrize("changes", [{}, {"align": "eyes"}, {"format": "jpeg", "jpeg_quality": 60}])
def test_a_face_gets_the_crop_and_the_vector_that_the_stages_give_it(
    changes: dict[str, Any], model: Bundle, couple: Pixels, tmp_path: Path
) -> None:
    data = png(couple)
    (tmp_path / "a.png").write_bytes(data)
    settings = Settings(detectors=("dlib_hog",), size=96, **changes)
    row = crop_file((hashlib.sha256(data).hexdigest(), "a.png"), tmp_path, settings)
    assert isinstance(row, dict)
    stored = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
    seen = look(Source("a.png", str(tmp_path), "a.png"), settings)
    assert len(seen.faces) == row["faces"] == 2
    first = seen.faces[0]
    np.testing.assert_array_equal(first.pixels, stored)
    np.testing.assert_array_equal(first.landmarks.ravel(), row["landmarks"])
    np.testing.assert_array_equal(np.array(first.box, np.float32), row["box"])
    assert seen.faces[1].quality.face_size < first.quality.face_size
    assert seen.faces[1].pixels.shape == first.pixels.shape
    # the stage embed encodes what it reads from the shard; here the face travels with another one
    landmarks = np.asarray(row["landmarks"], np.float32).reshape(1, 5, 2)
    expected = combine({"dlib": [model.encoders[0].encode(stored[None], landmarks)]}, "concatenate")
    np.testing.assert_array_equal(model.encode(list(seen.faces))[:1], expected)


def test_every_file_has_its_rows_and_every_hostile_one_its_reason(
    finished: tuple[Path, dict[str, int]], pictures: Pictures, model: Bundle
) -> None:
    output, counts = finished
    root, expected = pictures
    table = pq.read_table(output)
    assert table.schema.names == SCHEMA.names
    found = table.to_pylist()
    bad = {
        Path(row["file"]).relative_to(root).as_posix(): row["status"]
        for row in found
        if row["status"] != "face"
    }
    assert bad == expected
    assert all(row["detail"] for row in found if row["status"] != "face")
    names = [row["file"] for row in found]
    assert list(dict.fromkeys(names)) == [source.file for source in walk([root])]
    good = [row for row in found if row["status"] == "face"]
    assert len(good) == 5, "three portraits and a couple"
    assert counts["files"] == len(set(names)) == 4 + len(expected)
    assert counts["faces"] == 5
    assert counts["without a face: truncated"] == 1
    assert {row["model"] for row in found} == {model.id}


def test_a_row_traces_a_prediction_to_its_bytes(
    finished: tuple[Path, dict[str, int]], pictures: Pictures, model: Bundle
) -> None:
    found = [row for row in pq.read_table(finished[0]).to_pylist() if row["status"] == "face"]
    root, _ = pictures
    for row in found:
        assert row["sha256"] == hashlib.sha256(Path(row["file"]).read_bytes()).hexdigest()
        assert row["lower"] < row["prediction"] < row["upper"]
        assert (row["level"], row["threshold"], row["detector"]) == (0.9, 18.0, "dlib_hog")
        assert 0 <= row["probability_under"] <= 1
        assert row["spread"] > 0
        assert row["right"] - row["left"] == pytest.approx(row["face_size"], abs=0.01)
    couple = [row for row in found if row["file"].endswith("couple.dat")]
    assert [(row["face"], row["faces"]) for row in couple] == [(0, 2), (1, 2)]
    assert couple[0]["face_size"] > couple[1]["face_size"]
    # by hand, from one picture alone
    alone = look(Source("x", str(root), "portrait 1.png"), model.crop)
    said = model.method(model.encode(list(alone.faces)))
    assert found[-2]["file"].endswith("portrait 1.png")
    assert found[-2]["prediction"] == round(float(said.mean[0]), 4)


def test_what_makes_a_prediction_doubtful_stands_beside_it(finished: tuple[Path, dict[str, int]]) -> None:
    output, counts = finished
    rows_of = {Path(row["file"]).name: row for row in pq.read_table(output).to_pylist() if row["face"] == 0}
    assert rows_of["portrait 0.png"]["warnings"] == "low_face_size: 88, training faces have 100 or more"
    assert rows_of["couple.dat"]["warnings"] == ""
    assert counts["warning: low_face_size"] == 4, "the smaller of the couple, too"


@pytest.mark.parametrize("workers", [2])
def test_workers_blocks_and_formats_change_nothing(
    workers: int, finished: tuple[Path, dict[str, int]], pictures: Pictures, model: Bundle, tmp_path: Path
) -> None:
    root, _ = pictures
    expected = pq.read_table(finished[0])
    predict_files([root], model, tmp_path / "a.csv", workers=workers, block_files=1000)
    text = (tmp_path / "a.csv").read_text()
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == expected.num_rows
    for row, wanted in zip(table, expected.to_pylist(), strict=True):
        assert {name: value or None for name, value in row.items()} == {
            name: None if value is None or value == "" else row_text(value) for name, value in wanted.items()
        }


def row_text(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def test_json_lines_hold_the_same(
    finished: tuple[Path, dict[str, int]], tmp_path: Path, model: Bundle
) -> None:
    table = pq.read_table(finished[0])
    prediction_files.write(tmp_path / "a.jsonl", SCHEMA, [table.slice(0, 3), table.slice(3)], model.id)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()


class Interrupted(Exception):
    pass


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    finished: tuple[Path, dict[str, int]],
    pictures: Pictures,
    model: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, _ = pictures
    output = tmp_path / "ages.parquet"
    keep = parts_module.Work.keep

    def break_off(work: parts_module.Work, block: Any, table: pa.Table) -> None:
        if block.number == 2:
            raise Interrupted
        keep(work, block, table)

    monkeypatch.setattr(parts_module.Work, "keep", break_off)
    with pytest.raises(Interrupted):
        predict_files([root], model, output, workers=1, block_files=5)
    assert not output.exists()
    parts = tmp_path / "ages.parquet.parts"
    assert len(list(parts.iterdir())) == 2
    (parts / "000001.parquet").write_bytes(b"torn")
    monkeypatch.setattr(parts_module.Work, "keep", keep)
    counts = predict_files([root], model, output, workers=2, block_files=5)
    assert counts["blocks kept from an earlier run"] == 1
    assert output.read_bytes() == finished[0].read_bytes()
    assert {**counts, "blocks kept from an earlier run": 0} == finished[1]
    assert not parts.exists()


def test_parts_of_changed_files_or_another_wish_are_made_again(
    model: Bundle, portrait: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_bytes(b"x" * 10)
    work = parts_module.Work(tmp_path / "parts", model, None, None)
    one, two = blocks(walk([tmp_path / "in"]), 1)

    def unfinished(level: float | None = None, overlay: Path | None = None) -> list[Block]:
        work = parts_module.Work(tmp_path / "parts", model, level, overlay)
        return list(work.unfinished(iter([one, two]), lambda _: None))

    assert list(work.unfinished(iter([one, two]), lambda _: None)) == [one, two]
    for block in (one, two):
        work.keep(block, SCHEMA.empty_table())
    assert unfinished() == []
    (tmp_path / "in" / "b").write_bytes(b"y" * 11)
    assert unfinished() == [two]
    assert unfinished(level=0.5) == unfinished(overlay=tmp_path / "overlay") == [one, two]
    work = parts_module.Work(tmp_path / "parts", model, None, None)
    (tmp_path / "in" / "a").write_bytes(b"z" * 12)
    assert list(work.unfinished(iter([one]), lambda _: None)) == [one]
    (tmp_path / "in" / "a").write_bytes(b"changed while it was looked at")
    work.keep(one, SCHEMA.empty_table())
    assert unfinished() == [one, two], "nobody knows which of the two was looked at"
    assert list(work.unfinished(iter([one]), lambda _: None)) == [one]
    passing = pa.Table.from_pylist([{"file": "a", "status": "timeout", "faces": 0}], schema=SCHEMA)
    work.keep(one, passing)
    assert unfinished() == [one, two], "a timeout may have been the machine's fault"


def test_a_folder_of_somebodys_own_in_the_place_of_parts_is_refused_and_left_alone(
    model: Bundle, portrait: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(portrait))
    output, parts = tmp_path / "k.csv", tmp_path / "k.csv.parts"
    parts.mkdir()
    own = parts / "thesis.tex"
    own.write_text("three years of work")
    with pytest.raises(UserError, match=r"parts, .* holds thesis\.tex, which predict did not write: "):
        predict_files([tmp_path / "in/a.png"], model, output, workers=1)
    assert own.read_text() == "three years of work"
    own.unlink()
    pq.write_table(pa.table({"x": [1]}), parts / "000000.parquet")
    with pytest.raises(UserError, match=r"holds 000000\.parquet, which predict did not write"):
        predict_files([tmp_path / "in/a.png"], model, output, workers=1)
    assert pq.read_table(parts / "000000.parquet").to_pylist() == [{"x": 1}]
    (parts / "000000.parquet").unlink()
    parts.rmdir()
    parts.write_text("a file")
    with pytest.raises(UserError, match=r"k\.csv\.parts, .* is no folder: move it away"):
        predict_files([tmp_path / "in/a.png"], model, output, workers=1)
    assert parts.read_text() == "a file"
    parts.unlink()
    parts.mkdir()
    for torn in ("000007.parquet", ".000000.parquet.x1y2z3_8.tmp"):  # of an earlier run, ended by a power cut
        (parts / torn).write_bytes(b"torn")
    predict_files([tmp_path / "in/a.png"], model, output, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "k.csv"]


def test_what_comes_into_the_folder_of_parts_meanwhile_is_left_there(
    model: Bundle, portrait: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(portrait))
    keep = parts_module.Work.keep

    def meanwhile(work: parts_module.Work, block: Any, table: pa.Table) -> None:
        keep(work, block, table)
        (work.folder / "notes.txt").write_text("of the examiner")

    monkeypatch.setattr(parts_module.Work, "keep", meanwhile)
    predict_files([tmp_path / "in/a.png"], model, tmp_path / "k.csv", workers=1)
    assert [path.name for path in (tmp_path / "k.csv.parts").iterdir()] == ["notes.txt"]


SCRIPT = """
from pathlib import Path
from pipeline.serving.bundle import load
from pipeline.serving.run import predict_files

folder, model, output = map(Path, sys.argv[1:])
predict_files([folder], load(model), output, workers=1, block_files=2)
"""


def test_a_killed_process_loses_no_finished_block(
    portrait: Pixels, model: Bundle, model_folder: Path, tmp_path: Path, killed: Callable[..., None]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number in range(12):
        pixels = portrait.copy()
        pixels[:4, :4] = number
        (root / f"{number:02d}.png").write_bytes(png(pixels))
    output = tmp_path / "ages.csv"
    parts = tmp_path / "ages.csv.parts"
    killed(SCRIPT, [str(root), str(model_folder), str(output)], f"{parts}/*.parquet", finished=2)
    assert not output.exists()
    counts = predict_files([root], model, output, workers=1, block_files=2)
    assert counts["blocks kept from an earlier run"] == 2
    assert counts["faces"] == 12
    predict_files([root], model, tmp_path / "undisturbed.csv", workers=1, block_files=2)
    assert output.read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def test_copies_are_drawn_on_and_the_pictures_are_left_alone(
    model: Bundle, portrait: Pixels, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(png(portrait))
    (root / "b.txt").write_text("no picture")
    before = state(root)
    predict_files([root], model, tmp_path / "x.csv", overlay=tmp_path / "drawn", workers=1)
    assert state(root) == before
    (copy,) = [path for path in (tmp_path / "drawn").rglob("*") if path.is_file()]
    assert copy.name == "a.png.drawn.jpg"
    drawn = np.asarray(Image.open(copy)).astype(int)
    assert drawn.shape == portrait.shape
    # a box in the colour of doubtful faces, since this face is smaller than those of the reference
    close = np.abs(drawn - [213, 94, 0]).sum(axis=2) < 60
    assert 300 < close.sum() < close.size / 4


def test_a_copy_never_leaves_its_folder() -> None:
    for name in ("/etc/passwd.png", "../../x.jpg", "a/../../b.jpeg"):
        assert copy_path(Path("out"), name).resolve().is_relative_to(Path("out").resolve())


def test_no_copy_takes_the_place_of_another() -> None:
    pictures = ["a", "a.png", "a.jpg", "a.JPEG", "A.jpg", "_up", "a_b.png", "a\\\\b.png", "a\\b.png", "..."]
    for _ in range(3):  # and whatever copies are called may be a picture's own name
        pictures += [copy_path(Path("x"), name).name for name in pictures]
    around = ["", "/", "../", "../../", "_up/", "__up/", "_root/", "p/", "/p/", "../p/", "p/../"]
    around += [f"p/{name}/" for name in dict.fromkeys(pictures) if name.endswith(".jpg")]
    names = [before + name for before in around for name in dict.fromkeys(pictures)]
    copies = [copy_path(Path("out"), name) for name in names]
    assert len(set(copies)) == len(names)
    folders = {parent for copy in copies for parent in copy.parents}
    taken = [
        name for name, copy in zip(names, copies, strict=True)
        if copy in folders and not any(other.startswith(f"{name}/") for other in names)
    ]  # fmt: skip
    assert taken == [], "nor is one a folder"
    assert copy_path(Path("out"), "photos/a.jpg") == Path("out/photos/a.jpg")


def test_no_two_files_share_a_name_in_the_results(tmp_path: Path) -> None:
    names = [
        b"a\xff.jpg",
        b"a\\xff.jpg",
        b"a\n.jpg",
        b"a\\n.jpg",
        b"a\\\\n.jpg",
        b"a\x85.jpg",
        "a\x85.jpg".encode(),
    ]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    called = [source.file for source in walk([tmp_path])]
    assert len(set(called)) == len(names)
    assert len({copy_path(Path("out"), name) for name in called}) == len(names)
    assert all(name.isprintable() for name in called)
    usual = ["caf\u00e9 1.jpg", "at 3\u202fPM.png", "\U0001f469\u200d\U0001f680.jpg"]
    assert [printable(name) for name in usual] == usual


LONG = ["顔" * 77, "é" * 127, "a" * 251 + ".jpg", "a" * 250 + ".jpeg", "b" * 255, "c" * 239, "c" * 240]


def test_long_names_are_shortened_and_no_copy_takes_the_place_of_another(tmp_path: Path) -> None:
    names = [*LONG, *(name[:-1] + "x" for name in LONG), *(f"{name}/a.jpg" for name in LONG)]
    names += [rf"{name}\xff" for name in LONG]  # as bytes that are not UTF-8 are spelt
    for _ in range(3):  # whatever copies are called may be a picture's own name
        names += [copy_path(Path("x"), name).name for name in names]
    names = list(dict.fromkeys(names))
    copies = [copy_path(tmp_path, name) for name in names]
    assert len(set(copies)) == len(names)
    assert not {parent for copy in copies for parent in copy.parents} & set(copies)
    for copy in copies:
        with atomic_file(copy) as file:
            file.write(b"a copy")


def test_a_copy_that_cannot_be_written_is_said_and_the_others_are_drawn(
    portrait: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dict.fromkeys(("left", "top", "prediction", "lower", "upper"), 9.0) | {
        "right": 50.0,
        "bottom": 60.0,
    }
    row |= {"status": "face", "warnings": ""}
    data = png(portrait)
    sources = [Source(name, data=data) for name in ("in/a.png", "way/a.png", "in/b.png")]
    rows = [{**row, "file": source.file} for source in sources]
    (tmp_path / "way").write_text("a file in the way")
    with pytest.warns(NotDrawnWarning) as caught:
        draw_all(tmp_path, sources, rows, 10**9, **LIMITS)
    (warning,) = caught
    assert str(warning.message) == (
        f"way/a.png was not drawn: its copy {tmp_path}/way/a.png.drawn.jpg cannot be written (File exists)"
    )
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "a.png.drawn.jpg",
        "b.png.drawn.jpg",
    ]

    def full(path: Path, *, folder: int) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(overlay, "atomic_file", full)
    with pytest.warns(NotDrawnWarning, match="No space left") as caught:
        draw_all(tmp_path, sources, rows, 10**9, **LIMITS)
    assert len(caught) == 3


DRAWER = """
import functools, os, signal
from pipeline.serving import overlay

def hostile(task, draw):
    if "crash" in task[0].file:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in task[0].file:
        signal.pause()
    return draw(task)

def make_drawer(max_pixels):
    return functools.partial(hostile, draw=overlay.make_drawer(max_pixels))
"""


def test_a_decoder_that_crashes_or_hangs_over_a_copy_costs_that_copy_alone(
    portrait: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("crash.png", "hang.png", "gone.png", "sound.png")
    sources = [Source(name, data=b"" if name == "gone.png" else png(portrait)) for name in names]
    numbers = {"left": 9.0, "top": 9.0, "right": 50.0, "bottom": 60.0, "prediction": 9.0, "lower": 9.0}
    rows = [{**numbers, "upper": 9.0, "status": "face", "warnings": "", "file": name} for name in names]
    (tmp_path / "hostile_drawer.py").write_text(DRAWER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(overlay, "make_drawer", importlib.import_module("hostile_drawer").make_drawer)
    with pytest.warns(NotDrawnWarning) as caught:
        draw_all(tmp_path / "drawn", sources, rows, 10**9, workers=2, timeout=10)
    assert [str(one.message) for one in caught] == [
        "crash.png was not drawn: the process working on it ended 2 times (SIGSEGV)",
        "hang.png was not drawn: it took longer than the time limit of 10 s",
        "gone.png was not drawn: the file has no bytes",
    ]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["sound.png.drawn.jpg"]


def test_copies_that_cannot_be_written_cost_no_prediction(
    model: Bundle, portrait: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(portrait))
    with pytest.warns(
        NotDrawnWarning, match=r"a\.png was not drawn: its copy /proc/drawn/.* cannot be written"
    ):
        predict_files(
            [tmp_path / "in/a.png"], model, tmp_path / "k.csv", overlay=Path("/proc/drawn"), workers=1
        )
    (row,) = csv.DictReader((tmp_path / "k.csv").open())
    assert row["status"] == "face"


def test_an_output_that_cannot_be_written_is_known_before_the_work(
    model: Bundle, portrait: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("pictures were looked at")

    monkeypatch.setattr(run_module, "predicted", never)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(portrait))
    (tmp_path / "README.md").write_text("a file")
    for output in (tmp_path / "README.md/k.csv", Path("/proc/k.csv")):
        with pytest.raises(OSError, match=r"(Not a directory|No such file)") as caught:
            predict_files([tmp_path / "in/a.png"], model, output)
        assert caught.value.filename == str(output)


def test_a_full_disk_is_said_of_the_output(
    model: Bundle, portrait: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(portrait))
    monkeypatch.setattr(parts_module, "write_batches", full)
    with pytest.raises(OSError, match="No space left") as caught:
        predict_files([tmp_path / "in/a.png"], model, tmp_path / "k.csv", workers=1)
    assert caught.value.filename == str(tmp_path / "k.csv")
    monkeypatch.setattr(prediction_files, "atomic_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        prediction_files.write(tmp_path / "x.csv", SCHEMA, [], model.id)
    assert caught.value.filename == str(tmp_path / "x.csv")


@pytest.mark.parametrize("place", ["in/ages.csv", "in/deep/ages.csv", "one.csv"])
def test_nothing_is_written_among_the_pictures(place: str, model: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "one.csv").write_text("a file to look at")
    with pytest.raises(UserError, match=r"lies among the pictures of .*: write to another place"):
        predict_files([tmp_path / "in", tmp_path / "one.csv"], model, tmp_path / place)
    with pytest.raises(UserError, match="lies among the pictures"):
        predict_files([tmp_path / "in"], model, tmp_path / "ok.csv", overlay=tmp_path / "in" / "drawn")


def test_no_copy_takes_a_pictures_place(
    portrait: Pixels, model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    data = io.BytesIO()
    Image.fromarray(portrait).save(data, "JPEG")
    for name in ("in/a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(data.getvalue())
    monkeypatch.chdir(tmp_path)
    for path, folder in (("in", "."), ("b.jpg", "."), ("in/a.jpg", "in"), ("in", "in/..")):
        with pytest.raises(UserError, match=rf"^{path} lies (in|among) .*: (name a folder|write to another)"):
            predict_files([Path(path)], model, Path("k.csv"), overlay=Path(folder), workers=1)
    (tmp_path / "drawn").symlink_to("in")
    (tmp_path / "drawn2/in").mkdir(parents=True)
    (tmp_path / "drawn2/in/a.jpg").write_bytes(data.getvalue())
    with pytest.raises(UserError, match=r"^drawn lies among the pictures of in: "):
        predict_files([Path("in")], model, Path("k.csv"), overlay=Path("drawn"), workers=1)
    with pytest.warns(NotDrawnWarning, match=r"in/a\.jpg was not drawn: .* \(something else is there\)"):
        predict_files([Path("in")], model, Path("k.csv"), overlay=Path("drawn2"), workers=1)
    assert {path.read_bytes() for path in tmp_path.rglob("*.jpg")} == {data.getvalue()}
    (tmp_path / "drawn2/in/a.jpg").unlink()
    for _ in range(2):  # the second replaces its own copy
        predict_files([Path("in")], model, Path("k.csv"), overlay=Path("drawn2"), workers=1)
    assert (tmp_path / "drawn2/in/a.jpg").read_bytes() != data.getvalue()
    assert (tmp_path / "in/a.jpg").read_bytes() == data.getvalue()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ages.xlsx", r"must end in one of .csv, .jsonl, .parquet"),
        ("folder.csv", "is a folder: name a file"),
        ("mispelt/ages.csv", "lies in a folder that does not exist: make .*/mispelt first"),
        ("é" * 118 + "x.csv", "has a name of 241 bytes: 240 are the most"),
        ("x" * 300 + ".csv", "has a name of 304 bytes"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(
    output: str, sentence: str, model: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=sentence):
        predict_files([tmp_path / "in"], model, tmp_path / output)


def test_a_path_that_does_not_exist_is_named_before_any_work(model: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"nothing.jpg does not exist"):
        predict_files([tmp_path / "in", tmp_path / "nothing.jpg"], model, tmp_path / "a.csv")


def test_a_folder_without_a_file_is_not_taken_for_success(model: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no file in .*empty: name a picture or a folder"):
        predict_files([tmp_path / "empty"], model, tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_pictures_in_memory_give_the_rows_that_files_give(
    model_folder: Path, portrait: Pixels, couple: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(portrait))
    given = [tmp_path / "a.png", png(portrait), portrait, Image.fromarray(couple), b"nothing"]
    table = pipeline.predict(given, model=model_folder, workers=1).to_pylist()
    assert [row["status"] for row in table] == ["face", "face", "face", "face", "face", "not_an_image"]
    numbers = [{k: row[k] for k in ("prediction", "lower", "upper", "left", "distance")} for row in table]
    assert numbers[0] == numbers[1] == numbers[2]
    digest = hashlib.sha256(png(portrait)).hexdigest()
    assert [row["sha256"] for row in table[:4]] == [digest, digest, None, None]
    assert table[1]["file"] == "picture 1"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (np.zeros((4, 4), np.uint8), r"picture 0 is an array \(4, 4\) of uint8"),
        (np.zeros((4, 4, 3)), r"picture 0 is an array \(4, 4, 3\) of float64"),
        (3, "picture 0 is <class 'int'>"),
        (None, "picture 0 is <class 'NoneType'>"),
        (True, "picture 0 is <class 'bool'>"),
        ({"a.png"}, "picture 0 is <class 'set'>"),  # which has no order
        ({"a.png": 1}, "picture 0 is <class 'dict'>"),
        (pd.DataFrame({"file": ["a.png"]}), "picture 0 is <class 'pandas"),
        (pa.table({"file": ["a.png"]}), "picture 0 is <class 'pyarrow"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "picture 0 is <class 'torch.Tensor'>"),
        (io.StringIO("text"), 'picture 0 is a file opened as text: open it with mode "rb"'),
        ("https://example.org/a.jpg", "^https://example.org/a.jpg is an address: nothing is downloaded"),
        ([], "^no picture was given"),
        (iter(()), "^no picture was given"),
        (np.zeros((0, 4, 4, 3), np.uint8), "^no picture was given"),
        ("", "picture 0 is an empty path: name a picture or a folder"),
    ],
)
def test_what_is_no_picture_is_refused_in_memory(wrong: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        list(in_memory(wrong))


def test_of_many_pictures_one_that_cannot_be_used_costs_itself_alone(
    portrait: Pixels, tmp_path: Path
) -> None:
    closed = Image.open(io.BytesIO(png(portrait)))
    closed.close()
    animated = io.BytesIO()
    Image.fromarray(portrait).save(
        animated, "GIF", save_all=True, append_images=[Image.new("RGB", (240, 240))]
    )
    given = {
        "damaged": closed,
        "no_pixels": Image.new("RGB", (0, 5)),
        "cmyk": Image.new("CMYK", (4, 4)),
        "sixteen_bit": Image.new("I;16", (4, 4)),
        "transparent": Image.new("RGBA", (4, 4)),
        "colour_mode": Image.new("LAB", (4, 4)),
        "animated": Image.open(animated),
        "too_many_pixels": Image.new("1", (8000, 8000)),
        "not_an_image": None,
    }
    arrays = [np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), "absent.png"]
    found = [*in_memory([*given.values(), *arrays, portrait])]
    reasons = [source.trouble and source.trouble.reason for source in found]
    assert reasons == [*given, "no_pixels", *["not_an_image"] * 2, "missing_file", None]
    assert [source.file for source in found[-3:]] == ["picture 11", "absent.png", "picture 13"]
    assert all(source.trouble.detail for source in found if source.trouble)
    (alone,) = in_memory(closed)
    assert alone.trouble is not None, "a closed image alone is a row as well"


def test_an_open_file_is_one_picture_from_its_beginning(portrait: Pixels, tmp_path: Path) -> None:
    data = png(portrait)
    path, packed = tmp_path / "a.png", tmp_path / "a.zip"
    path.write_bytes(data)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", data)
    with contextlib.ExitStack() as opened:
        spooled = opened.enter_context(tempfile.SpooledTemporaryFile(max_size=10))
        spooled.write(data)  # and stands at its end
        file = opened.enter_context(path.open("rb"))
        member = opened.enter_context(opened.enter_context(zipfile.ZipFile(packed)).open("a.png"))
        for stream in (io.BytesIO(data), file, member, spooled, io.BufferedReader(io.BytesIO(data))):
            (source,) = in_memory(stream)
            assert (source.data, source.hashed, source.trouble) == (data, True, None)
    (closed,) = in_memory(file)
    assert closed.trouble is not None
    assert closed.trouble.reason == "unreadable"


def test_paths_come_in_everything_that_has_an_order(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in "bca"]
    for name in names:
        Path(name).write_bytes(b"1")
    (entry,) = [one for one in os.scandir(tmp_path) if one.name == "a"]
    assert [source.file for source in in_memory(entry)] == [names[2]]
    columns = [
        tuple(names),
        iter(names),
        (PurePath(name) for name in names),
        np.array(names),
        np.array(names, dtype=object),
        pd.Series(names, index=[3, 1, 2]),
        pa.array(names),
        pa.chunked_array([names[:1], names[1:]]),
    ]
    for many in columns:
        assert [source.file for source in in_memory(many)] == names


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_pillow_image_gives_what_its_file_gives(
    kind: str, orientation: int, portrait: Pixels, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    Image.fromarray(portrait[:, :200]).save(path, kind, exif=exif)
    expected = decode(path.read_bytes())
    loaded = Image.open(path)
    loaded.load()
    upright = ImageOps.exif_transpose(Image.open(path))
    for image in (Image.open(path), loaded, loaded.copy(), loaded.convert("RGBA"), upright):
        (source,) = in_memory(image)
        assert source.data is not None
        np.testing.assert_array_equal(decode(source.data), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_a_pillow_image_of_any_mode_gives_what_its_file_gives(mode: str, portrait: Pixels) -> None:
    image = Image.fromarray(portrait).convert(mode)
    (source,) = in_memory(image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert source.data is not None
    np.testing.assert_array_equal(decode(source.data), decode(buffer.getvalue()))


def test_what_is_odd_about_a_photographs_metadata_stands_beside_its_face(
    model_folder: Path, portrait: Pixels
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(portrait).save(buffer, "JPEG", quality=98, exif=b"Exif\0\0MM\0*\0\0\0")
    given = [buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))]
    table = pipeline.predict(given, model=model_folder, workers=1).to_pylist()
    assert [row["status"] for row in table] == ["face", "face"]
    assert table[0]["prediction"] == table[1]["prediction"]
    for row in table:
        assert "odd_metadata: the orientation cannot be read (the EXIF is cut off)" in row["warnings"]


def test_one_picture_needs_no_list(portrait: Pixels, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    for one in (portrait, b"x", Image.fromarray(portrait), str(tmp_path / "a")):
        assert len(list(in_memory(one))) == 1
    assert len(list(in_memory(tmp_path))) == 2, "a folder is its files"
    assert len(list(in_memory(np.stack([portrait, portrait])))) == 2


def test_the_walk_is_sorted_deep_and_follows_no_links_to_folders(pictures: Pictures) -> None:
    root, _ = pictures
    names = [source.path for source in walk([root])]
    assert names == sorted(names)
    assert names.count("hostile/round") == 1
    assert not any(name.startswith("hostile/round/") for name in names)
    assert count([root, root / "portrait 0.png"]) == len(names) + 1


def test_a_link_that_is_named_is_followed(tmp_path: Path, portrait: Pixels) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "real.png").write_bytes(b"elsewhere")
    (tmp_path / "link.png").symlink_to(tmp_path / "a" / "real.png")
    (source,) = walk([tmp_path / "link.png"])
    assert source.file.endswith("link.png")
    assert look(source, Settings()).sha256 == hashlib.sha256(b"elsewhere").hexdigest()
    stamp = source.stamp()
    (tmp_path / "a" / "real.png").write_bytes(b"something else")
    assert source.stamp() != stamp


def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "z").write_bytes(b"1")
    scan = os.scandir

    def denied(path: Any) -> Any:  # file permissions do not bind root, who may be running this
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    locked, other = walk([tmp_path])
    assert other.path == "z"
    assert locked.trouble is not None
    seen = look(locked, Settings())
    assert seen.rejection == ("unreadable", "the folder cannot be listed (Permission denied)")


def test_faces_are_encoded_in_groups_beside_the_search_and_memory_stays_bounded() -> None:
    measured = Quality(1, 1, 0, 0, 1, 0, 0, 0)

    def face(number: int) -> Face:
        return Face(
            np.full((2, 2, 3), number % 250, np.uint8),
            np.zeros((5, 2), np.float32),
            (0, 0, 1, 1),
            "x",
            1.0,
            1,
            measured,
        )

    taken = 0

    def seen() -> Iterator[Seen]:
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield Seen(faces=tuple(face(number) for _ in range(number % 3)))

    def encode(faces: Any) -> Any:
        return np.array([[one.pixels[0, 0, 0]] for one in faces], np.float32).reshape(-1, 1)

    longest, given = 0, 0
    for number, (one, vectors) in enumerate(encoded(seen(), encode)):
        longest = max(longest, taken - number)
        given += len(vectors)
        assert len(vectors) == len(one.faces) == number % 3
        assert (vectors == number % 250).all()
        assert all(f.pixels.size == 0 for f in one.faces), "pixels are let go"
    assert given == sum(number % 3 for number in range(3000))
    assert longest <= 256 * 4


def test_a_picture_that_failed_for_no_known_reason_costs_itself_alone(
    portrait: Pixels, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(looking, "extract_all", broken)
    seen = look(Source("x", data=png(portrait)), settings)
    assert seen.rejection == ("failed", "RuntimeError: out of luck")
    assert seen.sha256 == hashlib.sha256(png(portrait)).hexdigest()


def test_no_rows_are_a_table_too(model: Bundle) -> None:
    table = rows(model, [], np.empty((0, 128), np.float32))
    assert table.num_rows == 0
    assert table.schema.names == SCHEMA.names


def test_the_command_line_predicts_and_names_mistakes(
    model_folder: Path, portrait: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(portrait))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "100"}

    def vec2age(*words: str) -> subprocess.CompletedProcess[str]:
        code = "from pipeline.__main__ import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = vec2age("predict", "a.png", "--model", str(model_folder), "--workers", "1", "--level", "0.5")
    assert done.returncode == 0, done.stderr
    assert "faces" in done.stdout
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert (row["file"], row["level"]) == ("a.png", "0.5")
    wrong = vec2age("predict", "a.png", "--model", str(model_folder), "-o", "a.png/x.csv")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "vec2age: a.png/x.csv would lie in the folder of a.png, among the pictures"
    )
    assert len(wrong.stderr.splitlines()) == 1
    wrong = vec2age("predict", "x" * 300, "--model", str(model_folder))
    assert wrong.returncode == 2
    assert wrong.stderr == f"vec2age: {'x' * 300}: File name too long; give it a shorter name\n"
    wrong = vec2age("predict", "a.png", "--model", "nothing")
    assert wrong.returncode == 2
    assert wrong.stderr == "vec2age: nothing is no model bundle: name a folder that vec2age export wrote\n"
