"""Stage crop: pictures become squared faces with their quality, packed in shards."""

from pathlib import Path

from pipeline import datasets
from pipeline.config import Params
from pipeline.core.rejects import Rejects
from pipeline.core.tables import write_table
from pipeline.faces.cropping import crop_faces
from pipeline.stages import locations
from pipeline.stages.running import Summary


def run(params: Params, workers: int) -> Summary:
    """Find, cut out and judge every face of the manifest; write crops and rejects."""
    rejects = Rejects()
    root = Path(params.data.root)
    datasets.prepare(params.data.name, root, workers=workers, **params.data.settings)
    counts = crop_faces(
        locations.read(locations.MANIFEST) if locations.ready_vectors() is None else None,
        root,
        locations.CROPS,
        rejects=rejects,
        workers=workers,
        **params.crop.model_dump(),
    )
    write_table(rejects.table(), locations.CROP_REJECTS, "vec2age crop", {"crop": params.crop.model_dump()})
    return {**counts, **rejects.summary()}
