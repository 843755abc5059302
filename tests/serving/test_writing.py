"""Where predictions and copies are written, and where not; how deep folders may be; what labels look like."""

import csv
import io
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.files import Unusable, open_inside
from pipeline.core.rejects import Rejects
from pipeline.datasets.listing import walk as ingested
from pipeline.serving import prediction_files
from pipeline.serving.bundle import Bundle
from pipeline.serving.inputs import Source, walk
from pipeline.serving.label_drawing import drawn_on
from pipeline.serving.overlay import MARK, NotDrawnWarning, draw_all, is_free
from pipeline.serving.rows import SCHEMA
from pipeline.serving.run import check_beside, predict_files

PROJECT = Path(__file__).resolve().parents[2]
LIMITS = {"workers": 1, "timeout": 600}
ROW = {"file": "in/a.jpg", "status": "no_face", "faces": 0, "model": "m"}


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a file that is no picture, which costs no time."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.jpg").write_bytes(b"Dear reader, this is no photograph.\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["deep", "a.jpg"]


def ask(model: Bundle, output: str, *paths: str, **options: Any) -> dict[str, int]:
    return predict_files([Path(path) for path in paths or ("in",)], model, Path(output), workers=1, **options)


def test_nothing_is_written_among_pictures_or_into_the_model_by_any_name(
    letters: Path, model: Bundle
) -> None:
    Path("link").symlink_to("in/deep")
    Path("x.csv").symlink_to("in/deep/x.csv")
    for output in ("in/x.csv", "link/x.csv", "x.csv", "in/deep/../x.csv"):
        with pytest.raises(UserError, match="lies among the pictures"):
            ask(model, output)
    with pytest.raises(UserError, match="lies in the model"):
        ask(model, str(model.folder / "x.csv"))
    with pytest.raises(UserError, match="lies in the model"):
        ask(model, "y.csv", overlay=model.folder / "drawn")
    with pytest.raises(UserError, match="lies among the pictures"):
        ask(model, "y.csv", overlay=Path("link/drawn"))
    assert sorted(path.name for path in letters.iterdir()) == ["in", "link", "x.csv"]


def test_a_folder_met_by_another_name_is_known_by_what_it_is(
    letters: Path, model: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.serving import run

    Path("bound").mkdir()  # as a bind mount of in/deep would be, which only root may make
    inner, bound = (Path(name).stat() for name in ("in/deep", "bound"))
    count = run.count

    def counted(paths: Any, met: Any) -> int:
        return count(paths, lambda one: met((bound.st_dev, bound.st_ino) if one[1] == inner.st_ino else one))

    monkeypatch.setattr(run, "count", counted)
    with pytest.raises(UserError, match="lies among the pictures, under another name"):
        ask(model, "bound/x.csv")


def test_an_output_or_copies_beside_pictures_that_are_named_are_refused(letters: Path, model: Bundle) -> None:
    Path("b.jpg").write_text("1")
    Path("c.jpg").write_text("1")
    Path("sub").mkdir()
    refused = [
        ("in/deep/x.csv", None, "in/deep/a.jpg"),
        ("x.csv", None, "b.jpg", "c.jpg"),
        ("sub/x.csv", None, "b.jpg", "c.jpg"),
        ("x.csv", "in/deep/drawn", "in/deep/a.jpg"),
        ("x.csv", "drawn", "b.jpg"),
    ]
    for output, overlay, *paths in refused:
        target, options = overlay or output, {"overlay": overlay and Path(overlay)}
        with pytest.raises(
            UserError, match=f"{target} would lie in the folder of {paths[0]}, among the pict"
        ):
            ask(model, output, *paths, **options)
    check_beside([Path("b.jpg")], Path("x.csv"))  # here, of one picture
    check_beside([Path("in/deep/a.jpg")], Path("x.csv"), Path("drawn"))
    ask(model, "sub/x.csv", "b.jpg", "c.jpg", force=True)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_of_anybody_s_is_read_no_further_than_it_is_foreign(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    prediction_files.write(path, SCHEMA, [pa.Table.from_pylist([ROW], schema=SCHEMA)], "m")
    whole = path.read_bytes()
    beginnings = [b"", whole.splitlines(keepends=True)[0]] if suffix == "csv" else [b"", whole]
    for data in (
        start + more for start in beginnings for more in (b"[" * 10**5, b"1" * 2**22, b"1\n", b"\xff\n")
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match="is a file that predict did not write"):
            prediction_files.check_replaceable(path, "m", ["in"])
    path.write_bytes(whole.replace(b"in/a", b"of/b") + b"1" * 10)
    with path.open("r+b") as file:
        file.truncate(2**36)  # memory for that there is not
    with pytest.raises(UserError, match="output"):
        prediction_files.check_replaceable(path, "m", ["in"])


def test_a_file_is_replaced_by_the_same_question_alone(letters: Path, model: Bundle) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        output = f"x.{suffix}"
        ask(model, output)
        first = Path(output).read_bytes()
        ask(model, output)  # the same question
        ask(model, output, "in", "in/deep/a.jpg")  # and more
        assert Path(output).read_bytes() != first
        with pytest.raises(UserError, match=f"x.{suffix} exists and holds predictions of in/deep/a.jpg: "):
            ask(model, output, "in/deep/../deep")
        ask(model, output, "in/deep/../deep", force=True)
        Path(output).write_text("age,notes\n7,mine\n")
        with pytest.raises(UserError, match=r"exists and is a file that predict did not write: .*--force"):
            ask(model, output)
        assert Path(output).read_text() == "age,notes\n7,mine\n"
        Path(output).write_text("")  # as mktemp leaves it
        ask(model, output)


def test_another_models_table_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"f\xfcr alle")
    folder.mkdir()
    for suffix in ("csv", "jsonl", "parquet"):
        path = folder / f"x.{suffix}"
        prediction_files.write(path, SCHEMA, [pa.Table.from_pylist([ROW], schema=SCHEMA)], "m")
        prediction_files.check_replaceable(path, "m", ["in"])
        with pytest.raises(UserError, match="holds predictions of another model"):
            prediction_files.check_replaceable(path, "n", ["in"])


def test_an_output_that_is_a_link_stays_one_and_a_pipe_is_refused(letters: Path, model: Bundle) -> None:
    Path("results").mkdir()
    Path("x.csv").symlink_to("results/real.csv")  # dangling yet
    ask(model, "x.csv")
    ask(model, "x.csv")
    assert Path("x.csv").is_symlink()
    assert [path.name for path in Path("results").iterdir()] == ["real.csv"]
    os.mkfifo("p.csv")
    with pytest.raises(UserError, match="is a pipe or a device"):
        ask(model, "p.csv")
    Path("q.csv.parts").symlink_to("in")
    with pytest.raises(UserError, match="where finished work waits, is a link: move it away"):
        ask(model, "q.csv")


def test_two_predictions_into_one_file_are_not_made_at_once(letters: Path, model: Bundle) -> None:
    code = (
        "import sys, pathlib; from pipeline.serving.parts import parts_of\n"
        "with parts_of(*2 * [pathlib.Path('x.csv')]): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"^another vec2age predict is writing x\.csv: wait"):
            ask(model, "x.csv")
        other.kill()
        other.wait()
    ask(model, "x.csv")
    assert sorted(path.name for path in letters.iterdir()) == ["in", "x.csv"]


def test_outputs_and_copies_follow_the_umask_and_the_reference_is_private(
    letters: Path, model: Bundle, new_bundle: Any
) -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    row = {**face((50, 60, 120, 140)), "file": "p.png", "status": "face"}
    for umask, left in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(umask)
        try:
            ask(model, f"{umask}.csv")
            draw_all(Path(f"d{umask}"), [Source("p.png", data=data.getvalue())], [row], 10**9, **LIMITS)
            new_bundle(Path(f"b{umask}"))
        finally:
            os.umask(before)
        bundle = Path(f"b{umask}")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bundle.iterdir()}
        assert modes.pop("reference.safetensors") == 0o600
        assert set(modes.values()) == {left}
        for path in (Path(f"{umask}.csv"), Path(f"d{umask}/p.png.drawn.jpg")):
            assert stat.S_IMODE(path.stat().st_mode) == left


def test_a_link_in_the_folder_of_copies_is_not_followed(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(data, "PNG")
    (tmp_path / "photos").mkdir()
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "in").symlink_to(tmp_path / "photos")
    (tmp_path / "drawn" / "b.png.drawn.jpg").symlink_to(tmp_path / "photos" / "new.jpg")
    sources = [Source(name, data=data.getvalue()) for name in ("in/a.png", "b.png", "c.png")]
    rows = [{**face((5, 5, 30, 30)), "file": source.file, "status": "face"} for source in sources]
    with pytest.warns(NotDrawnWarning) as caught:
        draw_all(tmp_path / "drawn", sources, rows, 10**9, **LIMITS)
    told = [str(one.message) for one in caught]
    assert len(told) == 2
    assert told[0].endswith("(in is a link, which is not followed)")
    assert told[1].endswith("(something else is there)")
    assert not list((tmp_path / "photos").iterdir())
    assert (tmp_path / "drawn" / "c.png.drawn.jpg").is_file()


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "torn", "later", "pipe"])
def test_what_is_no_copy_is_told_by_its_first_bytes_and_meets_no_decoder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, data = tmp_path / "a.jpg", io.BytesIO()
    if kind in ("TIFF", "PNG", "JPEG"):
        Image.new("RGB", (8, 8)).save(data, kind)
    texts = {"torn": b"\xff\xd8\xff\xfe\0\x12drawn by", "later": b"II*\0\xff\xfe\0\x12" + MARK}
    os.mkfifo(place) if kind == "pipe" else place.write_bytes(texts.get(kind, data.getvalue()))
    Image.new("RGB", (8, 8)).save(tmp_path / "copy.jpg", "JPEG", comment=MARK)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a decoder was asked"))
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not is_free("a.jpg", handle)
        assert is_free("copy.jpg", handle)
        assert is_free("nothing.jpg", handle)
    finally:
        os.close(handle)


