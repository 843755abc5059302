"""The tables of docs/uncertainty.md: errors, coverage, widths and answers to 'under 18?' on face vectors.

python -m bench.accuracy.uncertainty VECTORS [--profile profiles/utkface-vectors.yaml] [--seeds 20]
    [--optimizer adam] [--policy fixed] [--rate 0.001] [--rows 0] [--repeats 1] [--workers N]
    [--set KEY=VALUE ...]

Runs the stages from ingest to calibrate in a temporary folder, for one optimiser and policy, and measures
test faces. `--rows 2000` takes so many faces at random, to try it; `--repeats 5` does everything again under
other root seeds, that is with other splits, models and draws, and adds the means over them.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline import config as parameters
from pipeline.config import Params
from pipeline.config.profiles import use
from pipeline.core.tables import read_table
from pipeline.evaluation.method_names import percent
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.stated_uncertainty import Uncertainty, middle_level
from pipeline.stages import augment, calibrate, crop, embed, find_lr, ingest, locations, split, train
from pipeline.stages.uncertain import measured_uncertainty

PROJECT = Path(__file__).resolve().parents[2]
TOLERANCE = 0.015  # conformal intervals of 90 % shall cover 90 % of test faces, give or take as much


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--profile", type=Path, default=PROJECT / "profiles/utkface-vectors.yaml")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--policy", default="fixed")
    parser.add_argument("--rate", type=float, default=1e-3, help="of policy fixed")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--set", dest="assign", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def settings_of(wanted: argparse.Namespace, vectors: Path, repeat: int) -> Params:
    """params.yaml of the project with the profile and what was asked for here."""
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    use(
        wanted.profile,
        [
            f"data.root={vectors}",
            f"train.optimizers=[{wanted.optimizer}]",
            f"train.policies=[{wanted.policy}]",
            f"train.seeds={wanted.seeds}",
            f"train.{wanted.optimizer}.lr={wanted.rate!r}",
            f"calibrate.optimizer={wanted.optimizer}",
            f"calibrate.policy={wanted.policy}",
            *wanted.assign,
        ],
    )
    found = parameters.load()
    return found.model_copy(update={"seed": found.seed + repeat})


def measure(settings: Params, wanted: argparse.Namespace) -> Uncertainty:
    """Every stage up to calibrate, then the measures on test faces."""
    for stage in (ingest, crop, split, embed, augment):
        stage.run(settings, wanted.workers)
    find_lr.run(settings, wanted.workers, optimizer=wanted.optimizer)
    train.run(settings, wanted.workers, optimizer=wanted.optimizer, policy=wanted.policy)
    print(dict(calibrate.run(settings, wanted.workers)))
    asked = settings.evaluate
    found = measured_uncertainty(
        settings, Settings(seed=settings.seed, threshold=asked.threshold, resamples=asked.resamples)
    )
    if found is None:
        raise RuntimeError("the stage calibrate left nothing behind")
    return found


def show(title: str, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    known = {key: label for key, label in columns.items() if key in frame}
    shown = frame[list(known)].rename(columns=known)
    print(f"\n{title}")
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="-"), flush=True)


def print_all(found: Uncertainty) -> None:
    levels = [percent(level) for level in found.levels]
    level = percent(middle_level(found))
    show(
        "intervals and distributions on test faces",
        found.methods,
        {
            "title": "method",
            "mae": "MAE",
            "crps": "CRPS",
            **{f"coverage_{one}": f"cov {one}" for one in levels},
            **{f"width_{one}": f"width {one}" for one in levels},
            f"worst_{level}": f"worst {level}",
            f"worst_group_{level}": "group",
        },
    )
    if found.settings.threshold is None:
        return
    rate = percent(found.rate)
    show(
        f"under {found.settings.threshold:g}, on test faces",
        found.methods,
        {
            "title": "method",
            "under": "under",
            "brier": "Brier",
            "roc_auc": "ROC area",
            "average_precision": "AP",
            "fnr": f"FNR at {rate} % FPR",
            "fnr_low": "from",
            "fnr_high": "to",
            "cut_fnr": "FNR, validation's cut",
            "cut_fpr": "FPR, validation's cut",
        },
    )


def verdicts(found: Uncertainty) -> None:
    """Whether conformal intervals hold what they promise, and whether an ensemble beats its best member."""
    methods = found.methods.set_index(["method", "kind"])
    if 0.9 in found.levels:
        conformal = found.methods[found.methods["kind"] != "raw"]
        off = (conformal["coverage_90"] - 0.9).abs()
        print(
            f"\nconformal 90 % intervals cover {conformal['coverage_90'].min():.3f} to "
            f"{conformal['coverage_90'].max():.3f} of {int(conformal['faces'].iloc[0])} test faces: "
            f"{int((off <= TOLERANCE).sum())} of {len(off)} within {TOLERANCE:.3f}"
        )
    single, ensemble = (methods.loc[(name, "raw"), "mae"] for name in ("single", "ensemble"))
    verdict = "below" if ensemble < single else "NOT below"
    print(f"ensemble's MAE {ensemble:.3f} is {verdict} that of the best member on validation, {single:.3f}")


def main() -> None:
    wanted = options()
    vectors, repeats = wanted.vectors.resolve(), []
    wanted.profile = wanted.profile.resolve()
    for repeat in range(wanted.repeats):
        with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
            if wanted.rows:
                table = pq.read_table(vectors)
                some = np.random.default_rng(repeat).permutation(table.num_rows)[: wanted.rows]
                vectors = Path(folder) / "some.parquet"
                pq.write_table(table.take(np.sort(some)), vectors)
            settings = settings_of(wanted, vectors, repeat)
            start = time.perf_counter()
            found = measure(settings, wanted)
            splits = read_table(locations.SPLITS)["split"].value_counts().to_pylist()
            print(f"root seed {settings.seed}: {time.perf_counter() - start:.0f} s, {splits}")
            print_all(found)
            verdicts(found)
            repeats.append(found.methods)
            vectors = wanted.vectors.resolve()
    if len(repeats) > 1:
        names = repeats[0]["title"]
        numbers = [frame.select_dtypes("number") for frame in repeats]
        means = sum(numbers[1:], numbers[0]) / len(numbers)
        mean = Uncertainty(
            **{**vars(found), "methods": pd.concat([repeats[0][["method", "kind"]], names, means], axis=1)}
        )
        print(f"\n=== means over {len(repeats)} root seeds")
        print_all(mean)
        verdicts(mean)


if __name__ == "__main__":
    main()
