"""Decoded crops at a network's input size, as one file that is mapped into memory.

A PNG takes longer to decode than a small network takes to learn from it, and every epoch would decode it
again. The file is a cache: it is named after everything that decides its bytes, and may be deleted.
"""

import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.backbones.input_transforms import VERSION, Look
from pipeline.core.errors import UserError
from pipeline.core.progress import bar
from pipeline.core.tables import atomic_file, read_folder, rows_of
from pipeline.faces import shards

BATCH = 64
AHEAD = 2
Block = npt.NDArray[np.uint8]


class Pixels:
    """Pictures (N, S, S, 3) in a mapped file, or some of them; pickled as the file's name and their rows."""

    def __init__(self, path: Path, rows: npt.NDArray[np.int64] | None = None) -> None:
        self.path = path
        self.array: Block = np.load(path, mmap_mode="r", allow_pickle=False)
        self.rows = np.arange(len(self.array)) if rows is None else rows

    def __reduce__(self) -> tuple[type["Pixels"], tuple[Path, npt.NDArray[np.int64]]]:
        return Pixels, (self.path, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Block:
        """Copies of some pictures."""
        return self.array[self.rows[rows]]

    def take(self, rows: npt.NDArray[np.int64]) -> "Pixels":
        """Some of them, left in the file."""
        return Pixels(self.path, self.rows[rows])


def decoded(
    crops: Path, face_ids: Sequence[str], look: Look, *, margin: float, cache: Path, workers: int = 1
) -> Pixels:
    """Give the crops of faces as a network sees them, decoding only what no file holds yet.

    Parameters
    ----------
    crops
        The folder of shards.
    face_ids
        Which faces, in ascending order.
    look
        What the network sees of a crop.
    margin
        The margin that the crops were cut with.
    cache
        The folder of the cache.
    workers
        Threads that decode. The result does not depend on it.

    Returns
    -------
    Pixels
        (N, size, size, 3) uint8, read-only.

    Raises
    ------
    UserError
        When a face has no crop, a shard is damaged, or the disk lacks the room.
    """
    known = read_folder(crops, ["face_id", "crop_id"])
    if known is None:
        raise UserError(f"{crops} holds no crops: run the stage crop (dvc repro crop)")
    crop_ids = rows_of(known, pa.chunked_array([list(face_ids)], pa.string()))["crop_id"].to_pylist()
    path = cache / f"{key_of(crop_ids, look, margin)}.npy"
    shape = (len(face_ids), look.size, look.size, 3)
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        needed = math.prod(shape)
        if free < needed:
            raise UserError(
                f"{cache} lacks room for {needed / 2**30:.1f} GiB of decoded pictures: "
                f"{free / 2**30:.1f} GiB are free; choose smaller pictures or empty that folder"
            )
        with atomic_file(path, private=True) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for block in blocks(crops, face_ids, look, margin, workers):
                file.write(np.ascontiguousarray(block).data)
    return Pixels(path)


def key_of(crop_ids: Sequence[str], look: Look, margin: float) -> str:
    """A name for decoded crops, of everything that decides their bytes."""
    described = json.dumps([VERSION, asdict(look), margin], sort_keys=True)
    return hashlib.sha256("\n".join([described, *crop_ids]).encode()).hexdigest()[:32]


def blocks(crops: Path, face_ids: Sequence[str], look: Look, margin: float, workers: int) -> Iterator[Block]:
    """The pictures of all faces in order, some at a time, a few of them ahead."""
    wanted = pa.array(face_ids, pa.string())

    def cut(batch: pa.RecordBatch) -> Block:
        return look.cut(*shards.arrays(batch), margin=margin)

    pending: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(workers) as pool, bar() as progress:
        task = progress.add_task("decoding", total=len(face_ids))
        for batch in shards.iterate(crops, ["face_id", "image", "landmarks"], batch=BATCH):
            rows = batch.filter(pc.is_in(batch.column("face_id"), value_set=wanted))
            if rows.num_rows:
                pending.append(pool.submit(cut, rows))
            while len(pending) > AHEAD * workers:
                done = pending.popleft().result()
                progress.advance(task, len(done))
                yield done
        while pending:
            yield pending.popleft().result()
