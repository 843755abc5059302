"""Augmented pictures drawn, encoded and kept by cosine similarity, all at the same time.

Drawing runs in worker processes, encoding in this one; what is rejected goes back to be drawn again. What
becomes of a face depends on that face alone, so that neither the number of workers nor the order in which
they finish changes a byte of the result.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.encoders.base import Images, Landmarks, Vectors
from pipeline.encoders.stored import StoredEncoders

# Faces whose pictures are being drawn or encoded, and pictures encoded together.
WINDOW = 128
GROUP = 128
# Groups of pictures that wait for the encoder.
AHEAD = 2

How = TypeVar("How")
Draw = Callable[[Images, Landmarks, Sequence[tuple[How, int]]], tuple[Images, Landmarks]]


def cosine(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """The cosine similarity of vectors, row by row: a.b / (|a| |b|).

    Source: Anda et al., Vec2UAge, equation 1. The vectors are taken raw, as the encoder gives them. The
    paper adds that components cannot be negative and the angle is therefore at most 90 degrees. That does
    not hold for these encoders: components of FaceNet's and dlib's vectors have either sign, so that the
    similarity may be anything from -1 to 1 (EfficientNet-Lite0's averages of ReLU6 outputs are never
    negative).

    Parameters
    ----------
    a, b
        (N, D).

    Returns
    -------
    ndarray
        (N,) between -1 and 1.

    Examples
    --------
    >>> cosine(np.array([[1, 0], [2, 0]]), np.array([[-3, 0], [1, 1]])).round(4).tolist()
    [-1.0, 0.7071]
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    similarity: npt.NDArray[np.float64] = (x * y).sum(axis=1) / np.sqrt(
        (x * x).sum(axis=1) * (y * y).sum(axis=1)
    )
    return similarity


@dataclass(frozen=True)
class Face(Generic[How]):
    """A training face whose augmented pictures are wanted.

    Parameters
    ----------
    face_id
        Which face.
    image
        (H, W, 3) uint8, its crop.
    landmarks
        (5, 2) float32, those of the crop.
    vector
        (D,) its own vector.
    slots
        How many augmented pictures are wanted, 1 or more.
    attempt
        Gives, for a slot and a try, the name of what is drawn, how to draw it, and the seed.
    """

    face_id: str
    image: Images
    landmarks: Landmarks
    vector: Vectors
    slots: int
    attempt: Callable[[int, int], tuple[str, How, int]]


@dataclass(frozen=True)
class Kept:
    """An augmented picture that passed: its key, its parent, what was done, and what came out."""

    key: str
    parent_id: str
    operation: str
    image: Images
    landmarks: Landmarks
    vector: Vectors
    similarity: float


@dataclass
class Tally:
    """How many candidates were drawn, kept and rejected, by operation and reason."""

    kept: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    unfilled: Counter[str] = field(default_factory=Counter)


@dataclass
class _Work(Generic[How]):
    face: Face[How]
    pending: list[int]
    tried: int = 0
    kept: dict[int, Kept] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Drawing(Generic[How]):
    """A face's pictures on their way: the operations' names, and pictures and landmarks once drawn."""

    work: _Work[How]
    names: list[str]
    drawn: Future[tuple[Images, Landmarks]]


@dataclass(frozen=True)
class _Group(Generic[How]):
    """Drawn pictures with their keys, by drawing; and those that differ, stacked for the encoder."""

    drawings: Sequence[_Drawing[How]]
    drawn: list[tuple[Images, Landmarks]]
    keys: list[list[str]]
    different: list[str]
    pixels: Images
    landmarks: Landmarks


