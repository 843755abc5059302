"""Where things are written: permissions, links, places that are one, one writer at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import profiles
from pipeline.core.errors import UserError
from pipeline.core.places import alone, folder_below, is_same, lies_in, resolved
from pipeline.core.tables import atomic_file, write_table
from pipeline.encoders.store import VectorStore
from pipeline.uncertainty.stored_methods import write_arrays

PROJECT = Path(__file__).resolve().parents[2]
VECTORS = pa.table(
    {"face_id": ["a"], "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0], pa.float32()), 2)}
)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["000", "022", "077"])
def umask(request: pytest.FixtureRequest) -> int:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_have_what_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    with atomic_file(tmp_path / "deep" / "a.csv") as file:
        file.write(b"1")
    write_table(pa.table({"age": [1]}), tmp_path / "b.parquet", "test")
    assert mode(tmp_path / "deep" / "a.csv") == mode(tmp_path / "b.parquet") == 0o666 & ~umask
    assert mode(tmp_path / "deep") == 0o777 & ~umask


def test_a_file_that_is_replaced_gets_no_wider(umask: int, tmp_path: Path) -> None:
    for earlier in (0o400, 0o600, 0o640, 0o666):
        path = tmp_path / f"{earlier:o}.csv"
        path.write_text("old")
        path.chmod(earlier)
        with atomic_file(path) as file:
            file.write(b"new")
        assert mode(path) == 0o666 & ~umask & (earlier | 0o600)


def test_biometric_files_are_their_owners_alone_unless_asked(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(folder: Path) -> set[int]:
        folder.mkdir()
        write_table(VECTORS, folder / "faces.parquet", "test")
        write_table(pa.table({"image": [b"1"]}), folder / "crops.parquet", "test")
        write_arrays(folder / "reference.safetensors", {"vectors": np.zeros(2)}, {}, private=True)
        VectorStore(folder / "cache", "one", dim=2).append(["0" * 64], np.zeros((1, 2), np.float32))
        (segment,) = (folder / "cache").rglob("*.parquet")
        names = ("faces.parquet", "crops.parquet", "reference.safetensors")
        return {mode(path) for path in (*(folder / name for name in names), segment)}

    assert written(tmp_path / "own") == {0o600}
    monkeypatch.setenv("VEC2AGE_SHARED", "1")
    assert written(tmp_path / "shared") == {0o666 & ~umask}


def test_no_module_sets_permissions_or_makes_hidden_ones_itself() -> None:
    # tables narrows files and folders that it replaces; the cache of switches goes with its program
    allowed = {PROJECT / "pipeline/core/tables.py": 2, PROJECT / "pipeline/core/switches.py": 1}
    words = ("chmod(", "mkstemp", "mkdtemp(", "NamedTemporaryFile", "shutil.copy(", "copy2", "umask(")
    for path in (PROJECT / "pipeline").rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if ">>>" not in line]
        found = [line for line in lines if any(word in line for word in words)]
        assert len(found) == allowed.get(path, 0), (path, found)


def test_places_are_one_by_links_hard_links_and_names_that_do_not_exist_yet(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos/deep")
    (tmp_path / "dangling").symlink_to("photos/new")
    (photos / "a.jpg").write_text("1")
    (tmp_path / "hard.csv").hardlink_to(photos / "a.jpg")
    for inside in (
        "photos",
        "photos/x.csv",
        "link/x.csv",
        "dangling/x",
        "photos/../photos/new/er",
        "link/..",
    ):
        assert lies_in(tmp_path / inside, photos), inside
    for outside in ("x.csv", "photos2/x", "photos/..", "hard.csv"):
        assert not lies_in(tmp_path / outside, photos), outside
    assert is_same(tmp_path / "hard.csv", photos / "a.jpg")
    assert resolved(tmp_path / "dangling") == photos / "new"


def test_links_in_a_circle_or_a_long_chain_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    for number in range(1200):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    for name in ("round", "l0"):
        with pytest.raises(UserError, match="leads through links"):
            resolved(tmp_path / name)


def test_no_link_below_a_folder_is_followed_however_deep(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(OSError, match="link is a link"), folder_below(tmp_path / "out", ["link"]):
        pass
    names = ["d" * 100] * 60  # longer than a path may be
    for _ in range(2):
        with folder_below(tmp_path / "out", names) as handle, atomic_file(Path("a"), folder=handle) as file:
            file.write(b"1")
    with folder_below(tmp_path / "out", names) as handle:
        assert os.listdir(handle) == ["a"]  # noqa: PTH208
    assert not list((tmp_path / "photos").iterdir())


def test_one_writer_at_a_time_and_a_killed_one_holds_nothing_even_if_its_fork_lives(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "lock"
    code = (
        "import os, sys, pathlib; from pipeline.core.places import alone\n"
        "with alone(pathlib.Path(sys.argv[1]), 'taken'):\n"
        "    if os.fork() == 0: print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": PROJECT, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"^taken by another$"), alone(lock, "taken by another"):
            pass
        other.kill()
        other.wait()
    with alone(lock, "taken"):
        assert lock.exists()
    assert not lock.exists()


def test_use_keeps_a_link_and_changes_what_it_names(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "settings.yaml"
    real.parent.mkdir()
    real.write_bytes((PROJECT / "params.yaml").read_bytes())
    real.chmod(0o600)
    (tmp_path / "params.yaml").symlink_to(real)
    (tmp_path / "none.yaml").write_text("{}\n")
    profiles.use(tmp_path / "none.yaml", ["crop.margin=0.31"], tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").is_symlink()
    assert "margin: 0.31" in real.read_text()
    assert mode(real) == 0o600
