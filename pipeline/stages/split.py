"""Stage split: the faces that are left are divided into training, validation and test."""

from collections import Counter

from pipeline.datasets.splits import split
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.rejects import Rejects, combine
from pipeline.stages import files
from pipeline.stages.outputs import kept_if_refused
from pipeline.stages.ready import ready_vectors
from pipeline.stages.running import Summary
from pipeline.tables import only, read_folder, read_table, write_table


def run(params: Params, workers: int) -> Summary:
    """Split the faces that have a crop or a vector; gather everything left out so far in one table."""
    rejects = Rejects()
    settings = params.split.model_dump()
    with kept_if_refused(files.SPLITS):
        ready = ready_vectors()
        usable = read_folder(files.CROPS, ["face_id"]) if ready is None else ready
        if usable is None:
            raise UserError(f"no face is left to split: {files.CROP_REJECTS} says why")
        splits = split(
            only(read_table(files.MANIFEST), usable["face_id"]), seed=params.seed, rejects=rejects, **settings
        )
    recorded = {"split": settings, "seed": params.seed}
    write_table(splits, files.SPLITS, "vec2age split", recorded)
    earlier = [read_table(path) for path in (files.INGEST_REJECTS, files.CROP_REJECTS)]
    write_table(combine(*earlier, rejects.table()), files.REJECTS, "vec2age split", recorded)
    return {**Counter(splits["split"].to_pylist()), **rejects.summary()}
