"""The stage calibrate, and what evaluate and report make of it."""

import html
import json
import os
import re
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.torch import save_file

from pipeline import config as params
from pipeline.augmentation.augmented_tables import calibration_table
from pipeline.backbones.trained import METADATA_KEY
from pipeline.backbones.trunks import build_trunk
from pipeline.cli import export
from pipeline.cli.where import print_results
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import producer_of, read_table, vector_type, vectors_of, write_table
from pipeline.encoders import build
from pipeline.encoders.stored import StoredEncoders
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Table
from pipeline.faces import shards
from pipeline.faces.extract import crop_id
from pipeline.report.uncertainty_page import uncertainty_sections
from pipeline.serving.bundle import MODEL, load
from pipeline.serving.rows import judge
from pipeline.stages import calibrate, evaluate, find_lr, ingest, locations, report, train
from pipeline.stages.uncertain import measured_uncertainty
from pipeline.training.mlp.members import Members

PROJECT = Path(__file__).resolve().parents[2]
WIDTH = 6
FACES = 400
SMALL = {
    "train__optimizers": ["adam"],
    "train__policies": ["fixed"],
    "train__seeds": 3,
    "train__recipe__hidden": [8],
    "train__recipe__epochs": 6,
    "train__recipe__batch_size": 32,
    "train__adam__lr": 0.02,
    "evaluate__resamples": 50,
    "evaluate__baselines": ["mean"],
    "calibrate__policy": "fixed",
    "calibrate__views": 0,
    "calibrate__bands": [16, 21],
    "calibrate__min_faces": 20,
    "calibrate__swag__lr": 1e-3,
    "calibrate__swag__epochs": 4,
    "calibrate__swag__rank": 3,
    "calibrate__swag__samples": 6,
    "calibrate__quantile__seeds": 2,
    "calibrate__quantile__lr": 0.02,
}


def settings(**changes: Any) -> Params:
    """params.yaml with small networks; a change's double underscores are dots."""
    tree = params.plain(params.read_yaml(PROJECT / "params.yaml"))
    for key, value in (SMALL | changes).items():
        *path, last = key.split("__")
        place = tree
        for part in path:
            place = place[part]
        place[last] = value
    return params.check(tree, Path("params.yaml"))


