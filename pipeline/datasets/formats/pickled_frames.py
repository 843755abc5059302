"""pandas DataFrames read from a pickle as data: nothing in the file is called, ever.

A pickle is a program for a machine that can import and call anything. Restricting what it may import is
not enough, because allowed names can be put to other uses. So the machine is not started here: the
standard library's `pickletools` decodes the instructions, the few that a DataFrame is made of
(`frame_opcodes.py`) are followed to a tree of plain values in which every "call" is only noted down, and
this module takes columns out of that tree. Array bytes are checked against their declared shape, so that
what is built is never larger than the file.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.datasets.formats.pickle_opcodes import Call, Refused, decode

DTYPE = re.compile(r"[fiu][1248]|b1|O8?", re.ASCII)
OFFSETS: dict[str, np.dtype[Any]] = {
    "string": np.dtype("<i4"),
    "large_string": np.dtype("<i8"),
}
EXPORT = "write the table to Parquet and read it as 'vectors'"


def read_frame(path: Path) -> dict[str, list[Any]]:
    """Read a pickled DataFrame's columns without executing anything in the file.

    Parameters
    ----------
    path
        A pickle (protocol 2 or later) of one DataFrame, written by pandas 0.25 or later: numeric, boolean
        and object columns, and text columns of pandas 3.

    Returns
    -------
    dict
        Column name to its values in row order: Python scalars, lists, or arrays of numbers.

    Raises
    ------
    UserError
        The file is not such a pickle; the message names the byte and what was asked for.
    """
    try:
        data = path.read_bytes()
        return columns_of(decode(data), len(data))
    except Refused as error:
        raise UserError(f"{path} was refused, nothing in it was executed: {error}; {EXPORT}") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{path} is not a pickled DataFrame, or it is damaged ({type(error).__name__}: {first:.100}); "
            f"{EXPORT}"
        ) from error


def columns_of(tree: object, size: int) -> dict[str, list[Any]]:
    """A decoded frame's columns, of no more values than the file has bytes (`size`)."""
    frame = called(tree, "DataFrame")
    if not isinstance(frame.state, dict):
        raise Refused("the DataFrame has no content")
    # pandas renamed _data to _mgr in 1.1; from 1.3 on the manager's parts are arguments, not a state.
    manager = called(frame.state.get("_mgr", frame.state.get("_data")), "BlockManager")
    if manager.arguments:
        blocks, axes = manager.arguments
        parts = [called(block, "_unpickle_block").arguments[:2] for block in blocks]
    else:
        inner = manager.state[3]["0.14.1"]
        axes = inner["axes"]
        parts = [(block["values"], block["mgr_locs"]) for block in inner["blocks"]]
    budget = Budget(size)
    names = block_rows(called(axes[0], "_new_Index").arguments[1]["data"], budget)[0]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise Refused("the column names are not different texts")
    columns: dict[str, list[Any]] = {}
    for values, placement in parts:
        rows = block_rows(values, budget)
        places = positions(placement, len(names))
        if len(places) != len(rows):
            raise Refused(f"a block of {len(rows)} columns is placed at {len(places)}")
        columns.update({names[place]: row for place, row in zip(places, rows, strict=True)})
    if set(columns) != set(names) or len({len(column) for column in columns.values()}) > 1:
        raise Refused("columns are missing or of different lengths")
    return columns


@dataclass(slots=True)
class Budget:
    """How many values may still be made. Every honest value has a byte of its own in the file."""

    left: int

    def spend(self, count: int) -> None:
        """Account for values about to be made."""
        self.left -= count
        if self.left < 0:
            raise Refused("it makes more values than the file has bytes")


def called(node: object, *names: str) -> Call:
    """A note of a call to one of these names."""
    if not isinstance(node, Call) or node.name not in names:
        found = node.name if isinstance(node, Call) else type(node).__name__
        raise Refused(f"expected {' or '.join(names)}, found {found}")
    return node


def positions(node: object, count: int) -> list[int]:
    """Which columns a block holds: a slice or an array of positions, all of them below `count`."""
    if isinstance(node, Call) and node.name == "slice":
        bounds = [None if bound is None else int(bound) for bound in node.arguments]
        return list(range(count))[slice(*bounds)]
    places = [int(place) for place in array_of(node).tolist()]
    if any(not 0 <= place < count for place in places):
        raise Refused("a block lies outside the table")
    return places


