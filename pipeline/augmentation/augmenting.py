"""Augmented pictures drawn, encoded and kept by cosine similarity, all at the same time.

Drawing runs in worker processes, encoding in this one; what is rejected goes back to be drawn again. What
becomes of a face depends on that face alone, so that neither the number of workers nor the order in which
they finish changes a byte of the result.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from pipeline.augmentation.similarity import cosine
from pipeline.backbones.views import Images, Landmarks
from pipeline.encoders.encoder import Vectors
from pipeline.encoders.stored import StoredEncoders

# Faces whose pictures are being drawn or encoded, pictures encoded together, and pictures drawn together.
WINDOW = 128
GROUP = 128
PIECE = 32
# Pictures that are being drawn, or wait: 768 of 224 x 224 are 115 MB, however many each face wants.
UNDER_WAY = 6 * GROUP
# Groups of pictures that wait for the encoder.
AHEAD = 2

How = TypeVar("How")
Draw = Callable[[Images, Landmarks, Sequence[tuple[How, int]]], tuple[Images, Landmarks]]


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
    """An augmented picture that passed: its key, its parent, what was done, and what came out.

    `image` is None unless pictures were asked for.
    """

    key: str
    parent_id: str
    operation: str
    image: Images | None
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
    """A face, the slots to draw in the next round, and how many of this round are still under way.

    It is finished when its slots are filled or were tried often enough.
    """

    face: Face[How]
    pending: list[int]
    unsettled: int = 0
    tried: int = 0
    finished: bool = False
    kept: dict[int, Kept] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Drawing(Generic[How]):
    """Pictures of a face on their way: slots, operations' names, and pictures and landmarks once drawn."""

    work: _Work[How]
    slots: list[int]
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
    keep_images: bool = False,
) -> Iterator[list[Kept]]:
    """Draw, encode and filter; yield each face's kept pictures, in the order of the faces.

    Parameters
    ----------
    faces
        Consumed as the work goes on: at most `WINDOW` are held at once, and `UNDER_WAY` of their pictures.
    draw
        Makes pictures, (k, H, W, 3), and their landmarks, (k, 5, 2), of one crop and k ways with their
        seeds; runs in the workers.
    vectors
        Encodes what its stores lack.
    workers
        Where pictures are drawn.
    min_similarity, max_similarity
        Below, the face is lost (`too_different`); above, nothing was learnt (`too_similar`). A vector of
        zeros has no similarity and is never kept (`no_direction`).
    max_tries
        How often a rejected picture is drawn again, the first time included.
    tally
        Counts what happens; `unfilled` has the slots that stay empty, by face_id.
    keep_images
        Give the kept pictures beside their vectors. They are held until every earlier face is finished, so
        that fewer faces are begun.
    """
    line = _Line(iter(faces), draw, workers, keep_images)
    limits = (min_similarity, max_similarity)
    prepared: deque[Future[_Group[How]]] = deque()
    line.submit()
    with ThreadPoolExecutor(1) as ahead:
        while line.drawings or prepared:
            while line.drawings and len(prepared) < AHEAD:
                prepared.append(ahead.submit(_prepare, line.next_group()))
            group = prepared.popleft().result()
            if line.drawings:  # waits for drawings and hashes them while this thread encodes
                prepared.append(ahead.submit(_prepare, line.next_group()))
            for work in _settle(group, vectors, limits, tally, keep_images):
                if work.pending and work.tried < max_tries:
                    line.begin_round(work)
                else:
                    tally.unfilled[work.face.face_id] += len(work.pending)
                    work.finished = True
            line.leave(group)
            line.submit()
            for work in line.finished():
                yield [work.kept[slot] for slot in sorted(work.kept)]
            line.submit()