def write_inputs() -> None:
    rng = np.random.default_rng(1)
    target = rng.integers(10, 27, FACES).astype(float)
    vectors = rng.normal(size=(FACES, WIDTH)).astype(np.float32)
    vectors[:, 0] += (target - 18) / 4
    faces = pa.table(
        {
            "face_id": [sha256(str(number).encode()).hexdigest() for number in range(FACES)],
            "target": target,
            "gender": [("female", "male")[number // 4 % 2] for number in range(FACES)],
            "split": [("train", "train", "validation", "test")[number % 4] for number in range(FACES)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(WIDTH)),
        }
    )
    write_table(faces, locations.FACES, "vec2age embed", {"encoders": "none"})
    none = faces.slice(0, 0).append_column("parent_id", pa.array([], pa.string()))
    drawn = {"augment": settings().augment.model_dump(exclude={"pictures"}), "seed": settings().seed}
    write_table(none, locations.AUGMENTED, "vec2age augment", drawn)
    write_data(settings())
    write_table(calibration_table([], (0.6, 0.98), {}), locations.CALIBRATION, "vec2age augment")
    write_table(pa.table({"bin": pa.array([], pa.int64())}), locations.BALANCE, "vec2age augment")
    write_table(ingest.NO_VECTORS, locations.READY_VECTORS, "vec2age ingest")
    write_table(Rejects().table(), locations.REJECTS, "vec2age split")


def write_data(wanted: Params) -> None:
    """The tables of ingest and split, as far as anything here reads them."""
    faces = read_table(locations.FACES, ["face_id", "split"])
    data = {"data": wanted.data.model_dump(), "ingest": wanted.ingest.model_dump()}
    write_table(faces.select(["face_id"]), locations.MANIFEST, "vec2age ingest", data)
    split = {"seed": wanted.seed, "split": wanted.split.model_dump()}
    write_table(faces, locations.SPLITS, "vec2age split", split)


def hashes(*folders: Path) -> dict[str, str]:
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything up to `evaluate` has run."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_inputs()
        find_lr.run(settings(), 1, optimizer="adam")
        train.run(settings(), 1, optimizer="adam", policy="fixed")
        calibrate.run(settings(), 1)
        evaluate.run(settings(), 1)
    return folder


@pytest.fixture
def inside(complete: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(complete)
    return complete


@pytest.fixture
def copy(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(complete, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


def test_a_second_run_gives_the_same_bytes_with_any_number_of_workers(copy: Path) -> None:
    before = hashes(locations.CALIBRATED, locations.TABLES)
    assert {Path(name).name for name in before} >= {
        "single.safetensors",
        "ensemble.safetensors",
        "swag.safetensors",
        "quantile.safetensors",
        "calibration.safetensors",
        "predictions.parquet",
        "quantiles.parquet",
        "calibration.parquet",
        "uncertainty.csv",
    }
    shutil.rmtree(locations.CALIBRATED)
    shutil.rmtree(locations.TABLES)
    calibrate.run(settings(), 2)
    evaluate.run(settings(), 2)
    assert hashes(locations.CALIBRATED, locations.TABLES) == before


def test_test_targets_play_no_part_in_calibration(copy: Path) -> None:
    before = {name: one for name, one in hashes(locations.CALIBRATED).items() if "safetensors" in name}
    tables = {path.name: read_table(path) for path in locations.CALIBRATED.glob("*.parquet")}
    faces = read_table(locations.FACES)
    wrong = np.where(np.array(faces["split"]) == "test", 99.0, np.array(faces["target"]))
    write_table(faces.set_column(1, "target", pa.array(wrong)), locations.FACES, "vec2age embed", {})
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    calibrate.run(settings(), 1)
    # the tables name the faces that they were made from, which are others now: their rows are the same
    again = {path.name: read_table(path) for path in locations.CALIBRATED.glob("*.parquet")}
    assert again == tables
    assert {
        name: one for name, one in hashes(locations.CALIBRATED).items() if "safetensors" in name
    } == before


def test_the_table_holds_every_method_raw_and_conformal_with_all_that_was_asked(inside: Path) -> None:
    table = pd.read_csv(locations.TABLES / "uncertainty.csv")
    assert len(table) == 4 * 3
    for level in ("50", "80", "90", "95"):
        assert table[f"coverage_{level}"].between(0, 1).all()
        assert (table[f"width_{level}"] > 0).all()
    conformal = table[~table["title"].str.contains("raw")]
    # 100 validation and 100 test faces: two standard deviations are some nine points
    np.testing.assert_allclose(conformal["coverage_90"], 0.9, atol=0.1)
    ensemble = read_table(locations.CALIBRATED / "predictions.parquet").to_pandas()
    ensemble = ensemble[ensemble["method"] == "ensemble"].set_index("face_id")["prediction"]
    faces = read_table(locations.FACES, ["face_id", "target", "split"]).to_pandas().set_index("face_id")
    test = faces[faces["split"] == "test"]
    expected = (ensemble[test.index] - test["target"]).abs().mean()
    row = table[table["title"] == "ensemble, raw"].iloc[0]
    assert row["mae"] == pytest.approx(expected, rel=1e-4)
    assert table["worst_90"].notna().all()
    assert set(pd.read_csv(locations.TABLES / "uncertainty_groups.csv")["grouping"]) == {"age", "gender"}
    under = pd.read_csv(locations.TABLES / "uncertainty_under.csv")
    assert under["fnr"].between(0, 1).all()
    assert (under["fnr_low"] <= under["fnr"]).all()


def test_metrics_show_uncertainty_beside_the_errors(inside: Path) -> None:
    metrics = json.loads(locations.METRICS.read_text())
    assert set(metrics["uncertainty"]) == {"single", "ensemble", "swag", "quantile"}
    assert set(metrics["uncertainty"]["quantile"]) == {"raw", "split", "cqr"}
    assert metrics["uncertainty"]["ensemble"]["local"]["coverage_90"] > 0.7
    assert "fixed" in metrics


def test_the_page_has_a_section_on_uncertainty_and_one_on_the_threshold(copy: Path) -> None:
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    report.run(settings(), 1)
    page = locations.PAGE.read_text(encoding="utf-8")
    assert 'id="calibrated-uncertainty"' in page
    assert 'id="under-18"' in page
    for name in ("coverage", "coverage_by_group", "pit", "under_roc", "under_reliability"):
        assert (locations.FIGURES / f"{name}.png").exists()


def test_without_a_threshold_nothing_is_said_of_it(copy: Path) -> None:
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    asked = settings(evaluate__threshold=None)
    evaluate.run(asked, 1)
    report.run(asked, 1)
    assert not (locations.TABLES / "uncertainty_under.csv").exists()
    assert "under-18" not in locations.PAGE.read_text(encoding="utf-8")
    assert "brier" not in locations.METRICS.read_text()


def spoilt(table: pa.Table, what: str) -> pa.Table:
    """A table with one column of another type, without it, or with a row that says nothing."""
    last = table.num_columns - 1
    field = table.schema.field(last)
    if what == "of another type":
        return table.set_column(last, field.name, pa.array(["x"] * table.num_rows))
    if what == "without":
        return table.drop_columns([field.name])
    if what == "empty":
        values = [None, *table[field.name].to_pylist()[1:]]
        nested = pa.types.is_nested(field.type)
        kind = pa.list_(pa.float32(), field.type.list_size) if nested else field.type
        return table.set_column(last, field.name, pa.array(values, kind))
    if what == "not finite":
        nested = pa.types.is_nested(field.type)
        first = [np.nan] * field.type.list_size if nested else np.nan
        values = pa.array([first, *table[field.name].to_pylist()[1:]], field.type)
        return table.set_column(last, pa.field(field.name, field.type, metadata=field.metadata), values)
    return table.slice(0, 0)


@pytest.mark.parametrize("name", ["predictions", "quantiles"])
@pytest.mark.parametrize("what", ["of another type", "without", "empty", "not finite", "no row"])
def test_what_calibrate_wrote_is_read_by_its_schema(copy: Path, name: str, what: str) -> None:
    path = locations.CALIBRATED / f"{name}.parquet"
    write_table(spoilt(read_table(path), what), path, "vec2age calibrate", producer_of(path)["settings"])
    with pytest.raises(UserError, match=r"models/calibrated|what '\w+' predicts of face"):
        measured_uncertainty(settings(), Settings())


def test_quantiles_that_are_gone_are_missed(copy: Path) -> None:
    (locations.CALIBRATED / "quantiles.parquet").unlink()
    said = (
        "models/calibrated holds no quantiles of 'quantile', which are calibrated there: run calibrate again"
    )
    with pytest.raises(UserError, match=said):
        measured_uncertainty(settings(), Settings())


def test_evaluate_says_where_nothing_was_calibrated(copy: Path) -> None:
    shutil.rmtree(locations.CALIBRATED)
    summary = evaluate.run(settings(), 1)
    assert summary["uncertainty"] == "not measured: run vec2age calibrate"


def test_too_few_validation_faces_are_said_and_the_errors_are_reported_all_the_same(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = calibrate.run(settings(calibrate__levels=[0.9, 0.999]), 1)
    assert summary["methods"] == 0
    assert "100 validation faces are too few to calibrate intervals of 99.9%: it takes 999" in summary["why"]
    assert list(locations.CALIBRATED.iterdir()) == [locations.UNCALIBRATED]
    why = f"{summary['why']}"
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    assert evaluate.run(settings(), 1)["uncertainty"] == f"not measured: {why}"
    report.run(settings(), 1)
    assert f"Not measured: {why}." in html.unescape(locations.PAGE.read_text())
    print_results()
    assert f"Nothing was calibrated: {why}" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=re.escape(f"nothing is calibrated that could be exported: {why}")):
        export.export(settings(), Path("bundle"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"calibrate__optimizer": "sgd"},
            "calibrate.optimizer is 'sgd', which train does not train: choose one of adam",
        ),
        (
            {"calibrate__policy": "found"},
            "calibrate.policy is 'found', which train does not train: choose one of fixed",
        ),
        (
            {"calibrate__network": "dldl_v2/vgg16"},
            "calibrate.network is 'dldl_v2/vgg16', which finetune does not train: choose one of mse/",
        ),
        ({"calibrate__groups": "shoe_size"}, "the faces have no group column 'shoe_size'"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_one_sentence(
    copy: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        calibrate.run(settings(**changes), 1)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"calibrate__levels": [0.9, 0.5]}, "levels must rise"),
        ({"calibrate__levels": [1.0]}, "parameter 'calibrate.levels.0' is 1.0"),
        ({"calibrate__bands": [18, 18]}, "bands must rise"),
        ({"calibrate__network": "dldl_v2"}, "parameter 'calibrate.network' is 'dldl_v2'"),
        ({"calibrate__swag__rank": 1}, "parameter 'calibrate.swag.rank' is 1"),
        ({"export__method": "views"}, "parameter 'export.method' is 'views'"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        settings(**changes)
    assert sentence in str(raised.value)


def test_groups_are_calibrated_by_themselves_and_what_is_left_out_is_said(copy: Path) -> None:
    summary = calibrate.run(settings(calibrate__groups="gender", calibrate__swag__lr=1e9), 1)
    assert "lower calibrate.swag.lr" in str(summary["left out: swag"])
    assert summary["left out: views"] == "calibrate.views is 0"
    table = read_table(locations.CALIBRATED / "calibration.parquet").to_pandas()
    assert set(table["group"]) == {"all", "female", "male"}
    assert not (locations.CALIBRATED / "swag.safetensors").exists()
    evaluate.run(settings(calibrate__groups="gender"), 1)


class Colours:
    """An encoder that is a plain function of the crop, of the width of the faces."""

    name = "colours"
    dim = WIDTH
    fingerprint = "colours/1"

    def encode(self, images: Any, landmarks: Any = None) -> Any:
        parts = np.array_split(images.reshape(len(images), -1).astype(np.float32), WIDTH, axis=1)
        return np.stack([part.mean(axis=1) / 100 for part in parts], axis=1)


def test_views_are_drawn_of_validation_and_test_faces_only(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = read_table(locations.FACES)
    rng = np.random.default_rng(5)
    encoder = Colours()
    rows = []
    for face_id in sorted(faces["face_id"].to_pylist())[:40]:
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)

        data, points = shards.encode(pixels, "png"), np.zeros((5, 2), np.float32)
        rows.append(
            {
                "face_id": face_id,
                "crop_id": crop_id(data, points),
                "image": {"bytes": data, "path": "x.png"},
                "landmarks": points.ravel(),
                "box": np.zeros(4, np.float32),
                "detector": "none",
                "score": 1.0,
                "faces": 1,
                **dict.fromkeys(shards.MEASURES, 0.0),
            }
        )
    write_table(pa.Table.from_pylist(rows, schema=shards.SCHEMA), shards.path_of(locations.CROPS, 0), "crop")

    monkeypatch.setattr(calibrate, "settled_encoders", lambda params: ([encoder], ["as it is"]))
    own = StoredEncoders([encoder], locations.STORE)
    for batch in shards.iterate(locations.CROPS):
        own(batch.column("crop_id").to_pylist(), *shards.arrays(batch))
    wanted = settings(calibrate__views=2, augment__operations=[{"name": "flip"}, {"name": "zoom"}],
                      augment__min_similarity=-1.0, augment__max_similarity=1.0)  # fmt: skip
    views, said = calibrate.augmented_views(wanted, faces, 1)
    assert views is not None
    split_of = dict(zip(faces["face_id"].to_pylist(), faces["split"].to_pylist(), strict=True))
    parents: Sequence[str] = views["parent_id"].to_pylist()
    cropped = {row["face_id"] for row in rows if split_of[row["face_id"]] != "train"}
    assert set(parents) == cropped
    assert views.num_rows == 2 * len(cropped)
    assert said == f"{views.num_rows} drawn, 0 not to be had"
    again, _ = calibrate.augmented_views(wanted, faces, 2)
    assert again is not None
    assert again.equals(views)
    summary = calibrate.run(wanted, 1)
    assert summary["views"] == said
    assert "views" in read_table(locations.CALIBRATED / "predictions.parquet")["method"].to_pylist()


def test_the_ensemble_kept_for_export_is_without_the_diverged(inside: Path) -> None:
    ensemble = Members.load(locations.CALIBRATED / "ensemble.safetensors")
    single = Members.load(locations.CALIBRATED / "single.safetensors")
    scores = read_table(locations.run_folder("adam", "fixed") / "scores.parquet").to_pandas()
    assert len(ensemble) == (~scores["diverged"]).sum()
    assert single.seeds == (scores.loc[scores["val_mae"].idxmin(), "seed"],)


def test_export_packs_what_was_calibrated_and_the_bundle_says_the_same_of_a_face(copy: Path) -> None:
    summary = export.export(settings(), Path("bundle"), onnx=False)
    found = load(Path("bundle"), pictures=False)
    assert summary["id"] == found.id
    assert summary["models"] == 3
    faces = read_table(locations.FACES)
    table = read_table(locations.CALIBRATED / "predictions.parquet").to_pandas()
    expected = table[table["method"] == "ensemble"].set_index("face_id")
    judged = faces.filter(pa.compute.not_equal(faces["split"], "train"))
    rows = judge(found, vectors_of(judged))
    wanted = expected.loc[judged["face_id"].to_pylist()]
    np.testing.assert_allclose([row["prediction"] for row in rows], wanted["prediction"], atol=1e-3)
    np.testing.assert_allclose([row["spread"] for row in rows], wanted["spread"], atol=1e-3)
    target, split = np.array(judged["target"]), np.array(judged["split"])
    held = [
        row["lower"] <= age <= row["upper"]
        for row, age, part in zip(rows, target, split, strict=True)
        if part == "test"
    ]
    table = pd.read_csv(locations.TABLES / "uncertainty.csv")
    claimed = table.loc[table["title"] == "ensemble, locally weighted conformal", "coverage_90"].iloc[0]
    assert np.mean(held) == pytest.approx(claimed, abs=0.011), "what was measured is what is served"
    about = found.described.model_dump()
    assert about["data"]["faces"] == {"train": 200, "validation": 100, "test": 100}
    assert set(about["data"]["sha256"]) >= {"embeddings/faces.parquet"}
    assert (about["level"], about["threshold"], about["encoder"]["fingerprints"]) == (0.9, 18, ())
    assert json.loads(Path("bundle/params.json").read_text())["seed"] == 20201
    assert "uncertainty" in json.loads(Path("bundle/metrics.json").read_text())
    card = Path("bundle/MODEL_CARD.md").read_text()
    assert "| gender | female |" in card
    assert "| coverage_90 |" in card
    before = hashes(Path("bundle"))
    export.export(settings(), Path("bundle"), onnx=False)
    assert hashes(Path("bundle")) == before


@pytest.mark.parametrize("method", ["single", "swag", "quantile"])
def test_every_method_can_be_exported(copy: Path, method: str) -> None:
    kind = "cqr" if method == "quantile" else "split"
    export.export(settings(export__method=method, export__kind=kind), Path("bundle"), onnx=False)
    rows = judge(load(Path("bundle"), pictures=False), vectors_of(read_table(locations.FACES)))
    assert all(row["lower"] <= row["prediction"] <= row["upper"] for row in rows)


def test_where_groups_are_columns_the_widest_interval_is_served(copy: Path) -> None:
    grouped = settings(calibrate__groups="gender")
    calibrate.run(grouped, 1)
    evaluate.run(grouped, 1)
    export.export(grouped, Path("bundle"), onnx=False)
    found = load(Path("bundle"), pictures=False)
    x = vectors_of(read_table(locations.FACES))
    said = found.method(x)
    widest = np.array([row["upper"] - row["lower"] for row in judge(found, x)])
    for name in ("female", "male", "all"):
        lower, upper = found.calibration.bounds(said, np.full(len(x), name))
        assert (widest >= (upper - lower)[:, 2] - 1e-3).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"export__kind": "cqr"}, "export asks for ensemble cqr, which was not calibrated: choose one of"),
        (
            {"export__level": 0.7, "calibrate__levels": [0.5, 0.7]},
            "export.level is 0.7, which was not calibrated: choose one of 0.5, 0.8",
        ),
    ],
)
def test_an_export_that_cannot_be_had_is_one_sentence(
    copy: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        export.export(settings(**changes), Path("bundle"))
    assert sentence in str(raised.value)


def test_export_without_calibration_names_the_stage(copy: Path) -> None:
    shutil.rmtree(locations.CALIBRATED)
    with pytest.raises(UserError, match="run the stage that writes it"):
        export.export(settings(), Path("bundle"))


def embed_as(encoders: str) -> None:
    """The same faces, as another `embed` would have written them."""
    faces = read_table(locations.FACES)
    settings = {"encoders": encoders, "combine": "concatenate"}
    write_table(faces, locations.FACES, "vec2age embed", settings)


LITTLE: dict[str, Any] = {"calibrate__swag__members": 0, "calibrate__quantile__seeds": 0}
STRANGER = "dlib/0f0f/150/pre1/fp32/pad0.25+margin0.25"


def test_export_refuses_encoders_that_are_not_those_of_the_vectors(copy: Path) -> None:
    embed_as(STRANGER)
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    calibrate.run(settings(), 1)
    evaluate.run(settings(), 1)
    with pytest.raises(UserError, match=f"trained on vectors of {re.escape(STRANGER)}, the encoder here is"):
        export.export(settings(), Path("bundle"))
    assert not Path("bundle").exists()


@pytest.mark.parametrize("name", ["faces", "augmented"])
def test_models_of_vectors_that_have_changed_since_are_neither_calibrated_nor_exported(
    copy: Path, name: str
) -> None:
    path = Path(f"embeddings/{name}.parquet")
    write_table(read_table(path), path, "vec2age embed", {"encoders": STRANGER, "combine": "average"})
    with pytest.raises(UserError) as raised:
        export.export(settings(), Path("bundle"), onnx=False)
    assert str(raised.value) == (
        f"models/calibrated was made from another {path} than there is now: run vec2age calibrate again "
        "(dvc repro)"
    )
    assert not Path("bundle").exists()
    with pytest.raises(UserError, match=r"^models/fixed/adam was made from another .* run vec2age train"):
        calibrate.run(settings(), 1)


def test_models_that_do_not_say_what_they_were_made_from_are_refused(copy: Path) -> None:
    path = locations.run_folder("adam", "fixed") / "scores.parquet"
    write_table(read_table(path), path, "vec2age train", {})
    with pytest.raises(UserError, match=r"models/fixed/adam does not say what vectors it was made from"):
        calibrate.run(settings(), 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"calibrate__groups": "gender"},
            "calibrate.groups is 'gender', models/calibrated was made with",
        ),
        (
            {"calibrate__bands": [16]},
            "calibrate.bands is [16.0], models/calibrated was made with [16",
        ),
        ({"calibrate__levels": [0.9]}, "calibrate.levels is [0.9], models/calibrated was made with [0.5, "),
    ],
)
def test_export_refuses_settings_of_calibrate_that_have_changed_since(
    copy: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        export.export(settings(**changes), Path("bundle"), onnx=False)
    assert sentence in str(raised.value)
    assert str(raised.value).endswith("run vec2age calibrate again (dvc repro)")


EARLY = "ingest split augment"
STALE: list[tuple[dict[str, Any], str, str]] = [
    (
        {"data__settings": {"per_age": 5}},
        "data.settings.per_age is 5, data/manifest.parquet was made with 40",
        "ingest",
    ),
    (
        {"ingest__max_target": 9.0},
        "ingest.max_target is 9.0, data/manifest.parquet was made with None",
        "ingest",
    ),
    ({"seed": 7}, "seed is 7, data/splits.parquet was made with 20201", "split"),
    ({"split__test": 0.3}, "split.test is 0.3, data/splits.parquet was made with 0.2", "split"),
    (
        {"augment__max_tries": 3},
        "augment.max_tries is 3, embeddings/augmented.parquet was made with 20",
        "augment",
    ),
    (
        {"train__adam__lr": 0.5},
        "train.adam.lr is 0.5, models/find_lr/adam/fixed.parquet was made with 0.02",
        "find_lr --optimizer adam",
    ),
    (
        {"train__recipe__epochs": 3},
        "train.recipe.epochs is 3, models/fixed/adam was made with 6",
        "train --optimizer adam --policy fixed",
    ),
    (
        {"train__balance__column": "gender"},
        "train.balance.column is 'gender', models/fixed/adam was made with None",
        "train --optimizer adam --policy fixed",
    ),
    (
        {"calibrate__swag__rank": 4},
        "calibrate.swag.rank is 4, models/calibrated was made with 3",
        "calibrate",
    ),
    (
        {"evaluate__threshold": 16},
        "evaluate.threshold is 16.0, reports/metrics.json was made with 18.0",
        "evaluate",
    ),
    (
        {"report__unit": "points"},
        "report.unit is 'points', reports/metrics.json was made with 'years'",
        "evaluate",
    ),
]


@pytest.mark.parametrize(("changes", "sentence", "stage"), STALE)
def test_export_refuses_a_setting_that_has_changed_since_anything_was_made_with_it(
    copy: Path, changes: dict[str, Any], sentence: str, stage: str
) -> None:
    more = " and what follows it" if stage in EARLY.split() else ""
    with pytest.raises(UserError) as raised:
        export.export(settings(**changes), Path("bundle"), onnx=False)
    assert str(raised.value) == f"{sentence}: run vec2age {stage}{more} again (dvc repro)"
    assert not Path("bundle").exists()


def test_export_takes_changed_settings_once_the_stages_ran_again(copy: Path) -> None:
    changed = settings(train__recipe__epochs=3)
    train.run(changed, 1, optimizer="adam", policy="fixed")
    with pytest.raises(UserError, match=r"^train.recipe.epochs is 3, models/calibrated was made with 6: run"):
        export.export(changed, Path("bundle"), onnx=False)
    calibrate.run(changed, 1)
    with pytest.raises(UserError, match=r"^reports/metrics.json was measured of another models/calibrated"):
        export.export(changed, Path("bundle"), onnx=False)
    evaluate.run(changed, 1)
    export.export(changed, Path("bundle"), onnx=False)
    assert json.loads(Path("bundle/params.json").read_text())["train"]["recipe"]["epochs"] == 3


def test_export_refuses_models_that_were_trained_again_after_the_calibration(copy: Path) -> None:
    train.run(settings(train__recipe__epochs=3), 1, optimizer="adam", policy="fixed")
    path = locations.run_folder("adam", "fixed") / "scores.parquet"
    made = producer_of(path)["settings"] | {"epochs": 6}
    write_table(read_table(path), path, "vec2age train", made)
    with pytest.raises(UserError, match=r"^models/fixed/adam holds other models than models/calibrated was"):
        export.export(settings(), Path("bundle"), onnx=False)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (locations.CALIBRATED / "calibration.parquet", "models/calibrated does not say what seed was then"),
        (
            locations.BASELINES / "settings.parquet",
            "reports/metrics.json does not say what evaluate was then",
        ),
    ],
)
def test_export_refuses_what_does_not_say_how_it_was_made(copy: Path, path: Path, said: str) -> None:
    made = producer_of(path)
    older = {key: value for key, value in made["settings"].items() if key not in ("evaluate", "recipe")}
    if path.name == "calibration.parquet":
        del older["seed"]
    write_table(read_table(path), path, made["producer"], older)
    with pytest.raises(UserError, match=f"^{said}: run {made['producer']} again"):
        export.export(settings(), Path("bundle"), onnx=False)


