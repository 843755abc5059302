"""Crops to stored vectors: only what is missing, decoding, encoding and writing at the same time."""

import contextlib
import io
import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from pipeline.backbones.views import Images, Landmarks
from pipeline.core import progress
from pipeline.core.errors import UserError
from pipeline.core.tables import first_line, open_table, read_table
from pipeline.encoders.encoder import Combine, Encoder, Vectors, combine
from pipeline.encoders.precision import FACES, choose_precision
from pipeline.encoders.store import VectorStore

COLUMNS = ["crop_id", "image", "landmarks"]
# Crops in a batch: four passes through a network for every processor; 512 decoded crops are 77 MB.
BATCH_ROWS = 64 * min(os.cpu_count() or 1, 8)
# Batches decoded ahead of the one that is being encoded, and encoded ones not yet written.
AHEAD = 2


@dataclass(frozen=True)
class Count:
    """What became of the crops for one encoder."""

    encoded: int
    found: int


def embed(
    shards: Sequence[Path | pa.Table],
    encoders: Sequence[Encoder],
    store_root: Path,
    *,
    batch_size: int = BATCH_ROWS,
    workers: int | None = None,
) -> dict[str, Count]:
    """Encode whatever crops an encoder's store lacks, and store the vectors batch by batch.

    A picture is decoded once for all encoders. Decoding, encoding and writing run side by side with a
    bounded number of batches between them, so that memory does not grow with the number of crops, and a
    killed run loses no more than those batches.

    Parameters
    ----------
    shards
        Tables with the columns crop_id, image and landmarks, or Parquet files of such tables, of which only
        the row groups with something to encode are read in full. In a table landmarks may be null; the
        encoder then finds its own.
    encoders
        Each with a store of its own.
    store_root
        Where the stores lie.
    batch_size
        How many crops are decoded, encoded and stored together. Vectors do not depend on it.
    workers
        Threads that decode; None is one for every two processors.

    Returns
    -------
    dict of str to Count
        By fingerprint, how many crops were encoded and how many were there already.

    Raises
    ------
    UserError
        When a picture cannot be decoded, or a store or a shard is damaged.
    """
    crop_ids = list(dict.fromkeys(key for shard in shards for (key,) in _rows(shard, ["crop_id"])))
    return _embed(shards, crop_ids, encoders, store_root, batch_size, workers)


def _embed(
    shards: Sequence[Path | pa.Table],
    crop_ids: Sequence[str],
    encoders: Sequence[Encoder],
    store_root: Path,
    batch_size: int,
    workers: int | None,
) -> dict[str, Count]:
    """Do what `embed` does, for these crops of the shards alone."""
    stores = {e.fingerprint: VectorStore(store_root, e.fingerprint, e.dim) for e in encoders}
    missing = {name: set(store.missing(crop_ids)) for name, store in stores.items()}
    wanted: set[str] = set().union(*missing.values())
    writes: deque[Future[None]] = deque()
    with (
        ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 1) // 2)) as decoders,
        ThreadPoolExecutor(1) as writer,
        progress.bar() as bar,
    ):
        task = bar.add_task("embed", total=len(wanted))
        for keys, images, landmarks in _decoded(shards, wanted, batch_size, decoders):
            for encoder in encoders:
                rows = [row for row, key in enumerate(keys) if key in missing[encoder.fingerprint]]
                if rows:
                    vectors = encoder.encode(images[rows], None if landmarks is None else landmarks[rows])
                    append = stores[encoder.fingerprint].append
                    writes.append(writer.submit(append, [keys[row] for row in rows], vectors))
            while len(writes) > AHEAD * len(encoders):
                writes.popleft().result()
            bar.advance(task, len(keys))
        for write in writes:
            write.result()
        for store in stores.values():
            store.compact()
    return {name: Count(len(keys), len(crop_ids) - len(keys)) for name, keys in missing.items()}


def settle(
    encoders: Sequence[Encoder], shards: Sequence[Path | pa.Table], store_root: Path
) -> tuple[list[Encoder], list[str]]:
    """Replace encoders whose reduced precision does not prove itself on the user's own faces.

    The test vectors go through the stores like all others, so that a second run encodes nothing.

    Parameters
    ----------
    encoders
        As `build_all` gives them.
    shards
        Crops as for `embed`, with the column face_id. The first 64 in its order are the test.
    store_root
        Where the stores lie.

    Returns
    -------
    list of Encoder, list of str
        The encoders to use, views of one name together, and a sentence for each name: which arithmetic,
        and why.
    """
    crop_of = {face: crop for shard in shards for face, crop in _rows(shard, ["face_id", "crop_id"])}
    crop_ids = list(dict.fromkeys(crop_of[face] for face in sorted(crop_of)))[:FACES]

    def vectors(encoder: Encoder) -> Vectors:
        _embed(shards, crop_ids, [encoder], store_root, BATCH_ROWS, None)
        return vectors_of(crop_ids, [encoder], store_root)

    settled: list[Encoder] = []
    sentences = []
    for name in dict.fromkeys(encoder.name for encoder in encoders):
        views = [encoder for encoder in encoders if encoder.name == name]
        chosen, sentence = choose_precision(views, vectors, len(crop_ids))
        settled += chosen
        sentences.append(sentence)
    return settled, sentences