def make_deep(root: Path, levels: int, name: str) -> None:
    """Folders in each other, however long the path, with a file at every hundredth level and at the end."""
    handle = os.open(root, os.O_RDONLY)
    for level in range(levels):
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
        if level % 100 == 0 or level == levels - 1:
            os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)


@pytest.mark.parametrize(("levels", "name", "reached"), [(1100, "d", 12), (1100, "ddddd", 8)])
def test_deep_folders_are_walked_and_what_cannot_be_reached_has_a_reason(
    tmp_path: Path, levels: int, name: str, reached: int, model: Bundle
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    make_deep(root, levels, name)
    try:
        found = list(walk([root]))
        rejects = Rejects()
        assert len(list(ingested(root, rejects))) == len([one for one in found if one.trouble is None])
        beyond = [one.trouble for one in found if one.trouble is not None]
        assert len(beyond) == len(rejects.rows) == (0 if reached == 12 else 1)
        assert all(one.reason == "unreadable" and "File name too long" in one.detail for one in beyond)
        counts = predict_files([root], model, tmp_path / "x.csv", workers=1)
        assert counts["files"] == len(found)
        assert len(found) == reached
        csv.field_size_limit(10**6)
        rows = list(csv.DictReader((tmp_path / "x.csv").open()))
        assert {row["status"] for row in rows} <= {"empty_file", "unreadable"}
        draw_deep(tmp_path / "drawn", found[-1].file)
    finally:
        subprocess.run(["rm", "-rf", str(root), str(tmp_path / "drawn")], check=True)


def draw_deep(folder: Path, file: str) -> None:
    data = io.BytesIO()
    Image.fromarray(np.zeros((60, 60, 3), np.uint8)).save(data, "PNG")
    row = {**face((5, 5, 30, 30)), "file": file, "status": "face"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotDrawnWarning)
        draw_all(folder, [Source(file, data=data.getvalue())], [row], 10**9, **LIMITS)


def test_a_long_chain_of_links_is_no_end(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    with pytest.raises(Unusable, match="symlink"):
        open_inside(os.path.realpath(tmp_path), "l0")
    with pytest.raises(UserError, match="leads through links"):
        list(walk([tmp_path / "l0"]))


def test_a_folder_that_is_gone_or_has_become_a_link_meanwhile_has_a_reason(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.jpg").write_text("1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.jpg").write_text("1")
    found = walk([tmp_path / "in"])
    names = [next(found).path]
    for name in ("b", "c"):
        (tmp_path / "in" / name / "x.jpg").unlink()
        (tmp_path / "in" / name).rmdir()
    (tmp_path / "in" / "c").symlink_to(tmp_path / "other")
    left = list(found)
    assert names == ["a/x.jpg"]
    assert [one.path for one in left] == ["b", "c"]
    assert [one.trouble.detail for one in left if one.trouble] == [
        "the folder cannot be listed (No such file or directory)",
        "the folder cannot be listed (it has become a link)",
    ]


def face(box: tuple[float, ...], **more: Any) -> dict[str, Any]:
    names = ("left", "top", "right", "bottom")
    said = {"prediction": 23.4, "lower": 18.0, "upper": 31.2, "warnings": ""}
    return {**dict(zip(names, box, strict=True)), **said, **more}


@pytest.mark.parametrize(
    "size", [(20, 20), (24, 60), (200, 200), (320, 240), (2000, 40), (40, 2000), (3000, 30), (1600, 1200)]
)
@pytest.mark.parametrize(
    "corner", ["whole", "left top", "right top", "left bottom", "right bottom", "beyond"]
)
def test_a_label_lies_inside_whole_at_any_size(size: tuple[int, int], corner: str) -> None:
    w, h = size
    box = {
        "whole": (0, 0, w, h),
        "left top": (0, 0, w / 4, h / 4),
        "right top": (w * 3 / 4, 0, w, h / 4),
        "left bottom": (0, h * 3 / 4, w / 4, h),
        "right bottom": (w * 3 / 4, h * 3 / 4, w, h),
        "beyond": (-w, -h, 2 * w, 2 * h),
    }[corner]
    room = (max(w, 310), max(h, 310))  # of the same type, with room all around
    middle = (room[0] / 2 - 10, room[1] / 2 - 10, room[0] / 2 + 10, room[1] / 2 + 10)
    expected = white(drawn_on(Image.new("RGB", room), [face(middle)]))
    drawn = drawn_on(Image.new("RGB", size), [face(box)])
    assert drawn.width >= w
    assert drawn.height >= h
    assert white(drawn) == expected > 5


def white(image: Image.Image) -> int:
    """How many pixels are those of letters: paper is darker."""
    return int((np.asarray(image) > 250).all(2).sum())


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    boxes = [(x, y, x + 40, y + 40) for x in (5, 60, 115) for y in (40, 60)]
    one = np.asarray(drawn_on(Image.new("RGB", (200, 200)), [face(boxes[2])]))
    all_of_them = np.asarray(drawn_on(Image.new("RGB", (200, 200)), [face(box) for box in boxes[2:4]]))
    assert (all_of_them > 250).all(2).sum() == 2 * (one > 250).all(2).sum()


def test_large_numbers_have_short_labels() -> None:
    drawn = drawn_on(Image.new("RGB", (20, 20)), [face((0, 0, 20, 20), prediction=1e300, upper=-1e300)])
    assert drawn.width < 300
