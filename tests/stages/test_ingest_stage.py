"""Stage ingest where little or nothing of a data set can be used."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline import config
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import read_table
from pipeline.stages import ingest, locations

PROJECT = Path(__file__).resolve().parents[2]


def settings(reader: str, root: Path) -> Params:
    tree = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    tree["data"] = {"name": reader, "root": str(root), "settings": {}}
    return config.check(tree, Path("params.yaml"))


@pytest.mark.parametrize(
    ("table", "counts", "paths"),
    [
        ("path,target\ngone.jpg,12\na.jpg,old\n", "1 bad_target, 1 missing_file", ["a.jpg", "gone.jpg"]),
        ("path,target,gender\na.jpg,12\nb.jpg,13\n", "2 bad_row", [None, None]),
    ],
)
def test_a_data_set_without_a_usable_face_is_refused_and_its_rejects_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, counts: str, paths: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces").mkdir()
    Path("faces/labels.csv").write_text(table)
    said = rf"faces holds no usable face \({counts}\): .*; logs/ingest-rejects.parquet says why of each$"
    with pytest.raises(UserError, match=said):
        ingest.run(settings("csv", Path("faces")), 1)
    assert sorted(read_table(locations.REFUSED)["path"].to_pylist(), key=str) == paths
    assert not Path("data").exists()


def test_a_mistyped_root_keeps_what_an_earlier_run_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = {"1_12_0": [1.0] * 512, "2_13_0": [2.0] * 512}
    Path("vectors.json").write_text(json.dumps(vectors))
    summary = ingest.run(settings("vec2uage_json", Path("vectors.json")), 1)
    assert summary["targets"] == "12 to 13"
    written = (locations.MANIFEST, locations.READY_VECTORS, locations.INGEST_REJECTS)
    before = [path.read_bytes() for path in written]
    with pytest.raises(UserError, match="gone does not exist"):
        ingest.run(settings("csv", Path("gone")), 1)
    assert [path.read_bytes() for path in written] == before


def test_whoever_mends_a_table_is_told_that_dvc_would_bring_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = settings("vec2uage_json", Path("vectors.json"))

    def noted(vectors: dict[str, list[float]]) -> bool:
        Path("vectors.json").write_text(json.dumps(vectors))
        return "note" in ingest.run(wanted, 1)

    old, mended = {"1_12_0": [1.0] * 512}, {"1_13_0": [1.0] * 512}
    assert not noted(old), "DVC has run nothing yet"
    recorded = hashlib.md5(locations.MANIFEST.read_bytes()).hexdigest()
    outs = [{"path": "data/manifest.parquet", "hash": "md5", "md5": recorded}]
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"ingest": {"outs": outs}}}))
    assert not noted(old)
    assert noted(mended)
    assert ingest.run(wanted, 1)["note"] == (
        "dvc.lock has another manifest: if tables or pictures changed, go on with dvc repro -f ingest"
    )
    monkeypatch.setenv("DVC_STAGE", "ingest")
    assert not noted(mended), "DVC itself runs it, and records what it writes"
    monkeypatch.delenv("DVC_STAGE")
    for other in ("schema: '2.0'", "{", "stages: {ingest: {outs: [{path: x}]}}"):
        Path("dvc.lock").write_text(other)
        assert not noted(mended)


def test_the_rejects_of_vectors_are_written_where_none_is_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vectors.json").write_text('{"1_old": [1.0, 2.0]}')
    with pytest.raises(UserError, match="no usable vector"):
        ingest.run(settings("vec2uage_json", Path("vectors.json")), 1)
    assert read_table(locations.REFUSED).num_rows == 1
