"""Readers of ready-made vectors."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats import json_stream

RNG = np.random.default_rng(0)


def vector(width: int = 4) -> list[float]:
    return RNG.normal(size=width).tolist()


# vec2uage_json


def read_json(path: Path, text: str, **settings: object) -> tuple[pa.Table, Rejects]:
    file = path / "train.json"
    file.write_text(text, encoding="utf-8")
    rejects = Rejects()
    return datasets.read("vec2uage_json", file, rejects=rejects, width=4, **settings), rejects


def test_vec2uage_keys_give_subject_and_age(tmp_path: Path) -> None:
    vectors = {
        "1bedfe07-d814_11_37524.jpg": vector(),
        "087b9663_15.00_38368.jpg": vector(),
        "v7_3": vector(),
        "v8_4.jpg": vector(),
        "v9_5.5.png": vector(),
    }
    table, rejects = read_json(tmp_path, json.dumps(vectors))
    assert not rejects.rows
    assert table.schema.field("vector").type == pa.list_(pa.field("item", pa.float32(), nullable=False), 4)
    rows = {row["path"]: row for row in table.to_pylist()}
    assert {key: (row["subject"], row["target"]) for key, row in rows.items()} == {
        "1bedfe07-d814_11_37524.jpg": ("1bedfe07-d814", 11.0),
        "087b9663_15.00_38368.jpg": ("087b9663", 15.0),
        "v7_3": ("v7", 3.0),
        "v8_4.jpg": ("v8", 4.0),
        "v9_5.5.png": ("v9", 5.5),
    }
    for key, row in rows.items():
        exact = np.array(vectors[key], dtype="<f4")
        assert np.array_equal(np.array(row["vector"], dtype="<f4"), exact)
        assert row["face_id"] == hashlib.sha256(exact.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("key", "value", "reason", "phrase"),
    [
        ("nothing", "[1,2,3,4]", "bad_key", "'nothing' does not begin with <id>_<age>"),
        ("_12_x", "[1,2,3,4]", "bad_key", "does not begin"),
        ("a_b_12", "[1,2,3,4]", "bad_key", "does not begin"),
        ("a_-3", "[1,2,3,4]", "bad_key", "does not begin"),
        ("a_1234", "[1,2,3,4]", "bad_key", "does not begin"),
        ("a_3_x", "[1,2,3]", "wrong_width", "has 3 numbers, not 4"),
        ("a_3_x", "[1,2,3,4,5]", "wrong_width", "has 5 numbers, not 4"),
        ("a_3_x", "[1,2,NaN,4]", "bad_vector", "number 3 of the vector is nan"),
        ("a_3_x", "[1,2,3,Infinity]", "bad_vector", "number 4 of the vector is inf"),
        ("a_3_x", "[1,2,3,1e300]", "bad_vector", "not finite in float32"),
        ("a_3_x", '[1,2,3,"4"]', "bad_vector", "not a flat list of numbers"),
        ("a_3_x", "[1,2,3,true]", "bad_vector", "not a flat list of numbers"),
        ("a_3_x", "[1,2,3,null]", "bad_vector", "not a flat list of numbers"),
        ("a_3_x", "[[1,2,3,4]]", "bad_vector", "not a flat list of numbers"),
        ("a_3_x", "[]", "bad_vector", "not a flat list of numbers"),
        ("a_3_x", '"text"', "bad_vector", "not a flat list of numbers"),
        ("a_3_x", '{"a": 1}', "bad_vector", "not a flat list of numbers"),
        ("a_3_x", "[1,2,3," + "9" * 5000 + "]", "bad_vector", "not finite in float32"),
    ],
)
def test_vec2uage_rejects_an_entry_and_goes_on(
    tmp_path: Path, key: str, value: str, reason: str, phrase: str
) -> None:
    text = f'{{"z_1_first": [1, 0, 0, 0], {json.dumps(key)}: {value}, "z_2_last": [0, 1, 0, 0]}}'
    table, rejects = read_json(tmp_path, text)
    assert table["path"].to_pylist() != []
    assert table.num_rows == 2
    assert rejects.counts() == {reason: 1}
    assert str(rejects.rows[0]["detail"]).startswith("train.json, entry 2: ")
    assert phrase in str(rejects.rows[0]["detail"])


def test_vec2uage_sees_a_key_that_occurs_twice(tmp_path: Path) -> None:
    table, rejects = read_json(tmp_path, '{"a_3_x": [1,2,3,4], "a_3_x": [4,3,2,1]}')
    assert table["vector"].to_pylist() == [[1, 2, 3, 4]]
    assert rejects.counts() == {"duplicate_key": 1}


def test_equal_vectors_are_kept_once_and_those_with_two_ages_not_at_all(tmp_path: Path) -> None:
    text = '{"a_3_x": [1,2,3,4], "b_3_x": [1,2,3,4], "c_3": [0,0,0,1], "d_4": [0,0,0,1], "e_5": [1,1,1,1]}'
    table, rejects = read_json(tmp_path, text)
    assert sorted(table["path"].to_pylist()) == ["a_3_x", "e_5"]
    assert rejects.counts() == {"conflicting_targets": 2, "duplicate": 1}
    assert any("'c_3' says 3, 'd_4' says 4" in str(row["detail"]) for row in rejects.rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: the file is cut short"),
        ("[1]", "expected '{', found '\\['"),
        ('{"a_1": [1,2,3,4]', "the file is cut short"),
        ('{"a_1": [1,2,3', "not JSON, or cut short"),
        ('{"a_1": [1,2,3,4]} {}', "there is more after the object's end"),
        ('{"a_1": [1,2,3,4] "b_1": 1}', "expected '}', found '\"'"),
        ('{"a_1": [1,2,3,4],}', "not JSON"),
        ("{3: [1,2,3,4]}", "is not text"),
        ('{"a_1": ' + "[" * 100_000 + "}", "too many nested brackets"),
        ("{}", "holds no usable vector"),
        ('{"a_1": [1]}', r"holds no usable vector: \{'wrong_width': 1\}"),
    ],
)
def test_refuses_what_is_not_such_a_json(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_json(tmp_path, text)


def test_refuses_json_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"caf\xe9_3": [1,2,3,4]}')
    with pytest.raises(UserError, match=r"x.json is not UTF-8 text"):
        datasets.read("vec2uage_json", tmp_path, width=4)


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
def test_reading_in_pieces_of_any_size_gives_the_same(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {f'ключ{n}_"{n}': [n * 1.5, -1e-3, 12345] for n in range(20)} | {
        "n": 12,
        "s": "x",
        "o": {"a": [1]},
    }
    file = tmp_path / "x.json"
    file.write_text(json.dumps(values, ensure_ascii=False, indent=1))
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    assert dict(json_stream.entries(file)) == values


def test_an_endless_entry_is_refused_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a_1": [' + "1," * 5_000_000)
    monkeypatch.setattr(json_stream, "LARGEST_ENTRY", 1 << 20)
    with pytest.raises(UserError, match="an entry of more than 1 MiB"):
        list(json_stream.entries(file))


def test_streaming_holds_a_small_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    entry = json.dumps(vector(512))
    with file.open("w") as out:
        out.write("{" + ",".join(f'"a_{n % 99}_{n}": {entry}' for n in range(1500)) + "}")
    tracemalloc.start()
    count = sum(1 for _ in json_stream.entries(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1500
    assert peak < file.stat().st_size / 2


# vectors


def write_vectors(path: Path, **columns: object) -> Path:
    file = path / "vectors.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def test_vectors_reads_fixed_and_variable_lists_alike(tmp_path: Path) -> None:
    rows = [vector() for _ in range(3)]
    results = []
    for kind in (pa.list_(pa.float32(), 4), pa.list_(pa.float64()), pa.large_list(pa.float32())):
        file = write_vectors(
            tmp_path,
            face_id=["c", "a", "b"],
            target=pa.array([1, 2, 3], pa.float32()),
            gender=["male", None, "female"],
            vector=pa.array(rows, kind),
        )
        results.append(datasets.read("vectors", file, rejects=Rejects()))
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])
    table = results[0]
    assert table["face_id"].to_pylist() == ["a", "b", "c"]
    assert table["gender"].to_pylist() == [None, "female", "male"]
    assert table["path"].to_pylist() == [None] * 3
    assert np.allclose(table["vector"].to_pylist(), [rows[1], rows[2], rows[0]])


def test_vectors_rejects_row_by_row(tmp_path: Path) -> None:
    good = vector()
    file = write_vectors(
        tmp_path,
        face_id=["a", "b", "c", "d", None, "f", "f", "g", "g", "h", "h", "i"],
        target=[1.0, 2, 3, None, 5, 6, 6, 7, 8, 9, 9, float("nan")],
        vector=pa.array(
            [good, [1.0, 2, 3], [1.0, float("nan"), 3, 4], good, good, good, good, good, good, good]
            + [vector(), None],
            pa.list_(pa.float32()),
        ),
    )
    rejects = Rejects()
    table = datasets.read("vectors", file, rejects=rejects)
    assert table["face_id"].to_pylist() == ["a", "f"]
    assert rejects.counts() == {
        "bad_row": 1,
        "bad_vector": 1,
        "conflicting_targets": 2,
        "conflicting_vectors": 2,
        "duplicate": 1,
        "missing_target": 2,
        "wrong_width": 1,
    }
    details = {row["reason"]: str(row["detail"]) for row in rejects.rows}
    assert details["wrong_width"] == "vectors.parquet, row 2: the vector has 3 numbers, not 4"
    assert "vectors.parquet, row 3: number 2 of the vector is nan" in details["bad_vector"]
    assert "row 8 says 7, vectors.parquet, row 9 says 8" in details["conflicting_targets"]


def test_a_list_column_with_gaps_keeps_rows_and_vectors_together(tmp_path: Path) -> None:
    vectors = pa.array([None, [1, 1], [], [2, 2]], pa.list_(pa.float32()))
    file = write_vectors(tmp_path, face_id=["a", "b", "c", "d"], target=[1, 2, 3, 4], vector=vectors)
    rejects = Rejects()
    table = datasets.read("vectors", file, rejects=rejects)
    pairs = zip(table["face_id"].to_pylist(), table["vector"].to_pylist(), strict=True)
    assert dict(pairs) == {"b": [1, 1], "d": [2, 2]}
    assert [row["detail"] for row in rejects.rows] == [
        "vectors.parquet, row 1: there is no vector",
        "vectors.parquet, row 3: the vector is not a flat list of numbers",
    ]


def test_a_null_among_vectors_of_a_fixed_size_is_one_reject(tmp_path: Path) -> None:
    vectors = pa.array([[1, 1], None, [2, 2]], pa.list_(pa.float32(), 2))
    file = write_vectors(tmp_path, face_id=["a", "b", "c"], target=[1, 2, 3], vector=vectors)
    rejects = Rejects()
    table = datasets.read("vectors", file, rejects=rejects)
    assert dict(zip(table["face_id"].to_pylist(), table["vector"].to_pylist(), strict=True)) == {
        "a": [1, 1],
        "c": [2, 2],
    }
    assert [(row["reason"], row["detail"]) for row in rejects.rows] == [
        ("bad_vector", "vectors.parquet, row 2: there is no vector")
    ]


def test_a_damaged_file_of_fixed_sizes_is_still_damaged(tmp_path: Path) -> None:
    vectors = pa.array([[1, 1], [3, 4]] * 500, pa.list_(pa.float32(), 2))
    ids = [f"{n}" for n in range(1000)]
    file = write_vectors(tmp_path, face_id=ids, target=[1.0] * 1000, vector=vectors)
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(196)
    file.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        datasets.read("vectors", file, rejects=Rejects())


def test_vectors_are_read_across_row_groups(tmp_path: Path) -> None:
    rows = [[float(n), 1.0] for n in range(10)]
    columns = {"face_id": [f"f{n}" for n in range(10)], "target": range(10), "vector": rows}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=3)
    assert datasets.read("vectors", tmp_path)["vector"].to_pylist() == rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"face_id": ["a"], "target": [1.0]}, "has no column 'vector'"),
        (
            {"face_id": ["a"], "target": [1.0], "vector": [1.0]},
            "column 'vector' is double, not lists of floats",
        ),
        ({"face_id": ["a"], "target": [1.0], "vector": [["x"]]}, "not lists of floats"),
        ({"face_id": ["a"], "target": [1.0], "vector": [[1.0]], "split": ["x"]}, "group column 'split'"),
    ],
)
def test_refuses_a_parquet_file_of_another_shape(
    tmp_path: Path, columns: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        datasets.read("vectors", write_vectors(tmp_path, **columns))


def test_a_folder_of_parts_is_one_set_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    for part in ("one", "two"):
        pq.write_table(
            pa.table({"face_id": [part], "target": [1.0], "vector": [[1.0, 2.0]]}),
            tmp_path / f"{part}.parquet",
        )
    assert datasets.read("vectors", tmp_path)["face_id"].to_pylist() == ["one", "two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \*.parquet"):
        datasets.read("vectors", tmp_path / "empty")
