"""The encoders that params.yaml asks for, built and settled once for every stage that needs them."""

from pipeline.encoders import Encoder, View, build_all
from pipeline.encoders.embedding import settle
from pipeline.faces import shards
from pipeline.params import Params
from pipeline.stages import files


def settled_encoders(params: Params) -> tuple[list[Encoder], list[str]]:
    """Every encoder and view, in the arithmetic that proves itself on these crops; and what was decided."""
    wanted = params.encoder
    encoders = build_all(
        wanted.names,
        [View(**view.model_dump()) for view in wanted.views],
        margin=params.crop.margin,
        settings={name: wanted.settings(name) for name in wanted.names},
        precision=wanted.precision,
        compile=wanted.compile,
    )
    return settle(encoders, shards.paths(files.CROPS), files.STORE)
