"""A table as data: a frame and how its columns read.

Written as CSV it has one header row and fixed formatting; on the page its columns are grouped under
headings and its best numbers are marked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.core.shown import cell as cell_of_csv
from pipeline.core.tables import atomic_file

CSV_FORMAT = "%.6g"


@dataclass(frozen=True)
class Column:
    """How a column reads: `format` is Python's or a function, `best` the end of its scale that is marked."""

    key: str
    label: str
    format: str | Callable[[Any], str] = ""
    group: str = ""
    best: Literal["", "lowest", "highest"] = ""


@dataclass(frozen=True)
class Table:
    """A table: `name` is its file's; `marked` are the positions of rows that stand out."""

    name: str
    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    note: str = ""
    marked: frozenset[int] = frozenset()
    long: bool = False

    def cells(self, column: Column) -> list[str]:
        """One column as text; a dash where there is no number."""
        return [cell(value, column.format) for value in self.frame[column.key]]

    def is_number(self, column: Column) -> bool:
        """Whether a column is set flush right."""
        return bool(pd.api.types.is_numeric_dtype(self.frame[column.key]))

    def best(self, column: Column) -> int | None:
        """The position of a column's best number, if one is to be marked."""
        values = self.frame[column.key]
        if not column.best or len(values) < 2 or values.isna().all():
            return None
        return int(np.nanargmin(values) if column.best == "lowest" else np.nanargmax(values))


def cell(value: Any, form: str | Callable[[Any], str]) -> str:
    """A value as text."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return form(value) if callable(form) else format(value, form)


def as_csv(table: Table) -> bytes:
    """A table as CSV: UTF-8, six significant digits, empty where there is no number, no formula."""
    shown = table.frame[[column.key for column in table.columns]].rename(columns=cell_of_csv)
    for name in shown.columns:
        if not pd.api.types.is_numeric_dtype(shown[name]):
            shown[name] = shown[name].map(cell_of_csv)
    return shown.to_csv(index=False, float_format=CSV_FORMAT, lineterminator="\n").encode()


def write(tables: Sequence[Table], folder: Path) -> None:
    """Write each table as {name}.csv."""
    for table in tables:
        with atomic_file(folder / f"{table.name}.csv") as file:
            file.write(as_csv(table))
