"""The same runs as three trackers record them, read back through each one's own interface."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import RLock
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.profiles import use
from pipeline.core.tables import read_table
from pipeline.stages import locations
from pipeline.stages.running import run_stage
from pipeline.tracking import build

RUN = "train-fixed-adam"
RUNS = {RUN, "study", "evaluate", "report"}
FIGURE = Path("reports/figures/contenders.png")


@pytest.fixture(scope="module")
def tracked(make_project: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose training and study were recorded by all three at once, without a network."""
    folder = make_project(
        tmp_path_factory.mktemp("tracked"),
        "tracking.trackers=[dvclive, mlflow, neptune]",
        "train.policies=[fixed]",
    )

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a tracker called {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(socket.socket, "connect", refuse)
        run_stage("find_lr", 1, optimizer="adam")
        run_stage("train", 1, policy="fixed", optimizer="adam")
        run_stage("study", 1)
        run_stage("evaluate", 1)
        run_stage("report", 1)
        yield folder


def scores(folder: Path) -> dict[str, list[Any]]:
    read: dict[str, list[Any]] = read_table(folder / "models/fixed/adam/scores.parquet").to_pydict()
    return read


def test_dvclive_has_it(tracked: Path) -> None:
    from dvclive.live import Live
    from dvclive.utils import parse_metrics

    live = Live(str(tracked / "dvclive"), resume=True, save_dvc_exp=False, dvcyaml=None)
    expected = scores(tracked)
    told = live.read_latest()
    assert told[RUN]["test_mae"]["mean"] == pytest.approx(sum(expected["test_mae"]) / 2)
    assert told[RUN]["seconds"] > 0
    assert told[RUN]["failed"] == 0
    assert set(told) == RUNS, "and no step of whichever series came last"
    series, _ = parse_metrics(live)
    points = {
        Path(path).relative_to(tracked / "dvclive/plots/metrics"): rows for path, rows in series.items()
    }
    rows = points[Path(f"{RUN}/members/seed.tsv")]
    assert [float(row["seed"]) for row in rows] == expected["seed"]
    assert [int(row["step"]) for row in points[Path(f"{RUN}/epochs/val_mae.tsv")]] == [1, 2, 3]
    params = YAML(typ="safe").load(tracked / f"dvclive/runs/{RUN}/params.yaml")
    assert params["train.adam.lr"] == 0.01
    assert len(params["sha256.faces"]) == 64
    assert (tracked / f"dvclive/runs/{RUN}/scores.parquet").exists()
    assert told["evaluate"]["fixed"]["adam"]["test_mae"]["mean"] == pytest.approx(
        told[RUN]["test_mae"]["mean"]
    )
    figures = Path(live.plots_dir) / "images/report"
    assert {"contenders.png", "distribution_fixed.png"} <= {path.name for path in figures.iterdir()}
    assert (figures / "contenders.png").read_bytes() == FIGURE.read_bytes()


def test_mlflow_has_it(tracked: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked}/mlflow.db")
    experiment = client.get_experiment_by_name("vec2age")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == RUNS
    run, expected = runs[RUN], scores(tracked)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.recipe.hidden"] == "[8]"
    assert len(run.data.params["sha256.faces"]) == 64
    assert run.data.metrics["test_mae/mean"] == pytest.approx(sum(expected["test_mae"]) / 2)
    assert run.data.metrics["seconds"] > 0
    for name in ("seed", "lr", "epochs", "val_mae"):
        points = client.get_metric_history(run.info.run_id, f"members/{name}")
        assert [point.value for point in sorted(points, key=lambda p: p.step)] == pytest.approx(
            expected[name]
        )
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["scores.parquet"]
    trials = client.get_metric_history(runs["study"].info.run_id, "trials/lr")
    assert len(trials) == 5
    metrics = runs["evaluate"].data.metrics
    assert metrics["fixed/adam/test_mae/mean"] == pytest.approx(run.data.metrics["test_mae/mean"])
    listed = [file.path for file in client.list_artifacts(runs["report"].info.run_id, "figures")]
    assert "figures/contenders.png" in listed
    copy = client.download_artifacts(runs["report"].info.run_id, "figures/contenders.png")
    assert Path(copy).read_bytes() == FIGURE.read_bytes()


def test_neptune_has_it(tracked: Path) -> None:
    from neptune.core.components.queue.disk_queue import DiskQueue
    from neptune.internal.operation import AssignFloat, AssignString, LogFloats, Operation, UploadFile

    recorded = []
    for folder in sorted((tracked / ".neptune/offline").iterdir()):
        queue = DiskQueue(folder, lambda operation: operation.to_dict(), Operation.from_dict, RLock())
        operations = []
        while (element := queue.get()) is not None:
            operations.append(element.obj)
        queue.close()
        recorded.append(operations)
    names = {o.value: index for index, run in enumerate(recorded) for o in run if o.path == ["sys", "name"]}
    assert set(names) == RUNS
    run, expected = recorded[names[RUN]], scores(tracked)
    numbers = {"/".join(o.path): o.value for o in run if isinstance(o, AssignFloat | AssignString)}
    assert numbers["metrics/test_mae/mean"] == pytest.approx(sum(expected["test_mae"]) / 2)
    assert numbers["parameters/train/adam/lr"] == 0.01
    assert len(numbers["parameters/sha256/faces"]) == 64
    series = [
        point.value
        for o in run
        if isinstance(o, LogFloats) and o.path == ["series", "members", "val_mae"]
        for point in o.values
    ]
    assert series == pytest.approx(expected["val_mae"])
    measured = {"/".join(o.path): o.value for o in recorded[names["evaluate"]] if isinstance(o, AssignFloat)}
    assert measured["metrics/fixed/adam/test_mae/mean"] == pytest.approx(
        numbers["metrics/test_mae/mean"], abs=1e-6
    )
    uploads = {o.path[-1]: o for o in recorded[names["report"]] if isinstance(o, UploadFile)}
    assert {"contenders", "distribution_fixed"} <= set(uploads)
    assert uploads["contenders"].ext == "png"


def test_twenty_members_make_as_many_files_as_two(tracked: Path) -> None:
    def count() -> int:
        return sum(1 for place in ("dvclive", "mlruns") for path in Path(place).rglob("*") if path.is_file())

    two = count()
    use(Path("none.yaml"), ["train.seeds=20", "train.recipe.epochs=1", "tracking.trackers=[dvclive]"])
    run_stage("find_lr", 1, optimizer="adam")
    run_stage("train", 1, policy="fixed", optimizer="adam")
    assert count() == two
    rows = (tracked / f"dvclive/plots/metrics/{RUN}/members/seed.tsv").read_text().splitlines()
    assert len(rows) == 21, "a former run of the same name is replaced"


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(
    make_project: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_project(
        tmp_path,
        "tracking.trackers=[mlflow, neptune, dvclive]",
        "tracking.mlflow.uri=sqlite:////proc/none/mlflow.db",
        "tracking.neptune.mode=async",
        "train.policies=[fixed]",
        "train.recipe.epochs=1",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEPTUNE_API_TOKEN", raising=False)
    run_stage("find_lr", 1, optimizer="adam")
    run_stage("train", 1, policy="fixed", optimizer="adam")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vec2age:")]
    assert sum("the tracker mlflow records no more" in line for line in told) == 1
    assert sum("NEPTUNE_API_TOKEN is not set" in line for line in told) == 1
    assert len(told) == 2
    assert (locations.run_folder("adam", "fixed") / "scores.parquet").exists()
    assert RUN in json.loads(Path("dvclive/metrics.json").read_text())


def test_an_address_where_nobody_listens_does_not_hold_the_run_up() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    told: list[str] = []
    started = time.monotonic()
    trackers = build({"mlflow": {"uri": f"http://127.0.0.1:{closed}"}}, told.append)
    trackers.start("train")
    trackers.metrics({"mae": 1.0})
    trackers.end()
    assert time.monotonic() - started < 60, "seven retries, each after twice the pause, take four minutes"
    assert len(told) == 1
    assert "the tracker mlflow records no more" in told[0]


def test_a_run_that_fails_is_recorded_as_failed(
    make_project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, "tracking.trackers=[dvclive]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="does not exist"):
        run_stage("train", 1, policy="fixed", optimizer="adam")
    assert json.loads(Path("dvclive/metrics.json").read_text()) == {RUN: {"failed": 1}}


def test_a_torn_summary_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    def record() -> None:
        trackers = build({"dvclive": {}}, told.append)
        trackers.start("train")
        trackers.metrics({"mae": 1.0})
        trackers.end()

    record()
    summary = Path("dvclive/metrics.json")
    whole = summary.read_text()
    for number, torn in enumerate([whole[:-5], "[1]", "[" * 100_000], start=1):
        summary.write_text(torn)
        record()
        sentence = told[-1]
        assert sentence.startswith("the tracker dvclive records no more: dvclive/metrics.json is torn (")
        assert sentence.endswith("): remove it, the next runs write it again")
        summary.unlink()
        record()
        assert (summary.read_text(), len(told)) == (whole, number)


def test_without_trackers_nothing_is_written(
    make_project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, "train.policies=[fixed]", "train.recipe.epochs=1")
    monkeypatch.chdir(tmp_path)
    run_stage("find_lr", 1, optimizer="adam")
    run_stage("train", 1, policy="fixed", optimizer="adam")
    assert not any(Path(name).exists() for name in ("dvclive", "mlruns", "mlflow.db", ".neptune"))