def test_export_refuses_crops_of_other_settings_than_those_of_now(copy: Path) -> None:
    cut = settings().crop.model_dump() | {"detector_settings": {}}
    made = {"encoders": "none", "combine": "concatenate", "crop": cut}
    write_table(read_table(locations.FACES), locations.FACES, "vec2age embed", made)
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    calibrate.run(settings(), 1)
    evaluate.run(settings(), 1)
    for changes, sentence in (
        (
            {"crop__max_pixels": 1000},
            "crop.max_pixels is 1000, data/crops was made with 50000000: run vec2age crop",
        ),
        (
            {"encoder__combine": "average"},
            "encoder.combine is 'average', embeddings/faces.parquet was made with",
        ),
    ):
        with pytest.raises(UserError, match=f"^{sentence}"):
            export.export(settings(**changes), Path("bundle"), onnx=False)
    export.export(settings(), Path("bundle"), onnx=False)


def test_groups_are_measured_as_they_were_calibrated_whatever_params_say_by_now(copy: Path) -> None:
    grouped = settings(calibrate__groups="gender")
    calibrate.run(grouped, 1)
    wanted = Settings(resamples=20)
    before = measured_uncertainty(grouped, wanted)
    after = measured_uncertainty(settings(calibrate__groups="prediction"), wanted)
    assert before is not None
    assert after is not None
    pd.testing.assert_frame_equal(after.methods, before.methods)


