"""Stage augment: the training split grows until every age has the same number of faces."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.encoders.augmented import augmented_blocks, augmented_schema, balance_table, calibration_table
from pipeline.encoders.augmenting import Face, Kept, Tally, augment_faces
from pipeline.encoders.stored import StoredEncoders
from pipeline.faces import shards
from pipeline.faces.augmentation import TABLE_1, Attempts, Operation, draw
from pipeline.faces.balance import chosen, plan
from pipeline.faces.keeping import PictureShards, kept_in
from pipeline.params import Params
from pipeline.progress import track
from pipeline.stages import files
from pipeline.stages.encoding import settled_encoders
from pipeline.stages.ready import ready_vectors
from pipeline.stages.running import Summary
from pipeline.tables import open_table, read_table, write_batches, write_table

PRODUCER = "vec2age augment"
Chains = list[tuple[Operation, ...]]


def run(params: Params, workers: int) -> Summary:
    """Measure every operation, then draw, encode and filter until the ages are balanced."""
    wanted = params.augment
    schema = augmented_schema(open_table(files.FACES).schema_arrow)
    columns = [
        name for name in schema.names if name not in ("parent_id", "operation", "similarity", "vector")
    ]
    training = read_table(files.FACES, columns)
    training = training.filter(pc.equal(training["split"], "train"))
    face_ids = training["face_id"].to_pylist()
    owed = plan(
        face_ids,
        training["target"].to_numpy(),
        wanted.target_per_age if ready_vectors() is None else 0,
        seed=params.seed,
        bin_width=params.split.bin_width,
    )
    slots = dict(zip(face_ids, owed.slots.tolist(), strict=True))
    operations = [Operation(**operation.model_dump()) for operation in wanted.operations]
    alone: Chains = [(operation,) for operation in operations]
    chains = alone if wanted.apply == "alone" else [tuple(operations)]
    tally = Tally()
    limits = (wanted.min_similarity, wanted.max_similarity)
    settings = {"augment": wanted.model_dump(exclude={"pictures"}), "seed": params.seed}
    if not any(slots.values()):
        write_batches([], files.AUGMENTED, schema, PRODUCER, settings)
        write_table(calibration_table([], limits, TABLE_1), files.CALIBRATION, PRODUCER, settings)
        write_table(balance_table(owed.bins, face_ids, owed.slots, tally), files.BALANCE, PRODUCER, settings)
        return {"augmented": 0, "why": "every age has its faces, or the data set holds no pictures"}
    encoders, sentences = settled_encoders(params)
    vectors = StoredEncoders(encoders, files.STORE, params.encoder.combine)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:

        def drawn(
            wishes: dict[str, int], attempts: Callable[[str], Attempts], low: float, high: float, tries: int
        ) -> Iterator[list[Kept]]:
            faces = stream(wishes, vectors, attempts)
            return augment_faces(
                faces,
                draw,
                vectors,
                pool,
                min_similarity=low,
                max_similarity=high,
                max_tries=tries,
                tally=tally,
            )

        measured = dict.fromkeys(chosen(face_ids, wanted.calibration_faces, params.seed), len(alone))
        calibration = calibration_table(
            track(
                drawn(
                    measured, lambda face: Attempts(params.seed, face, alone, 1, in_turn=True), -1.01, 1.01, 1
                ),
                "measuring operations",
                len(measured),
            ),
            limits,
            TABLE_1,
        )
        tally = Tally()
        wishes = {face: count for face, count in slots.items() if count}
        kept = drawn(
            wishes,
            lambda face: Attempts(params.seed, face, chains, wanted.max_tries),
            *limits,
            wanted.max_tries,
        )
        with kept_in(None if wanted.pictures is None else Path(wanted.pictures), settings) as pictures:
            shown = with_pictures(track(kept, "augmenting", len(wishes)), pictures)
            blocks = augmented_blocks(shown, training, schema)
            rows = write_batches(blocks, files.AUGMENTED, schema, PRODUCER, settings)
    vectors.compact()
    balance = balance_table(owed.bins, face_ids, owed.slots, tally)
    write_table(calibration, files.CALIBRATION, PRODUCER, settings)
    write_table(balance, files.BALANCE, PRODUCER, settings)
    rejected = {
        f"rejected: {name}, {reason}": count for (name, reason), count in sorted(tally.rejected.items())
    }
    unfilled = {f"age {row['bin']} lacks": row["unfilled"] for row in balance.to_pylist() if row["unfilled"]}
    return {
        "augmented": rows,
        "newly encoded": vectors.encoded,
        **rejected,
        **unfilled,
        "precision": " ".join(sentences),
    }


def with_pictures(faces: Iterator[list[Kept]], pictures: PictureShards | None) -> Iterator[list[Kept]]:
    """The same, while their pictures are kept on disk, where that was asked for."""
    for face in faces:
        if pictures is not None:
            for one in face:
                pictures.add(one.key, one.parent_id, one.operation, one.similarity, one.image, one.landmarks)
        yield face


def stream(
    slots: dict[str, int], vectors: StoredEncoders, attempts: Callable[[str], Attempts]
) -> Iterator[Face[tuple[Operation, ...]]]:
    """The faces that owe pictures, with crop and vector, a few dozen at a time."""
    wanted = pa.array(list(slots), pa.string())
    for batch in shards.iterate(files.CROPS, ["face_id", "crop_id", "image", "landmarks"], batch=64):
        rows = batch.filter(pc.is_in(batch.column("face_id"), value_set=wanted))
        if rows.num_rows:
            images, points = shards.arrays(rows)
            own = vectors.read(rows.column("crop_id").to_pylist())
            columns = (rows.column("face_id").to_pylist(), images, points, own)
            for face_id, image, landmarks, vector in zip(*columns, strict=True):
                yield Face(face_id, np.asarray(image), landmarks, vector, slots[face_id], attempts(face_id))
