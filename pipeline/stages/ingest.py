"""Stage ingest: a data set's labelled faces become the manifest."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import datasets
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import write_table
from pipeline.datasets.manifest import within
from pipeline.stages import locations
from pipeline.stages.outputs import unlike_dvc_lock
from pipeline.stages.running import Summary

PRODUCER = "vec2age ingest"
UNWATCHED = "dvc.lock has another manifest: if tables or pictures changed, go on with dvc repro -f ingest"
NO_VECTORS = pa.table({"face_id": pa.array([], pa.string())})


def run(params: Params, workers: int) -> Summary:
    """Read, hash and check the faces; write manifest, ready-made vectors and rejects.

    Raises
    ------
    UserError
        When no face is usable.
    """
    rejects = Rejects()
    settings = {"data": params.data.model_dump(), "ingest": params.ingest.model_dump()}
    with told_in_full(rejects, settings):
        table = datasets.read(
            params.data.name,
            Path(params.data.root),
            rejects=rejects,
            workers=workers,
            **params.data.settings,
        )
        table = within(table, params.ingest.min_target, params.ingest.max_target, rejects)
        if not table.num_rows:
            counts = ", ".join(f"{count} {reason}" for reason, count in rejects.counts().items())
            raise UserError(
                f"{params.data.root} holds no usable face ({counts or 'it is empty'}): "
                "mend the files or the settings data and ingest"
            )
    write_table(rejects.table(), locations.INGEST_REJECTS, PRODUCER, settings)
    if "vector" in table.column_names:
        vectors: pa.Table = table.select(["face_id", "vector"])
        table = table.drop_columns(["vector"])
    else:
        vectors = NO_VECTORS
    write_table(vectors, locations.READY_VECTORS, PRODUCER, settings)
    write_table(table, locations.MANIFEST, PRODUCER, settings)
    lowest, highest = pc.min_max(table["target"]).as_py().values()
    span = f"{lowest:.15g} to {highest:.15g}"
    note = {"note": UNWATCHED} if unlike_dvc_lock(locations.MANIFEST, "ingest") else {}
    return {
        "data set": params.data.name,
        "faces": table.num_rows,
        "targets": span,
        **rejects.summary(),
        **note,
    }


@contextlib.contextmanager
def told_in_full(rejects: Rejects, settings: dict[str, Any]) -> Iterator[None]:
    """Keep the rejects of a run that refuses: they are needed most where nothing is left.

    They lie outside DVC: it brings nothing back over a file that it does not know.
    """
    try:
        yield
    except UserError as error:
        if not rejects.rows:
            raise
        write_table(rejects.table(), locations.REFUSED, PRODUCER, settings)
        raise UserError(f"{error}; {locations.REFUSED} says why of each") from None
