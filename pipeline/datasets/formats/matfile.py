"""MATLAB files (level 5) from strangers: bounded and checked, then read by SciPy.

`scipy.io.loadmat` trusts a file: it allocates what is told before it has read it, inflates without a limit,
and a wrong kind of data ends the process. Here a file's variables are inflated up to a limit, and every array
must be exactly what its own flags and size say, before SciPy sees the file. No code in a MATLAB file is ever
run; objects and functions are refused.

Source: MATLAB, "MAT-File format", version 5.
"""

import io
import math
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

HEADER = 128
# Kinds of elements, and for those that hold numbers or letters the bytes of one.
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
TEXT = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
# Forms of arrays, and the flag of complex numbers.
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
COMPLEX = 0x0800
DEEPEST = 8
LONGEST_FIELD = 64
NAME_BYTES = 512  # enough of a compressed variable to learn its name


class MatFileError(Exception):
    """A file that is not read, with the reason as a phrase."""


class Element(NamedTuple):
    """A piece of a file: its kind, and where its data begins and ends."""

    kind: int
    start: int
    end: int
    next: int


def read_variables(data: bytes, names: Collection[str], most: int) -> dict[str, Any]:
    """Some variables of a MATLAB file, as `scipy.io.loadmat` gives them.

    Parameters
    ----------
    data
        The file's bytes.
    names
        Which variables; those that the file lacks are not in the result, others are skipped unread.
    most
        How many bytes all of them together may have once inflated.

    Raises
    ------
    MatFileError
        The file is damaged, of another version, too large once inflated, or holds in these variables
        anything but numbers, text, cells and structs.
    """
    order = byte_order(data)
    kept = bytearray(data[:HEADER])
    for element in top_level(data, order):
        matrix = inflated(data, element, order, names, most - len(kept))
        if matrix is not None:
            kept += matrix + bytes(-len(matrix) % 8)
    try:
        found = loadmat(io.BytesIO(bytes(kept)), variable_names=list(names))
    except (MatReadError, ValueError, TypeError, KeyError, IndexError, OSError, NotImplementedError) as error:
        raise MatFileError(f"damaged ({str(error).strip() or type(error).__name__})") from error
    return {name: found[name] for name in names if name in found}


