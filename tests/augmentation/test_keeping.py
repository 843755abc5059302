"""Which folders pictures are kept in, and what is never deleted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.augmentation.keeping import PictureShards, check_folder
from pipeline.core.errors import UserError
from pipeline.core.tables import read_table, write_table

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


def keep(folder: Path, *names: str) -> list[str]:
    with PictureShards(folder, {}) as pictures:
        for name in names:
            pictures.add(name, "parent", "flip", 0.9, RED, np.zeros((5, 2), np.float32))
    found: list[str] = read_table(folder / "00000.parquet")["face_id"].to_pylist()
    return found


def test_an_earlier_runs_pictures_and_what_it_left_when_killed_are_replaced(
    tmp_path: Path,
) -> None:
    assert keep(tmp_path / "new", "a", "b") == ["a", "b"]
    (tmp_path / "new/.00001.parquet.x7_k9abc.tmp").write_bytes(b"half a shard")
    assert keep(tmp_path / "new", "c") == ["c"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["00000.parquet"]


@pytest.mark.parametrize("producer", ["vec2age crop", None])
def test_shards_of_another_producer_are_never_deleted(tmp_path: Path, producer: str | None) -> None:
    keep(tmp_path, "a")
    path = tmp_path / "00001.parquet"
    if producer is None:
        path.write_bytes(b"not Parquet")
    else:
        write_table(pa.table({"face_id": ["mine"]}), path, producer)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"00001.parquet is not a shard of pictures that augment wrote"):
        PictureShards(tmp_path, {})
    assert path.read_bytes() == before
    assert (tmp_path / "00000.parquet").exists()


@pytest.mark.parametrize("name", ["data/crops", "data/crops/augmented", "data", "./data/../data/crops"])
def test_a_folder_of_others_is_refused_before_it_exists(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="but data/crops holds other files of the pipeline: name a folder"):
        check_folder(Path(name), [Path("data/crops")])
    check_folder(Path("data/augmented"), [Path("data/crops")])


@pytest.mark.parametrize("name", ["album", "album/faces", "album/faces/kept", "nowhere"])
def test_what_is_no_folder_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("album").write_text("a file")
    Path("nowhere").symlink_to("gone")
    place = name.partition("/")[0]
    with pytest.raises(UserError) as raised:
        check_folder(Path(name))
    assert str(raised.value) == (
        f"augment.pictures is {name}, but {place} is no folder: name one for the pictures"
    )
    assert Path("album").read_text() == "a file"


def test_an_earlier_runs_pictures_stay_where_the_next_run_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.augmentation.keeping.ROWS_PER_GROUP", 1)
    monkeypatch.setattr("pipeline.augmentation.keeping.MAX_SHARD_BYTES", 1)
    keep(tmp_path, "a", "b", "c")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 3
    pictures = PictureShards(tmp_path, {})
    with pytest.raises(UserError, match="no more"):
        refused(pictures)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert keep(tmp_path, "d", "e") == ["d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.parquet", "00001.parquet"]


def refused(shards: PictureShards) -> None:
    with shards:
        for name in "de":
            shards.add(name, "parent", "flip", 0.9, RED, np.zeros((5, 2), np.float32))
        raise UserError("no more")
