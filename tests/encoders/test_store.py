import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.encoders import store as store_module
from pipeline.encoders.store import VectorStore

DIM = 5


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_ROWS", 16)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(tmp_path, "encoder", DIM)


def keys(*names: object) -> list[str]:
    return [hashlib.sha256(str(name).encode()).hexdigest() for name in names]


def vectors(names: list[str]) -> np.ndarray:
    """A vector that follows from its key."""
    rows = [np.frombuffer(bytes.fromhex(name), np.uint8)[:DIM] for name in names]
    return np.array(rows, np.float32).reshape(len(names), DIM) - 128


def files(store: VectorStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.directory.iterdir()) if path.is_file()}


def segments(store: VectorStore) -> list[Path]:
    return sorted(store.directory.glob("*.parquet"))


def test_vectors_come_back_in_the_order_asked_and_as_often(store: VectorStore) -> None:
    names = keys(*range(40))
    store.append(names[:25], vectors(names[:25]))
    store.append(names[25:], vectors(names[25:]))
    asked = [names[i] for i in (39, 0, 7, 7, 26, 39)]
    for reader in (store, VectorStore(store.directory.parent, "encoder", DIM)):
        got = reader.read(asked)
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, vectors(asked))
        assert len(reader) == 40


def test_missing_keeps_the_order_and_names_each_key_once(store: VectorStore) -> None:
    a, b, c, d = keys("a", "b", "c", "d")
    store.append([b], vectors([b]))
    assert store.missing([d, b, a, d, c, a]) == [d, a, c]


def test_a_store_that_nobody_has_written_is_empty_and_leaves_no_trace(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "cache", "encoder", DIM)
    assert store.missing(keys("a")) == keys("a")
    assert store.read([]).shape == (0, DIM)
    assert len(store) == 0
    assert not (tmp_path / "cache").exists()


def test_appending_nothing_writes_no_segment(store: VectorStore) -> None:
    store.append([], vectors([]))
    store.compact()
    assert segments(store) == []


def test_keys_that_end_or_begin_in_zero_bytes_stay_apart(store: VectorStore) -> None:
    names = ["00" * 32, "00" * 31 + "01", "01" + "00" * 31, "0100" + "00" * 29 + "01", "ff" * 31 + "00"]
    store.append(names[::-1], np.arange(5 * DIM, dtype=np.float32).reshape(5, DIM))
    store.compact()
    np.testing.assert_array_equal(store.read(names)[:, 0], np.arange(5)[::-1] * DIM)
    assert store.missing(["ff" * 32, *names, "00" * 30 + "0100"]) == ["ff" * 32, "00" * 30 + "0100"]


def test_the_same_batch_written_twice_or_in_another_order_is_one_file(
    store: VectorStore, tmp_path: Path
) -> None:
    names = keys(*range(9))
    store.append(names, vectors(names))
    before = files(store)
    store.append(names[::-1], vectors(names[::-1]))
    assert files(store) == before
    other = VectorStore(tmp_path / "other", "encoder", DIM)
    other.append([*names[::-1], names[0]], vectors([*names[::-1], names[0]]))
    assert files(other) == before


def test_only_new_keys_of_a_batch_are_stored(store: VectorStore) -> None:
    names = keys(*range(12))
    store.append(names[:8], vectors(names[:8]))
    store.append(names[4:], vectors(names[4:]))
    rows = [pq.read_metadata(path).num_rows for path in segments(store)]
    assert sorted(rows) == [4, 8]
    np.testing.assert_array_equal(store.read(names), vectors(names))


def test_another_vector_for_a_stored_key_is_refused_by_its_bits(store: VectorStore) -> None:
    names = keys(*range(4))
    zeros = np.zeros((4, DIM), np.float32)
    store.append(names, zeros)
    before = files(store)
    other = zeros.copy()
    other[2, 1] = -0.0
    with pytest.raises(UserError, match=f"crop {names[2]} has two different vectors"):
        store.append([*names, *keys("new")], np.concatenate([other, zeros[:1]]))
    assert files(store) == before, "a refused batch must leave nothing behind"


