"""MATLAB files: true ones are read as SciPy reads them, hostile ones are refused before SciPy sees them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pipeline.datasets.formats.matfile import MatFileError, read_variables

MOST = 1 << 20


def saved(variables: dict[str, Any], compressed: bool = True) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=compressed)
    return file.getvalue()


def cells(items: list[Any]) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    for place, item in enumerate(items):
        made[0, place] = item
    return made


VARIABLES = {
    "Pose_Para": np.arange(7, dtype=np.float32)[None],
    "complex": np.array([[1 + 2j, 3]]),
    "table": {
        "age": np.array([[1.5, np.nan]]),
        "name": cells(["Ann", "Böb"]),
        "boxes": cells([np.eye(2), []]),
    },
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_what_scipy_reads(name, compressed):
    data = saved({"other": np.ones((50, 50)), **VARIABLES}, compressed)
    found = read_variables(data, [name], MOST)
    assert list(found) == [name]
    expected = loadmat(io.BytesIO(data), variable_names=[name])[name]
    assert found[name].dtype == expected.dtype
    assert repr(found[name]) == repr(expected)
    assert read_variables(data, ["nothing"], MOST) == {}


def test_a_variable_that_is_not_wanted_may_be_anything():
    data = bytearray(saved({"bad": np.ones((3, 3)), "good": np.ones((1, 2))}, compressed=False))
    place = data.index(struct.pack("<II", 9, 72))  # the tag of the nine doubles
    data[place : place + 4] = struct.pack("<I", 77)
    assert read_variables(bytes(data), ["good"], MOST)["good"].tolist() == [[1, 1]]
    with pytest.raises(MatFileError, match="no known kind"):
        read_variables(bytes(data), ["bad"], MOST)


def test_what_inflates_beyond_the_limit_is_refused_unread():
    data = saved({"bomb": np.zeros((1, 4 * MOST // 8))})
    assert len(data) < MOST / 50
    with pytest.raises(MatFileError, match="too large once inflated"):
        read_variables(data, ["bomb"], MOST)
    assert read_variables(data, ["other"], MOST) == {}


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


PLAIN = saved({"x": np.ones((3, 5))}, compressed=False)
SHAPE = struct.pack("<IIii", 5, 8, 3, 5)
CELLS = saved({"x": cells(["a", "b", "c"])}, compressed=False)
CELL_SHAPE = struct.pack("<IIii", 5, 8, 1, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a MATLAB file"),
        (b"x" * 200, "not a MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "7.3 file: save it again"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(600), "7.3 file"),
        (PLAIN[:-3], "cut short"),
        (PLAIN[:140], "cut short"),
        (patched(PLAIN, SHAPE, struct.pack("<IIii", 5, 8, 2**30, 2**30)), "an array of size"),
        (patched(PLAIN, SHAPE, struct.pack("<IIii", 5, 8, -3, -5)), "an array of size"),
        (patched(PLAIN, SHAPE, struct.pack("<IIii", 5, 8, 3, 4)), "bytes of data where another number"),
        (patched(PLAIN, SHAPE, struct.pack("<IIii", 6, 8, 3, 5)), "of another kind"),
        (patched(CELLS, CELL_SHAPE, struct.pack("<IIii", 5, 8, 1, 4)), "fewer cells"),
        (patched(CELLS, CELL_SHAPE, struct.pack("<IIii", 5, 8, 1, 2)), "more than it tells"),
        (patched(CELLS, CELL_SHAPE, struct.pack("<IIii", 5, 8, 2**30, 1)), "an array of size"),
        (saved({"x": np.ones((3, 5))})[:-20] + bytes(20), "damaged"),
    ],
)
def test_a_damaged_or_lying_file_is_refused_with_what_is_wrong(data, message):
    with pytest.raises(MatFileError, match=message):
        read_variables(data, ["x"], MOST)


def test_objects_functions_and_sparse_arrays_are_refused():
    for form in (3, 5, 16, 17):
        flags = struct.pack("<IIII", 6, 8, form, 0)
        data = patched(PLAIN, struct.pack("<IIII", 6, 8, 6, 0), flags)
        with pytest.raises(MatFileError, match="an object, a function or a sparse array"):
            read_variables(data, ["x"], MOST)


def test_cells_in_cells_are_followed_only_so_deep():
    nested: Any = np.ones((1, 1))
    for _ in range(30):
        nested = cells([nested])
    with pytest.raises(MatFileError, match="nested more than 8 deep"):
        read_variables(saved({"x": nested}), ["x"], MOST)


@pytest.mark.parametrize("compressed", [False, True])
def test_files_with_random_errors_are_read_or_refused_and_never_end_the_process(compressed):
    good = saved(VARIABLES, compressed)
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(400):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(0, 256)
        try:
            read_variables(bytes(data), list(VARIABLES), MOST)
            outcomes.add("read")
        except MatFileError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_compressed_variable_that_is_none_is_refused():
    packed = zlib.compress(struct.pack("<II", 9, 8) + bytes(400))
    data = PLAIN[:128] + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(MatFileError, match=r"cut short|damaged"):
        read_variables(data, ["x", "", "\0"], MOST)
