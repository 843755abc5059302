"""The stages find_lr, train, evaluate and report, from a small table of vectors to the page."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipeline import config
from pipeline.augmentation.augmented_tables import calibration_table
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import read_table, vector_type, write_table
from pipeline.stages import evaluate, find_lr, locations, report, train
from pipeline.stages.running import run_stage
from pipeline.training.mlp.members import Members

PROJECT = Path(__file__).resolve().parents[2]
WIDTH = 6
FACES, AUGMENTED = 150, 20
OPTIMIZERS, POLICIES = ("adam", "swa"), ("fixed", "found")


def face_table(count: int, seed: int, splits: tuple[str, ...]) -> pa.Table:
    rng = np.random.default_rng(seed)
    target = rng.integers(10, 26, count).astype(float)
    vectors = rng.normal(size=(count, WIDTH)).astype(np.float32)
    vectors[:, 0] += (target - 18) / 4
    return pa.table(
        {
            "face_id": [sha256(f"{seed} {number}".encode()).hexdigest() for number in range(count)],
            "target": target,
            "split": [splits[number % len(splits)] for number in range(count)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(WIDTH)),
        }
    )


def write_inputs() -> None:
    faces = face_table(FACES, 1, ("train", "train", "train", "validation", "test"))
    write_table(faces, locations.FACES, "vec2age embed", {"encoders": "none"})
    augmented = face_table(AUGMENTED, 2, ("train",))
    parents = faces["face_id"].filter(pa.compute.equal(faces["split"], "train")).slice(0, AUGMENTED)
    augmented = augmented.append_column("parent_id", parents)
    augmented = augmented.append_column("operation", pa.array(["flip"] * AUGMENTED))
    augmented = augmented.append_column("similarity", pa.array([0.8] * AUGMENTED))
    write_table(augmented, locations.AUGMENTED, "vec2age augment")
    write_table(calibration_table([], (0.6, 0.98), {}), locations.CALIBRATION, "vec2age augment")
    write_table(pa.table({"bin": pa.array([], pa.int64())}), locations.BALANCE, "vec2age augment")
    rejects = Rejects()
    rejects.add(stage="crop", reason="no_face", detail="none was found", path="x.jpg")
    write_table(rejects.table(), locations.REJECTS, "vec2age split")


def settings(**changes: Any) -> Params:
    """params.yaml with small networks and few seeds; a change's double underscores are dots."""
    tree = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    small = {
        "train__optimizers": list(OPTIMIZERS),
        "train__seeds": 3,
        "train__recipe__hidden": [8],
        "train__recipe__epochs": 4,
        "train__recipe__batch_size": 16,
        "train__swa__swa_lr__fixed": 0.001,
        "train__adam__lr": 0.01,
        "evaluate__resamples": 50,
        "evaluate__baselines": ["mean", "ridge"],
    }
    for key, value in (small | changes).items():
        *path, last = key.split("__")
        place = tree
        for part in path:
            place = place[part]
        place[last] = value
    return config.check(tree, Path("params.yaml"))


def run_all(workers: int = 1) -> None:
    for optimizer in OPTIMIZERS:
        find_lr.run(settings(), workers, optimizer=optimizer)
        for policy in POLICIES:
            train.run(settings(), workers, optimizer=optimizer, policy=policy)
    evaluate.run(settings(), workers)


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
        run_all()
    return folder