def test_coverage_and_errors_are_over_subjects_where_they_are_known(copy: Path) -> None:
    wanted = Settings(resamples=20)
    before = measured_uncertainty(settings(), wanted)
    faces = read_table(locations.FACES)
    who = pa.array([f"s{target:g}" for target in faces["target"].to_pylist()])
    write_table(faces.append_column("subject", who), locations.FACES, "vec2age embed", {"encoders": "none"})
    after = measured_uncertainty(settings(), wanted)
    assert before is not None
    assert after is not None
    assert set(after.groups["grouping"]) == set(before.groups["grouping"]) == {"age", "gender"}
    found, earlier = after.methods.set_index("title"), before.methods.set_index("title")
    for name in ("mae", "coverage_90", "fnr", "cut_fnr"):
        assert found[name].to_list() == earlier[name].to_list()
    for name in ("mae_low", "mae_high", "low_90", "high_90", "fnr_high", "cut_fnr_low", "cut_fpr_high"):
        assert not found[name].equals(earlier[name]), name
    widths = [(one["mae_high"] - one["mae_low"]).mean() for one in (earlier, found)]
    assert widths[1] > 1.2 * widths[0], "targets far from the mean are predicted worse"
    assert not after.groups["low"].equals(before.groups["low"])
    assert not after.reliability["low"].equals(before.reliability["low"])


