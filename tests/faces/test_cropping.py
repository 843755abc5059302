import fcntl
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import producer_of
from pipeline.faces import cropping, shards
from pipeline.faces.cropping import crop_faces
from pipeline.faces.extract import Settings
from pipeline.faces.shards import encode

FACES = 10
SMALL = {"detectors": ["dlib_hog"], "size": 64, "shard_faces": 4, "workers": 1}


def picture(portrait: npt.NDArray[np.uint8], number: int) -> bytes:
    pixels = portrait.copy()
    pixels[:4, :4] = number
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, portrait: npt.NDArray[np.uint8]) -> Path:
    """Ten portraits, a picture without a face, a text and an empty file."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(FACES):
        (root / f"{number}.png").write_bytes(picture(portrait, number))
    Image.new("RGB", (80, 80), (90, 120, 90)).save(root / "meadow.png")
    (root / "letter.jpg").write_text("no picture")
    (root / "empty.jpg").write_bytes(b"")
    return root


def manifest_of(root: Path, pattern: str = "*") -> pa.Table:
    ids = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in root.glob(pattern)}
    return pa.table({"face_id": list(ids), "path": list(ids.values()), "target": [1.0] * len(ids)})


def run(manifest: pa.Table | None, root: Path, out: Path, **settings: Any) -> tuple[dict[str, int], Rejects]:
    rejects = Rejects()
    return crop_faces(manifest, root, out, rejects=rejects, **{**SMALL, **settings}), rejects


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int], Rejects]:
    out = tmp_path_factory.mktemp("crops")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.iterdir()}
    counts, rejects = run(manifest_of(root), root, out)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.iterdir()}
    assert after == before, "inputs are never changed"
    return out, counts, rejects


def test_every_face_ends_in_a_shard_or_among_the_rejects(
    finished: tuple[Path, dict[str, int], Rejects], root: Path
) -> None:
    out, counts, rejects = finished
    assert counts == {"faces": 13, "crops": 10, "found by dlib_hog": 10, "shards": 4, "shards kept": 0}
    assert rejects.counts() == {"empty_file": 1, "no_face": 1, "not_an_image": 1}
    table = rejects.table().to_pylist()
    assert {row["path"]: row["reason"] for row in table} == {
        "empty.jpg": "empty_file",
        "letter.jpg": "not_an_image",
        "meadow.png": "no_face",
    }
    assert all(row["stage"] == "crop" for row in table)
    found = [face for batch in shards.iterate(out) for face in batch.column("face_id").to_pylist()]
    assert found == sorted(found)
    assert sorted([*found, *(row["face_id"] for row in table)]) == sorted(
        manifest_of(root)["face_id"].to_pylist()
    )


def test_shards_hold_the_agreed_columns(finished: tuple[Path, dict[str, int], Rejects]) -> None:
    out, _, _ = finished
    assert sorted(contents(out)) == [f"{number:05d}.parquet" for number in range(4)]
    batch = next(shards.iterate(out))
    assert batch.schema.names == [
        *("face_id", "crop_id", "image", "landmarks", "box", "detector", "score", "faces"),
        *("sharpness", "exposure", "dark_fraction", "bright_fraction", "face_size", "roll", "yaw", "pitch"),
    ]
    images, landmarks = shards.arrays(batch)
    assert images.shape[1:] == (64, 64, 3)
    row = batch.slice(0, 1).to_pylist()[0]
    together = row["image"]["bytes"] + landmarks[0].tobytes()
    assert row["crop_id"] == hashlib.sha256(together).hexdigest()
    assert 0.4 < row["exposure"] < 0.9
    assert row["face_size"] == row["box"][2] - row["box"][0] == 88
    producer = producer_of(shards.path_of(out, 0))
    assert producer["producer"] == "vec2age crop"
    assert producer["settings"]["size"] == 64


def test_the_bytes_do_not_depend_on_workers_or_the_manifests_order(
    finished: tuple[Path, dict[str, int], Rejects], root: Path, tmp_path: Path
) -> None:
    out, counts, rejects = finished
    backwards = manifest_of(root).sort_by([("face_id", "descending")])
    again, same = run(backwards, root, tmp_path / "crops", workers=2)
    assert again == counts
    assert contents(tmp_path / "crops") == contents(out)
    assert same.table() == rejects.table()


def test_finished_shards_are_kept_with_their_rejects(
    finished: tuple[Path, dict[str, int], Rejects], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first, rejects = finished
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    def never(*_: object) -> None:
        raise AssertionError("no work is left")

    monkeypatch.setattr(cropping, "make_worker", never)
    again, same = run(manifest_of(root), root, out)
    assert again == {**first, "shards kept": 4}
    assert same.table() == rejects.table()
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.fixture
def copied(finished: tuple[Path, dict[str, int], Rejects], tmp_path: Path) -> Path:
    """A folder of finished shards that may be spoilt."""
    return Path(shutil.copytree(finished[0], tmp_path / "crops"))


def test_a_damaged_shard_is_made_again_and_that_is_said(
    copied: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = contents(copied)
    flipped = bytearray(expected["00001.parquet"])
    flipped[len(flipped) // 3] ^= 0xFF
    (copied / "00001.parquet").write_bytes(flipped)
    (copied / "00002.parquet").write_bytes(expected["00002.parquet"][:-100])
    counts, _ = run(manifest_of(root), root, copied)
    assert counts["shards kept"] == 2
    assert contents(copied) == expected
    assert "00001.parquet is damaged and made again" in caplog.text
    assert "00002.parquet is damaged and made again" in caplog.text


@pytest.mark.parametrize("said", [b"[]", b"[" * 100_000, b"{", b"\xff", b'{"key": 1}'])
def test_a_shard_whose_description_is_another_is_made_again(copied: Path, root: Path, said: bytes) -> None:
    expected = contents(copied)
    path = copied / "00001.parquet"
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, cropping.SHARD_KEY: said}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    counts, _ = run(manifest_of(root), root, copied)
    assert counts["shards kept"] == 3
    assert contents(copied) == expected


def test_other_settings_and_faces_replace_shards_and_leftovers_are_removed(copied: Path, root: Path) -> None:
    (copied / ".00001.parquet.abc_1234.tmp").write_bytes(b"half")
    (copied / "mine.txt").write_text("not the pipeline's to remove")
    limits = {"min_face_size": 100}
    written = copied / ".00009.parquet.abc_1234.tmp"
    with written.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        counts, rejects = run(manifest_of(root, "[0-4].png"), root, copied, margin=0.4, thresholds=limits)
    written.unlink()  # it was there: somebody was writing it
    assert (counts["shards"], counts["shards kept"], counts["crops"]) == (2, 0, 0)
    assert sorted(contents(copied)) == ["00000.parquet", "00001.parquet", "mine.txt"]
    assert shards.count(copied) == 0
    assert producer_of(shards.path_of(copied, 0))["settings"]["margin"] == 0.4
    assert rejects.counts() == {"small_face": 5}
    assert rejects.rows[0]["detail"] == "face_size 88 is under 100"


def test_rejects_that_may_pass_are_tried_again(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pictures"
    copy.mkdir()
    for name in ("0.png", "1.png", "2.png"):
        (copy / name).write_bytes((root / name).read_bytes())
    manifest = manifest_of(copy)
    (copy / "0.png").unlink()
    (copy / "1.png").write_bytes((root / "5.png").read_bytes())
    _, rejects = run(manifest, copy, tmp_path / "crops")
    assert rejects.counts() == {"changed": 1, "missing_file": 1}
    for name in ("0.png", "1.png"):
        (copy / name).write_bytes((root / name).read_bytes())
    counts, rejects = run(manifest, copy, tmp_path / "crops")
    assert (counts["crops"], counts["shards kept"], rejects.counts()) == (3, 0, {})


WORKER = """
import functools, os, signal, time
from pipeline.faces import extract

