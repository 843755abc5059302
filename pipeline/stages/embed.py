"""Stage embed: every crop becomes a vector, once; faces, targets, splits and vectors become one table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.backbones.trained import read_trained
from pipeline.config import Params
from pipeline.core.tables import (
    SUBJECT,
    only,
    producer_of,
    read_folder,
    rows_of,
    sha256,
    vectors_of,
    write_batches,
    write_table,
)
from pipeline.datasets.leaks import leaks
from pipeline.encoders.embedding import embed
from pipeline.encoders.encoder import widths
from pipeline.encoders.face_table import stored_blocks
from pipeline.faces import shards
from pipeline.stages import locations
from pipeline.stages.chosen_encoders import settled_encoders
from pipeline.stages.running import Summary

PRODUCER = "vec2age embed"


def run(params: Params, workers: int) -> Summary:
    """Encode what the store lacks, write embeddings/faces.parquet, look for leaks across splits."""
    splits = locations.read(locations.SPLITS)
    faces = only(locations.read(locations.MANIFEST), splits["face_id"]).drop_columns(["path", "dataset"])
    if faces[SUBJECT].null_count == faces.num_rows:  # nobody is known
        faces = faces.drop_columns([SUBJECT])
    faces = faces.append_column("split", rows_of(splits, faces["face_id"])["split"])
    check_unseen(params, splits)
    ready = locations.ready_vectors()
    if ready is None:
        summary, settings, blocks, parts = encode(params, faces, workers)
    else:
        summary, settings, parts = {"encoder": "none: the data set holds vectors"}, {}, []
        vectors = rows_of(ready, faces["face_id"])
        blocks = iter([faces.append_column(ready.schema.field("vector"), vectors["vector"])])
    first = next(blocks)
    found: list[pa.Table] = []
    # for whoever packs a model of these vectors: by then other stages may have run again
    settings["sha256"] = {path.as_posix(): sha256(path) for path in (locations.MANIFEST, locations.SPLITS)}
    searched = searched_for_leaks(chain(first, blocks), faces, params.embed.leak_threshold, parts, found)
    rows = write_batches(searched, locations.FACES, first.schema, PRODUCER, settings)
    write_table(found[0], locations.LEAKS, PRODUCER, {"threshold": params.embed.leak_threshold})
    return {"faces": rows, **summary, "near-duplicates across splits": found[0].num_rows}


def searched_for_leaks(
    blocks: Iterator[pa.Table], faces: pa.Table, threshold: float, widths: list[int], found: list[pa.Table]
) -> Iterator[pa.Table]:
    """The same blocks; the pairs alike go into `found`, before the table of the blocks takes its name."""
    vectors = np.empty((0, 0), np.float32)
    done = 0
    for block in blocks:
        part = vectors_of(block)
        if not done:
            vectors = np.empty((faces.num_rows, part.shape[1]), np.float32)
        vectors[done : done + len(part)] = part
        done += len(part)
        yield block
    found.append(leaks(vectors, faces["face_id"], faces["split"], threshold=threshold, widths=widths))


def check_unseen(params: Params, splits: pa.Table) -> None:
    """Refuse a finetuned encoder that has learnt from faces which are to judge it."""
    own = params.encoder.finetuned
    if "finetuned" in params.encoder.names and own.weights is not None:
        trained = read_trained(Path(own.weights), own.sha256)
        ids = {
            name: splits["face_id"].filter(pc.equal(splits["split"], name)).to_pylist()
            for name in ("train", "validation", "test")
        }
        trained.check_unseen(ids)


def chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The first block, then the others."""
    yield first
    yield from rest


def encode(
    params: Params, faces: pa.Table, workers: int
) -> tuple[Summary, dict[str, Any], Iterator[pa.Table], list[int]]:
    """Fill the store for these faces; give what to print, what to record, the blocks to write, and widths."""
    encoders, sentences = settled_encoders(params)
    crops = shards.paths(locations.CROPS)
    counts = embed(crops, encoders, locations.STORE, workers=workers)
    crop_ids = rows_of(read_folder(locations.CROPS, ["face_id", "crop_id"]), faces["face_id"])["crop_id"]
    summary: Summary = {
        "newly encoded": sum(count.encoded for count in counts.values()),
        "found in the store": sum(count.found for count in counts.values()),
        "precision": " ".join(sentences),
    }
    settings = {
        "encoders": ", ".join(e.fingerprint for e in encoders),
        "combine": params.encoder.combine,
        "crop": producer_of(crops[0])["settings"],
    }
    blocks = stored_blocks(faces, crop_ids.to_pylist(), encoders, locations.STORE, params.encoder.combine)
    return summary, settings, blocks, widths(encoders, params.encoder.combine)
