"""The encoders that params.yaml asks for, built and settled once for every stage that needs them."""

from typing import Any

from pipeline.config import Params
from pipeline.config.face_sections import Encoder as EncoderParams
from pipeline.config.fields import Section
from pipeline.encoders import Encoder, View, build_all
from pipeline.encoders.embedding import settle
from pipeline.faces import shards
from pipeline.stages import locations


def settled_encoders(params: Params) -> tuple[list[Encoder], list[str]]:
    """Every encoder and view, in the arithmetic that proves itself on these crops; and what was decided."""
    wanted = params.encoder
    encoders = build_all(
        wanted.names,
        [View(**view.model_dump()) for view in wanted.views],
        margin=params.crop.margin,
        settings={name: own_settings(wanted, name) for name in wanted.names},
        precision=wanted.precision,
        compile=wanted.compile,
    )
    return settle(encoders, shards.paths(locations.CROPS), locations.STORE)


def own_settings(wanted: EncoderParams, name: str) -> dict[str, Any]:
    """The settings that belong to one encoder alone."""
    own: Section | None = getattr(wanted, name, None)
    return own.model_dump() if own is not None else {}
