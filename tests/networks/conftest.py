"""A few faces as the stages before leave them: manifest, splits, crops."""

from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.core.tables import write_table
from pipeline.faces import shards

COUNT, SIDE, MARGIN = 40, 48, 0.25


def face_id(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def picture(number: int) -> np.ndarray:
    """Noise whose brightness is the target."""
    rng = np.random.default_rng(number)
    return np.clip(3 * target(number) + rng.integers(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def target(number: int) -> int:
    return 10 + number % 40


def crop_table(numbers: list[int]) -> pa.Table:
    def encoded(number: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(picture(number)).save(buffer, "PNG")
        return buffer.getvalue()

    numbers = sorted(numbers, key=face_id)
    ids = [face_id(number) for number in numbers]
    landmarks = np.tile(np.array([36, 19, 30, 20, 12, 19, 18, 20, 24, 32], np.float32), (len(numbers), 1))
    columns = {
        "face_id": ids,
        "crop_id": [sha256(name.encode()).hexdigest() for name in ids],
        "image": [{"bytes": encoded(number), "path": None} for number in numbers],
        "landmarks": landmarks.tolist(),
        "box": [[8.0, 8.0, 40.0, 40.0]] * len(ids),
        "detector": ["dlib_hog"] * len(ids),
        "score": [1.0] * len(ids),
        "faces": [1] * len(ids),
        **{name: [0.5] * len(ids) for name in shards.MEASURES},
    }
    return pa.table(columns, schema=shards.SCHEMA)


def split_of(number: int) -> str:
    return ("train", "train", "train", "validation", "test")[number % 5]


class Project:
    """What lies in the folder that is worked in."""

    crops = Path("data/crops")
    margin = MARGIN
    picture = staticmethod(picture)
    split_of = staticmethod(split_of)
    face_id = staticmethod(face_id)

    def __init__(self) -> None:
        self.numbers = sorted(range(COUNT), key=face_id)
        self.ids = [face_id(number) for number in self.numbers]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder in which everything up to `split` has run."""
    monkeypatch.chdir(tmp_path)
    numbers = list(range(COUNT))
    half = COUNT // 2
    ordered = sorted(numbers, key=face_id)
    for index, part in enumerate((ordered[:half], ordered[half:])):
        write_table(crop_table(part), shards.path_of(Path("data/crops"), index), "vec2age crop")
    ids = [face_id(number) for number in ordered]
    manifest = pa.table(
        {
            "face_id": ids,
            "path": [f"{number}.png" for number in ordered],
            "target": [float(target(number)) for number in ordered],
            "subject": pa.array([None] * COUNT, pa.string()),
            "dataset": ["made"] * COUNT,
            "gender": ["f" if number % 4 == 0 else "m" for number in ordered],
            "yaw": [float(number - 20) for number in ordered],
            "pitch": [float(number % 7) for number in ordered],
            "roll": [120.0 if number == 3 else 0.0 for number in ordered],
            "trust": [1.0 + number % 2 for number in ordered],
        }
    )
    write_table(manifest, Path("data/manifest.parquet"), "vec2age ingest")
    splits = pa.table({"face_id": ids, "split": [split_of(number) for number in ordered]})
    write_table(splits, Path("data/splits.parquet"), "vec2age split")
    write_table(
        pa.table({"face_id": pa.array([], pa.string())}), Path("data/vectors.parquet"), "vec2age ingest"
    )
    return Project()