def test_a_bundle_names_the_data_that_its_vectors_were_made_from(copy: Path) -> None:
    made = {
        str(path): sha256(path.read_bytes()).hexdigest() for path in (locations.MANIFEST, locations.SPLITS)
    }
    write_table(read_table(locations.FACES), locations.FACES, "vec2age embed", {"sha256": made})
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    calibrate.run(settings(), 1)
    evaluate.run(settings(), 1)
    export.export(settings(), Path("bundle"), onnx=False)
    own = {
        str(path): sha256(path.read_bytes()).hexdigest() for path in (locations.FACES, locations.AUGMENTED)
    }
    assert load(Path("bundle"), pictures=False).described.data.sha256 == made | own
    later = read_table(locations.SPLITS).slice(1)
    write_table(later, locations.SPLITS, "vec2age split", producer_of(locations.SPLITS)["settings"])
    with pytest.raises(
        UserError, match=r"^data/splits.parquet is another than when .* run vec2age embed and"
    ):
        export.export(settings(), Path("bundle"), onnx=False)


def test_an_exported_bundle_holds_the_network_that_encodes_and_no_place_of_this_machine(copy: Path) -> None:
    trunk = build_trunk("test_resnet")
    tensors = {f"trunk.{key}": tensor.contiguous() for key, tensor in trunk.state_dict().items()}
    look = {"framing": "crop", "size": 32, "padding": None, "resize": None}
    told = {"backbone": "test_resnet", "backbone_settings": {}, "look": look, "width": trunk.width}
    save_file(tensors, copy / "own.safetensors", {METADATA_KEY: json.dumps(told)})
    own = {"weights": str(copy / "own.safetensors"), "sha256": None}
    wanted = settings(
        **LITTLE,
        data__root=str(copy / "pictures"),
        encoder__names=["finetuned"],
        encoder__views=[{"mirror": False, "padding": None}],
        encoder__finetuned=own,
    )
    encoder = build("finetuned", margin=wanted.crop.margin, **own)
    embed_as(encoder.fingerprint)
    write_data(wanted)
    train.run(wanted, 1, optimizer="adam", policy="fixed")
    calibrate.run(wanted, 1)
    evaluate.run(wanted, 1)
    export.export(wanted, Path("bundle"), onnx=False)
    for name in ("bundle.json", "params.json"):
        assert str(copy) not in (copy / "bundle" / name).read_text()
    (copy / "own.safetensors").unlink()
    (found,) = load(Path("bundle"), pictures=False).encoders
    assert found.fingerprint == encoder.fingerprint
    assert np.isfinite(found.encode(np.zeros((1, 48, 48, 3), np.uint8))).all()