@pytest.fixture
def inside(complete: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, to read from."""
    monkeypatch.chdir(complete)
    return complete


@pytest.fixture
def copy(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to change."""
    folder = Path(shutil.copytree(complete, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


def test_a_second_run_gives_the_same_bytes_with_any_number_of_workers(copy: Path) -> None:
    before = hashes(locations.MODELS, Path("reports"))
    shutil.rmtree(locations.MODELS)
    shutil.rmtree("reports")
    run_all(workers=2)
    after = hashes(locations.MODELS, Path("reports"))
    assert len(before) > 20, "models, baselines, tables, metrics"
    assert after == before


def test_all_optimizers_and_policies_share_their_seeds(inside: Path) -> None:
    seeds = [
        read_table(locations.run_folder(optimizer, policy) / "scores.parquet")["seed"].to_pylist()
        for optimizer in OPTIMIZERS
        for policy in POLICIES
    ]
    assert len(set(seeds[0])) == 3
    assert all(others == seeds[0] for others in seeds)


def test_listed_seeds_are_taken_as_they_are(copy: Path) -> None:
    find_lr.run(settings(train__seeds=[5, 3]), 1, optimizer="adam")
    for policy in POLICIES:
        assert read_table(locations.rates("adam", policy))["seed"].to_pylist() == [5, 3]


def test_policy_fixed_takes_the_given_rate_and_policy_found_each_its_own(inside: Path) -> None:
    fixed, found = (read_table(locations.rates("adam", policy)) for policy in POLICIES)
    assert set(fixed["lr"].to_pylist()) == {0.01}
    assert set(fixed["origin"].to_pylist()) == {"fixed"}
    assert set(found["origin"].to_pylist()) == {"found"}
    assert len(set(found["lr"].to_pylist())) > 1
    assert not (locations.run_folder("adam", "fixed") / "lr_curves.parquet").exists()
    curves = read_table(locations.run_folder("adam", "found") / "lr_curves.parquet")
    assert set(curves["member"].to_pylist()) == {0, 1, 2}
    for row in found.to_pylist():
        assert row["lr"] in row["lrs"], "a found rate is one of the range test's"


def test_scores_are_the_errors_of_the_weights_that_were_kept(inside: Path) -> None:
    folder = locations.run_folder("swa", "found")
    scores = read_table(folder / "scores.parquet")
    faces = read_table(locations.FACES)
    vectors = np.array(faces["vector"].to_pylist(), dtype=np.float32)
    splits, targets = np.array(faces["split"]), np.array(faces["target"])
    predicted = Members.load(folder / "members.safetensors").predict(vectors).numpy()
    for column, split in (("mae", "train"), ("val_mae", "validation"), ("test_mae", "test")):
        expected = np.abs(predicted - targets)[:, splits == split].mean(axis=1)
        np.testing.assert_allclose(np.array(scores[column]), expected, rtol=1e-5)
    kept = read_table(folder / "predictions.parquet")
    assert kept.num_rows == 3 * (splits != "train").sum()
    assert set(kept["face_id"].to_pylist()) == set(np.array(faces["face_id"])[splits != "train"])


def test_augmented_faces_train(copy: Path) -> None:
    before = read_table(locations.run_folder("adam", "fixed") / "scores.parquet")
    write_table(read_table(locations.AUGMENTED).slice(0, 0), locations.AUGMENTED, "vec2age augment")
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    without = read_table(locations.run_folder("adam", "fixed") / "scores.parquet")
    assert without["seed"] == before["seed"]
    assert without["val_mae"] != before["val_mae"]


def test_a_member_without_a_suggestion_takes_the_fixed_rate_and_says_so(copy: Path) -> None:
    # The second batch already exceeds the best loss by this factor, so that the test ends before it can tell.
    hasty = settings(find_lr__stop_factor=1.000001, find_lr__min_lr=10.0, find_lr__max_lr=1e6)
    counts = find_lr.run(hasty, 1, optimizer="adam")
    assert counts["without a suggestion, at the fixed rate"] == 3
    train.run(hasty, 1, optimizer="adam", policy="found")
    scores = read_table(locations.run_folder("adam", "found") / "scores.parquet")
    assert set(scores["lr"].to_pylist()) == {0.01}
    assert set(scores["origin"].to_pylist()) == {"fixed, as the finder has no suggestion"}


def test_diverged_members_are_counted_and_the_others_are_reported(copy: Path) -> None:
    wild = settings(train__swa__swa_lr__fixed=1e9)
    summary = train.run(wild, 1, optimizer="swa", policy="fixed")
    assert summary["diverged"] == 3
    scores = read_table(locations.run_folder("swa", "fixed") / "scores.parquet")
    assert scores["diverged"].to_pylist() == [True] * 3
    assert scores["test_mae"].null_count == 3
    assert read_table(locations.run_folder("swa", "fixed") / "predictions.parquet").num_rows == 0
    assert evaluate.run(wild, 1)["diverged"] == 3
    metrics = json.loads(locations.METRICS.read_text())
    assert metrics["fixed"]["swa"]["diverged"] == 3
    assert metrics["fixed"]["adam"]["diverged"] == 0


def test_where_every_model_diverged_there_is_nothing_to_report(copy: Path) -> None:
    wild = settings(train__optimizers=["swa"], train__policies=["fixed"], train__swa__swa_lr__fixed=1e9)
    train.run(wild, 1, optimizer="swa", policy="fixed")
    with pytest.raises(UserError, match="every model diverged"):
        evaluate.run(wild, 1)


def test_a_label_distribution_loss_trains_with_an_output_for_each_label(copy: Path) -> None:
    wanted = settings(train__recipe__loss={"name": "dldl_v2", "settings": {}})
    find_lr.run(wanted, 1, optimizer="adam")
    train.run(wanted, 1, optimizer="adam", policy="found")
    members = Members.load(locations.run_folder("adam", "found") / "members.safetensors")
    assert members.layout.widths[-1] == 16, "ages 10 to 25"
    assert members.loss_settings["labels"] == list(range(10, 26))


def change_augmented(change: Callable[[pa.Table], pa.Table]) -> None:
    write_table(change(read_table(locations.AUGMENTED)), locations.AUGMENTED, "vec2age augment")


def with_parents(parent: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(
        table.column_names.index("parent_id"), "parent_id", pa.array([parent] * table.num_rows)
    )


def narrower(table: pa.Table) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * table.num_rows, np.float32)), 2)
    return table.set_column(table.column_names.index("vector"), "vector", vectors)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_parents("f" * 64), r"face f{64}, from which augmented vectors were made, does not train"),
        (narrower, "augmented vectors are 2 wide, those of faces 6"),
    ],
)
def test_refuses_augmented_vectors_that_do_not_fit(
    copy: Path, change: Callable[[pa.Table], pa.Table], sentence: str
) -> None:
    change_augmented(change)
    with pytest.raises(UserError, match=sentence):
        train.run(settings(), 1, optimizer="adam", policy="fixed")


