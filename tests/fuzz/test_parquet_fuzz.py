"""Tables and segments of vectors that were damaged or tampered with: a sentence, or what they hold."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_table, vector_type, write_table
from pipeline.encoders import segments
from pipeline.encoders.segments import SegmentDamaged


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "faces.parquet"
    values = pa.array(np.arange(400, dtype=np.float32))
    columns = {
        "face_id": pa.array([f"{row:064x}" for row in range(50)]),
        "target": pa.array([float(row) for row in range(50)]),
        "split": pa.array(["train", "test"] * 25).dictionary_encode(),
        "vector": pa.FixedSizeListArray.from_arrays(values, type=vector_type(8)),
        "members": pa.array([[1.0, 2.0]] * 50),
    }
    write_table(pa.table(columns), path, "test", {"a": 1})
    return path.read_bytes()


def asked(case: tuple[int, bytes, Path]) -> str | None:
    """The sentence with which a damaged file is refused, if it is."""
    number, data, folder = case
    chance = random.Random(f"parquet {number}")
    damaged = bytearray(data)
    # the footer is not covered by checksums: most of the damage goes there
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if number % 4 else 0
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        damaged[chance.randrange(start, len(data))] = chance.randrange(256)
    if number % 5 == 0:
        del damaged[chance.randrange(len(data)) :]
    path = folder / f"{number}.parquet"
    path.write_bytes(damaged)
    try:
        read_table(path)
        producer_of(path)
        segments.open_segment(path, (0, 0, 0), segments.segment_schema("f", 8))
    except (UserError, SegmentDamaged) as error:
        return str(error)
    finally:
        path.unlink()
    return None


def test_a_damaged_table_is_read_or_refused_in_one_sentence(
    watched: Any, cases: Any, sound: bytes, tmp_path: Path
) -> None:
    count = cases(5000, 500)
    for number, outcome in enumerate(watched(asked, [(n, sound, tmp_path) for n in range(count)])):
        assert outcome.within_limits(), (number, outcome)
        assert outcome.raised is None, (number, outcome.raised)
        assert outcome.result, "no file that was changed has the hash that a segment is named by"
        assert "\n" not in outcome.result
