"""Pickled frames: honest ones are read, hostile ones are refused and nothing of them runs."""

import copyreg
import io
import os
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.embedding_sets import VectorRecord, build_vector_manifest
from pipeline.datasets.formats.pickle_opcodes import Refused, decode
from pipeline.datasets.formats.pickled_frames import columns_of, read_frame
from pipeline.datasets.manifest import Record

WIDTH = 8


def frame(rows: int = 6, text: Any = "str") -> pd.DataFrame:
    rng = np.random.default_rng(1)
    whole = pd.DataFrame(
        {
            "age": np.arange(rows) + 8.0,
            "imageno": np.arange(rows),
            "uuids": pd.Series([f"u{n // 2}" for n in range(rows)], dtype=text),
            "filename": pd.Series([f"u{n // 2}_é_{n}.jpg" for n in range(rows)], dtype=text),
            "testset": np.arange(rows) % 3 == 0,
            "embedding": rng.normal(size=(rows, WIDTH)).tolist(),
        }
    )
    # As the set itself was made: rows of a larger frame.
    return whole[~whole["testset"]]


def save(path: Path, content: bytes) -> Path:
    file = path / "frame.pkl"
    file.write_bytes(content)
    return file


def same(columns: dict[str, list[Any]], expected: pd.DataFrame) -> None:
    assert set(columns) == set(expected.columns)
    for name in expected.columns:
        assert columns[name] == expected[name].tolist(), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text", ["str", object])
def test_reads_what_pandas_writes(tmp_path: Path, protocol: int, text: Any) -> None:
    expected = frame(text=text)
    same(read_frame(save(tmp_path, pickle.dumps(expected, protocol=protocol))), expected)


def test_reads_the_names_of_old_numpy_and_pandas(tmp_path: Path) -> None:
    # Protocol 2 writes names as lines of text, which can be exchanged.
    content = pickle.dumps(frame(text=object), protocol=2)
    for new, old in (
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        (b"cpandas\nDataFrame\n", b"cpandas.core.frame\nDataFrame\n"),
        (b"cpandas\nIndex\n", b"cpandas.core.indexes.base\nIndex\n"),
    ):
        assert new in content or old in content
        content = content.replace(new, old)
    same(read_frame(save(tmp_path, content)), frame())


