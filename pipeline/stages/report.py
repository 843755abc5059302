"""Stage report: the figures and the page."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import config as parameters
from pipeline.augmentation.examples import examples, portrait
from pipeline.augmentation.operations import built
from pipeline.config import Params
from pipeline.core.rejects import Rejects
from pipeline.core.tables import new_folder
from pipeline.evaluation.networks import results as networks
from pipeline.evaluation.networks.measures import best_run, finished
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.results import read, with_seconds
from pipeline.evaluation.settings import Settings
from pipeline.faces import shards
from pipeline.report import augmentation_tables, explained, figures, gallery, page, study_section
from pipeline.report import classification_section as classification
from pipeline.report.charts import Chart
from pipeline.report.classification_tables import read_classifiers
from pipeline.report.networks import figures as networks_figures
from pipeline.report.networks.section import section
from pipeline.report.networks.tables import extremes
from pipeline.report.page import Picture, Section
from pipeline.report.provenance import provenance
from pipeline.report.sections import SAMPLE, build_page
from pipeline.report.uncertainty_page import (
    no_uncertainty_sections,
    uncertainty_charts,
    uncertainty_sections,
)
from pipeline.stages import locations
from pipeline.stages.evaluation_settings import settings_of
from pipeline.stages.outputs import uncalibrated
from pipeline.stages.running import Summary
from pipeline.stages.uncertain import measured_uncertainty
from pipeline.training.networks.costs import model_table


def run(params: Params, workers: int) -> Summary:
    """Draw what evaluate measured, with the running times that logs/ tells."""
    results = read(
        locations.FACES, locations.MODELS, params.train.policies, params.train.optimizers, locations.BASELINES
    )
    results = with_seconds(results, locations.LOGS)
    settings = settings_of(params)
    evaluation = evaluate(results, settings)
    study = study_section.read(locations.STUDIES)
    charts = figures.all_charts(results, evaluation)
    if study is not None:
        study = study_section.with_rivals(study, results.runs)
        charts += study_section.charts(study, settings)
    found = measured_uncertainty(params, settings)
    if found is not None:
        charts += uncertainty_charts(found)
    trained, drawn = networks_section(params, results.faces, settings)
    more = [
        *([] if study is None else [study_section.section(study, settings)]),
        *augmentation_section(params),
        *trained,
        *classification_section(params),
        *explained.sections(locations.EXPLAINED),
        *(no_uncertainty_sections(uncalibrated()) if found is None else uncertainty_sections(found)),
    ]
    pictures = [block for section in more for block in section.blocks if isinstance(block, Picture)]
    content = build_page(
        results,
        evaluation,
        dataset=params.data.name,
        rejects=Rejects(locations.read(locations.REJECTS).to_pylist()).counts(),
        provenance=provenance(locations.FACES, [locations.METRICS]),
        params=parameters.PARAMS.read_text(encoding="utf-8"),
        more=more,
    )
    html = page.render(content)
    with new_folder(locations.FIGURES) as fresh:
        figures.write([*charts, *drawn, *pictures], fresh)
        page.write_html(html, locations.PAGE)  # where that fails, the former figures stay, too
    return {
        "figures": len(charts) + len(drawn) + len(pictures),
        "sections": len(content.sections),
        "page": str(locations.PAGE),
    }


def networks_section(
    params: Params, faces: pd.DataFrame, settings: Settings
) -> tuple[list[Section], list[Chart]]:
    """What whole networks were trained, and its figures; pictures of faces from the rendered sample alone."""
    wanted = params.finetune
    runs = networks.read(locations.NETWORKS, wanted.losses, wanted.backbones, faces, settings)
    runs = networks.with_seconds(runs, locations.LOGS)
    drawn = networks_figures.all_charts(runs, settings, params.report.faces)
    pictures = None
    if finished(runs) and params.data.name == SAMPLE:
        best = extremes(best_run(runs), settings)
        pictures = crops_of(best.frame["face_id"].tolist())
    return section(runs, settings, drawn, pictures), drawn


def crops_of(face_ids: list[str]) -> dict[str, NDArray[np.uint8]]:
    """The crops of some faces."""
    wanted = pa.array(face_ids, pa.string())
    found: dict[str, NDArray[np.uint8]] = {}
    for batch in shards.iterate(locations.CROPS, ["face_id", "image", "landmarks"]):
        rows = batch.filter(pc.is_in(batch.column("face_id"), value_set=wanted))
        found |= dict(zip(rows.column("face_id").to_pylist(), shards.arrays(rows)[0], strict=True))
    return found


def augmentation_section(params: Params) -> list[Section]:
    """What augmentation did, with examples drawn anew; nothing where nothing was measured or to be made."""
    measured, ages = (
        locations.read(locations.CALIBRATION).to_pandas(),
        locations.read(locations.BALANCE).to_pandas(),
    )
    found = augmentation_tables.tables(measured, ages, params.report.target)
    if not found:
        return []
    operations = built(one.model_dump() for one in params.augment.operations)
    picture = gallery.examples(portrait(), examples(operations, params.seed))
    return [gallery.section(found, picture)]


def classification_section(params: Params) -> list[Section]:
    """How classifiers did, and what networks cost; nothing where none was trained."""
    runs = read_classifiers(locations.CLASSIFIERS, params.classify.losses)
    return classification.sections(runs, model_table(classes=len(runs[0].classes)) if runs else None)