def hostile(task, crop):
    if task[1] == "3.png":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task[1] == "4.png":
        time.sleep(60)
    return crop(task)

def make_worker(root, settings):
    return functools.partial(hostile, crop=extract.make_worker(root, settings))
"""


def test_a_file_that_crashes_or_hangs_the_decoder_costs_only_itself(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_work.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(cropping, "make_worker", importlib.import_module("hostile_work").make_worker)
        counts, rejects = run(manifest_of(root, "?.png"), root, tmp_path / "crops", workers=2, timeout=3.0)
    assert counts["crops"] == FACES - 2
    details = {row["path"]: (row["reason"], row["detail"]) for row in rejects.rows}
    assert details == {
        "3.png": ("worker_died", "the process working on it ended 2 times (SIGSEGV)"),
        "4.png": ("timeout", "it took longer than the time limit of 3 s"),
    }


SLOW = """
import functools, time
from pipeline.faces import extract

def slow(task, crop):
    time.sleep(0.15)
    return crop(task)

def make_worker(root, settings):
    return functools.partial(slow, crop=extract.make_worker(root, settings))
"""

SCRIPT = """
import json, sys
from pathlib import Path
import pyarrow as pa
import slow_work
from pipeline.faces import cropping
from pipeline.core.rejects import Rejects

