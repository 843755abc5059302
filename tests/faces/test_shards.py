import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.tables import write_table
from pipeline.faces import shards


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int) -> dict[str, object]:
    return {
        "face_id": f"{number:064x}",
        "crop_id": f"{number + 1000:064x}",
        "image": {"bytes": png(number % 256), "path": f"{number}.png"},
        "landmarks": [float(number)] * 10,
        "box": [0.0, 0.0, 9.0, 9.0],
        "detector": "dlib_hog",
        "score": 1.0,
        "faces": 1,
        **dict.fromkeys(shards.MEASURES, 0.5),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of 5, 0 and 3 crops, and files that are no shards."""
    for number, rows in enumerate([range(5), [], range(5, 8)]):
        table = pa.Table.from_pylist([row(one) for one in rows], schema=shards.SCHEMA)
        write_table(table, shards.path_of(tmp_path, number), "test")
    (tmp_path / "notes.txt").write_text("no shard")
    (tmp_path / ".00003.parquet.x1y2z3_8.tmp").write_bytes(b"half a shard")
    return tmp_path


def test_crops_stream_in_face_id_order(folder: Path) -> None:
    batches = list(shards.iterate(folder, batch=2))
    assert all(batch.num_rows <= 2 for batch in batches)
    faces = [face for batch in batches for face in batch.column("face_id").to_pylist()]
    assert faces == [f"{number:064x}" for number in range(8)]
    assert shards.count(folder) == 8


def test_only_the_asked_columns_are_read(folder: Path) -> None:
    batch = next(shards.iterate(folder, columns=["face_id", "score"]))
    assert batch.schema.names == ["face_id", "score"]
    with pytest.raises(
        UserError, match=r"00000\.parquet has no column 'age': it has face_id, crop_id, image"
    ):
        next(shards.iterate(folder, columns=["age"]))


def test_shards_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    for number in (99_999, 100_000, 3):
        write_table(
            pa.Table.from_pylist([row(number)], schema=shards.SCHEMA),
            shards.path_of(tmp_path, number),
            "test",
        )
    assert [path.name for path in shards.paths(tmp_path)] == [
        "00003.parquet",
        "99999.parquet",
        "100000.parquet",
    ]


def test_images_and_landmarks_come_as_arrays(folder: Path) -> None:
    first, *_ = shards.iterate(folder, columns=["image", "landmarks"], batch=3)
    images, landmarks = shards.arrays(first)
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == np.uint8
    assert images[:, 5, 5, 1].tolist() == [0, 1, 2]
    assert landmarks.shape == (3, 5, 2)
    assert landmarks.dtype == np.float32
    assert landmarks[:, 4, 1].tolist() == [0, 1, 2]
    sliced = shards.arrays(first.slice(1, 1))
    assert (sliced[0][0, 0, 0, 0], sliced[1][0, 0, 0]) == (1, 1)
    assert shards.arrays(first.slice(0, 0))[1].shape == (0, 5, 2)


def test_hugging_face_sees_an_image_column(folder: Path) -> None:
    schema = next(shards.iterate(folder)).schema
    described = json.loads(schema.metadata[b"huggingface"])
    assert described["info"]["features"]["image"] == {"_type": "Image"}
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_a_damaged_shard_is_named(folder: Path) -> None:
    path = shards.path_of(folder, 0)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert column.path_in_schema == "image.bytes"
    data[column.data_page_offset + column.total_compressed_size - 9] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"00000\.parquet is damaged: "):
        list(shards.iterate(folder))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"00000\.parquet is not a readable Parquet file"):
        shards.count(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="crops does not exist: run the stage that writes it"):
        list(shards.iterate(tmp_path / "crops"))
