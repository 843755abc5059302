"""Stage crop: pictures become squared faces with their quality, packed in shards."""

from pathlib import Path

from pipeline import datasets
from pipeline.faces.cropping import crop_faces
from pipeline.params import Params
from pipeline.rejects import Rejects
from pipeline.stages import files
from pipeline.stages.ready import ready_vectors
from pipeline.stages.running import Summary
from pipeline.tables import write_table


def run(params: Params, workers: int) -> Summary:
    """Find, cut out and judge every face of the manifest; write crops and rejects."""
    rejects = Rejects()
    root = Path(params.data.root)
    datasets.prepare(params.data.name, root, workers=workers, **params.data.settings)
    counts = crop_faces(
        files.read(files.MANIFEST) if ready_vectors() is None else None,
        root,
        files.CROPS,
        rejects=rejects,
        workers=workers,
        **params.crop.model_dump(),
    )
    write_table(rejects.table(), files.CROP_REJECTS, "vec2age crop", {"crop": params.crop.model_dump()})
    return {**counts, **rejects.summary()}
