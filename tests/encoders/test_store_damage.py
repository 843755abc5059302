"""Damage of every kind is found, named in one warning, set aside, and counts as missing."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.encoders.segments import segment_schema
from pipeline.encoders.store import VectorStore

DIM = 4
GOOD, HURT = ([hashlib.sha256(bytes([kind, i])).hexdigest() for i in range(8)] for kind in (0, 1))


def vectors(keys: list[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(key)[:DIM]) for key in keys], np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    VectorStore(tmp_path, "encoder", DIM).append(GOOD, vectors(GOOD))
    return tmp_path


@pytest.fixture
def segment(root: Path) -> Path:
    """The segment of the keys HURT, beside a good one."""
    store = VectorStore(root, "encoder", DIM)
    before = set(store.directory.glob("*.parquet"))
    store.append(HURT, vectors(HURT))
    (path,) = set(store.directory.glob("*.parquet")) - before
    return path


def assert_set_aside(path: Path, store: VectorStore, reason: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.missing([*GOOD, *HURT]) == HURT
        np.testing.assert_array_equal(store.read(GOOD), vectors(GOOD))
        assert len(store) == len(GOOD)
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    message = str(caught[0].message)
    assert message.startswith(f"{path} is damaged: ")
    assert reason in message
    assert caught[0].filename == __file__, "the warning should point to the caller"
    assert not path.exists()
    assert (path.parent / "quarantine" / path.name).exists()


def test_a_flipped_bit_is_found_wherever_it_is(root: Path, segment: Path) -> None:
    good = segment.read_bytes()
    # Every byte of the ends, where header and footer are, and one in five between.
    places = sorted({*range(40), *range(0, len(good), 5), *range(len(good) - 40, len(good))})
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        segment.write_bytes(data)
        assert_set_aside(segment, VectorStore(root, "encoder", DIM), "not those it was written with")


def test_a_torn_segment_is_found_whatever_its_length(root: Path, segment: Path) -> None:
    good = segment.read_bytes()
    for length in (0, 1, 4, 12, len(good) // 2, len(good) - 8, len(good) - 1):
        segment.write_bytes(good[:length])
        assert_set_aside(segment, VectorStore(root, "encoder", DIM), "not those it was written with")
    segment.write_bytes(good + b"\0")
    assert_set_aside(segment, VectorStore(root, "encoder", DIM), "not those it was written with")


def test_damage_that_comes_after_a_segment_was_verified_is_found(root: Path, segment: Path) -> None:
    store = VectorStore(root, "encoder", DIM)
    assert store.missing(HURT) == []
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert_set_aside(segment, store, "not those it was written with")


def test_damage_that_the_file_system_does_not_show_is_found_on_reading(root: Path, segment: Path) -> None:
    store = VectorStore(root, "encoder", DIM)
    assert store.missing(HURT) == []
    stat, data = segment.stat(), bytearray(segment.read_bytes())
    chunk = pq.read_metadata(segment).row_group(0).column(1)
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    segment.write_bytes(data)
    os.utime(segment, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.missing(HURT) == [], "nothing but the page's checksum can tell"
    with (
        pytest.warns(UserWarning, match=segment.name),
        pytest.raises(UserError, match="no vector for 8 of 16 crops"),
    ):
        store.read([*GOOD, *HURT])
    assert store.missing([*GOOD, *HURT]) == HURT


def test_a_segment_that_was_deleted_counts_as_missing(root: Path, segment: Path) -> None:
    store = VectorStore(root, "encoder", DIM)
    assert store.missing(HURT) == []
    segment.unlink()
    assert store.missing([*GOOD, *HURT]) == HURT
    for path in store.directory.glob("*"):
        path.unlink()
    assert store.missing(GOOD) == GOOD


def foreign(directory: Path, schema: pa.Schema, columns: list[pa.Array]) -> Path:
    """A whole and readable table under the name that its bytes deserve."""
    path = directory / "made.parquet"
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path)
    return path.rename(directory / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.parquet")


def test_a_table_of_another_width_encoder_or_shape_is_set_aside(root: Path) -> None:
    directory = VectorStore(root, "encoder", DIM).directory
    names = pa.array([bytes.fromhex(key) for key in HURT], pa.binary(32))

    def blank(dim: int) -> pa.Array:
        return pa.array([bytes(4 * dim)] * 8, pa.binary(4 * dim))

    texts = pa.schema([pa.field("key", pa.string())])
    doubles = pa.schema([segment_schema("encoder", DIM).field("key"), pa.field("vector", pa.float64())])
    for schema, columns in (
        (segment_schema("encoder", DIM + 1), [names, blank(DIM + 1)]),
        (segment_schema("another", DIM), [names, blank(DIM)]),
        (segment_schema("encoder", DIM).remove_metadata(), [names, blank(DIM)]),
        (doubles.with_metadata(segment_schema("encoder", DIM).metadata), [names, pa.array([0.0] * 8)]),
        (texts, [pa.array(HURT)]),
    ):
        path = foreign(directory, schema, columns)
        assert_set_aside(path, VectorStore(root, "encoder", DIM), "not a table of this encoder's vectors")


def test_a_file_that_is_no_parquet_is_set_aside_even_under_its_own_hash(root: Path) -> None:
    directory = VectorStore(root, "encoder", DIM).directory
    for data in (b"", b"PAR1PAR1", b"not a table at all"):
        path = directory / f"{hashlib.sha256(data).hexdigest()}.parquet"
        path.write_bytes(data)
        assert_set_aside(path, VectorStore(root, "encoder", DIM), "Parquet")


def test_what_was_set_aside_is_encoded_again_and_stays_in_quarantine(root: Path, segment: Path) -> None:
    good, hurt = segment.read_bytes(), segment.read_bytes()[:-1]
    segment.write_bytes(hurt)
    store = VectorStore(root, "encoder", DIM)
    with pytest.warns(UserWarning, match=segment.name):
        todo = store.missing(HURT)
    store.append(todo, vectors(todo))
    assert segment.read_bytes() == good
    assert (store.directory / "quarantine" / segment.name).read_bytes() == hurt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert VectorStore(root, "encoder", DIM).missing([*GOOD, *HURT]) == []


def test_damage_found_while_appending_or_compacting_loses_nothing_else(root: Path, segment: Path) -> None:
    store = VectorStore(root, "encoder", DIM)
    assert store.missing(HURT) == []
    segment.write_bytes(segment.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=segment.name):
        store.append([*GOOD, *HURT], vectors([*GOOD, *HURT]))
    np.testing.assert_array_equal(store.read(HURT), vectors(HURT))
    segment.write_bytes(b"")
    with pytest.warns(UserWarning, match=segment.name):
        VectorStore(root, "encoder", DIM).compact()
    assert store.missing([*GOOD, *HURT]) == HURT


def test_damage_that_cannot_be_set_aside_is_an_error(root: Path, segment: Path) -> None:
    segment.write_bytes(b"")
    (segment.parent / "quarantine").write_text("in the way")
    with pytest.raises(UserError, match=rf"{segment} is damaged \(.*\) and cannot be moved to"):
        VectorStore(root, "encoder", DIM).missing(HURT)
