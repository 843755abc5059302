"""The stages ingest, crop, split, embed and augment on a small rendered sample, with dlib's real networks."""

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import config
from pipeline.augmentation.keeping import PictureShards
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_table
from pipeline.faces import shards
from pipeline.stages import augment, crop, embed, ingest, locations, split

PROJECT = Path(__file__).resolve().parents[2]
PER_AGE, POOL, WANTED = 6, 2, 7
OUTPUTS = (locations.AUGMENTED, locations.CALIBRATION, locations.BALANCE)


def tree(**changes: Any) -> dict[str, Any]:
    """params.yaml for a sample of six pictures of every age; a change's double underscores are dots."""
    whole: dict[str, Any] = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    small = {
        "data__settings": {"per_age": PER_AGE},
        "split__per_target": POOL,
        "augment__target_per_age": WANTED,
        "augment__calibration_faces": 5,
        "augment__max_similarity": 0.995,
    }
    for key, value in (small | changes).items():
        *path, last = key.split("__")
        place = whole
        for part in path:
            place = place[part]
        place[last] = value
    return whole


def settings(**changes: Any) -> Params:
    return config.check(tree(**changes), Path("params.yaml"))


def hashes() -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in OUTPUTS}


def stored(folder: Path) -> int:
    """How many vectors the stores of a folder hold."""
    return sum(read_table(path).num_rows for path in (folder / locations.STORE).glob("*/*.parquet"))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything up to `embed` has run."""
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (ingest, crop, split, embed):
            stage.run(settings(), 2)
    return folder


@pytest.fixture(scope="module")
def complete(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which augment has run too, with two workers and pictures kept."""
    folder = Path(shutil.copytree(embedded, tmp_path_factory.mktemp("augmented") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        augment.run(settings(augment__pictures="pictures"), 2)
    return folder


@pytest.fixture
def inside(complete: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(complete)
    return complete


@pytest.fixture
def fresh(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what embed left, to augment in."""
    folder = Path(shutil.copytree(embedded, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


def test_the_faces_name_their_encoders_how_they_were_cut_and_what_they_were_read_from(inside: Path) -> None:
    made = producer_of(locations.FACES)["settings"]
    assert made["encoders"].startswith("dlib")
    assert made["crop"] == producer_of(shards.path_of(locations.CROPS, 0))["settings"]
    read = {
        str(path): sha256(path.read_bytes()).hexdigest() for path in (locations.MANIFEST, locations.SPLITS)
    }
    assert made["sha256"] == read


def test_every_age_gets_its_training_faces_originals_first(inside: Path) -> None:
    balance = read_table(locations.BALANCE).to_pandas()
    assert len(balance) == 18
    assert balance["unfilled"].sum() == 0, "max_similarity is wide enough here"
    assert balance["total"].between(WANTED - 1, WANTED + 1).all()
    training = read_table(locations.FACES).to_pandas().query("split == 'train'")
    assert balance.set_index("bin")["originals"].to_dict() == training["target"].value_counts().to_dict()
    added = read_table(locations.AUGMENTED)["target"].to_pandas().value_counts()
    assert (added.sort_index().to_numpy() == balance.sort_values("bin")["augmented"].to_numpy()).all()


def test_faces_and_augmented_pictures_say_whom_they_show(inside: Path) -> None:
    known = {row["face_id"]: row["subject"] for row in read_table(locations.MANIFEST).to_pylist()}
    faces, augmented = read_table(locations.FACES), read_table(locations.AUGMENTED)
    assert None not in known.values()
    assert faces["subject"].to_pylist() == [known[face] for face in faces["face_id"].to_pylist()]
    assert augmented.num_rows
    assert augmented["subject"].to_pylist() == [known[face] for face in augmented["parent_id"].to_pylist()]


def test_validation_and_test_faces_are_never_touched(inside: Path) -> None:
    faces, augmented = read_table(locations.FACES).to_pandas(), read_table(locations.AUGMENTED).to_pandas()
    training = faces[faces["split"] == "train"].set_index("face_id")
    held_out = set(faces.loc[faces["split"] != "train", "face_id"])
    assert len(augmented) > 20
    assert len(held_out) > 20
    assert set(augmented["parent_id"]) <= set(training.index)
    assert not set(augmented["face_id"]) & set(faces["face_id"])
    assert set(augmented["split"]) == {"train"}
    assert (augmented["target"].to_numpy() == training.loc[augmented["parent_id"], "target"].to_numpy()).all()


def test_what_is_kept_lies_within_the_limits_by_its_own_vectors(inside: Path) -> None:
    faces, augmented = read_table(locations.FACES).to_pandas(), read_table(locations.AUGMENTED).to_pandas()
    own = np.stack(augmented["vector"]).astype(np.float64)
    parents = np.stack(faces.set_index("face_id").loc[augmented["parent_id"], "vector"]).astype(np.float64)
    cosine = (own * parents).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(parents, axis=1)
    np.testing.assert_allclose(augmented["similarity"], cosine, atol=1e-9)
    assert cosine.min() >= 0.6
    assert cosine.max() <= 0.995
    assert len(set(augmented["operation"])) > 3, "several operations take part"


def test_every_operation_is_measured_beside_the_papers_figures(inside: Path) -> None:
    measured = read_table(locations.CALIBRATION).to_pandas()
    assert len(measured) == 8
    assert (measured["count"] == 5).all()
    assert measured["table_1"].between(0.3, 1).all()
    assert measured["mean"].between(-1, 1).all()


def test_kept_pictures_are_those_whose_vectors_were_written(inside: Path) -> None:
    kept = read_table(Path("pictures/00000.parquet"))
    augmented = read_table(locations.AUGMENTED)
    assert kept["face_id"].to_pylist() == augmented["face_id"].to_pylist()
    assert kept["similarity"].to_pylist() == augmented["similarity"].to_pylist()
    pixels = np.asarray(Image.open(BytesIO(kept["image"][0]["bytes"].as_py())))
    points = np.array(kept["landmarks"][0].as_py(), np.float32)
    digest = sha256(repr(pixels.shape).encode() + pixels.tobytes() + points.tobytes()).hexdigest()
    assert digest == augmented["face_id"][0].as_py()


def test_one_worker_gives_the_same_bytes_as_two_and_keeps_no_pictures_unless_asked(
    fresh: Path, complete: Path
) -> None:
    augment.run(settings(), 1)
    ours = hashes()
    os.chdir(complete)
    assert hashes() == ours
    os.chdir(fresh)
    assert not Path("pictures").exists()


def test_a_killed_run_goes_on_to_the_same_bytes_without_encoding_twice(
    fresh: Path, complete: Path, embedded: Path, killed: Callable[..., None]
) -> None:
    with open("params.yaml", "w", encoding="utf-8") as file:
        YAML().dump(tree(), file)
    words = ["augment", "--workers", "2"]
    killed("from pipeline.__main__ import main; main()", words, f"*{locations.STORE}/*.parquet", finished=2)
    assert not locations.AUGMENTED.exists()
    survived = stored(fresh)
    assert survived > stored(embedded)
    resumed = augment.run(settings(), 2)
    assert resumed["newly encoded"] == stored(complete) - survived, "no vector is computed twice"
    ours = hashes()
    os.chdir(complete)
    assert hashes() == ours
    os.chdir(fresh)
    assert augment.run(settings(), 2)["newly encoded"] == 0


def test_an_age_that_cannot_be_filled_is_said_with_numbers(fresh: Path) -> None:
    summary = augment.run(
        settings(
            augment__max_similarity=0.601, augment__max_tries=1, augment__operations=[{"name": "colour"}]
        ),
        1,
    )
    assert summary["augmented"] == 0
    lacking = read_table(locations.BALANCE)
    assert pc.sum(lacking["unfilled"]).as_py() > 0
    for row in lacking.to_pylist():
        if row["unfilled"]:
            assert summary[f"age {row['bin']} lacks"] == row["unfilled"]


def test_nothing_is_augmented_where_nothing_is_wanted(fresh: Path) -> None:
    nothing = settings(augment__target_per_age=0, augment__calibration_faces=0)
    assert augment.run(nothing, 1) == {"augmented": 0, "why": "every age has its faces"}
    assert read_table(locations.AUGMENTED).num_rows == 0
    assert read_table(locations.CALIBRATION).num_rows == 0


def test_an_earlier_runs_pictures_go_where_nothing_is_wanted_any_more(fresh: Path) -> None:
    with PictureShards(Path("pictures"), {}) as kept:
        red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
        kept.add("face", "parent", "flip", 0.9, red, np.zeros((5, 2), np.float32))
    nothing = settings(augment__target_per_age=0, augment__calibration_faces=0, augment__pictures="pictures")
    assert augment.run(nothing, 1)["augmented"] == 0
    assert list(Path("pictures").iterdir()) == []


def test_operations_are_measured_where_they_are_applied(fresh: Path, complete: Path) -> None:
    half = [{"name": "flip", "probability": 0.01}, {"name": "zoom", "probability": 0.01}]
    summary = augment.run(settings(augment__target_per_age=0, augment__operations=half), 1)
    assert summary["augmented"] == 0
    measured = read_table(locations.CALIBRATION).to_pandas().set_index("operation")
    assert list(measured.index) == ["flip", "zoom(min_factor=2,max_factor=2)"]
    assert (measured["count"] == 5).all()
    certain = read_table(complete / locations.CALIBRATION).to_pandas().set_index("operation")
    assert measured["mean"].to_dict() == certain.loc[measured.index, "mean"].to_dict()


def test_pictures_are_not_written_among_files_of_somebody_else(fresh: Path) -> None:
    Path("album").mkdir()
    Path("album/holiday.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"album/holiday.jpg is not a shard of pictures"):
        augment.run(settings(augment__pictures="album"), 1)
    assert Path("album/holiday.jpg").exists()


def refuse(*_: object, **__: object) -> None:
    raise UserError("the last moment")


def test_crops_of_other_settings_stay_until_there_is_a_new_one(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in shards.paths(locations.CROPS)}
    monkeypatch.setattr("pipeline.faces.cropping.write_batches", refuse)
    with pytest.raises(UserError, match="the last moment"):
        crop.run(settings(crop__margin=0.4), 2)
    assert {path: path.read_bytes() for path in shards.paths(locations.CROPS)} == before


def test_faces_stay_where_too_many_are_alike(fresh: Path) -> None:
    before = locations.FACES.read_bytes(), locations.LEAKS.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.datasets.leaks.MOST_PAIRS", 3)
        with pytest.raises(UserError, match="raise the threshold"):
            embed.run(settings(embed__leak_threshold=0.1, encoder__combine="average"), 2)
    assert (locations.FACES.read_bytes(), locations.LEAKS.read_bytes()) == before