def block_rows(node: object, budget: Budget) -> list[list[Any]]:
    """The columns of one block."""
    if isinstance(node, Call) and node.name.startswith("ArrowStringArray"):
        return [arrow_text(called(node.state["_pa_array"], "_restore_array"), budget)]
    array = array_of(node)
    columns = array if array.ndim == 2 else array[None]
    # Columns without rows cost as well: there may be 2**40 of them in no bytes at all.
    budget.spend(max(array.size, len(columns)))
    return [cells(column, budget) for column in columns]


def cells(column: npt.NDArray[Any], budget: Budget) -> list[Any]:
    """A column's values; those that are themselves lists or arrays of numbers are accounted for."""
    values: list[Any] = column.tolist()
    for index, value in enumerate(values):
        if isinstance(value, Call):
            values[index] = array_of(value, objects=False)
        if isinstance(value, Call | list):
            budget.spend(len(values[index]))
    return values


def array_of(node: object, objects: bool = True) -> npt.NDArray[Any]:
    """A NumPy array from the notes of `_frombuffer` or `_reconstruct`, its size checked first."""
    call = called(node, "_frombuffer", "_reconstruct")
    if call.name == "_frombuffer":
        content, dtype, shape, order = call.arguments
        fortran = order == "F"
    else:
        if call.state is None:
            raise Refused("an array has no content")
        _, shape, dtype, fortran, content = call.state
    kind = dtype_of(dtype)
    sizes = [shape] if isinstance(shape, int) else list(shape)
    if not all(type(size) is int and size >= 0 for size in sizes) or not 1 <= len(sizes) <= 2:
        raise Refused(f"an array has the shape {sizes!r:.40}")
    count = math.prod(sizes)
    if kind.hasobject:
        if not objects:
            raise Refused("a cell holds an array of objects")
        if not isinstance(content, list) or len(content) != count:
            raise Refused(f"an array of shape {sizes} does not hold {count} values")
        array = np.empty(count, dtype=object)
        for index, cell in enumerate(content):
            array[index] = cell
        return array.reshape(sizes)
    if not isinstance(content, bytes | bytearray) or len(content) != count * kind.itemsize:
        raise Refused(
            f"an array of shape {sizes} and type {kind} does not hold {count * kind.itemsize} bytes"
        )
    return np.frombuffer(content, kind).reshape(sizes, order="F" if fortran else "C")


def dtype_of(node: object) -> np.dtype[Any]:
    """A NumPy type from its note: numbers, booleans and objects only."""
    call = called(node, "dtype")
    text = call.arguments[0]
    if not isinstance(text, str) or not DTYPE.fullmatch(text):
        raise Refused(f"an array has the type {text!r:.40}")
    if text.startswith("O"):
        return np.dtype(object)
    order = call.state[1] if call.state is not None else "="
    if order not in ("<", ">", "=", "|"):
        raise Refused(f"an array has the byte order {order!r:.40}")
    return np.dtype(f"{order}{text}")


def arrow_text(call: Call, budget: Budget) -> list[str | None]:
    """A text column of pandas 3: offsets into UTF-8 bytes, as Arrow lays them out."""
    kind, length, _, offset, buffers, _, _ = call.arguments[0]
    (name,) = called(kind, "type_for_alias").arguments
    if not isinstance(name, str) or name not in OFFSETS:
        raise Refused("a text column has another type than text")
    if type(length) is not int or type(offset) is not int or min(length, offset) < 0:
        raise Refused("a text column has no proper length")
    if length == 0:
        return []
    valid, ends, content = (None if part is None else buffer_bytes(part) for part in buffers)
    if ends is None or content is None:
        raise Refused("a text column has no content")
    width = OFFSETS[name].itemsize
    bounds = np.frombuffer(ends[offset * width : (offset + length + 1) * width], OFFSETS[name])
    if len(bounds) != length + 1 or bounds[0] < 0 or bounds[-1] > len(content) or (np.diff(bounds) < 0).any():
        raise Refused("a text column's offsets do not fit its content")
    budget.spend(length + int(bounds[-1] - bounds[0]))
    present = np.ones(length, bool)
    if valid is not None:
        bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
        present = bits[offset : offset + length].astype(bool)
    return [
        content[start:end].decode("utf-8") if is_there else None
        for start, end, is_there in zip(bounds[:-1], bounds[1:], present, strict=True)
    ]


def buffer_bytes(node: object) -> bytes | bytearray:
    """The bytes of an Arrow buffer."""
    content = called(node, "py_buffer").arguments[0]
    if not isinstance(content, bytes | bytearray):
        raise Refused("a text column's buffer is not bytes")
    return content
