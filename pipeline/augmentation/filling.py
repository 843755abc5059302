"""Augmented images of the faces of a folder of crops: each operation once, or as many as a face owes."""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.augmentation.augmenting import Face, Kept, Tally, augment_faces
from pipeline.augmentation.operations import Attempts, Operation, draw
from pipeline.encoders.stored import StoredEncoders
from pipeline.faces import shards

FILTER = {"apply", "min_similarity", "max_similarity", "max_tries"}
"""The settings of `fill` that params.yaml has, too."""


def measure(
    crops: Path,
    face_ids: Collection[str],
    operations: Sequence[Operation],
    vectors: StoredEncoders,
    pool: Executor,
    seed: int,
) -> Iterator[list[Kept]]:
    """Every operation once on each of the faces, whatever the similarity."""
    # Each is measured where it is applied: an image that a probability left as it was would say nothing.
    certain = [(replace(one, probability=1.0),) for one in operations]
    return augment_faces(
        stream(
            crops,
            dict.fromkeys(face_ids, len(certain)),
            vectors,
            lambda face: Attempts(seed, face, certain, 1, in_turn=True),
        ),
        draw,
        vectors,
        pool,
        min_similarity=-1.01,
        max_similarity=1.01,
        max_tries=1,
        tally=Tally(),
    )


def fill(
    crops: Path,
    slots: dict[str, int],
    operations: Sequence[Operation],
    vectors: StoredEncoders,
    pool: Executor,
    tally: Tally,
    *,
    seed: int,
    apply: Literal["alone", "chained"],
    min_similarity: float,
    max_similarity: float,
    max_tries: int,
    keep_images: bool = False,
) -> Iterator[list[Kept]]:
    """As many images of each face as it has slots, drawn again until they lie within the limits.

    Parameters
    ----------
    crops
        The folder of crops.
    slots
        How many images of which face_id.
    operations
        What is drawn: one of them for each image (`alone`), or all in their order (`chained`).
    vectors
        Encodes what is drawn, and knows the embeddings of the crops.
    pool
        Draws.
    tally
        Receives what was rejected and why.
    seed
        The run's root seed.
    apply, min_similarity, max_similarity, max_tries
        As in params.yaml.
    keep_images
        Whether the images themselves are given, too.
    """
    chains = [(one,) for one in operations] if apply == "alone" else [tuple(operations)]
    return augment_faces(
        stream(crops, slots, vectors, lambda face: Attempts(seed, face, chains, max_tries)),
        draw,
        vectors,
        pool,
        min_similarity=min_similarity,
        max_similarity=max_similarity,
        max_tries=max_tries,
        tally=tally,
        keep_images=keep_images,
    )


def stream(
    crops: Path, slots: dict[str, int], vectors: StoredEncoders, attempts: Callable[[str], Attempts]
) -> Iterator[Face[tuple[Operation, ...]]]:
    """The faces that owe images, with crop and embedding, a few dozen at a time."""
    owing = pa.array(list(slots), pa.string())
    for batch in shards.iterate(crops, ["face_id", "crop_id", "image", "landmarks"], batch=64):
        rows = batch.filter(pc.is_in(batch.column("face_id"), value_set=owing))
        if rows.num_rows:
            images, points = shards.arrays(rows)
            own = vectors.read(rows.column("crop_id").to_pylist())
            columns = (rows.column("face_id").to_pylist(), images, points, own)
            for face_id, image, landmarks, vector in zip(*columns, strict=True):
                yield Face(face_id, np.asarray(image), landmarks, vector, slots[face_id], attempts(face_id))