def augment_faces(
    faces: Iterable[Face[How]],
    draw: Draw[How],
    vectors: StoredEncoders,
    workers: Executor,
    *,
    min_similarity: float,
    max_similarity: float,
    max_tries: int,
    tally: Tally,
) -> Iterator[list[Kept]]:
    """Draw, encode and filter; yield each face's kept pictures, in the order of the faces.

    Parameters
    ----------
    faces
        Consumed as the work goes on: at most `WINDOW` are held at once.
    draw
        Makes pictures, (k, H, W, 3), and their landmarks, (k, 5, 2), of one crop and k ways with their
        seeds; runs in the workers.
    vectors
        Encodes what its stores lack.
    workers
        Where pictures are drawn.
    min_similarity, max_similarity
        Below, the face is lost (`too_different`); above, nothing was learnt (`too_similar`).
    max_tries
        How often a rejected picture is drawn again, the first time included.
    tally
        Counts what happens; `unfilled` has the slots that stay empty, by face_id.
    """
    queue: deque[_Drawing[How]] = deque()
    prepared: deque[Future[_Group[How]]] = deque()
    order: deque[_Work[How]] = deque()
    done: set[int] = set()
    source = iter(faces)

    def submit(work: _Work[How]) -> None:
        attempts = [work.face.attempt(slot, work.tried) for slot in work.pending]
        ways = [(how, seed) for _, how, seed in attempts]
        names = [name for name, _, _ in attempts]
        queue.append(_Drawing(work, names, workers.submit(draw, work.face.image, work.face.landmarks, ways)))

    def admit() -> None:
        while len(order) < WINDOW and (face := next(source, None)) is not None:
            work = _Work(face, list(range(face.slots)))
            order.append(work)
            submit(work)

    admit()
    with ThreadPoolExecutor(1) as ahead:
        while queue or prepared:
            while queue and len(prepared) < AHEAD:
                prepared.append(ahead.submit(_prepare, _next_group(queue)))
            group = prepared.popleft().result()
            if queue:  # waits for drawings and hashes them while this thread encodes
                prepared.append(ahead.submit(_prepare, _next_group(queue)))
            for work in _settle(group, vectors, (min_similarity, max_similarity), tally):
                if work.pending and work.tried < max_tries:
                    submit(work)
                else:
                    tally.unfilled[work.face.face_id] += len(work.pending)
                    done.add(id(work))
            while order and id(order[0]) in done:
                work = order.popleft()
                done.discard(id(work))
                yield [work.kept[slot] for slot in sorted(work.kept)]
            admit()


def _next_group(queue: deque[_Drawing[How]]) -> list[_Drawing[How]]:
    """The oldest drawings, until they make `GROUP` pictures."""
    group: list[_Drawing[How]] = []
    pictures = 0
    while queue and pictures < GROUP:
        group.append(queue.popleft())
        pictures += len(group[-1].names)
    return group


def _prepare(drawings: Sequence[_Drawing[How]]) -> _Group[How]:
    """Wait until pictures are drawn, and say which of them are different."""
    results = [drawing.drawn.result() for drawing in drawings]
    keys = [[picture_key(*one) for one in zip(*result, strict=True)] for result in results]
    rows = {
        key: one
        for some, result in zip(keys, results, strict=True)
        for key, one in zip(some, zip(*result, strict=True), strict=True)
    }
    pixels, landmarks = (np.stack(column) for column in zip(*rows.values(), strict=True))
    return _Group(drawings, results, keys, list(rows), pixels, landmarks)


def _settle(
    group: _Group[How], vectors: StoredEncoders, limits: tuple[float, float], tally: Tally
) -> Iterator[_Work[How]]:
    """Encode a group's pictures and decide on each; yield its faces with what is still pending."""
    found_vectors = vectors(group.different, group.pixels, group.landmarks)
    encoded = dict(zip(group.different, found_vectors, strict=True))
    for drawing, (images, landmarks), keys in zip(group.drawings, group.drawn, group.keys, strict=True):
        work = drawing.work
        found = np.stack([encoded[key] for key in keys])
        similarities = cosine(np.broadcast_to(work.face.vector, found.shape), found)
        still_pending = []
        columns = (work.pending, drawing.names, images, landmarks, keys, found, similarities.tolist())
        for slot, operation, image, points, key, vector, similarity in zip(*columns, strict=True):
            reason = _reason(similarity, limits, key in work.keys)
            if reason:
                tally.rejected[operation, reason] += 1
                still_pending.append(slot)
            else:
                tally.kept[operation] += 1
                work.keys.add(key)
                work.kept[slot] = Kept(key, work.face.face_id, operation, image, points, vector, similarity)
        work.pending = still_pending
        work.tried += 1
        yield work


def _reason(similarity: float, limits: tuple[float, float], repeated: bool) -> str:
    if repeated:
        return "repeated"
    if similarity < limits[0]:
        return "too_different"
    return "too_similar" if similarity > limits[1] else ""


def picture_key(image: Images, landmarks: Landmarks) -> str:
    """The store's key of an augmented picture: the sha256 of its shape, pixels and landmarks."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    digest.update(np.ascontiguousarray(landmarks).data)
    return digest.hexdigest()
