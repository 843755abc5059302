"""Every stage of dvc.yaml refuses without touching what an earlier run wrote."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.tables import vector_type, write_table
from pipeline.stages import locations
from pipeline.stages.running import results, run_stage

PROJECT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]
ITEMS = {"optimizer": "adam", "policy": "fixed", "loss": "cross_entropy", "backbone": "resnet10t"}
CHANGES = (
    "data.name=vectors",
    "data.root=input.parquet",
    "data.settings={}",
    "split.per_target=4",
    "calibrate.optimizer=adam",
    "calibrate.policy=fixed",
    "calibrate.views=0",
    "calibrate.network=null",
    "train.policies=[fixed]",
    "calibrate.swag.epochs=2",
    "calibrate.swag.samples=3",
    "calibrate.quantile.seeds=1",
    "finetune.losses=[cross_entropy]",
    "finetune.variants={cross_entropy: {loss: mse}}",
    "finetune.backbones=[resnet10t]",
    "classify.losses=[cross_entropy]",
    "classify.images.name=fer2013",
    "classify.images.root=fer2013.csv",
    "classify.epochs=1",
)


SLOW = ("evaluate", "report")
"""They read nearly all there is, and do without some of it: a run each."""
QUICK = tuple(name for name in STAGES if name not in SLOW)
ALL_FILES = pytest.mark.skipif(os.environ.get("CHAOS") != "1", reason="minutes: make chaos runs it")


def options(name: str) -> dict[str, str]:
    return {item: ITEMS[item] for item in STAGES[name].get("matrix", {})}


def contents(name: str) -> dict[Path, bytes]:
    """Every file that a stage wrote."""
    places = results(name, options(name))
    return {
        path: path.read_bytes() for place in places for path in (place, *place.rglob("*")) if path.is_file()
    }


def write_sources() -> None:
    rng = np.random.default_rng(1)
    target = np.tile(np.arange(10.0, 20.0), 12)
    vectors = rng.normal(size=(120, 6)).astype(np.float32)
    faces = pa.table(
        {
            "face_id": [f"{number:064x}" for number in range(120)],
            "target": target,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(6)),
        }
    )
    write_table(faces, Path("input.parquet"), "somebody")
    lines = ["emotion,pixels,Usage"]
    for number, usage in itertools.product(range(14), ("Training", "PublicTest", "PrivateTest")):
        lines.append(f"{number % 7},{' '.join(str(one) for one in rng.integers(0, 256, 2304))},{usage}")
    Path("fer2013.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def complete(make_project: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run."""
    folder = make_project(tmp_path_factory.mktemp("all"), *CHANGES)
    shutil.copy(PROJECT / "dvc.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_sources()
        for name in (*QUICK, *SLOW):
            run_stage(name, 1, **options(name))
    return folder


@pytest.fixture
def again(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(complete, tmp_path / "run", symlinks=True))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_until_its_first_result_takes_its_name_a_stage_touches_none(
    again: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    places = [again / path for path in results(name, options(name))]
    assert all(place.exists() for place in places)
    before = contents(name)
    met = []

    def refusing(call: Callable[..., None]) -> Callable[..., None]:
        def rename(source: Any, target: Any, **more: Any) -> None:
            for path in (Path(os.fspath(source)).absolute(), Path(os.fspath(target)).absolute()):
                if any(path == place or place in path.parents for place in places) and not met:
                    met.append(path)
                    raise UserError("the last moment")
            call(source, target, **more)

        return rename

    monkeypatch.setattr(tables, "_exchanged", lambda one, other: False)  # but by renaming, which is watched
    monkeypatch.setattr(os, "replace", refusing(os.replace))
    monkeypatch.setattr(os, "rename", refusing(os.rename))
    with pytest.raises(UserError) as raised:
        run_stage(name, 1, **options(name))
    # crops there are none of: the data set holds vectors
    stays = ", ".join(str(path) for path in results(name, options(name)) if path != locations.CROPS)
    assert str(raised.value) == f"the last moment; what an earlier run wrote stays: {stays}"
    assert contents(name) == before


def read_by(name: str) -> Iterator[Path]:
    """What a stage reads of other stages, and of the user."""
    values = ITEMS | {"calibrate.policy": "fixed", "calibrate.optimizer": "adam"}
    for text in STAGES[name]["deps"]:
        for key, value in values.items():
            text = text.replace(f"${{item.{key}}}", value).replace(f"${{{key}}}", value)
        if not text.startswith("pipeline/"):
            yield from (path for path in (Path(text), *sorted(Path(text).rglob("*"))) if path.is_file())
    if name == "ingest":
        yield Path("input.parquet")
    if name == "classify":
        yield Path("fer2013.csv")


@pytest.mark.parametrize("damage", ["absent", "garbled"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=ALL_FILES) for name in SLOW)])
def test_whatever_it_cannot_read_a_stage_that_refuses_leaves_its_results(
    again: Path, name: str, damage: str
) -> None:
    own = contents(name)
    refused = 0
    for path in [path for path in read_by(name) if path not in own]:
        before, sound = contents(name), path.read_bytes()
        if damage == "absent":
            path.unlink()
        else:
            path.write_bytes(b"garbled")
        said = None
        try:
            run_stage(name, 1, **options(name))
        except UserError as error:
            said = str(error)
        if said is not None:
            refused += 1
            assert "; what an earlier run wrote stays: " in said, path
            assert contents(name) == before, path
        path.write_bytes(sound)
    assert refused