def old_layout(columns: dict[str, np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A frame as pandas 0.25 to 1.2 pickled it: a manager with a state, blocks as dictionaries."""

    def stand_in(module: str, name: str) -> type:
        kind = type(name, (), {"__module__": module})
        holder = types.ModuleType(module)
        setattr(holder, name, kind)
        monkeypatch.setitem(sys.modules, module, holder)
        return kind

    base = types.ModuleType("pandas.core.indexes.base")
    monkeypatch.setitem(sys.modules, "pandas.core.indexes.base", base)
    index = type("Index", (), {"__module__": "pandas.core.indexes.base"})

    def _new_Index(cls: type, details: dict[str, Any]) -> object:
        return cls, details

    _new_Index.__module__ = "pandas.core.indexes.base"
    _new_Index.__qualname__ = "_new_Index"
    base.Index, base._new_Index = index, _new_Index  # type: ignore[attr-defined]
    numeric = stand_in("pandas.core.indexes.numeric", "Int64Index")
    manager_class = stand_in("pandas.core.internals.managers", "BlockManager")
    frame_class = stand_in("pandas.core.frame", "DataFrame")

    class Reduced:
        def __init__(self, *parts: Any) -> None:
            self.parts = parts

        def __reduce__(self) -> tuple[Any, ...]:
            return self.parts

    names = np.array(list(columns), dtype=object)
    rows = len(next(iter(columns.values())))
    axes = [
        Reduced(_new_Index, (index, {"data": names, "name": None})),
        Reduced(_new_Index, (numeric, {"data": np.arange(rows), "name": None})),
    ]
    blocks = [
        {"values": values[None], "mgr_locs": slice(k, k + 1, None)}
        for k, values in enumerate(columns.values())
    ]
    state = (axes, [block["values"] for block in blocks], [], {"0.14.1": {"axes": axes, "blocks": blocks}})
    manager = Reduced(copyreg.__newobj__, (manager_class,), state)  # type: ignore[attr-defined]
    whole = Reduced(
        copyreg.__newobj__,  # type: ignore[attr-defined]
        (frame_class,),
        {"_data": manager, "_typ": "dataframe", "_metadata": []},
    )

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def save_reduce(self, func: Any, args: Any, state: Any = None, *rest: Any, **named: Any) -> None:
            if func is copyreg.__newobj__:  # type: ignore[attr-defined]
                self.save(args[0])
                self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
                if state is not None:
                    self.save(state)
                    self.write(pickle.BUILD)
            else:
                super().save_reduce(func, args, state, *rest, **named)

    out = io.BytesIO()
    Pickler(out, 3).dump(whole)
    return out.getvalue()


def test_reads_the_layout_of_pandas_before_1_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.empty(2, dtype=object)
    cells[:] = [[0.5, 1.5], [2.5, 3.5]]
    names = np.array(["a.jpg", "b.jpg"], dtype=object)
    with monkeypatch.context() as patch:
        content = old_layout({"age": np.array([8.0, 9.0]), "filename": names, "embedding": cells}, patch)
    found = read_frame(save(tmp_path, content))
    assert found == {"age": [8, 9], "filename": ["a.jpg", "b.jpg"], "embedding": [[0.5, 1.5], [2.5, 3.5]]}


def test_reads_arrays_in_either_order_and_arrays_in_cells(tmp_path: Path) -> None:
    cells = pd.Series([np.arange(3, dtype=kind) for kind in (np.float32, np.float64, np.int16)])
    expected = pd.DataFrame(np.asfortranarray(np.arange(6.0).reshape(3, 2)), columns=["a", "b"])
    expected["cell"] = cells
    found = read_frame(save(tmp_path, pickle.dumps(expected, protocol=2)))
    assert (found["a"], found["b"]) == ([0, 2, 4], [1, 3, 5])
    assert [array.tolist() for array in found["cell"]] == [[0, 1, 2]] * 3


def test_reads_text_with_gaps_and_slices(tmp_path: Path) -> None:
    text = pd.Series(["a", None, "", "ünï", None, "z"] * 5, dtype="str")
    expected = pd.DataFrame({"t": text, "n": range(30)}).iloc[3:23]
    found = read_frame(save(tmp_path, pickle.dumps(expected, protocol=5)))["t"]
    assert found == [None if pd.isna(value) else value for value in expected["t"]]


def test_selfie_fv_makes_a_manifest(tmp_path: Path) -> None:
    for name, part in (("selfie_train.pkl", slice(0, 2)), ("selfie_test.pkl", slice(2, None))):
        (tmp_path / name).write_bytes(pickle.dumps(frame().iloc[part], protocol=4))
    table = datasets.read("selfie_fv", tmp_path, rejects=Rejects(), width=WIDTH)
    rows = {row["path"]: row for row in table.to_pylist()}
    expected = frame().set_index("filename")
    assert set(rows) == set(expected.index)
    for name, row in rows.items():
        assert (row["target"], row["subject"]) == (expected["age"][name], expected["uuids"][name])
        assert np.allclose(row["vector"], expected["embedding"][name])


def test_selfie_fv_rejects_rows_and_names_them(tmp_path: Path) -> None:
    bad = frame(9, object).reset_index(drop=True).astype({"age": object})
    bad.at[0, "age"] = None
    bad.at[1, "embedding"] = [1.0] * (WIDTH + 1)
    bad.at[2, "embedding"] = [float("nan")] * WIDTH
    bad.at[3, "embedding"] = None
    file = save(tmp_path, pickle.dumps(bad, protocol=4))
    rejects = Rejects()
    table = datasets.read("selfie_fv", file, rejects=rejects, width=WIDTH)
    assert table.num_rows == len(bad) - 4
    assert rejects.counts() == {"bad_vector": 2, "missing_target": 1, "wrong_width": 1}
    assert any("frame.pkl, row 2: the vector has 9 numbers, not 8" in str(r["detail"]) for r in rejects.rows)


def test_selfie_fv_names_a_missing_column(tmp_path: Path) -> None:
    file = save(tmp_path, pickle.dumps(frame().drop(columns="uuids"), protocol=4))
    with pytest.raises(UserError, match="has no column 'uuids': it has age"):
        datasets.read("selfie_fv", file)


# Hostile files. Each would leave a mark if anything in it ran.


class Runs:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def op_global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


MARK_FILE = "was_executed"


def hostile() -> dict[str, bytes]:
    touch = f"touch {MARK_FILE}"
    write = f"open({MARK_FILE!r}, 'w').close()"
    nested = np.empty(1, dtype=object)
    nested[0] = Runs(os.system, touch)
    in_frame = frame(text=object).reset_index(drop=True).astype({"age": object})
    in_frame.at[0, "age"] = Runs(eval, write)
    allowed_call = op_global("numpy", "dtype")
    return {
        "os.system": pickle.dumps(Runs(os.system, touch)),
        "builtins.eval": pickle.dumps(Runs(eval, write)),
        "builtins.exec": pickle.dumps(Runs(exec, write)),
        "builtins.getattr": b"\x80\x02"
        + op_global("builtins", "getattr")
        + op_global("os", "system")
        + text("__call__")
        + b"\x86R.",
        "dotted name": b"\x80\x04" + text("pandas") + text("DataFrame.__init__.__globals__") + b"\x93.",
        "dotted module": b"\x80\x04"
        + text("numpy")
        + text("dtype.__class__.__base__.__subclasses__")
        + b"\x93)R.",
        "module in place of a name": b"\x80\x02"
        + op_global("pandas", "io.common.os.system")
        + text(touch)
        + b"\x85R.",
        "pandas.read_pickle": pickle.dumps(Runs(pd.read_pickle, "other.pkl")),
        "pandas.eval": pickle.dumps(Runs(pd.eval, "@__builtins__")),
        "numpy.load": pickle.dumps(Runs(np.load, "other.npy", None, True)),
        "numpy.fromfile": b"\x80\x02" + op_global("numpy", "fromfile") + text("x") + b"\x85R.",
        "numpy f2py": b"\x80\x02"
        + op_global("numpy.testing._private.utils", "runstring")
        + text(write)
        + b"}\x86R.",
        "pickle.loads": b"\x80\x02" + op_global("pickle", "loads") + b"C\x01.\x85R.",
        "nested in an object array": pickle.dumps(nested),
        "nested in a frame": pickle.dumps(in_frame),
        "codecs.decode": b"\x80\x02" + op_global("_codecs", "decode") + text("x") + text("hex") + b"\x86R.",
        "encode with another codec": b"\x80\x02"
        + op_global("_codecs", "encode")
        + text("x")
        + text("zlib")
        + b"\x86R.",
        "INST": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "OBJ": b"(" + op_global("os", "system") + text(touch) + b"o.",
        "persistent id": b"\x80\x02Pabc\n.",
        "binary persistent id": b"\x80\x02" + text("abc") + b"Q.",
        "extension 1": b"\x80\x02\x82\x01.",
        "extension 2": b"\x80\x02\x83\x01\x00.",
        "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "out-of-band buffer": b"\x80\x05\x97.",
        "NEWOBJ_EX": b"\x80\x04" + allowed_call + b")}\x92.",
        "a set with hashes to fight over": b"\x80\x04\x8f(K\x01\x90.",
        "state of a type": b"\x80\x02" + allowed_call + b"}b.",
        "state of a list": b"\x80\x02]}b.",
        "call of a call": b"\x80\x02" + allowed_call + b")R)R.",
        "call with a list": b"\x80\x02" + allowed_call + b"]R.",
        "append to a call": b"\x80\x02" + allowed_call + b")RK\x01a.",
        "items of a call": b"\x80\x02" + allowed_call + b")R" + text("x") + b"K\x01s.",
        "a name that is not text": b"\x80\x04K\x01K\x02\x93.",
        "a key that is not text": b"\x80\x02}K\x01K\x02s.",
        "a terabyte of zeros": b"\x80\x02"
        + op_global("builtins", "bytes")
        + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
        "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 150_000 + b"Ns.",
    }


@pytest.mark.parametrize("name", hostile())
def test_refuses_a_hostile_pickle_and_runs_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = save(tmp_path, hostile()[name])
    with pytest.raises(
        UserError, match=r"frame.pkl was refused, nothing in it was executed: byte \d+: "
    ) as caught:
        datasets.read("selfie_fv", file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame.pkl"]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(file))


def test_the_hostile_files_would_run_if_they_were_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "os.system",
        "builtins.exec",
        "nested in an object array",
        "nested in a frame",
        "INST",
        "OBJ",
    ):
        pickle.loads(hostile()[name])
        assert (tmp_path / MARK_FILE).exists(), name
        (tmp_path / MARK_FILE).unlink()


def test_no_module_is_imported_for_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "surprise.py").write_text("raise AssertionError('imported')")
    file = save(tmp_path, b"\x80\x02csurprise\nthing\n.")
    with pytest.raises(
        UserError, match=r"it asks for surprise.thing, which a table of vectors does not need"
    ):
        read_frame(file)
    assert "surprise" not in sys.modules


DTYPE = (
    op_global("numpy", "dtype")
    + text("f8")
    + b"\x89\x88\x87R(K\x03"
    + text("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)

OBJECTS = op_global("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"


def array(shape: bytes, content: bytes, dtype: bytes = DTYPE) -> bytes:
    """An array as pickled by _reconstruct, with any shape and content."""
    start = op_global("numpy.core.multiarray", "_reconstruct") + op_global("numpy", "ndarray")
    return start + b"K\x00\x85C\x01b\x87R(K\x01" + shape + dtype + b"\x89" + content + b"tb"


def whole_frame(values: bytes, placement: bytes = b"K\x00K\x01K\x01\x87R") -> bytes:
    names = array(b"K\x01\x85", b"]" + text("c0") + b"a", OBJECTS)
    index = op_global("pandas.core.indexes.base", "_new_Index") + op_global(
        "pandas.core.indexes.base", "Index"
    )
    axis = index + b"}" + text("data") + names + b"s\x86R"
    block = op_global("pandas._libs.internals", "_unpickle_block") + values
    block += op_global("builtins", "slice") + placement + b"K\x02\x87R"
    manager = (
        op_global("pandas.core.internals.managers", "BlockManager") + block + b"\x85](" + axis + b"Ne\x86R"
    )
    return (
        b"\x80\x03"
        + op_global("pandas.core.frame", "DataFrame")
        + b")\x81}"
        + text("_mgr")
        + manager
        + b"sb."
    )


BYTES8 = b"C\x08" + struct.pack("<d", 2.5)
ONE = b"K\x01K\x01\x86"
HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01"


def test_the_handmade_frame_is_a_frame(tmp_path: Path) -> None:
    assert read_frame(save(tmp_path, whole_frame(array(ONE, BYTES8)))) == {"c0": [2.5]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (array(HUGE + b"K\x01\x86", BYTES8), "does not hold"),
        (array(b"K\x01" + HUGE + b"\x86", BYTES8), "does not hold"),
        (array(HUGE + HUGE + b"\x86", BYTES8), "does not hold"),
        (array(HUGE + b"K\x00\x86", b"C\x00"), "more values than the file has bytes"),
        (array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", BYTES8), "has the shape"),
        (array(b"K\x01K\x01K\x01\x87", BYTES8), "has the shape"),
        (array(text("x"), BYTES8), "has the shape"),
        (array(ONE, text("12345678")), "does not hold"),
        (array(ONE, BYTES8, DTYPE.replace(b"f8", b"V8")), "has the type 'V8'"),
        (array(ONE, BYTES8, DTYPE.replace(b"f8", b"U2")), "has the type 'U2'"),
        (array(ONE, BYTES8, DTYPE.replace(b"f8", b"O8")), "does not hold 1 values"),
        (array(ONE, BYTES8, DTYPE.replace(text("<"), text("!"))), "has the byte order"),
        (b"K\x07", "expected _frombuffer or _reconstruct, found int"),
        (op_global("numpy", "dtype") + b")R", "expected _frombuffer or _reconstruct, found dtype"),
    ],
)
def test_refuses_an_array_that_is_not_what_it_says(tmp_path: Path, values: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_frame(save(tmp_path, whole_frame(values)))


def test_refuses_a_block_outside_the_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a block of 1 columns is placed at 0"):
        read_frame(save(tmp_path, whole_frame(array(ONE, BYTES8), b"K\x05K\x06K\x01\x87R")))


def test_lists_of_shared_lists_are_no_vector_and_are_never_multiplied_out(tmp_path: Path) -> None:
    # A list of 1,000 references to a list of 1,000 references ...: 10**15 numbers in 12 kB.
    laughs = b"](" + b"K\x01" * 1000 + b"e"
    for _ in range(4):
        laughs = b"](" + laughs + b"q\x00" + b"h\x00" * 999 + b"e"
    cells = read_frame(save(tmp_path, whole_frame(array(ONE, b"](" + laughs + b"e", OBJECTS))))["c0"]
    rejects = Rejects()
    with pytest.raises(UserError, match=r"no usable vector: \{'bad_vector': 1\}"):
        build_vector_manifest([VectorRecord(Record("x", 1), cell) for cell in cells], "test", rejects)
    assert rejects.rows[0]["detail"] == "the vector is not a flat list of numbers"


def test_refuses_a_vector_that_thousands_of_rows_share(tmp_path: Path) -> None:
    shared, rows = b"](" + b"K\x01" * 1000 + b"eq\x00", 2000
    shape = b"K\x01M" + struct.pack("<H", rows) + b"\x86"
    many = array(shape, b"](" + shared + b"h\x00" * (rows - 1) + b"e", OBJECTS)
    with pytest.raises(UserError, match="it makes more values than the file has bytes"):
        read_frame(save(tmp_path, whole_frame(many)))


def test_refuses_bytes_made_again_and_again() -> None:
    start = (
        b"\x80\x02]("
        + op_global("_codecs", "encode")
        + b"q\x00"
        + text("x" * 10_000)
        + text("latin1")
        + b"\x86q\x01R"
    )
    with pytest.raises(Refused, match="makes more bytes than the file has"):
        decode(start + b"h\x00h\x01R" * 100 + b"e.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x04",
        b"garbage",
        b"\x80\x04h\x05.",
        b"\x80\x04R.",
        b"\x80\x04a.",
        b"\x80\x04(.",
        b"\x80\x04t.",
    ]
    + [b"\x80\x04K\x01K\x02.", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", b"\x80\x04\x8c\x02\xff\xfe."]
    + [
        b"\x80\x04K\x01.",
        pickle.dumps({"age": [1]}),
        pickle.dumps(frame())[:-200],
        b"\x80\x04N" + b"N" * 10_000,
    ],
)
def test_refuses_what_is_no_frame_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"frame.pkl") as caught:
        read_frame(save(tmp_path, content))
    assert "\n" not in str(caught.value)


HONEST = pickle.dumps(frame(text=object), protocol=4)
HONEST_TEXT = pickle.dumps(frame(), protocol=2)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), honest=st.sampled_from([HONEST, HONEST_TEXT]))
def test_any_damage_ends_in_a_frame_or_a_user_error(
    data: st.DataObject, honest: bytes, tmp_path_factory: Any
) -> None:
    damaged = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.pkl"
    file.write_bytes(bytes(damaged))
    try:
        found = read_frame(file)
    except UserError:
        return
    assert len({len(column) for column in found.values()}) == 1


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_or_decoded_to_plain_values(content: bytes) -> None:
    try:
        columns_of(decode(b"\x80\x04" + content), len(content))
    except (Refused, ValueError, TypeError, IndexError, KeyError, OverflowError):
        return
    raise AssertionError(f"{content!r} is not a frame")
