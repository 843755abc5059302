"""Columns of Parquet tables as labels: each Arrow type is read as what it says, or refused by its name."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.tables import first_line


def plain_columns(table: pa.Table, path: Path, names: Sequence[str], numbers: Sequence[str] = ()) -> pa.Table:
    """Some columns as text and numbers.

    Parameters
    ----------
    table
        A Parquet file's content.
    path
        Where it lies, for messages.
    names
        Which columns.
    numbers
        Those of them that hold targets, and cannot be dates or yes and no.

    Raises
    ------
    UserError
        A column holds lists, structs, durations or bytes that are no text.
    """
    columns = {name: plain(table[name], path, name, name in numbers) for name in dict.fromkeys(names)}
    return pa.table(columns)


def plain(column: pa.ChunkedArray, path: Path, name: str, target: bool) -> pa.ChunkedArray:
    """One column as text, numbers, or yes and no."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        return plain(pa.chunked_array(storage, kind.storage_type), path, name, target)
    if pa.types.is_run_end_encoded(kind):
        decoded = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return plain(pa.chunked_array(decoded, kind.value_type), path, name, target)
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type), path, name, target)
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if any(is_kind(kind) for is_kind in (*text, pa.types.is_integer, pa.types.is_floating)):
        return column
    if not target:
        if pa.types.is_boolean(kind):
            return column
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            try:
                return dates(column)
            except pa.ArrowException as error:
                raise UserError(
                    f"{path}: column {name!r} of type {kind} cannot be read "
                    f"({first_line(error)}): store it as text"
                ) from None
        # old writers do not say of their text that it is UTF-8
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            try:
                return column.cast(pa.string())
            except pa.ArrowInvalid:
                pass
    wanted = "numbers" if target else "text or numbers"
    raise UserError(
        f"{path}: column {name!r} is {kind}, not {wanted}: convert it, or list in the setting 'groups' the "
        "columns that are groups"
    )


def dates(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates and times as text; Arrow has one and the same text for many years beyond 9999."""
    year = pc.year(column)
    if pc.any(pc.or_(pc.less(year, 1), pc.greater(year, 9999))).as_py():
        raise pa.ArrowInvalid("it holds dates beyond the years 1 to 9999")
    return column.cast(pa.string())
