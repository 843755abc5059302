"""Augmented pictures kept on disk, packed in Parquet shards like the crops: the paper's offline manner."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import UserError
from pipeline.core.places import lies_in
from pipeline.core.tables import atomic_file, parquet_options, producer_of, temporary_for, with_producer
from pipeline.faces import shards

PRODUCER = "vec2age augment"
ROWS_PER_GROUP = 128
MAX_SHARD_BYTES = 500_000_000
SCHEMA = pa.schema(
    [
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("parent_id", pa.string(), nullable=False),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        shards.SCHEMA.field("image"),
        shards.SCHEMA.field("landmarks"),
    ],
    metadata=shards.SCHEMA.metadata,
)


def check_folder(folder: Path, taken: Iterable[Path] = ()) -> None:
    """Refuse a folder that holds, or is to hold, anything but augmented pictures.

    Parameters
    ----------
    folder
        Where pictures are to be kept; it need not exist.
    taken
        Folders of others: neither one of them, nor inside one, nor around one.

    Raises
    ------
    UserError
        The folder is taken, is or lies in a file, or holds something that `PictureShards` did not write.
    """
    for other in taken:
        if lies_in(folder, other) or lies_in(other, folder):
            raise UserError(
                f"augment.pictures is {folder}, but {other} holds other files of the pipeline: "
                "name a folder of their own for the pictures"
            )
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise UserError(
                f"augment.pictures is {folder}, but {path} is no folder: name one for the pictures"
            )
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not _is_ours(path):
            raise UserError(
                f"{path} is not a shard of pictures that augment wrote: name a folder of their own for them"
            )


def _is_ours(path: Path) -> bool:
    if shards.NAME.fullmatch(temporary_for(path.name) or ""):  # a run that was killed left it
        return True
    try:
        return bool(shards.NAME.fullmatch(path.name)) and producer_of(path)["producer"] == PRODUCER
    except UserError:
        return False


class PictureShards:
    """A folder of shards that pictures are added to, one at a time, in constant memory.

    Parameters
    ----------
    folder
        Where 00000.parquet, 00001.parquet, ... are written, all of them when the block ends well: only then
        the shards of an earlier run go. A folder that holds anything else is refused.
    settings
        What made the pictures, for the shards' metadata.

    Raises
    ------
    UserError
        The folder holds something that is not such a shard.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        check_folder(folder)
        self.folder = folder
        self.schema = with_producer(SCHEMA, PRODUCER, settings)
        self.rows: list[dict[str, Any]] = []
        self.bytes = 0
        self.count = 0
        self.shards = contextlib.ExitStack()
        self.writer: pq.ParquetWriter | None = None

    def add(
        self,
        face_id: str,
        parent_id: str,
        operation: str,
        similarity: float,
        image: npt.NDArray[np.uint8],
        landmarks: npt.NDArray[np.float32],
    ) -> None:
        """Add one picture, (H, W, 3) uint8, without loss, and its landmarks, (5, 2)."""
        picture = {"bytes": shards.encode(image, "webp"), "path": None}
        row = {"face_id": face_id, "parent_id": parent_id, "operation": operation, "similarity": similarity}
        self.rows.append({**row, "image": picture, "landmarks": landmarks.ravel().tolist()})
        self.bytes += len(picture["bytes"] or b"")
        if len(self.rows) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self.rows:
            return
        if self.writer is None:
            path = shards.path_of(self.folder, self.count)
            file = self.shards.enter_context(atomic_file(path, private=True))
            self.writer = pq.ParquetWriter(file, self.schema, **parquet_options(self.schema))
            self.count += 1
        self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []
        if self.bytes > MAX_SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer, self.bytes = None, 0

    def _replace(self) -> None:
        """Let the new shards take their names, and remove what an earlier run has more of."""
        self.shards.close()
        mine = {shards.path_of(self.folder, number) for number in range(self.count)}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path not in mine:
                path.unlink()

    def __enter__(self) -> "PictureShards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.shards:  # of a block that failed they go without ever having had their names
            if error is not None:
                raise error
            self._flush()
            self._close()
            self._replace()


@contextlib.contextmanager
def kept_in(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[PictureShards | None]:
    """Shards in a folder, or None where no folder is named."""
    if folder is None:
        yield None
        return
    with PictureShards(folder, settings) as pictures:
        yield pictures
