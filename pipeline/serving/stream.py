"""Pictures to predictions in a stream: found and cut in processes, encoded beside them, judged by the block.

A block is so many files in the order of the walk. What its rows are depends on its own files alone, so that
they are the same with any number of workers, and in a run that was killed and resumed.
"""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core.pool import TIMEOUT, Lost, ordered_map
from pipeline.encoders.embedding import BATCH_ROWS
from pipeline.faces.extract import Face
from pipeline.faces.images import Rejection
from pipeline.serving.bundle import Bundle
from pipeline.serving.inputs import Source
from pipeline.serving.looking import Seen, make_looker
from pipeline.serving.rows import rows

Vectors = NDArray[np.float32]
Encode = Callable[[list[Face]], Vectors]

BLOCK_FILES = 1024
BLOCK_BYTES = 256 * 2**20  # of pictures in memory, which nothing else bounds
GROUP_FILES = 256  # files whose faces are encoded together, at most
AHEAD = 2  # groups encoded or waiting while more are found
NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Block:
    """Some files, and their place among the blocks."""

    number: int
    sources: tuple[Source, ...]


def blocks(sources: Iterable[Source], size: int = BLOCK_FILES) -> Iterator[Block]:
    """Sources in blocks, read as they are needed.

    Examples
    --------
    >>> [len(block.sources) for block in blocks((Source(str(n)) for n in range(5)), size=2)]
    [2, 2, 1]
    """
    number, weight, some = 0, 0, list[Source]()
    for source in sources:
        some.append(source)
        weight += len(source.data or b"")
        if len(some) == size or weight >= BLOCK_BYTES:
            yield Block(number, tuple(some))
            number, weight, some = number + 1, 0, []
    if some:
        yield Block(number, tuple(some))


def predicted(
    work: Iterable[Block],
    bundle: Bundle,
    *,
    workers: int,
    timeout: float = TIMEOUT,
    level: float | None = None,
    step: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Block, pa.Table]]:
    """The rows of each block, in order.

    A picture that crashes its process twice, or takes too long, costs itself alone. Memory is bounded by
    the block and a few groups of faces, however many files there are.

    Parameters
    ----------
    work
        Taken as it is needed.
    bundle
        The model.
    workers
        Processes that find faces; encoding uses the threads that torch has beside them.
    timeout
        Seconds that one picture may take.
    level
        Of the intervals; None is the model's own.
    step
        Called for every picture that has been looked at.
    """
    begun: deque[Block] = deque()

    def tasks() -> Iterator[Source]:
        for block in work:
            begun.append(block)
            yield from block.sources

    make = functools.partial(make_looker, bundle.crop)
    with closing(ordered_map(make, tasks(), workers=workers, timeout=timeout)) as outcomes:
        seen: list[Seen] = []
        vectors: list[Vectors] = []
        with closing(encoded(settled(outcomes, step), bundle.encode)) as done:
            for one, own in done:
                seen.append(one)
                vectors.append(own)
                if len(seen) == len(begun[0].sources):
                    block = begun.popleft()
                    pictures = list(zip(block.sources, seen, strict=True))
                    yield block, rows(bundle, pictures, np.concatenate(vectors), level)
                    seen, vectors = [], []


def settled(outcomes: Iterable[Seen | Lost], step: Callable[[], None]) -> Iterator[Seen]:
    """What was seen, with pictures that have no result as rejections."""
    for outcome in outcomes:
        step()
        lost = isinstance(outcome, Lost)
        yield Seen(rejection=Rejection(outcome.reason, outcome.detail)) if lost else outcome  # type: ignore[misc, union-attr]


def encoded(seen: Iterable[Seen], encode: Encode) -> Generator[tuple[Seen, Vectors], None, None]:
    """Each picture with its faces' vectors and without their pixels, in order.

    Encoding runs in a thread of its own while the next faces are being found.
    """
    pending: deque[tuple[list[Seen], Future[Vectors]]] = deque()
    group: list[Seen] = []
    faces: list[Face] = []
    with ThreadPoolExecutor(1) as pool:

        def submit() -> None:
            pending.append(([without_pixels(one) for one in group], pool.submit(encode, [*faces])))
            group.clear()
            faces.clear()

        for one in seen:
            group.append(one)
            faces += one.faces
            if len(faces) >= BATCH_ROWS or len(group) >= GROUP_FILES:
                submit()
            while len(pending) > AHEAD or (pending and pending[0][1].done()):
                yield from finished(*pending.popleft())
        submit()
        while pending:
            yield from finished(*pending.popleft())


def finished(group: list[Seen], future: Future[Vectors]) -> Iterator[tuple[Seen, Vectors]]:
    """A group's pictures, each with its share of the vectors."""
    vectors, start = future.result(), 0
    for one in group:
        yield one, vectors[start : start + len(one.faces)]
        start += len(one.faces)


def without_pixels(one: Seen) -> Seen:
    """What the table needs of a picture, a thousandth of the memory."""
    return replace(one, faces=tuple(replace(face, pixels=NO_PIXELS) for face in one.faces))