cropping.make_worker = slow_work.make_worker
manifest, root, out, settings = json.loads(sys.argv[1])
cropping.crop_faces(pa.table(manifest), Path(root), Path(out), rejects=Rejects(), **settings)
"""


def interrupted(root: Path, tmp_path: Path, sign: signal.Signals) -> subprocess.Popen[bytes]:
    """A run in a process of its own that gets a signal once the first shard is there."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/slow_work.py").write_text(SLOW)  # workers import nothing from the script or beside it
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "crops"
    job = json.dumps([manifest_of(root).to_pydict(), str(root), str(out), {**SMALL, "workers": 2}])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), job],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "slow"), *sys.path]))},
        stderr=subprocess.PIPE,
    )
    while not (out / "00000.parquet").exists():
        assert process.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sign)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == [], "workers outlived their parent"
    return process


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    sign: signal.Signals, finished: tuple[Path, dict[str, int], Rejects], root: Path, tmp_path: Path
) -> None:
    process = interrupted(root, tmp_path, sign)
    assert process.returncode == -sign
    out = tmp_path / "crops"
    done = len(list(out.glob("*.parquet")))
    assert 1 <= done < 4
    counts, rejects = run(manifest_of(root), root, out)
    assert counts["shards kept"] == done
    assert contents(out) == contents(finished[0])
    assert rejects.table() == finished[2].table()


@pytest.mark.parametrize(("size", "faces"), [(224, 1024), (512, 432), (1024, 108)])
def test_shards_of_large_crops_hold_fewer_faces(size: int, faces: int, tmp_path: Path) -> None:
    ids = [f"{number:064x}" for number in range(2000)]
    blocks = cropping._plan(pa.table({"face_id": ids, "path": ids}), tmp_path, 1024, Settings(size=size))
    assert len(blocks[0].tasks) == pytest.approx(faces, rel=0.01)
    assert len(blocks[0].tasks) * cropping.largest_row(size) <= 512_000_000
    assert [face for block in blocks for face, _ in block.tasks] == ids


def test_no_encoded_crop_exceeds_what_the_plan_allows_for() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for kind in ("webp", "png", "jpeg"):
        assert len(encode(noise, kind, 100)) < cropping.largest_row(224) - 2000


def test_row_groups_are_small_enough_to_stream(finished: tuple[Path, dict[str, int], Rejects]) -> None:
    metadata = pq.ParquetFile(shards.path_of(finished[0], 0)).metadata
    assert metadata.num_row_groups == 1
    assert metadata.row_group(0).num_rows <= cropping.ROWS_PER_GROUP


def test_a_data_set_without_pictures_empties_the_folder(copied: Path, root: Path) -> None:
    counts, _ = run(None, root, copied)
    assert counts == {"faces": 0, "crops": 0, "found by dlib_hog": 0, "shards": 0, "shards kept": 0}
    assert list(copied.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoom": 2}, "cropping has no setting 'zoom': it takes detectors, detector_settings, size"),
        ({"align": "nose"}, "align is 'nose': choose one of none, eyes"),
        ({"thresholds": {"min_light": 1}}, "unknown threshold 'min_light'"),
        ({"workers": 0}, "workers is 0: it must be at least 1"),
        ({"shard_faces": 0}, "shard_faces is 0: it must be at least 1"),
        ({"timeout": 0}, "timeout is 0: it must be more than 0 seconds"),
    ],
)
def test_impossible_settings_are_refused(
    settings: dict[str, Any], message: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(manifest_of(root), root, tmp_path / "crops", **settings)


def test_an_empty_manifest_and_a_face_named_twice_are_refused(root: Path, tmp_path: Path) -> None:
    table = manifest_of(root, "0.png")
    with pytest.raises(UserError, match="the manifest holds no faces: there is nothing to crop"):
        run(table.slice(0, 0), root, tmp_path / "crops")
    with pytest.raises(UserError, match=r"the manifest names face [0-9a-f]{12}\.\.\. twice: 0.png and 0.png"):
        run(pa.concat_tables([table, table]), root, tmp_path / "crops")


def test_a_missing_root_is_named_before_every_file_is_rejected(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the data root .*/moved is not a folder: set data\.root"):
        run(manifest_of(root), tmp_path / "moved", tmp_path / "crops")


def test_a_file_in_the_folders_place_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").write_text("")
    with pytest.raises(UserError, match="crops is a file: crops need a folder of that name"):
        run(manifest_of(root), root, tmp_path / "crops")
