"""Vectors that a data set brought with it, so that there is nothing to crop or encode."""

import pyarrow as pa

from pipeline.stages import locations


def ready_vectors() -> pa.Table | None:
    """Columns face_id and vector; None where the data set holds pictures."""
    table = locations.read(locations.READY_VECTORS)
    return table if table.num_rows else None
