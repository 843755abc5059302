"""The Parquet shards that crops are packed in: their columns, reading them, counting them.

One folder holds 00000.parquet, 00001.parquet, ...; face_id rises through all of them. Hugging Face's
`datasets` shows the column `image` as pictures.
"""

import json
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.files import listed
from pipeline.core.tables import open_table, vector_type, why_unread

NAME = re.compile(r"\d{5,}\.parquet")
MEASURES = ("sharpness", "exposure", "dark_fraction", "bright_fraction", "face_size", "roll", "yaw", "pitch")
SCHEMA = pa.schema(
    [
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("crop_id", pa.string(), nullable=False),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("landmarks", vector_type(10), nullable=False),
        pa.field("box", vector_type(4), nullable=False),
        pa.field("detector", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("faces", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in MEASURES),
    ],
    metadata={b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()},
)


EXTENSIONS = {"webp": "webp", "png": "png", "jpeg": "jpg"}


def encode(pixels: npt.NDArray[np.uint8], format: str, jpeg_quality: int = 95) -> bytes:
    """A picture, (H, W, 3) uint8, as the bytes of a file; the same pixels give the same bytes.

    `webp` is lossless and, at its quickest setting, a sixth smaller than the quickest PNG, written in two
    thirds of the time and read in less.
    """
    buffer = BytesIO()
    picture = Image.fromarray(pixels)
    if format == "webp":
        picture.save(buffer, "WEBP", lossless=True, method=0, quality=0)
    elif format == "png":
        # Level 1 takes a quarter of the default level's time; photographs come out an eighth larger.
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=jpeg_quality, subsampling=0)
    return buffer.getvalue()


def path_of(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{number:05d}.parquet"


def paths(folder: Path) -> list[Path]:
    """The shards of a folder in their order."""
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: run the stage that writes it (dvc repro)")
    found = (path for path in folder.iterdir() if NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: int(path.stem))


def count(folder: Path) -> int:
    """How many crops a folder holds, from the shards' footers."""
    return sum(open_table(path).metadata.num_rows for path in paths(folder))


def iterate(folder: Path, columns: Sequence[str] | None = None, batch: int = 256) -> Iterator[pa.RecordBatch]:
    """Stream the crops of a folder in face_id order.

    Parameters
    ----------
    folder
        Where the shards lie.
    columns
        Which columns; None is all of them.
    batch
        At most this many rows at once; a batch never reaches across two shards.

    Raises
    ------
    UserError
        When a shard is damaged, or has no such column.
    """
    for path in paths(folder):
        file = open_table(path)
        names = file.schema_arrow.names
        missing = [name for name in columns or () if name not in names]
        if missing:
            raise UserError(f"{path} has no column {missing[0]!r}: it has {listed(names)}")
        try:
            yield from file.iter_batches(batch, columns=None if columns is None else list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} {why_unread(error)}") from error


def arrays(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A batch's crops and landmarks as encoders take them.

    Parameters
    ----------
    batch
        With the columns `image` and `landmarks`.

    Returns
    -------
    images
        (N, size, size, 3) uint8 RGB; (0, 0, 0, 3) for an empty batch.
    landmarks
        (N, 5, 2) float32, crop pixels.
    """
    encoded = batch.column("image").field("bytes")
    pixels = [
        np.asarray(Image.open(BytesIO(value.as_py()), formats=("WEBP", "PNG", "JPEG"))) for value in encoded
    ]
    images = np.stack(pixels) if pixels else np.empty((0, 0, 0, 3), dtype=np.uint8)
    flat = batch.column("landmarks").flatten().to_numpy()
    return images, flat.reshape(-1, 5, 2)
