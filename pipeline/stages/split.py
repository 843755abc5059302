"""Stage split: the faces that are left are divided into training, validation and test."""

from collections import Counter

from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects, combine
from pipeline.core.tables import only, read_folder, read_table, write_table
from pipeline.datasets.splits import split
from pipeline.stages import locations
from pipeline.stages.running import Summary


def run(params: Params, workers: int) -> Summary:
    """Split the faces that have a crop or a vector; gather everything left out so far in one table."""
    rejects = Rejects()
    settings = params.split.model_dump()
    ready = locations.ready_vectors()
    usable = read_folder(locations.CROPS, ["face_id"]) if ready is None else ready
    if usable is None:
        raise UserError(f"no face is left to split: {locations.CROP_REJECTS} says why")
    splits = split(
        only(read_table(locations.MANIFEST), usable["face_id"]), seed=params.seed, rejects=rejects, **settings
    )
    earlier = [read_table(path) for path in (locations.INGEST_REJECTS, locations.CROP_REJECTS)]
    left_out = combine(*earlier, rejects.table())
    recorded = {"split": settings, "seed": params.seed}
    write_table(splits, locations.SPLITS, "vec2age split", recorded)
    write_table(left_out, locations.REJECTS, "vec2age split", recorded)
    return {**Counter(splits["split"].to_pylist()), **rejects.summary()}