class _Line(Generic[How]):
    """Faces that have been begun, and their drawings, oldest first, no more than memory should hold."""

    def __init__(
        self, faces: Iterator[Face[How]], draw: Draw[How], workers: Executor, keep_images: bool
    ) -> None:
        self.faces, self.draw, self.workers, self.keep_images = faces, draw, workers, keep_images
        self.begun: deque[_Work[How]] = deque()
        self.waiting: deque[tuple[_Work[How], list[int]]] = deque()
        self.drawings: deque[_Drawing[How]] = deque()
        self.under_way = 0

    def begin_round(self, work: _Work[How]) -> None:
        """Let a face's pending slots wait to be drawn, in pieces."""
        slots, work.pending = work.pending, []
        work.unsettled = len(slots)
        self.waiting.extend((work, slots[first : first + PIECE]) for first in range(0, len(slots), PIECE))

    def admit(self) -> bool:
        """Begin another face, where there is one and room for it."""
        held = sum(len(work.kept) for work in self.begun) if self.keep_images else 0
        if len(self.begun) >= WINDOW or held >= UNDER_WAY or (face := next(self.faces, None)) is None:
            return False
        work = _Work(face, list(range(face.slots)))
        self.begun.append(work)
        self.begin_round(work)
        return True

    def submit(self) -> None:
        """Hand pieces to the workers, until enough pictures are under way."""
        while self.under_way < UNDER_WAY and (self.waiting or self.admit()):
            work, slots = self.waiting.popleft()
            attempts = [work.face.attempt(slot, work.tried) for slot in slots]
            ways = [(how, seed) for _, how, seed in attempts]
            names = [name for name, _, _ in attempts]
            drawn = self.workers.submit(self.draw, work.face.image, work.face.landmarks, ways)
            self.drawings.append(_Drawing(work, slots, names, drawn))
            self.under_way += len(slots)

    def next_group(self) -> list[_Drawing[How]]:
        """The oldest drawings, until they make `GROUP` pictures."""
        group: list[_Drawing[How]] = []
        pictures = 0
        while self.drawings and pictures < GROUP:
            group.append(self.drawings.popleft())
            pictures += len(group[-1].names)
        return group

    def leave(self, group: _Group[How]) -> None:
        """The group's pictures are decided on: others may take their place."""
        self.under_way -= sum(len(drawing.slots) for drawing in group.drawings)

    def finished(self) -> Iterator[_Work[How]]:
        """The finished faces that no unfinished one precedes."""
        while self.begun and self.begun[0].finished:
            yield self.begun.popleft()


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
    group: _Group[How], vectors: StoredEncoders, limits: tuple[float, float], tally: Tally, keep_images: bool
) -> Iterator[_Work[How]]:
    """Encode a group's pictures and decide on each; yield the faces whose round is over."""
    found_vectors = vectors(group.different, group.pixels, group.landmarks)
    encoded = dict(zip(group.different, found_vectors, strict=True))
    for drawing, (images, landmarks), keys in zip(group.drawings, group.drawn, group.keys, strict=True):
        work = drawing.work
        found = np.stack([encoded[key] for key in keys])
        similarities = cosine(np.broadcast_to(work.face.vector, found.shape), found, vectors.widths)
        columns = (drawing.slots, drawing.names, images, landmarks, keys, found, similarities.tolist())
        for slot, operation, image, points, key, vector, similarity in zip(*columns, strict=True):
            reason = _reason(similarity, limits, key in work.keys)
            if reason:
                tally.rejected[operation, reason] += 1
                work.pending.append(slot)
            else:
                tally.kept[operation] += 1
                work.keys.add(key)
                # A copy: a view would hold on to all pictures that were drawn with it.
                picture = image.copy() if keep_images else None
                work.kept[slot] = Kept(key, work.face.face_id, operation, picture, points, vector, similarity)
        work.unsettled -= len(drawing.slots)
        if not work.unsettled:
            work.tried += 1
            yield work


def _reason(similarity: float, limits: tuple[float, float], repeated: bool) -> str:
    if math.isnan(similarity):
        return "no_direction"
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