NETWORKS = Path("models/cnn/dldl_v2/resnet10t")
WITH_NETWORKS = {"calibrate__network": "dldl_v2/resnet10t", **LITTLE}


def write_networks(labels: list[float] | None, **columns: Any) -> None:
    """What finetune writes of two networks that see through noise; `columns` replace what it says."""
    faces = read_table(locations.FACES).to_pandas()
    judged = faces[faces["split"] != "train"].sample(frac=1, random_state=1)
    rng = np.random.default_rng(2)
    values = np.arange(5.0, 32.0)
    parts = []
    for member in range(2):
        centre = judged["target"].to_numpy() + rng.normal(0, 4, len(judged))
        p = np.exp(-((values - centre[:, None]) ** 2) / 2)
        p = (p / p.sum(1, keepdims=True)).astype(np.float32)
        table = {
            "member": np.full(len(judged), member),
            "face_id": judged["face_id"],
            "split": judged["split"],
            "column": ["target"] * len(judged),
            "target": judged["target"].astype(np.float32),
            "prediction": p @ values,
            "distribution": pa.FixedSizeListArray.from_arrays(p.ravel(), type=vector_type(len(values))),
        }
        parts.append(pa.table(table | columns))
    write_table(
        pa.concat_tables(parts), NETWORKS / "predictions.parquet", "vec2age finetune", {"labels": labels}
    )


