"""What trackers are told of a stage: settings, revision, hashes of data, every member, curves, files.

`running` imports this module by name, for stages that are recorded: trackers watch a stage and change nothing
that it writes, so that no stage depends on them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import tracking
from pipeline.config import Params
from pipeline.config.profiles import flatten
from pipeline.core.artifacts import read_tree
from pipeline.core.credentials import masked_tree
from pipeline.core.shown import complain
from pipeline.core.tables import read_as, read_table, sha256
from pipeline.evaluation.curves import LIVING
from pipeline.report.provenance import revision
from pipeline.stages import locations
from pipeline.tracking.records import by_epoch, by_row, numbers, overall
from pipeline.tracking.tracker import Scalar, Trackers
from pipeline.training.mlp.runs import HISTORY, SCORES

FIGURES = ("contenders", "distribution_*", "improvement", "error_per_target_*", "group_errors")


@dataclass(frozen=True)
class Record:
    """What a stage left behind: numbers of the whole run, series of steps, files, pictures."""

    metrics: Mapping[str, float]
    series: tuple[Iterator[tuple[int, dict[str, float]]], ...]
    artefacts: tuple[Path, ...]
    figures: tuple[Path, ...] = ()


def recorded(
    params: Params, label: str, name: str, options: Mapping[str, str], act: Callable[[], Any]
) -> Any:
    """Run a stage, and tell the trackers what went in and what came out.

    Parameters
    ----------
    label
        The run's name.
    name, options
        The stage.
    act
        Runs it; returns its summary and its seconds.
    """
    wanted = params.tracking.model_dump()
    settings = {tracker: wanted.get(tracker, {}) for tracker in wanted["trackers"]}
    trackers = tracking.build(settings, warn=complain)
    trackers.start(label)
    trackers.params(inputs(params))
    try:
        summary, seconds = act()
    except BaseException:
        trackers.end(failed=True)
        raise
    tell(trackers, RECORDS[name](summary, **options), seconds)
    trackers.end()
    return summary, seconds


def inputs(params: Params) -> dict[str, Scalar]:
    """All parameters, the code's revision, and the hashes of the vectors."""
    settings = {
        key: value if value is None or isinstance(value, bool | int | float | str) else str(value)
        for key, value in flatten(params.model_dump()).items()
    }
    hashes = {
        f"sha256.{path.stem}": sha256(path)
        for path in (locations.FACES, locations.AUGMENTED)
        if path.exists()
    }
    told: dict[str, Scalar] = masked_tree({**settings, **revision(), **hashes})
    return told


def tell(trackers: Trackers, record: Record, seconds: float) -> None:
    """Hand a record over."""
    for series in record.series:
        for step, values in series:
            trackers.metrics(values, step)
    for path in record.artefacts:
        trackers.artefact(path)
    for path in record.figures:
        trackers.figure(path.stem, path)
    trackers.metrics({**record.metrics, "seconds": round(seconds, 3)})


def of_train(summary: Any, optimizer: str, policy: str) -> Record:
    """All members of a run: as points of series and as one table, however many they are."""
    folder = locations.run_folder(optimizer, policy)
    scores = read_as(folder / "scores.parquet", SCORES)
    seconds = summary.details["member_seconds"]
    columns = ("seed", "lr", "epochs", "best_epoch", "mae", "val_mae", "test_mae")
    return Record(
        overall(scores, ("mae", "val_mae", "test_mae", "epochs")),
        (
            by_row(scores, "member", columns, "members", seconds=seconds),
            by_epoch(read_as(folder / "history.parquet", HISTORY), scores, LIVING),
        ),
        (folder / "scores.parquet",),
    )


def of_study(summary: Any, storage: str | None = None) -> Record:
    """All trials of a study, its best one, and the models that were trained with it."""
    trials = locations.read(locations.STUDY_TRIALS)
    comparison = read_table(locations.STUDY_COMPARISON)
    ours = comparison.filter([policy == "study" for policy in comparison["policy"].to_pylist()])
    columns = [name for name in trials.column_names if name not in ("trial", "end", "members")]
    best = {"best/validation MAE": float(summary["its validation MAE"]), "trials": trials.num_rows}
    return Record(
        {**best, **overall(ours, ("val_mae", "test_mae"))},
        (
            by_row(trials, "trial", columns, "trials"),
            by_row(ours, "member", ("seed", "val_mae", "test_mae"), "members"),
        ),
        (locations.STUDY_TRIALS, locations.STUDY_COMPARISON, locations.STUDY_BEST),
    )


def of_evaluate(summary: Any) -> Record:
    """All numbers of metrics.json."""
    tree = read_tree(locations.METRICS)
    return Record(numbers(tree), (), (locations.METRICS,))


def of_report(summary: Any) -> Record:
    """The main figures, where these results have them."""
    drawn = (path for pattern in FIGURES for path in sorted(locations.FIGURES.glob(f"{pattern}.png")))
    counts = {name: float(summary[name]) for name in ("figures", "sections")}
    return Record(counts, (), (), tuple(drawn))


RECORDS: dict[str, Callable[..., Record]] = {
    "train": of_train,
    "study": of_study,
    "evaluate": of_evaluate,
    "report": of_report,
}
