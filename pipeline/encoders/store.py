"""The vector store: every vector is computed once, kept, and found again by the crop it came from.

A store is one folder per encoder fingerprint and width, holding segments (`segments.py`): immutable
Parquet files whose names are the sha256 of their bytes. Appending adds a segment; compacting merges
small ones. What follows from that:

- A killed process leaves whole segments and at most one temporary file, which the next writer
  removes: only the batch in flight is lost.
- A compaction writes the merged segments before it deletes the old, so that dying in between leaves
  the same rows twice, never a row less. The next one removes the surplus, and the bytes after a
  compaction do not depend on how often the work was interrupted, nor on the size of its batches.
- Readers share a lock, a writer holds it alone, and the operating system frees it when its process
  dies. Two processes that encode the same crop are therefore caught when they disagree.
- A segment whose bytes are not those written (torn, corrupted, put there by mistake) is named in a
  warning and moved to `quarantine/`; its vectors count as missing and are encoded again.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.tables import first_line, sync_directory
from pipeline.encoders.segments import (
    KEY_BYTES,
    Keys,
    Segment,
    SegmentDamaged,
    Stamp,
    gather,
    in_threads,
    join,
    locked,
    open_segment,
    segment_schema,
    stamps,
    write_segment,
)

SEGMENT_ROWS = 32768
KEY = re.compile("[0-9a-f]{64}")


class VectorStore:
    """The vectors of one encoder, by the sha256 of the crop.

    Any number of processes may use one store at the same time; within a process, an object belongs
    to one thread.

    Parameters
    ----------
    root
        Where stores live, such as embeddings/cache.
    fingerprint
        Text that changes with anything the vectors depend on beside the crop.
    dim
        The width of the vectors.

    Examples
    --------
    >>> import tempfile
    >>> store = VectorStore(Path(tempfile.mkdtemp()), "encoder-1", dim=2)
    >>> keys = [hashlib.sha256(crop).hexdigest() for crop in (b"a", b"b", b"c")]
    >>> store.append(keys[:2], np.array([[1, 2], [3, 4]], np.float32))
    >>> store.missing(keys) == keys[2:]
    True
    >>> store.read([keys[1], keys[0]])
    array([[3., 4.],
           [1., 2.]], dtype=float32)
    """

    def __init__(self, root: Path, fingerprint: str, dim: int) -> None:
        self.dim = dim
        self.fingerprint = fingerprint
        # With the width in the name, a caller who mistakes it cannot reach another width's vectors.
        name = hashlib.sha256(f"{dim} {fingerprint}".encode()).hexdigest()[:16]
        self.directory = Path(root) / name
        self._schema = segment_schema(fingerprint, dim)
        self._segments: dict[str, Segment] = {}
        # Every key in ascending order, and its row counted through all segments.
        self._index: tuple[Keys, np.ndarray] = (join([]), np.empty(0, np.intp))

    def __len__(self) -> int:
        """How many distinct keys the store holds."""
        with locked(self.directory, exclusive=False):
            self._load()
            return len(np.unique(self._index[0]))

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The keys that have no vector yet, each once, in the order given.

        Every byte of a segment is verified the first time an object meets it, here or in any other
        method, so a key that is not missing can be read.

        Parameters
        ----------
        keys
            sha256 of the crops, 64 lowercase hex digits each.
        """
        wanted = key_array(keys)
        with locked(self.directory, exclusive=False):
            self._load()
            there = self._rows(wanted) >= 0
        return list(dict.fromkeys(key for key, found in zip(keys, there, strict=True) if not found))

    def append(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Add vectors: on return they are on disk, and until then none of them is.

        A key that is there already, or given twice, must come with the very same bits; it is then
        stored once.

        Parameters
        ----------
        keys
            sha256 of the crops, 64 lowercase hex digits each.
        vectors
            (N, dim) float32, finite.

        Raises
        ------
        UserError
            Where shape or type differ, a value is not finite, or a key has another vector already.
        """
        wanted = key_array(keys)
        if vectors.shape != (len(keys), self.dim) or vectors.dtype != np.float32:
            raise UserError(
                f"{self.directory} takes float32 vectors of shape {(len(keys), self.dim)}, "
                f"not {vectors.dtype} of shape {vectors.shape}"
            )
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            raise UserError(f"the vector of crop {keys[broken[0]]} is not finite: nothing was stored")
        # Where a key is given several times, each of its vectors is held against the first.
        _, first, copy = np.unique(wanted, return_index=True, return_inverse=True)
        self._refuse_others(keys, vectors, vectors[first[copy]])
        with locked(self.directory, exclusive=True):
            self._load()
            there, stored = self._take(wanted)
            known = [key for key, found in zip(keys, there, strict=True) if found]
            self._refuse_others(known, vectors[there], stored)
            fresh = first[~there[first]]
            if len(fresh):
                write_segment(self.directory, self._schema, wanted[fresh], vectors[fresh])

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """The vectors of keys, in the order asked.

        Parameters
        ----------
        keys
            sha256 of the crops, 64 lowercase hex digits each; repetitions are allowed.

        Returns
        -------
        numpy.ndarray
            (N, dim) float32, C-contiguous.

        Raises
        ------
        UserError
            Where a key has no vector: how many have none, and the first of them.
        """
        wanted = key_array(keys)
        with locked(self.directory, exclusive=False):
            self._load()
            there, vectors = self._take(wanted)
        if not there.all():
            absent = np.flatnonzero(~there)
            raise UserError(
                f"{self.directory} has no vector for {len(absent)} of {len(keys)} crops, "
                f"the first of them {keys[absent[0]]}: run the stage that encodes them again (dvc repro)"
            )
        return vectors

    def compact(self) -> None:
        """Merge small segments into full ones of `SEGMENT_ROWS` rows in the order of their keys.

        For the end of a session of appending. Full segments stay as they are, so that adding a few
        vectors to many costs little.
        """
        with locked(self.directory, exclusive=True):
            self._load()
            loose = [s for s in self._segments.values() if len(s.keys) < SEGMENT_ROWS]
            full = [s.keys for s in self._segments.values() if len(s.keys) >= SEGMENT_ROWS]
            keys = np.setdiff1d(join([s.keys for s in loose]), join(full))
            if len(loose) == 1 and np.array_equal(loose[0].keys, keys):
                return
            written = set()
            for start in range(0, len(keys), SEGMENT_ROWS):
                part = keys[start : start + SEGMENT_ROWS]
                there, vectors = self._take(part)
                if there.any():
                    written.add(write_segment(self.directory, self._schema, part[there], vectors))
            for path in {segment.path for segment in loose} - written:
                path.unlink(missing_ok=True)
            sync_directory(self.directory)

    def _load(self, *, afresh: bool = False) -> None:
        """Bring what is known of the segments up to date with the folder; verify what is new, or all."""
        listed = stamps(self.directory)
        kept = {} if afresh else self._segments
        known = {name: s for name, s in kept.items() if listed.get(name) == s.stamp}
        new = [name for name in listed if name not in known]
        for name, result in zip(new, in_threads(lambda n: self._open(n, listed[n]), new), strict=True):
            if isinstance(result, Segment):
                known[name] = result
            else:
                self._set_aside(self.directory / name, result)
        if new or len(known) < len(self._segments):
            self._segments = dict(sorted(known.items()))
            keys = join([segment.keys for segment in self._segments.values()])
            order = np.argsort(keys, kind="stable")
            self._index = keys[order], order

    def _open(self, name: str, stamp: Stamp) -> Segment | SegmentDamaged:
        try:
            return open_segment(self.directory / name, stamp, self._schema)
        except SegmentDamaged as damage:
            return damage

    def _set_aside(self, path: Path, damage: SegmentDamaged) -> None:
        quarantine = self.directory / "quarantine"
        try:
            quarantine.mkdir(exist_ok=True)
            path.replace(quarantine / path.name)
        except FileNotFoundError:  # another reader has set it aside, and has said so
            return
        except OSError as error:
            raise UserError(
                f"{path} is damaged ({damage}) and cannot be moved to {quarantine}: {first_line(error)}"
            ) from error
        warnings.warn(
            f"{path} is damaged: {damage}; it was moved to {quarantine} and its vectors count as missing",
            stacklevel=4,
        )

    def _rows(self, wanted: Keys) -> np.ndarray:
        """The row of each key, counted through all segments; -1 where there is none."""
        keys, order = self._index
        rows = np.full(len(wanted), -1)
        if len(keys):
            ascending = np.argsort(wanted)
            sought = wanted[ascending]  # searching in order is twice as fast as at random
            place = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
            found = keys[place] == sought
            rows[ascending[found]] = order[place[found]]
        return rows

    def _take(self, wanted: Keys) -> tuple[np.ndarray, np.ndarray]:
        """Which keys are there, (N,) bool, and the vectors of those, in their order."""
        try:
            return self._gather(wanted)
        except (pa.ArrowInvalid, OSError):
            # Verified once, unreadable now: verify everything again and set aside what has changed.
            self._load(afresh=True)
            return self._gather(wanted)

    def _gather(self, wanted: Keys) -> tuple[np.ndarray, np.ndarray]:
        rows = self._rows(wanted)
        there = rows >= 0
        vectors = np.empty((np.count_nonzero(there), self.dim), np.float32)
        gather(list(self._segments.values()), rows[there], vectors)
        return there, vectors

    def _refuse_others(self, keys: Sequence[str], given: np.ndarray, stored: np.ndarray) -> None:
        """Hold vectors against those of the same keys, bit by bit."""
        same = (given.view(np.uint32) == stored.view(np.uint32)).all(axis=1)
        if not same.all():
            raise UserError(
                f"crop {keys[np.flatnonzero(~same)[0]]} has two different vectors under one fingerprint "
                f"({self.fingerprint}): the encoder is not a function of the crop alone; "
                f"delete {self.directory} and encode again"
            )


def key_array(keys: Sequence[str]) -> Keys:
    """Hex keys as an array of 32 bytes each."""
    text = "".join(keys)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    # The whole first, for speed: text that comes back the same has no capitals and no blanks.
    if data.hex() != text or any(len(key) != 2 * KEY_BYTES for key in keys):
        wrong = next(key for key in keys if not KEY.fullmatch(key))
        raise UserError(f"{wrong!r} is not a key: a key is a sha256 in 64 lowercase hex digits")
    return np.frombuffer(data, f"S{KEY_BYTES}")