@pytest.mark.parametrize("missing", [locations.AUGMENTED, locations.rates("adam", "fixed")])
def test_a_missing_input_is_named(copy: Path, missing: Path) -> None:
    missing.unlink()
    with pytest.raises(UserError, match=rf"{missing} does not exist: run the stage that writes it"):
        train.run(settings(), 1, optimizer="adam", policy="fixed")


@pytest.mark.parametrize(
    ("policy", "changes", "sentence"),
    [
        ("fixed", {"train__seeds": 2}, "train.seeds is 2, PATH was made with 3"),
        ("fixed", {"train__seeds": [5, 3]}, r"train.seeds is \[5, 3\], PATH was made with \[\d+, \d+, \d+\]"),
        ("found", {"seed": 7}, r"seed is 7, of which the first model's seed is \d+, in PATH it is \d+"),
        ("fixed", {"train__adam__lr": 0.5}, "train.adam.lr is 0.5, PATH was made with 0.01"),
        ("found", {"train__recipe__dropout": 0.5}, "train.recipe.dropout is 0.5, PATH was made with 0.0"),
        (
            "found",
            {"train__recipe__loss": {"name": "l1", "settings": {}}},
            "train.recipe.loss.name is 'l1', PATH",
        ),
        (
            "found",
            {"train__balance__column": "target"},
            "train.balance.column is 'target', PATH was made with None",
        ),
        ("found", {"find_lr__slope": "rate"}, "find_lr.slope is 'rate', PATH was made with 'step'"),
    ],
)
def test_rates_that_params_no_longer_ask_for_train_nothing(
    copy: Path, policy: str, changes: dict[str, Any], sentence: str
) -> None:
    before = hashes(locations.MODELS)
    place = re.escape(str(locations.rates("adam", policy)))
    again = r": run vec2age find_lr --optimizer adam again \(dvc repro\)$"
    with pytest.raises(UserError, match=f"^{sentence.replace('PATH', place)}.*{again}"):
        train.run(settings(**changes), 1, optimizer="adam", policy=policy)
    assert hashes(locations.MODELS) == before
    find_lr.run(settings(**changes), 1, optimizer="adam")
    train.run(settings(**changes), 1, optimizer="adam", policy=policy)


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ("found", {"train__adam__lr": 0.5}),
        ("fixed", {"find_lr__steps": 50}),
        ("fixed", {"train__recipe__dropout": 0.5}),
    ],
)
def test_rates_that_a_setting_does_not_touch_are_taken(
    copy: Path, policy: str, changes: dict[str, Any]
) -> None:
    train.run(settings(**changes), 1, optimizer="adam", policy=policy)


def test_evaluate_measures_in_the_unit_that_the_report_names(copy: Path) -> None:
    told = evaluate.run(settings(report__target="attractiveness", report__unit="points"), 1)
    errors = [str(value) for name, value in told.items() if name.startswith("test MAE")]
    assert errors
    assert all(error.endswith(" points") for error in errors)
    assert {"report.target", "report.unit"} <= set(stages()["evaluate"]["params"])