def test_distributions_of_whole_networks_are_calibrated_and_reported_like_any_method(
    copy: Path,
) -> None:
    write_networks(list(np.arange(5.0, 32.0)))
    wanted = settings(**WITH_NETWORKS)
    assert calibrate.run(wanted, 1)["methods"] == "single, ensemble, network"
    assert not (locations.CALIBRATED / "network.safetensors").exists(), (
        "vectors are not what it predicts from"
    )
    told = read_table(NETWORKS / "predictions.parquet").to_pandas().groupby("face_id")["prediction"].mean()
    said = read_table(locations.CALIBRATED / "predictions.parquet").to_pandas()
    said = said[said["method"] == "network"].set_index("face_id")["prediction"]
    assert len(said) == FACES / 2
    np.testing.assert_allclose(said, told[said.index], rtol=1e-5)
    found = measured_uncertainty(wanted, Settings(resamples=20, threshold=18.0, target="age", unit="years"))
    assert found is not None
    own = found.methods[found.methods["method"] == "network"].set_index("kind")
    assert list(own.index) == ["raw", "split", "cqr"]
    # networks that are sure of a noise of one year, and err by more: raw intervals are too narrow
    assert own.loc["raw", "coverage_90"] < 0.85
    np.testing.assert_allclose(own.loc[["split", "cqr"], "coverage_90"], 0.9, atol=0.1)
    assert own["fnr"].between(0, 1).all()
    section, under = uncertainty_sections(found)
    titles = [
        title for block in (*section.blocks, *under.blocks) if isinstance(block, Table)
        for title in block.frame["title"]
    ]  # fmt: skip
    assert titles.count("whole networks, label distributions, conformalised quantiles") >= 4


