from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import tables
from pipeline.errors import UserError


def table(rows: int = 100, width: int = 8) -> pa.Table:
    values = np.arange(rows * width, dtype=np.float32)
    schema = pa.schema(
        [
            pa.field("face_id", pa.string(), nullable=False),
            pa.field("vector", tables.vector_type(width), nullable=False),
        ]
    )
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    return pa.table([pa.array([f"{i:064x}" for i in range(rows)]), vectors], schema=schema)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tables.write_table(table(), tmp_path / name, "test", {"b": 1, "a": [2]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_batches_and_one_table_hold_the_same_rows_and_name_their_producer(tmp_path: Path) -> None:
    whole = table()
    parts = [whole.slice(0, 30), whole.slice(30)]
    assert tables.write_batches(parts, tmp_path / "t", whole.schema, "test", {"x": 1}) == 100
    assert tables.read_table(tmp_path / "t").equals(whole)
    assert tables.producer_of(tmp_path / "t") == {"producer": "test", "settings": {"x": 1}}


def test_tables_are_zstd_with_page_checksums(tmp_path: Path) -> None:
    tables.write_table(table(), tmp_path / "t", "test")
    column = pq.ParquetFile(tmp_path / "t").metadata.row_group(0).column(1)
    assert column.compression == "ZSTD"
    data = bytearray((tmp_path / "t").read_bytes())
    data[column.data_page_offset + 60] ^= 1
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(UserError, match=r"t is damaged: .*checksum"):
        tables.read_table(tmp_path / "t")


def fail_half_way(path: Path) -> None:
    with tables.atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError("half-way")


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text that is no table" * 10])
def test_names_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match="t is not a readable Parquet file"):
        tables.read_table(tmp_path / "t")


def test_names_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: run the stage that writes it"):
        tables.read_table(tmp_path / "none")
    tables.write_table(table(), tmp_path / "t", "test")
    with pytest.raises(UserError, match="has no column 'age': it has face_id, vector"):
        tables.read_table(tmp_path / "t", ["age"])


def test_a_folder_reads_as_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    whole = table()
    tables.write_table(whole.slice(50), tmp_path / "00001.parquet", "test")
    tables.write_table(whole.slice(0, 50), tmp_path / "00000.parquet", "test")
    assert tables.read_folder(tmp_path).equals(whole)
    assert tables.read_folder(tmp_path, ["face_id"]).column_names == ["face_id"]


def test_an_empty_folder_is_no_table(tmp_path: Path) -> None:
    assert tables.read_folder(tmp_path) is None


def test_a_new_folder_takes_the_old_one_s_place_whole_or_not_at_all(tmp_path):
    from pipeline.tables import new_folder

    place = tmp_path / "figures"
    with new_folder(place) as fresh:
        (fresh / "a").write_text("1")
    with pytest.raises(FileNotFoundError), new_folder(place) as fresh:
        (fresh / "no folder" / "b").write_text("2")
    assert [path.name for path in place.iterdir()] == ["a"]
    place.rename(tmp_path / ".figures.earlier")  # killed between the two renamings
    with pytest.raises(ValueError, match="again"), new_folder(place):
        raise ValueError("again")
    assert [path.name for path in place.iterdir()] == ["a"]
    with new_folder(place) as fresh:
        (fresh / "c").write_text("3")
    assert [path.name for path in place.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
