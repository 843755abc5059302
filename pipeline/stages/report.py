"""Stage report: the figures and the page."""

from pipeline import params as parameters
from pipeline.cnn.model_table import model_table
from pipeline.faces.augmentation import Operation
from pipeline.faces.examples import examples, portrait
from pipeline.params import Params
from pipeline.rejects import Rejects
from pipeline.reports import classification, explained, figures, gallery, page, studies
from pipeline.reports.evaluation import evaluate
from pipeline.reports.page import Picture, Section
from pipeline.reports.provenance import provenance
from pipeline.reports.results import read, with_seconds
from pipeline.reports.sections import build_page
from pipeline.reports.settings import Settings
from pipeline.stages import files
from pipeline.stages.outputs import empty_folder
from pipeline.stages.running import Summary
from pipeline.tables import read_table


def run(params: Params, workers: int) -> Summary:
    """Draw what evaluate measured, with the running times that logs/ tells."""
    wanted = params.evaluate.model_dump(exclude={"baselines", "svr_rows"})
    results = read(files.FACES, files.MODELS, params.train.policies, params.train.optimizers, files.BASELINES)
    results = with_seconds(results, files.LOGS)
    evaluation = evaluate(results, Settings(seed=params.seed, **wanted, **params.report.model_dump()))
    study = studies.read(files.STUDIES)
    charts = figures.all_charts(results, evaluation)
    if study is not None:
        charts += studies.charts(study, evaluation.settings)
    more = [
        *([] if study is None else [studies.section(study, evaluation.settings)]),
        *augmentation_section(params),
        *classification_section(),
        *explained.sections(files.EXPLAINED),
    ]
    pictures = [block for section in more for block in section.blocks if isinstance(block, Picture)]
    empty_folder(files.FIGURES)
    figures.write([*charts, *pictures], files.FIGURES)
    content = build_page(
        results,
        evaluation,
        dataset=params.data.name,
        rejects=Rejects(read_table(files.REJECTS).to_pylist()).counts(),
        provenance=provenance(files.FACES, [files.METRICS]),
        params=parameters.PARAMS.read_text(encoding="utf-8"),
        more=more,
    )
    page.write(content, files.PAGE)
    return {
        "figures": len(charts) + len(pictures),
        "sections": len(content.sections),
        "page": str(files.PAGE),
    }


def augmentation_section(params: Params) -> list[Section]:
    """What augmentation did, with examples drawn anew; nothing where nothing was augmented."""
    measured = read_table(files.CALIBRATION).to_pandas()
    if measured.empty:
        return []
    operations = [Operation(**operation.model_dump()) for operation in params.augment.operations]
    picture = gallery.examples(portrait(), examples(operations, params.seed))
    ages = read_table(files.BALANCE).to_pandas()
    return [gallery.section(measured, ages, picture, params.report.target)]


def classification_section() -> list[Section]:
    """How classifiers did, and what networks cost; nothing where none was trained."""
    runs = classification.read_classifiers(files.CLASSIFIERS)
    return classification.sections(runs, model_table(classes=len(runs[0].classes)) if runs else None)
