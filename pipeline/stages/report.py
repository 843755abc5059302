"""Stage report: the figures and the page."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import params as parameters
from pipeline.cnn.model_table import model_table
from pipeline.faces import shards
from pipeline.faces.augmentation import Operation
from pipeline.faces.examples import examples, portrait
from pipeline.params import Params
from pipeline.rejects import Rejects
from pipeline.reports import augmentation, classification, explained, figures, gallery, page, studies
from pipeline.reports.charts import Chart
from pipeline.reports.classification_tables import read_classifiers
from pipeline.reports.evaluation import evaluate
from pipeline.reports.networks import figures as networks_figures
from pipeline.reports.networks import results as networks
from pipeline.reports.networks.measures import best_run, finished
from pipeline.reports.networks.section import section
from pipeline.reports.networks.tables import extremes
from pipeline.reports.page import Picture, Section
from pipeline.reports.provenance import provenance
from pipeline.reports.results import read, with_seconds
from pipeline.reports.sections import SAMPLE, build_page
from pipeline.reports.settings import Settings
from pipeline.reports.uncertainty_page import (
    no_uncertainty_sections,
    uncertainty_charts,
    uncertainty_sections,
)
from pipeline.stages import files
from pipeline.stages.outputs import uncalibrated
from pipeline.stages.running import Summary
from pipeline.stages.settings import settings_of
from pipeline.stages.uncertain import measured_uncertainty
from pipeline.tables import new_folder


def run(params: Params, workers: int) -> Summary:
    """Draw what evaluate measured, with the running times that logs/ tells."""
    results = read(files.FACES, files.MODELS, params.train.policies, params.train.optimizers, files.BASELINES)
    results = with_seconds(results, files.LOGS)
    settings = settings_of(params)
    evaluation = evaluate(results, settings)
    study = studies.read(files.STUDIES)
    charts = figures.all_charts(results, evaluation)
    if study is not None:
        study = studies.with_rivals(study, results.runs)
        charts += studies.charts(study, settings)
    found = measured_uncertainty(params, settings)
    if found is not None:
        charts += uncertainty_charts(found)
    trained, drawn = networks_section(params, results.faces, settings)
    more = [
        *([] if study is None else [studies.section(study, settings)]),
        *augmentation_section(params),
        *trained,
        *classification_section(params),
        *explained.sections(files.EXPLAINED),
        *(no_uncertainty_sections(uncalibrated()) if found is None else uncertainty_sections(found)),
    ]
    pictures = [block for section in more for block in section.blocks if isinstance(block, Picture)]
    content = build_page(
        results,
        evaluation,
        dataset=params.data.name,
        rejects=Rejects(files.read(files.REJECTS).to_pylist()).counts(),
        provenance=provenance(files.FACES, [files.METRICS]),
        params=parameters.PARAMS.read_text(encoding="utf-8"),
        more=more,
    )
    html = page.render(content)
    with new_folder(files.FIGURES) as fresh:
        figures.write([*charts, *drawn, *pictures], fresh)
        page.write_html(html, files.PAGE)  # where that fails, the former figures stay, too
    return {
        "figures": len(charts) + len(drawn) + len(pictures),
        "sections": len(content.sections),
        "page": str(files.PAGE),
    }


def networks_section(
    params: Params, faces: pd.DataFrame, settings: Settings
) -> tuple[list[Section], list[Chart]]:
    """What whole networks were trained, and its figures; pictures of faces from the rendered sample alone."""
    wanted = params.finetune
    runs = networks.read(files.NETWORKS, wanted.losses, wanted.backbones, faces, settings)
    runs = networks.with_seconds(runs, files.LOGS)
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
    for batch in shards.iterate(files.CROPS, ["face_id", "image", "landmarks"]):
        rows = batch.filter(pc.is_in(batch.column("face_id"), value_set=wanted))
        found |= dict(zip(rows.column("face_id").to_pylist(), shards.arrays(rows)[0], strict=True))
    return found


def augmentation_section(params: Params) -> list[Section]:
    """What augmentation did, with examples drawn anew; nothing where nothing was measured or to be made."""
    measured, ages = files.read(files.CALIBRATION).to_pandas(), files.read(files.BALANCE).to_pandas()
    found = augmentation.tables(measured, ages, params.report.target)
    if not found:
        return []
    operations = [Operation(**operation.model_dump()) for operation in params.augment.operations]
    picture = gallery.examples(portrait(), examples(operations, params.seed))
    return [gallery.section(found, picture)]


def classification_section(params: Params) -> list[Section]:
    """How classifiers did, and what networks cost; nothing where none was trained."""
    runs = read_classifiers(files.CLASSIFIERS, params.classify.losses)
    return classification.sections(runs, model_table(classes=len(runs[0].classes)) if runs else None)
