"""A study on real vectors, ages 1 to 18, and what its best settings gain over the fixed and the found rate.

    python -m bench.accuracy.study_underage utkface_vectors.parquet [--optimizer adam] [--folder underage]

60 trials of 5 seeds each; the best is trained again from 20 seeds that the study did not use, and compared
with D1 (the fixed rate) and E1 (the finder's) from the same seeds. Interrupted, the same command goes on.
Everything is kept in the folder: `studies/`, `models/`, and `reports/index.html` with --report.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

from pipeline import config
from pipeline.config.profiles import use
from pipeline.evaluation import results
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Table
from pipeline.report import study_section
from pipeline.stages import locations
from pipeline.stages.running import run_stage

PROJECT = Path(__file__).resolve().parents[2]


def markdown(table: Table) -> str:
    """A table of the report as Markdown."""
    labels = [f"{column.group} {column.label}".strip() for column in table.columns]
    cells = zip(*(table.cells(column) for column in table.columns), strict=True)
    lines = [labels, ["---"] * len(labels), *map(list, cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--optimizer", default="adam", choices=["adam", "adagrad", "sgd", "swa"])
    parser.add_argument("--folder", type=Path, default=Path("underage"))
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5, help="models a trial")
    parser.add_argument("--models", type=int, default=20, help="seeds of the comparison")
    parser.add_argument("--epochs", type=int, default=100, help="at most, of trials and of the comparison")
    parser.add_argument("--report", action="store_true", help="evaluate, and write the page too")
    given = parser.parse_args()

    vectors = given.vectors.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(given.folder)
    if not Path("params.yaml").exists():
        shutil.copy(PROJECT / "params.yaml", "params.yaml")
    use(
        PROJECT / "profiles/utkface-underage.yaml",
        [
            f"data.root={vectors}",
            f"train.optimizers=[{given.optimizer}]",
            f"train.seeds={given.models}",
            f"train.recipe.epochs={given.epochs}",
            f"study.optimizer={given.optimizer}",
            f"study.trials={given.trials}",
            f"study.seeds={given.seeds}",
            f"study.epochs={given.epochs}",
            "study.group=12",
            "study.pruning.method=median",
            "study.pruning.warmup=8",
            "study.pruning.every=4",
            "study.space.lr={low: 1.0e-5, high: 0.1, log: true}",
            "tracking.trackers=[]",
        ],
    )
    for stage in ("ingest", "crop", "split", "embed", "augment"):
        run_stage(stage, None)
    run_stage("find_lr", None, optimizer=given.optimizer)
    for policy in ("fixed", "found"):
        run_stage("train", None, policy=policy, optimizer=given.optimizer)
    run_stage("study", None)
    if given.report:
        run_stage("evaluate", None)
        run_stage("report", None)

    found = study_section.read(locations.STUDIES)
    assert found is not None
    runs = results.read(locations.FACES, locations.MODELS, ("fixed", "found"), (given.optimizer,)).runs
    found = study_section.with_rivals(found, runs)
    log = json.loads((locations.LOGS / "study.json").read_text(encoding="utf-8"))
    trained = log["summary"]["trained now"]
    print(
        f"\n{len(found.trials)} trials x {given.seeds} seeds; {trained} of them trained now; "
        f"{log['seconds']:.0f} s with the comparison's models, on {log['cores']} cores; best rate "
        f"{log['summary']['its lr']:.3g}\n"
    )
    wanted = config.load()
    settings = Settings(seed=wanted.seed, resamples=wanted.evaluate.resamples)
    print(markdown(study_section.comparison_table(found, settings)))


if __name__ == "__main__":
    main()