def test_two_vectors_for_one_key_in_a_batch_are_refused(store: VectorStore) -> None:
    a, b = keys("a", "b")
    with pytest.raises(UserError, match=f"crop {a} has two different vectors"):
        store.append([a, b, a], np.arange(3 * DIM, dtype=np.float32).reshape(3, DIM))
    assert len(store) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_name(store: VectorStore, value: float) -> None:
    names = keys("a", "b")
    given = vectors(names)
    given[1, 3] = value
    with pytest.raises(UserError, match=f"crop {names[1]} is not finite"):
        store.append(names, given)
    assert len(store) == 0


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.zeros((2, DIM + 1), np.float32), r"float32 of shape \(2, 6\)"),
        (np.zeros((3, DIM), np.float32), r"float32 of shape \(3, 5\)"),
        (np.zeros((2, DIM), np.float64), r"float64 of shape \(2, 5\)"),
        (np.zeros(2 * DIM, np.float32), r"float32 of shape \(10,\)"),
    ],
)
def test_vectors_of_another_shape_or_type_are_refused(
    store: VectorStore, given: np.ndarray, found: str
) -> None:
    with pytest.raises(UserError, match=rf"takes float32 vectors of shape \(2, 5\), not {found}"):
        store.append(keys("a", "b"), given)


@pytest.mark.parametrize(
    "wrong",
    [
        ["A" * 64],
        ["a" * 63],
        ["a" * 65],
        ["a" * 63, "a" * 65],  # together of the right length
        ["a" * 62 + "\u0661\u0661"],  # digits, but not of this alphabet
        ["a" * 63 + " "],
        ["a" * 64 + "\n"],
        [""],
        ["g" * 64],
    ],
)
def test_what_is_not_a_key_is_refused(store: VectorStore, wrong: list[str]) -> None:
    given = [*keys("a"), *wrong]
    for call in (store.missing, store.read, lambda names: store.append(names, vectors(keys(*names)))):
        with pytest.raises(UserError, match="is not a key"):
            call(given)


def test_reading_an_absent_key_says_how_many_are_absent_and_the_first(store: VectorStore) -> None:
    names = keys(*range(5))
    store.append(names[:2], vectors(names[:2]))
    with pytest.raises(UserError, match=f"no vector for 3 of 4 crops, the first of them {names[3]}"):
        store.read([names[1], names[3], names[2], names[4]])


def test_encoders_and_widths_do_not_meet(store: VectorStore, tmp_path: Path) -> None:
    names = keys("a")
    store.append(names, vectors(names))
    assert VectorStore(tmp_path, "another encoder", DIM).missing(names) == names
    assert VectorStore(tmp_path, "encoder", DIM + 1).missing(names) == names
    assert store.missing(names) == []


def test_a_segment_names_its_encoder_and_is_named_by_its_bytes(store: VectorStore) -> None:
    store.append(keys("a"), vectors(keys("a")))
    (path,) = segments(store)
    settings = {"dim": DIM, "dtype": "<f4", "fingerprint": "encoder"}
    assert tables.producer_of(path) == {"producer": "encoders.store", "settings": settings}
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_object_sees_what_another_has_written_meanwhile(store: VectorStore) -> None:
    other, names = VectorStore(store.directory.parent, "encoder", DIM), keys(*range(40))
    assert store.missing(names) == names
    other.append(names[:30], vectors(names[:30]))
    assert store.missing(names) == names[30:]
    other.compact()
    np.testing.assert_array_equal(store.read(names[:30]), vectors(names[:30]))


def test_compaction_gives_the_same_bytes_whatever_the_order_and_size_of_batches(tmp_path: Path) -> None:
    names = keys(*range(70))
    rng = np.random.default_rng(0)
    results = []
    for run, size in enumerate((70, 7, 3, 1)):
        store = VectorStore(tmp_path / str(run), "encoder", DIM)
        shuffled = [names[i] for i in rng.permutation(len(names))]
        # Not all at once: a batch of 16 or more is a full segment already.
        for start in range(0, len(names), min(size, 15)):
            batch = shuffled[start : start + min(size, 15)]
            store.append(batch, vectors(batch))
        store.compact()
        np.testing.assert_array_equal(store.read(names), vectors(names))
        results.append(files(store))
    assert [pq.read_metadata(path).num_rows for path in segments(store)].count(16) == 4
    assert all(result == results[0] for result in results[1:])


