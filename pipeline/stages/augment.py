"""Stage augment: the training split grows until every age has the same number of faces."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.augmentation.augmented_tables import (
    augmented_blocks,
    augmented_schema,
    balance_table,
    calibration_table,
)
from pipeline.augmentation.augmenting import Kept, Tally
from pipeline.augmentation.balance import chosen, plan
from pipeline.augmentation.filling import FILTER, fill, measure
from pipeline.augmentation.keeping import PictureShards, check_folder, kept_in
from pipeline.augmentation.operations import TABLE_1, built
from pipeline.config import Params
from pipeline.core.processes import SPAWN
from pipeline.core.progress import track
from pipeline.core.tables import open_table, read_table, write_batches, write_table
from pipeline.encoders.stored import StoredEncoders
from pipeline.stages import locations
from pipeline.stages.chosen_encoders import settled_encoders
from pipeline.stages.running import Summary

PRODUCER = "vec2age augment"
MADE = ("parent_id", "operation", "similarity", "vector")
"""Columns of an augmented face that its original has not, or has otherwise."""


def run(params: Params, workers: int) -> Summary:
    """Measure every operation, then draw, encode and filter until the ages are balanced."""
    wanted = params.augment
    folder = None if wanted.pictures is None else Path(wanted.pictures)
    if folder is not None:
        check_folder(folder, locations.TAKEN)
    schema = augmented_schema(open_table(locations.FACES).schema_arrow)
    training = training_faces([name for name in schema.names if name not in MADE])
    face_ids = training["face_id"].to_pylist()
    brought = locations.ready_vectors() is not None
    target = 0 if brought else wanted.target_per_age
    targets = training["target"].to_numpy()
    owed = plan(face_ids, targets, target, seed=params.seed, bin_width=params.split.bin_width)
    slots = {face: count for face, count in zip(face_ids, owed.slots.tolist(), strict=True) if count}
    measured = [] if brought else chosen(face_ids, wanted.calibration_faces, params.seed)
    settings = {"augment": wanted.model_dump(exclude={"pictures"}), "seed": params.seed}
    operations = built(one.model_dump() for one in wanted.operations)
    tally, limits = Tally(), (wanted.min_similarity, wanted.max_similarity)
    calibration = calibration_table([], limits, TABLE_1)
    summary: Summary = {}
    rows = 0
    with kept_in(folder, settings) as pictures:  # an earlier run's go, also where none are made
        if slots or measured:
            encoders, sentences = settled_encoders(params)
            vectors = StoredEncoders(encoders, locations.STORE, params.encoder.combine)
            with ProcessPoolExecutor(workers, SPAWN) as pool:
                unfiltered = measure(locations.CROPS, measured, operations, vectors, pool, params.seed)
                calibration = calibration_table(
                    track(unfiltered, "measuring operations", len(measured)), limits, TABLE_1
                )
                kept = fill(
                    locations.CROPS,
                    slots,
                    operations,
                    vectors,
                    pool,
                    tally,
                    seed=params.seed,
                    keep_images=pictures is not None,
                    **wanted.model_dump(include=FILTER),
                )
                shown = with_pictures(track(kept, "augmenting", len(slots)), pictures)
                blocks = augmented_blocks(shown, training, schema)
                rows = write_batches(blocks, locations.AUGMENTED, schema, PRODUCER, settings)
            vectors.compact()
            summary = {"newly encoded": vectors.encoded, "precision": " ".join(sentences)}
        else:
            write_batches([], locations.AUGMENTED, schema, PRODUCER, settings)
    balance = balance_table(owed.bins, face_ids, owed.slots, tally, params.split.bin_width)
    write_table(calibration, locations.CALIBRATION, PRODUCER, settings)
    write_table(balance, locations.BALANCE, PRODUCER, settings)
    if not slots:
        summary["why"] = "the data set holds no pictures" if brought else "every age has its faces"
    return {"augmented": rows, **missing(tally, balance), **summary}


def training_faces(columns: list[str]) -> pa.Table:
    """These columns of the faces that may be augmented: those of the training split, and no others."""
    faces = read_table(locations.FACES, columns)
    return faces.filter(pc.equal(faces["split"], "train"))


def missing(tally: Tally, balance: pa.Table) -> Summary:
    """What was rejected, by operation and reason, and which ages could not be filled."""
    rejected = {
        f"rejected: {name}, {reason}": count for (name, reason), count in sorted(tally.rejected.items())
    }
    unfilled = {
        f"age {row['limits']} lacks": row["unfilled"] for row in balance.to_pylist() if row["unfilled"]
    }
    return {**rejected, **unfilled}


def with_pictures(faces: Iterator[list[Kept]], pictures: PictureShards | None) -> Iterator[list[Kept]]:
    """The same, while their pictures are kept on disk, where that was asked for."""
    for face in faces:
        if pictures is not None:
            for one in face:
                if one.image is not None:
                    pictures.add(
                        one.key, one.parent_id, one.operation, one.similarity, one.image, one.landmarks
                    )
        yield face