def byte_order(data: bytes) -> str:
    """The byte order, as `struct` has it, of a level 5 file."""
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[512:520] == b"\x89HDF\r\n\x1a\n":
        raise MatFileError("a MATLAB 7.3 file: save it again with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < HEADER or struct.unpack_from(f"{order}H", data, 124)[0] >> 8 != 1:
        raise MatFileError("not a MATLAB file of version 5")
    return order


def top_level(data: bytes, order: str) -> Iterator[Element]:
    """The elements that a file consists of: variables, compressed or not."""
    place = HEADER
    while place < len(data):
        element = element_at(data, place, len(data), order)
        if element.kind not in (MATRIX, COMPRESSED):
            raise MatFileError(f"damaged (an element of kind {element.kind} at byte {place})")
        yield element
        # a compressed one is not padded
        place = element.end if element.kind == COMPRESSED else element.next


def element_at(data: bytes, place: int, end: int, order: str) -> Element:
    """The element whose tag is at a place; it must end before `end`."""
    if place + 8 > end:
        raise MatFileError(f"cut short at byte {place}")
    kind, size = struct.unpack_from(f"{order}II", data, place)
    if kind >> 16:  # small data: size and kind share four bytes, up to four bytes of data follow
        kind, size, start, after = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        if size > 4:
            raise MatFileError(f"damaged (a small element of {size} bytes at byte {place})")
    else:
        start = place + 8
        after = start + size + (-size % 8)
    if start + size > end:
        raise MatFileError(f"cut short at byte {place}")
    return Element(kind, start, start + size, min(after, end))


def inflated(data: bytes, element: Element, order: str, names: Collection[str], most: int) -> bytes | None:
    """A wanted variable with its tag, checked; None for any other."""
    if element.kind == MATRIX:
        matrix = data[element.start - 8 : element.end]
        if name_of(matrix, order) not in names:
            return None
    else:
        packed = data[element.start : element.end]
        if name_of(inflate(packed, NAME_BYTES)[0], order) not in names:
            return None
        matrix, whole = inflate(packed, most + 1)
        if len(matrix) > most:
            raise MatFileError("too large once inflated")
        if not whole:
            raise MatFileError("damaged (its compressed data ends early)")
    if len(matrix) > most:
        raise MatFileError("too large")
    outer = element_at(matrix, 0, len(matrix), order)
    if outer.kind != MATRIX:
        raise MatFileError(f"damaged (a variable of kind {outer.kind})")
    check(matrix, outer, order, 0)
    return matrix


def inflate(packed: bytes, most: int) -> tuple[bytes, bool]:
    """At most so many bytes of compressed data, and whether its end was reached."""
    inflater = zlib.decompressobj()
    try:
        return inflater.decompress(packed, most), inflater.eof
    except zlib.error as error:
        raise MatFileError(f"damaged ({error})") from error


def name_of(matrix: bytes, order: str) -> str:
    """The name in the beginning of a variable."""
    place = 8
    for _ in range(2):  # flags, dimensions
        place = element_at(matrix, place, len(matrix), order).next
    name = element_at(matrix, place, len(matrix), order)
    return matrix[name.start : name.end].decode("ascii", "replace")


def check(data: bytes, matrix: Element, order: str, depth: int) -> None:
    """Refuse an array, or one inside it, that is not exactly what its flags and size say."""
    if depth > DEEPEST:
        raise MatFileError(f"nested more than {DEEPEST} deep")
    if matrix.start == matrix.end:
        return  # an empty cell
    parts = children(data, matrix, order)
    flags, shape = head(data, parts, order)
    form, count, room = flags & 0xFF, math.prod(shape), matrix.end - matrix.start
    if min(shape, default=-1) < 0 or count > room:
        raise MatFileError(f"damaged (an array of size {shape} in {room} bytes)")
    if form == CHAR:
        check_data(parts, TEXT, None)
    elif form in NUMBERS:
        for _ in range(2 if flags & COMPLEX else 1):
            check_data(parts, SIZES, count)
    elif form in (CELL, STRUCT):
        cells = count * len(fields(data, parts, order)) if form == STRUCT else count
        for _ in range(cells):
            cell = next(parts, None)
            if cell is None or cell.kind != MATRIX:
                raise MatFileError(f"damaged (fewer cells than the {cells} that are told)")
            check(data, cell, order, depth + 1)
    else:
        raise MatFileError("holds an object, a function or a sparse array, which are not read")
    if next(parts, None) is not None:
        raise MatFileError("damaged (an array holds more than it tells)")


def head(data: bytes, parts: Iterator[Element], order: str) -> tuple[int, tuple[int, ...]]:
    """An array's flags and size; its name is passed over."""
    flags, sizes, name = next(parts, None), next(parts, None), next(parts, None)
    if flags is None or sizes is None or name is None:
        raise MatFileError("damaged (an array without flags, size or name)")
    length = sizes.end - sizes.start
    kinds = (flags.kind, sizes.kind, name.kind)
    if kinds != (UINT32, INT32, INT8) or flags.end - flags.start != 8 or length % 4 or length < 8:
        raise MatFileError("damaged (an array's flags, size or name are of another kind)")
    shape = struct.unpack_from(f"{order}{length // 4}i", data, sizes.start)
    return struct.unpack_from(f"{order}I", data, flags.start)[0], shape


def check_data(parts: Iterator[Element], sizes: Mapping[int, int], count: int | None) -> None:
    """Refuse numbers or letters that are of another kind or number than told; SciPy trusts both."""
    part = next(parts, None)
    if part is None or part.kind not in sizes:
        raise MatFileError("damaged (an array's data is of no known kind)")
    room = part.end - part.start
    if room % sizes[part.kind] or (count is not None and room != count * sizes[part.kind]):
        raise MatFileError(f"damaged ({room} bytes of data where another number is told)")


def fields(data: bytes, parts: Iterator[Element], order: str) -> list[bytes]:
    """The names of a struct's fields."""
    length, names = next(parts, None), next(parts, None)
    if length is None or names is None or (length.kind, names.kind) != (INT32, INT8):
        raise MatFileError("damaged (a struct without fields)")
    width = struct.unpack_from(f"{order}i", data, length.start)[0] if length.end - length.start == 4 else 0
    if not 0 < width <= LONGEST_FIELD or (names.end - names.start) % width:
        raise MatFileError(f"damaged (fields of {width} letters)")
    return [data[place : place + width] for place in range(names.start, names.end, width)]


def children(data: bytes, parent: Element, order: str) -> Iterator[Element]:
    """The elements inside an array."""
    place = parent.start
    while place < parent.end:
        element = element_at(data, place, parent.end, order)
        yield element
        place = element.next