def test_a_table_with_subjects_is_evaluated_and_reported_over_them(copy: Path) -> None:
    table = locations.TABLES / "contenders.csv"
    before = pd.read_csv(table).set_index("title")
    faces = read_table(locations.FACES)
    # as many subjects as would do for groups, each of one age and its neighbours
    who = pa.array([f"s{target // 2:g}" for target in faces["target"].to_pylist()])
    write_table(faces.append_column("subject", who), locations.FACES, "vec2age embed", {"encoders": "none"})
    train.run(settings(), 1, optimizer="adam", policy="fixed")
    evaluate.run(settings(), 1)
    after = pd.read_csv(table).set_index("title")
    assert after["mae"].to_dict() == before["mae"].to_dict()
    mean = before.index[before.index.str.contains("mean", case=False)][0]
    widths = [one.loc[mean, "high"] - one.loc[mean, "low"] for one in (before, after)]
    assert widths[1] > 1.3 * widths[0], "the mean of all errs alike on a subject"
    assert set(pd.read_csv(locations.TABLES / "groups.csv")["column"]) == {"target"}
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    report.run(settings(), 1)
    assert "over subjects" in locations.PAGE.read_text(encoding="utf-8")


def test_a_page_or_numbers_that_cannot_be_written_leave_all_as_it_was(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Path("params.yaml").write_text("seed: 1\n")
    locations.FIGURES.mkdir(exist_ok=True)
    (locations.FIGURES / "former.svg").write_text("a figure")
    before = hashes(Path("reports"))
    monkeypatch.setattr(evaluate, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate.run(settings(report__target="attractiveness", report__unit="points"), 1)
    monkeypatch.setattr(report.page, "write_html", full)
    with pytest.raises(OSError, match="No space left"):
        report.run(settings(), 1)
    assert hashes(Path("reports")) == before


def test_evaluate_names_a_run_that_is_missing(copy: Path) -> None:
    shutil.rmtree(locations.run_folder("swa", "found"))
    before = hashes(Path("reports"))
    with pytest.raises(UserError, match=r"models/found/swa/scores.parquet does not exist"):
        evaluate.run(settings(), 1)
    assert hashes(Path("reports")) == before
    shutil.rmtree("reports")
    with pytest.raises(UserError, match=r"models/found/swa/scores.parquet does not exist: [^;]+$"):
        evaluate.run(settings(), 1)
    assert not hashes(Path("reports"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_faces_is_named(copy: Path, split: str) -> None:
    faces = read_table(locations.FACES)
    write_table(
        faces.filter(pa.compute.not_equal(faces["split"], split)), locations.FACES, "vec2age embed", {}
    )
    write_table(read_table(locations.AUGMENTED).slice(0, 0), locations.AUGMENTED, "vec2age augment")
    with pytest.raises(UserError, match=f"there is no {split} face"):
        train.run(settings(), 1, optimizer="adam", policy="fixed")


def test_the_page_shows_running_times_that_are_kept_in_logs_alone(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "load", settings)
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    report.run(settings(), 1)
    assert not (locations.FIGURES / "running_time.png").exists(), "no log tells a time"
    for optimizer in OPTIMIZERS:
        for policy in POLICIES:
            run_stage("train", 1, policy=policy, optimizer=optimizer)
    log = json.loads(Path("logs/train-fixed-adam.json").read_text())
    assert len(log["member_seconds"]) == 3
    assert 0 < sum(log["member_seconds"]) < log["seconds"]
    report.run(settings(), 1)
    assert (locations.FIGURES / "running_time.png").exists()
    assert (locations.FIGURES / "lr_finder.json").exists()
    page = locations.PAGE.read_text(encoding="utf-8")
    assert "no_face" in page, "what was left out"
    assert "seed: 20201" in page, "params.yaml as it was"


def test_no_file_that_dvc_compares_holds_a_time(inside: Path) -> None:
    for path in Path().rglob("*.parquet"):
        assert "seconds" not in read_table(path).column_names, path


def stages() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]
    return loaded


def test_the_report_depends_on_every_parameter_that_it_prints() -> None:
    assert set(stages()["report"]["params"]) == set(Params.model_fields)


def test_a_run_depends_on_the_settings_of_its_own_optimizer_only() -> None:
    for name in ("find_lr", "train"):
        wanted = stages()[name]["params"]
        assert "train" not in wanted
        assert "train.${item.optimizer}" in wanted