@pytest.mark.parametrize(
    ("labels", "columns", "sentence"),
    [
        (
            None,
            {},
            "models/cnn/dldl_v2/resnet10t predicts no distribution: name a run with a loss over",
        ),
        ([*range(26), 99.0], {}, "the labels of models/cnn/dldl_v2/resnet10t are not evenly spaced"),
        ([*range(5, 32)], {"face_id": ["x"] * 200}, "says nothing of 200 of 200 validation and test faces"),
        ([*range(5, 32)], {"split": ["test"] * 200}, "was trained on another split than there is now"),
        ([*range(5, 32)], {"target": [1.0] * 200}, "does not predict the target of the faces' vectors"),
    ],
)
def test_networks_that_do_not_belong_to_these_faces_are_refused(
    copy: Path, labels: list[float] | None, columns: dict[str, Any], sentence: str
) -> None:
    write_networks(labels, **columns)
    with pytest.raises(UserError) as raised:
        calibrate.asked_networks(settings(**WITH_NETWORKS), read_table(locations.FACES))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("diverged", "sentence"),
    [
        ([], "the data set holds no pictures to train whole networks on"),
        (
            ["it became nan: lower the learning rate", "it became inf"],
            "every network of models/cnn/dldl_v2/resnet10t diverged: it became nan: lower the learning rate",
        ),
    ],
)
def test_why_networks_say_nothing_is_told(copy: Path, diverged: list[str], sentence: str) -> None:
    write_networks(None)
    empty = read_table(NETWORKS / "predictions.parquet").slice(0, 0)
    write_table(empty, NETWORKS / "predictions.parquet", "vec2age finetune", {})
    scores = pa.table({"diverged": pa.array(diverged, pa.string())})
    write_table(scores, NETWORKS / "scores.parquet", "vec2age finetune", {})
    said, why = calibrate.asked_networks(settings(**WITH_NETWORKS), read_table(locations.FACES))
    assert (said, why) == ({}, {"network": sentence})


def test_a_folder_may_have_a_name_that_is_not_utf8(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfcr alle"))
    monkeypatch.chdir(shutil.copytree(complete, folder))
    before = hashes(locations.CALIBRATED, locations.TABLES)
    calibrate.run(settings(), 1)
    evaluate.run(settings(), 1)
    assert hashes(locations.CALIBRATED, locations.TABLES) == before
    place = folder / folder.name
    export.export(settings(), place)
    same = Path(shutil.copytree(place, tmp_path / "bundle"))
    assert Members.load(place / MODEL).seeds == Members.load(same / MODEL).seeds
