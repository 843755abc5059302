"""Whole networks on the page: numbers by plain loops, the papers' columns, only what the runs allow."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.config import load
from pipeline.config.profiles import use
from pipeline.core.errors import UserError
from pipeline.core.tables import vector_type, write_table
from pipeline.evaluation.networks import measures, results, summary
from pipeline.evaluation.networks.results import Run
from pipeline.evaluation.settings import Settings
from pipeline.report.networks import figures, tables
from pipeline.report.networks.section import gallery, section
from pipeline.report.page import Page, Picture, render
from pipeline.stages import finetune
from pipeline.training.networks.run_tables import SCORES

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = Settings()
LABELS = [float(age) for age in range(10, 71)]
JUDGED = 60


def recorded(loss: str, backbone: str, **changes: Any) -> dict[str, Any]:
    """What the stage writes of a run's settings."""
    settings: dict[str, Any] = {
        "loss": loss,
        "loss_settings": {},
        "backbone": backbone,
        "start": {},
        "faces": {"targets": ["target"], "labels": None, "weight": None, "balance": None},
        "head": {"hidden": [], "activation": "none", "span": None, "drop_rate": 0.0},
        "recipe": {"lr": 0.001, "batch_size": 32, "optimizer": "adam", "frozen_epochs": 0, "epochs": 3},
        "labels": LABELS,
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        place = settings
        for part in path:
            place = place[part]
        place[last] = value
    return settings


def write_run(
    folder: Path,
    name: str,
    backbone: str,
    *,
    loss: str | None = None,
    members: int = 2,
    columns: tuple[str, ...] = ("target",),
    distributions: bool = True,
    seed: int = 0,
    diverged: int = 0,
    judged: range = range(JUDGED),
    **changes: Any,
) -> None:
    """The files of one run, as the stage finetune leaves them; some networks diverged, after the others."""
    rng = np.random.default_rng(seed)
    rows = []
    for member in range(members):
        for column in columns:
            for face in judged:
                target = 12.0 + face % 50
                split = "validation" if face % 2 else "test"
                prediction = target + rng.normal(0, 4)
                rows.append((member, f"face{face}", split, column, target, prediction))
    frame = pd.DataFrame(rows, columns=["member", "face_id", "split", "column", "target", "prediction"])
    frame = frame.astype({"member": int, "target": float, "prediction": float})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if distributions and members:
        spread = rng.uniform(1, 5, len(frame))
        shapes = np.exp(
            -0.5 * ((np.array(LABELS) - frame["prediction"].to_numpy()[:, None]) / spread[:, None]) ** 2
        )
        shapes = (shapes / shapes.sum(1, keepdims=True)).astype(np.float32)
        table = table.append_column("spread", pa.array(spread, pa.float32()))
        column = pa.FixedSizeListArray.from_arrays(pa.array(shapes.ravel()), type=vector_type(len(LABELS)))
        table = table.append_column("distribution", column)
    errors = (frame["prediction"] - frame["target"]).abs()
    means = (
        errors.groupby([frame["member"], frame["split"]])
        .mean()
        .unstack()
        .reindex(columns=["validation", "test"])
    )
    scores = pd.DataFrame(
        {
            "member": range(members),
            "seed": range(members),
            "epochs": 3,
            "best_epoch": 2,
            "val_loss": 0.5 + seed,
            "mae": 3.0,
            "val_mae": means["validation"].to_numpy(),
            "test_mae": means["test"].to_numpy(),
            "test_rmse": 5.0,
            "test_pearson": 0.9,
            "test_within": 0.7,
            "test_unimodal": 0.8 if distributions else None,
            "test_modes": 1.3 if distributions else None,
        }
    )
    history = pd.DataFrame(
        [
            {"member": member, "epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_mae": 9.0 - epoch}
            for member in range(members)
            for epoch in (1, 2, 3)
        ],
        columns=["member", "epoch", "train_loss", "val_loss", "val_mae"],
    )
    gone = {"diverged": ["MSELoss became nan in epoch 1, step 2: lower the learning rate"] * diverged}
    numbers = {"member": range(members, members + diverged), "seed": range(members, members + diverged)}
    scores = pd.concat([scores.assign(diverged=None), pd.DataFrame(numbers | gone)], ignore_index=True)
    settings = recorded(loss or name, backbone, **changes)
    place = folder / name / backbone
    schema = pa.schema([field for field in SCORES if field.name in scores])
    as_table = pa.Table.from_pandas(scores, schema, preserve_index=False)
    write_table(as_table.replace_schema_metadata(), place / "scores.parquet", "vec2age finetune", settings)
    for kind, part in (
        ("history", pa.Table.from_pandas(history, preserve_index=False)),
        ("predictions", table),
    ):
        write_table(part.replace_schema_metadata(), place / f"{kind}.parquet", "vec2age finetune", settings)


FACES = pd.DataFrame(
    {
        "face_id": [f"face{face}" for face in range(JUDGED)],
        "target": [12.0 + face % 50 for face in range(JUDGED)],
        "split": ["validation" if face % 2 else "test" for face in range(JUDGED)],
        "gender": ["f" if face % 3 else "m" for face in range(JUDGED)],
        "file": [f"{face}.jpg" for face in range(JUDGED)],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models") / "cnn"
    write_run(root, "mse", "resnet18", distributions=False, labels=None)
    write_run(root, "dldl_v2", "resnet18", seed=1)
    return root


@pytest.fixture
def runs(folder: Path) -> list[Run]:
    return results.read(folder, ["mse", "dldl_v2"], ["resnet18"], FACES)


def table_of(found: list[Any], name: str) -> Any:
    (table,) = [table for table in found if table.name == name]
    return table


def frame_of(found: list[Any], name: str) -> pd.DataFrame:
    table = table_of(found, name)
    frame: pd.DataFrame = table.frame
    assert [column.key for column in table.columns if column.key not in frame] == []
    return frame


def test_errors_and_biases_are_those_of_the_predictions(runs: list[Run]) -> None:
    frame = frame_of(tables.all_tables(runs, SETTINGS), "networks_fairness")
    run = runs[1]
    scores, biases = [], []
    for member in (0, 1):
        by_group: dict[str, list[float]] = {}
        for row in run.predictions.to_dict("records"):
            if row["member"] == member and row["split"] == "test":
                by_group.setdefault(row["gender"], []).append(abs(row["prediction"] - row["target"]))
        scores.append(np.mean([error for errors in by_group.values() for error in errors]))
        biases.append(abs(np.mean(by_group["f"]) - np.mean(by_group["m"])))
    row = frame[frame["loss"] == "dldl_v2"].iloc[0]
    assert row["mae"] == pytest.approx(np.mean(scores))
    assert row["gender_bias"] == pytest.approx(np.mean(biases))
    assert row["mae_std"] == pytest.approx(np.std(scores, ddof=1))
    assert row["gender_bias_std"] == pytest.approx(np.std(biases, ddof=1))
    assert "file_bias" not in frame, "a name is no group"
    assert row["target_bins_bias"] > 0


def test_the_overview_has_a_row_for_every_run(runs: list[Run]) -> None:
    frame = frame_of(tables.all_tables(runs, SETTINGS), "networks")
    assert frame["loss"].tolist() == ["mse", "dldl_v2"]
    assert frame["mae"].tolist() == pytest.approx([run.scores["test_mae"].mean() for run in runs])
    assert frame["unimodal"].isna().tolist() == [True, False]
    assert frame_of(tables.all_tables(runs, SETTINGS), "networks_uc_forms")["form"].tolist() == [
        "Non-LDL",
        "FLDL",
    ]
    assert {"mae", "rmse", "pc"} <= set(frame_of(tables.all_tables(runs, SETTINGS), "networks_combo"))


def test_tables_that_the_runs_do_not_allow_are_left_out(runs: list[Run]) -> None:
    names = [table.name for table in tables.all_tables(runs, SETTINGS)]
    assert "networks_uc_combinations" not in names
    assert not [name for name in names if name.startswith("networks_by_")]
    assert tables.all_tables([], SETTINGS) == []
    assert section([], SETTINGS, []) == []


def test_the_combinations_of_uc_table_4(tmp_path: Path) -> None:
    names = ["softmax_concentrated", "unimodal_concentrated", "mean_variance", "unimodal_mean_variance"]
    for name in names:
        write_run(tmp_path, name, "vgg16")
    frame = frame_of(
        tables.all_tables(results.read(tmp_path, names, ["vgg16"]), SETTINGS), "networks_uc_combinations"
    )
    assert frame[["auxiliary", "primary"]].to_numpy().tolist() == [
        ["Softmax", "Concentrated"],
        ["Unimodal", "Concentrated"],
        ["Softmax", "Mean & Variance"],
        ["Unimodal", "Mean & Variance"],
    ]


@pytest.mark.parametrize(
    ("aspect", "changes", "values"),
    [
        ("lr", {"recipe__lr": 1e-4}, [0.001, 0.0001]),
        ("batch_size", {"recipe__batch_size": 16}, [32, 16]),
        ("optimizer", {"recipe__optimizer": "sgd"}, ["ADAM", "SGD"]),
        (
            "head",
            {"head__hidden": [8, 8], "head__activation": "sigmoid"},
            ["as it is", "2 FC with ReLU + 1 FC with Sigmoid"],
        ),
        ("strategy", {"start": {"weights": "w.pth"}}, ["1) No Pretraining", "3) Pretraining without Freeze"]),
    ],
)
def test_runs_that_differ_in_one_thing_become_its_table(
    tmp_path: Path, aspect: str, changes: dict[str, Any], values: list[Any]
) -> None:
    write_run(tmp_path, "plain", "resnet50", loss="mse")
    write_run(tmp_path, "other", "resnet50", loss="mse", seed=1, **changes)
    found = tables.all_tables(results.read(tmp_path, ["plain", "other"], ["resnet50"]), SETTINGS)
    assert [table.name for table in found if table.name.startswith("networks_by_")] == [
        f"networks_by_{aspect}"
    ]
    frame = frame_of(found, f"networks_by_{aspect}")
    assert frame["value"].tolist() == values
    assert frame["val_loss"].tolist() == [0.5, 1.5]
    shown = {column.key for column in table_of(found, f"networks_by_{aspect}").columns}
    assert ("beside" in shown) == (aspect in ("head", "strategy")), "widths and weights, which no value says"


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe__epochs": 100},
        {"recipe__schedule": {"name": "step", "settings": {"epochs": 5}}},
        {"pictures": {"size": 224, "augment": []}},
        {"pictures": {"size": 64, "augment": [{"name": "flip", "settings": {}}]}},
        {"loss_settings": {"delta": 2.0}},
        {"head__drop_rate": 0.5},
        {"faces__balance": "gender"},
    ],
    ids=str,
)
def test_runs_that_differ_in_more_than_one_thing_are_not_compared(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    same = {"pictures": {"size": 64, "augment": []}}
    write_run(tmp_path, "plain", "resnet50", loss="mse", **same)
    write_run(tmp_path, "other", "resnet50", loss="mse", **(same | changes), recipe__lr=1e-4)
    found = tables.all_tables(results.read(tmp_path, ["plain", "other"], ["resnet50"]), SETTINGS)
    assert not [table.name for table in found if table.name.startswith("networks_by_")]


def test_pretrained_backbones_are_compared_with_each_other_and_not_with_one_from_scratch(
    tmp_path: Path,
) -> None:
    starts: dict[str, dict[str, Any]] = {
        "resnet50": {"pretrained": True},
        "resnet101": {"weights": "age.safetensors"},
        "vgg16": {},
    }
    for backbone, start in starts.items():
        write_run(tmp_path, "mse", backbone, start=start)
    frame = frame_of(
        tables.all_tables(results.read(tmp_path, ["mse"], list(starts)), SETTINGS), "networks_by_backbone"
    )
    assert frame["value"].tolist() == ["resnet50", "resnet101"]
    assert frame["beside"].tolist() == ["pretrained true", 'weights "age.safetensors"']


def test_the_profile_of_the_unimodal_concentrated_loss_gives_uc_table_5(tmp_path: Path) -> None:
    copied = Path(shutil.copy(PROJECT / "params.yaml", tmp_path))
    use(PROJECT / "profiles/uc-morph.yaml", target=copied)
    params = load(copied)
    names = [name for name in params.finetune.losses if name.startswith(("un", "uc_"))]
    for name in names:
        settings = finetune.recorded(*finetune.plan_of(params, name, "vgg16"), name)
        write_run(tmp_path / "cnn", settings.pop("name"), settings.pop("backbone"), **settings)
    found = tables.all_tables(results.read(tmp_path / "cnn", names, ["vgg16"]), SETTINGS)
    frame = frame_of(found, "networks_by_lambda")
    assert frame["value"].tolist() == [1000.0, 0.1, 10.0, 100.0, 2000.0, 10000.0]
    assert frame["beside"].tolist() == ["", "min_variance 0.0", "", "", "", ""], "what else differs is said"
    assert [table.name for table in found if table.name.startswith("networks_by_")] == ["networks_by_lambda"]


def test_the_weight_of_the_unimodal_loss_is_uc_table_5(tmp_path: Path) -> None:
    for weight in (10.0, 1000.0):
        name = f"uc_{weight:g}"
        settings = {"loss_settings": {"unimodal_weight": weight}}
        write_run(tmp_path, name, "vgg16", loss="unimodal_concentrated", **settings)
    found = tables.all_tables(results.read(tmp_path, ["uc_10", "uc_1000"], ["vgg16"]), SETTINGS)
    assert frame_of(found, "networks_by_lambda")["value"].tolist() == [10.0, 1000.0]


def test_three_angles_are_uc_table_2(tmp_path: Path) -> None:
    write_run(tmp_path, "dldl_v2", "resnet50", columns=("yaw", "pitch", "roll"))
    frame = frame_of(
        tables.all_tables(results.read(tmp_path, ["dldl_v2"], ["resnet50"]), SETTINGS), "networks_uc_forms"
    )
    row = frame.iloc[0]
    assert row["mean"] == pytest.approx(np.mean([row["yaw"], row["pitch"], row["roll"]]), rel=1e-6)


def test_the_best_and_worst_predictions_are_listed_by_face(runs: list[Run]) -> None:
    frame = frame_of(tables.all_tables(runs, SETTINGS), "networks_extremes")
    best = measures.best_run(runs)
    test = best.test(0)
    errors = (test["prediction"] - test["target"]).abs().to_numpy()
    assert frame["error"].tolist() == pytest.approx([*np.sort(errors)[:6], *np.sort(errors)[::-1][:6]])
    assert frame["which"].tolist() == ["best"] * 6 + ["worst"] * 6


def test_the_deviation_at_every_label_is_uc_figure_6(tmp_path: Path) -> None:
    write_run(tmp_path, "dldl_v2", "resnet18", members=1)
    (run,) = results.read(tmp_path, ["dldl_v2"], ["resnet18"])
    chart = figures.spread_per_label([run], SETTINGS)
    assert chart is not None
    test = run.test()
    expected = {age: part["spread"].mean() for age, part in test.groupby("target")}
    (line,) = chart.marks
    assert dict(zip(line.x, line.y, strict=True)) == pytest.approx(expected)


def test_labels_with_few_faces_are_left_out_where_others_have_many(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "ENOUGH", 1)
    chart = figures.spread_per_label(runs, SETTINGS)
    assert chart is not None
    assert len(chart.marks[0].x) == runs[1].test()["target"].nunique()


def test_chosen_faces_are_shown_with_their_distributions(runs: list[Run]) -> None:
    assert figures.chosen_faces(runs, ["face4", "nobody"]) == ["face4"]
    chosen = figures.chosen_faces(runs)
    assert len(chosen) == 4
    test = runs[1].test(0).set_index("face_id")
    assert chosen[0] == test["spread"].idxmin()
    assert chosen[-1] == test["spread"].idxmax()
    chart = figures.distributions(runs, "face4", SETTINGS)
    assert chart.reference == 16.0
    (line,) = chart.marks
    place = int(
        np.flatnonzero((runs[1].predictions["face_id"] == "face4") & (runs[1].predictions["member"] == 0))[0]
    )
    assert runs[1].distributions is not None
    assert line.y == pytest.approx(runs[1].distributions[place].tolist())
    assert line.x == LABELS


def test_runs_judged_on_different_faces_are_shown_and_not_ranked(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    write_run(tmp_path, "softmax", "resnet18", seed=2, judged=range(10, JUDGED))
    found = results.read(tmp_path, ["mse", "dldl_v2", "softmax"], ["resnet18"], FACES)
    made = tables.all_tables(found, SETTINGS)
    for name in ("networks", "networks_uc_forms", "networks_combo", "networks_fairness"):
        table = table_of(made, name)
        assert {column.best for column in table.columns} == {""}
        assert "Not every run was judged on the same test faces (25 to 30 predictions each)" in table.note
    alike = tables.all_tables(found[:2], SETTINGS)
    assert "lowest" in {column.best for column in table_of(alike, "networks").columns}
    assert "Not every run" not in table_of(alike, "networks").note
    names = [mark.name for mark in figures.distributions(found, "face4", SETTINGS).marks]
    assert [name.partition(":")[0] for name in names] == ["dldl_v2, resnet18"]
    assert len(figures.distributions(found, "face20", SETTINGS).marks) == 2
    assert figures.all_charts(found, SETTINGS)


def test_running_times_come_from_the_logs(runs: list[Run], tmp_path: Path) -> None:
    told = {"member_seconds": [60.0, 180.0], "scores": runs[0].sha256}
    log = tmp_path / "finetune-mse-resnet18.json"
    log.write_text(json.dumps(told))
    timed = results.with_seconds(runs, tmp_path)
    frame = tables.overview(timed, SETTINGS).frame
    assert frame["minutes"].iloc[0] == 2.0
    assert np.isnan(frame["minutes"].iloc[1])
    for change in ({"member_seconds": [1]}, {"member_seconds": ["a", 2]}, {"scores": "0" * 64}):
        log.write_text(json.dumps(told | change))
        assert all(run.seconds is None for run in results.with_seconds(runs, tmp_path))
    for text in ("{}", "{", "[]"):
        log.write_text(text)
        assert all(run.seconds is None for run in results.with_seconds(runs, tmp_path))


def test_metrics_hold_mean_spread_and_minimum(runs: list[Run]) -> None:
    found = summary.metrics(runs)["mse"]["resnet18"]["test_mae"]
    assert found["mean"] == pytest.approx(runs[0].scores["test_mae"].mean(), abs=1e-6)
    assert set(found) == {"mean", "std", "min"}


def test_the_section_becomes_a_part_of_the_page(runs: list[Run]) -> None:
    charts = figures.all_charts(runs, SETTINGS)
    shown = {face: np.zeros((8, 8, 3), np.uint8) for face in FACES["face_id"]}
    (made,) = section(runs, SETTINGS, charts, shown)
    assert isinstance(made.blocks[-1], Picture)
    html = render(Page("t", sections=[made]))
    assert "Whole networks" in html
    assert "UC Tables 1 and 3" in html
    (without,) = section(runs, SETTINGS, charts)
    assert not [block for block in without.blocks if isinstance(block, Picture)], "no face of a real person"
    assert gallery(tables.extremes(runs[0], SETTINGS).frame, shown).png.startswith(b"\x89PNG")


def test_files_of_different_runs_are_refused(folder: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "mse", "resnet18", seed=1)
    (tmp_path / "mse/resnet18/scores.parquet").write_bytes(
        (folder / "mse/resnet18/scores.parquet").read_bytes()
    )
    with pytest.raises(UserError, match=r"predictions\.parquet: member 0 has another test error"):
        results.read(tmp_path, ["mse"], ["resnet18"])


def test_spreads_are_on_the_page(runs: list[Run]) -> None:
    table = table_of(tables.all_tables(runs, SETTINGS), "networks_fairness")
    assert {"mae_std", "gender_bias_std", "target_bins_bias_std"} <= {column.key for column in table.columns}


def test_networks_that_diverged_are_said_and_the_others_shown(tmp_path: Path) -> None:
    for weight, members in ((0.1, 0), (10.0, 2), (1000.0, 1)):
        write_run(
            tmp_path,
            f"uc_{weight:g}",
            "vgg16",
            loss="unimodal_concentrated",
            members=members,
            diverged=2 - members,
            loss_settings={"unimodal_weight": weight},
        )
    runs = results.read(tmp_path, ["uc_0.1", "uc_10", "uc_1000"], ["vgg16"], FACES)
    found = tables.all_tables(runs, SETTINGS)
    whole = table_of(found, "networks")
    assert whole.frame["networks"].tolist() == [0, 2, 1]
    assert whole.frame["diverged"].tolist() == ["2 of 2", "", "1 of 2"]
    assert "uc_0.1, vgg16: MSELoss became nan in epoch 1, step 2: lower the learning rate" in whole.note
    by_weight = frame_of(found, "networks_by_lambda")
    assert by_weight["diverged"].tolist() == ["2 of 2", "", "1 of 2"]
    assert by_weight["mae"].isna().tolist() == [True, False, False]
    assert frame_of(found, "networks_fairness")["loss"].tolist() == ["uc_10", "uc_1000"]
    assert summary.headlines(runs)["test MAE, uc_0.1, vgg16"] == "diverged"
    assert summary.metrics(runs)["uc_0.1"]["vgg16"] == {"diverged": 2}
    (made,) = section(runs, SETTINGS, figures.all_charts(runs, SETTINGS))
    assert "2 of 2" in render(Page("t", sections=[made]))


def test_where_every_network_diverged_that_is_all_that_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path, "mse", "resnet18", distributions=False, members=0, diverged=1)
    runs = results.read(tmp_path, ["mse"], ["resnet18"], FACES)
    charts = figures.all_charts(runs, SETTINGS)
    assert charts == []
    (made,) = section(runs, SETTINGS, charts)
    assert [block.name for block in made.blocks] == ["networks"]


def test_nothing_trained_is_nothing_to_show_but_a_lost_run_is_an_error(folder: Path, tmp_path: Path) -> None:
    assert results.read(tmp_path / "cnn", ["mse"], ["resnet18"]) == []
    with pytest.raises(UserError, match="does not exist: run the stage that writes it"):
        results.read(folder, ["l1"], ["resnet18"])