def vectors_of(
    crop_ids: Sequence[str], encoders: Sequence[Encoder], store_root: Path, how: Combine = "concatenate"
) -> Vectors:
    """Read the stored vectors of crops, those of several encoders and views joined as `combine` does it.

    Parameters
    ----------
    crop_ids
        Which crops, in which order.
    encoders
        Which encoders and views, in which order.
    store_root
        Where the stores lie.
    how
        What becomes of the views of one encoder.

    Returns
    -------
    ndarray
        (N, total width) float32.
    """
    arrays: dict[str, list[Vectors]] = {}
    for encoder in encoders:
        store = VectorStore(store_root, encoder.fingerprint, encoder.dim)
        arrays.setdefault(encoder.name, []).append(store.read(crop_ids))
    return combine(arrays, how)


def decode(crop_id: str, data: bytes) -> Images:
    """Decode one crop, (H, W, 3) uint8 RGB."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"the picture of crop {crop_id} cannot be decoded ({first_line(error)}): run the crop stage again"
        ) from error


def _rows(shard: Path | pa.Table, columns: list[str]) -> Iterator[tuple[str, ...]]:
    table = shard if isinstance(shard, pa.Table) else read_table(shard, columns)
    return zip(*(table.column(name).to_pylist() for name in columns), strict=True)


def _row_groups(shard: Path | pa.Table, wanted: Collection[str]) -> Iterator[pa.Table]:
    """Yield the wanted rows, reading pictures only where there are any."""
    values = pa.array(sorted(wanted), pa.string())
    if isinstance(shard, pa.Table):
        yield shard.select(COLUMNS).filter(pc.is_in(shard.column("crop_id"), value_set=values))
        return
    with open_table(shard) as file, _readable(shard):
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["crop_id"]).column("crop_id")
            chosen = pc.is_in(ids, value_set=values)
            if pc.any(chosen).as_py():
                yield file.read_row_group(group, columns=COLUMNS).select(COLUMNS).filter(chosen)


@contextlib.contextmanager
def _readable(shard: Path) -> Iterator[None]:
    """Name the shard whose pages turn out to be damaged, or which lacks a column."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise UserError(f"{shard} is damaged ({first_line(error)}): run the crop stage again") from error


def _batches(shards: Sequence[Path | pa.Table], wanted: Collection[str], rows: int) -> Iterator[pa.Table]:
    """Yield every wanted crop once, in the order of the shards, a few rows at a time."""
    taken: set[str] = set()
    for shard in shards:
        for table in _row_groups(shard, wanted):
            keys = table.column("crop_id").to_pylist()
            first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in taken}
            taken.update(first)
            fresh = table.take(pa.array(sorted(first.values()), pa.int64()))
            known = pc.is_valid(fresh.column("landmarks"))
            # Apart, so that whether a crop's landmarks are predicted never depends on its neighbours.
            for part in (fresh.filter(known), fresh.filter(pc.invert(known))):
                for start in range(0, len(part), rows):
                    yield part.slice(start, rows)


def _decoded(
    shards: Sequence[Path | pa.Table], wanted: Collection[str], rows: int, decoders: ThreadPoolExecutor
) -> Iterator[tuple[list[str], Images, Landmarks | None]]:
    """Yield batches with their pictures decoded, some batches ahead of the consumer."""
    pending: deque[tuple[pa.Table, list[Future[Images]]]] = deque()
    for batch in _batches(shards, wanted, rows):
        keys = batch.column("crop_id").to_pylist()
        blobs = pc.struct_field(batch.column("image"), "bytes").to_pylist()
        pending.append((batch, [decoders.submit(decode, k, b) for k, b in zip(keys, blobs, strict=True)]))
        if len(pending) > AHEAD:
            yield _finished(*pending.popleft())
    while pending:
        yield _finished(*pending.popleft())


def _finished(batch: pa.Table, futures: list[Future[Images]]) -> tuple[list[str], Images, Landmarks | None]:
    keys = batch.column("crop_id").to_pylist()
    images = [future.result() for future in futures]
    sizes = {image.shape: key for image, key in zip(images, keys, strict=True)}
    if len(sizes) > 1:
        (one, first), (two, second), *_ = sizes.items()
        raise UserError(
            f"crops {first} and {second} differ in size, {one[:2]} and {two[:2]}: run the crop stage again"
        )
    column = batch.column("landmarks").combine_chunks()
    if column.null_count:
        return keys, np.stack(images), None
    return keys, np.stack(images), column.flatten().to_numpy().reshape(len(keys), 5, 2)
