"""The same runs on several folds, joined: mean errors, and their spread over folds and over seeds."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.files import walk
from pipeline.core.places import lies_in, resolved
from pipeline.core.tables import atomic_file, open_table
from pipeline.evaluation.results import REAL, WHOLE, columns, read_frame
from pipeline.evaluation.table import Column, Table, as_csv
from pipeline.metrics.folds import over_folds

SCORES = columns(("val_mae", "test_mae"), seed=WHOLE, val_mae=REAL, test_mae=REAL)
MEASURES = ("test_mae", "val_mae")
Scores = dict[str, pd.DataFrame]


def join(folders: Sequence[Path]) -> Table:
    """One row for every run: its errors as means over folds, each being the mean of its seeds.

    Parameters
    ----------
    folders
        One for each fold: what `models/` was after it, models on vectors and whole networks alike.

    Raises
    ------
    UserError
        For fewer than two folders, one without scores, a run that not all folders have, with as many seeds, a
        fold that is there twice, and runs that other settings left behind in several.

    Notes
    -----
    A network that diverged is left out and counted; see `pipeline.metrics.folds.over_folds`.
    """
    found = [read_fold(folder) for folder in folders]
    if len(folders) < 2:
        raise UserError(f"{len(folders)} fold has no spread over folds: name the folders of two or more")
    check_different(found, folders)
    rows = []
    for run in dict.fromkeys(name for fold in found for name in fold):
        owner = next(folder for fold, folder in zip(found, folders, strict=True) if run in fold)
        parts = [part_of(fold, run, folder, owner) for fold, folder in zip(found, folders, strict=True)]
        check_seeds(run, parts, folders)
        row: dict[str, Any] = {"run": run, "folds": len(parts)}
        for measure in MEASURES:
            scores = over_folds([part[measure] for part in parts])
            row |= {"seeds": scores.seeds, "diverged": scores.diverged, measure: scores.mean}
            row |= {f"{measure}_fold_std": scores.fold_std, f"{measure}_seed_std": scores.seed_std}
        rows.append(row)
    shown = [Column("run", "run"), *(Column(key, key, "d") for key in ("folds", "seeds", "diverged"))]
    for measure, heading in zip(MEASURES, ("test MAE", "validation MAE"), strict=True):
        shown.append(Column(measure, heading, ".3f", "", "lowest"))
        shown.append(Column(f"{measure}_fold_std", "std over folds", ".3f"))
        shown.append(Column(f"{measure}_seed_std", "std over seeds", ".3f"))
    return Table("folds", "Means and spreads over folds and seeds", pd.DataFrame(rows), tuple(shown))


def read_fold(folder: Path) -> Scores:
    """The scores of every run of a fold, by their place in the folder; NaN where a network diverged."""
    if not folder.is_dir():
        why = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {why}: name a copy of the folder models")
    found = {}
    for path in scores_below(folder):
        if not {*SCORES.names, "diverged"} <= set(open_table(path).schema_arrow.names):
            continue  # classifiers have other scores
        frame = read_frame(path, SCORES, extra=["diverged"])
        # A sentence, or yes or no. Whatever such a network scored by accident must not reach a mean.
        gone = [bool(pd.notna(value) and value) for value in frame["diverged"]]
        frame.loc[gone, list(MEASURES)] = np.nan
        if len(frame):
            found[path.parent.relative_to(folder).as_posix()] = frame
    if not found:
        raise UserError(f"{folder} holds no scores.parquet with a test_mae: name a copy of the folder models")
    return found


def scores_below(folder: Path) -> list[Path]:
    """Every scores.parquet below a folder, in the order of names.

    Raises
    ------
    UserError
        A folder cannot be listed: its runs would be missing without a word.
    """

    def unlisted(relative: str, error: OSError) -> None:
        raise UserError(f"{folder / relative} cannot be listed ({error.strerror or error}): make it readable")

    return [
        folder / one for one in walk(str(folder), unlisted) if PurePosixPath(one).name == "scores.parquet"
    ]


def check_different(found: Sequence[Scores], folders: Sequence[Path]) -> None:
    """No two folds share errors: neither a fold that is there twice, nor a run that was never trained anew.

    DVC deletes no outputs of settings that are gone, so that `models/` keeps them and every copy has them.
    """
    for (one, first), (other, second) in combinations(zip(found, folders, strict=True), 2):
        alike = [run for run in one if run in other and same(errors_of(one[run]), errors_of(other[run]))]
        if not alike:
            continue
        what = f"{first} and {second} have the same errors in"
        if len(alike) == len(one) == len(other):
            raise UserError(f"{what} every run: they are one fold")
        runs = f"the run{'s' if len(alike) > 1 else ''} {', '.join(alike)}"
        them, those = ("them", "those folders") if len(alike) > 1 else ("it", "that folder")
        raise UserError(f"{what} {runs}: other settings left {them} behind, delete {those} in both")


def part_of(fold: Scores, run: str, folder: Path, owner: Path) -> pd.DataFrame:
    """One run's scores in a fold; `owner` is a fold that has the run."""
    if run not in fold:
        raise UserError(
            f"{folder} lacks the run {run!r} that another fold has: train it there, or delete {owner / run} "
            "if other settings left it behind"
        )
    return fold[run]


def check_seeds(run: str, parts: Sequence[pd.DataFrame], folders: Sequence[Path]) -> None:
    """The same number of seeds in every fold."""
    for part, folder in zip(parts, folders, strict=True):
        if len(part) != len(parts[0]):
            raise UserError(
                f"run {run!r} has {len(part)} seeds in {folder} and {len(parts[0])} in {folders[0]}: "
                "train all folds with the same seeds"
            )


def errors_of(scores: pd.DataFrame) -> NDArray[np.float64]:
    """The errors of one run's seeds, (seeds, measures)."""
    return scores[list(MEASURES)].to_numpy(dtype=np.float64)


def same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two arrays of errors are the same numbers, at least one."""
    return bool(np.isfinite(a).any() and np.array_equal(a, b, equal_nan=True))


def write(table: Table, folders: Sequence[Path], output: Path, *, force: bool = False) -> None:
    """Write the table as folds.csv into a folder; a link of that name stays one.

    Raises
    ------
    UserError
        The folder lies in one of the folds, or holds a folds.csv of another kind, which `force` replaces.
    """
    for folder in folders:
        if lies_in(output, folder):
            raise UserError(f"{output} lies in the fold {folder}, which is only read: name another folder")
    path = resolved(output / f"{table.name}.csv")
    if path.exists() and not force and not is_own(path, table):
        raise UserError(
            f"{path} exists and is no table of folds: name another folder, or replace it with --force"
        )
    with atomic_file(path) as file:
        file.write(as_csv(table))


def is_own(path: Path, table: Table) -> bool:
    """Whether a file has the header of such a table, or nothing at all."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline() in (b"", ",".join(column.key for column in table.columns).encode() + b"\n")


def as_text(table: Table) -> str:
    """The table as aligned lines for a terminal."""
    cells = pd.DataFrame({k: table.cells(column) for k, column in enumerate(table.columns)})
    return cells.to_string(index=False, header=[column.label for column in table.columns])