def test_compaction_leaves_full_segments_alone(store: VectorStore) -> None:
    names = keys(*range(50))
    store.append(names[:15], vectors(names[:15]))
    store.append(names[15:30], vectors(names[15:30]))
    store.append(names[30:37], vectors(names[30:37]))
    store.compact()
    full = {p: p.stat().st_ino for p in segments(store) if pq.read_metadata(p).num_rows == 16}
    assert len(full) == 2
    store.append(names[37:], vectors(names[37:]))
    store.compact()
    assert all(path.stat().st_ino == inode for path, inode in full.items())
    assert sorted(pq.read_metadata(p).num_rows for p in segments(store)) == [2, 16, 16, 16]
    np.testing.assert_array_equal(store.read(names), vectors(names))


def test_compacting_again_writes_nothing(store: VectorStore) -> None:
    names = keys(*range(20))
    for name in names:
        store.append([name], vectors([name]))
    store.compact()

    def written() -> dict[Path, tuple[int, int, int]]:
        """What says of a file that it was written; reading it changes its time of access alone."""
        found = {path: path.stat() for path in segments(store)}
        return {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}

    before = written()
    store.compact()
    VectorStore(store.directory.parent, "encoder", DIM).compact()
    assert written() == before


def test_rows_left_twice_by_a_compaction_that_died_count_once_and_go(store: VectorStore) -> None:
    names = keys(*range(20))
    store.append(names[:10], vectors(names[:10]))
    store.append(names[10:], vectors(names[10:]))
    loose = {path: path.read_bytes() for path in segments(store)}
    store.compact()
    compacted = files(store)
    for path, data in loose.items():
        path.write_bytes(data)
    assert len(store) == 20
    np.testing.assert_array_equal(store.read(names), vectors(names))
    store.compact()
    assert files(store) == compacted


def test_what_a_killed_writer_left_is_removed_by_the_next(store: VectorStore) -> None:
    store.append(keys("a"), vectors(keys("a")))
    (store.directory / "pending").write_bytes(b"half a segment")
    assert store.missing(keys("a")) == []
    store.compact()
    assert sorted(files(store)) == sorted(["lock", segments(store)[0].name])


def test_a_full_disk_is_named_and_leaves_the_store_as_it_was(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(keys("a"), vectors(keys("a")))
    before = files(store)

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"cannot take more vectors: .*No space left on device"):
        store.append(keys("b"), vectors(keys("b")))
    assert files(store) == before


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cannot be opened"):
        VectorStore(tmp_path / "cache", "encoder", DIM).append(keys("a"), vectors(keys("a")))


ACTIONS = st.one_of(
    st.tuples(st.just("append"), st.lists(st.integers(0, 60), max_size=20)),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("damage"), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))),
)


# The fixture only sets a constant, which every example may share.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=12))
def test_a_store_behaves_as_a_dictionary_that_forgets_only_what_was_damaged(actions: list) -> None:
    universe = keys(*range(61))
    with tempfile.TemporaryDirectory() as folder:
        store, model = VectorStore(Path(folder), "encoder", DIM), set[str]()
        for action, value in actions:
            if action == "append":
                batch = [universe[i] for i in value]
                store.append(batch, vectors(batch))
                model.update(batch)
            elif action == "compact":
                store.compact()
            elif action == "reopen":
                store = VectorStore(Path(folder), "encoder", DIM)
            elif paths := segments(store):
                path = paths[value[0] % len(paths)]
                lost = {key.hex() for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}
                data = bytearray(path.read_bytes())
                data[value[1] % len(data)] ^= 1 << value[1] % 8
                path.write_bytes(data)
                with pytest.warns(UserWarning, match=path.name):
                    assert len(store) == len(model) - len(lost)
                model -= lost
            assert store.missing(universe) == [key for key in universe if key not in model]
            stored = sorted(model)
            np.testing.assert_array_equal(store.read(stored), vectors(stored))
