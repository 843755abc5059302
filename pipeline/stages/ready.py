"""Vectors that a data set brought with it, so that there is nothing to crop or encode."""

import pyarrow as pa

from pipeline.stages import files
from pipeline.tables import read_table


def ready_vectors() -> pa.Table | None:
    """Columns face_id and vector; None where the data set holds pictures."""
    table = read_table(files.READY_VECTORS)
    return table if table.num_rows else None
