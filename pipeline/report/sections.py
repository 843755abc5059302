"""What the page of a seed-stack run holds, section by section."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.evaluation import group_tables
from pipeline.evaluation.numbers import Evaluation
from pipeline.evaluation.ranking import best_tested, spread
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import policy_title
from pipeline.evaluation.summary import MATERIAL, lowest, sentences
from pipeline.evaluation.table import Column, Table
from pipeline.report import figures, paper_tables
from pipeline.report.charts import Chart
from pipeline.report.page import Page, Section, Text, Tile

SAMPLE = "sample"
SAMPLE_NOTICE = (
    "These faces are rendered by a program. The numbers show that everything runs; numbers on the rendered "
    "sample say nothing about people."
)


def build_page(
    results: Results,
    evaluation: Evaluation,
    *,
    dataset: str,
    rejects: Mapping[str, int] | None = None,
    provenance: Mapping[str, str] | None = None,
    params: str = "",
    more: Sequence[Section] = (),
) -> Page:
    """The page of a run.

    Parameters
    ----------
    dataset
        The data set's name; `sample`, the rendered one, gets a notice.
    rejects
        How many faces were left out, by reason; None if not known.
    provenance
        What the run was made from, name to value: the revision, hashes of inputs, versions.
    params
        The text of params.yaml.
    more
        Sections of other parts of the project, shown before the provenance.
    """
    sections = [
        *comparison(evaluation),
        *seeds(results, evaluation),
        *per_target(evaluation),
        *groups(evaluation),
        *training(results, evaluation),
        *data(results, rejects),
        *more,
        *origin(provenance, params),
    ]
    settings = evaluation.settings
    return Page(
        title=f"How well {settings.target} is predicted, over {len(evaluation.members)} models",
        subtitle=f"Data set: {dataset}. All errors in {settings.unit}, on faces that no model was trained on "
        "unless it says training.",
        notice=SAMPLE_NOTICE if dataset == SAMPLE else "",
        tiles=tiles(evaluation),
        findings=sentences(results, evaluation),
        sections=sections,
    )


def tiles(evaluation: Evaluation) -> list[Tile]:
    """The four numbers to take away."""
    unit = evaluation.settings.unit
    test = best_tested(evaluation.summary)
    name = f"{test['optimizer'].upper()}, {policy_title(test['policy'])}"
    if test["diverged"]:
        name += f"; {test['diverged']:.0f} of {test['members'] + test['diverged']:.0f} models diverged"
    found = [Tile("Test MAE of the best way to train", spread(test), unit, name)]
    labels = {"model": "One model, chosen on validation", "ensemble": "Best ensemble on validation"}
    for kind, label in {**labels, "baseline": "Best baseline on validation"}.items():
        some = evaluation.contenders[evaluation.contenders["kind"] == kind]
        if len(some):
            best = lowest(some, "val_mae")
            note = best["detail"] if kind == "model" else best["title"]
            found.append(Tile(label, f"{best['mae']:.2f}", unit, note))
    return found


def comparison(evaluation: Evaluation) -> list[Section]:
    """Baselines, single models, ensembles."""
    blocks = (
        figures.contenders(evaluation),
        paper_tables.contenders(evaluation),
        paper_tables.choices(evaluation),
    )
    intro = (
        "Every way of predicting on the same test faces: simple baselines on vectors of the same encoders, "
        f"one network chosen on validation faces, and the mean prediction of many networks. {MATERIAL}"
    )
    return [Section("Networks and baselines", intro, blocks)]


def seeds(results: Results, evaluation: Evaluation) -> list[Section]:
    """The distribution over seeds, optimisers and policies."""
    blocks: list[Table | Chart] = []
    for policy in evaluation.best:
        blocks += [figures.distributions(evaluation, policy), paper_tables.statistics(evaluation, policy)]
    if len(evaluation.improvement):
        blocks += [figures.improvement(evaluation), paper_tables.improvement(evaluation)]
    if len(results.policies) > 1:
        blocks += [paper_tables.pooled(evaluation), paper_tables.policies_compared(evaluation)]
    blocks += [paper_tables.winners(evaluation, policy) for policy in evaluation.best]
    blocks.append(paper_tables.all_members(evaluation))
    intro = (
        "The error of a model is a distribution: the same program with another seed ends elsewhere. Each "
        "optimiser was run from the same seeds, with a fixed learning rate or one found by a range test."
    )
    return [Section("Distribution over seeds", intro, tuple(blocks))]


def per_target(evaluation: Evaluation) -> list[Section]:
    """Where on the scale the error is."""
    target = evaluation.settings.target
    blocks = [figures.error_per_target(evaluation, policy) for policy in evaluation.best]
    intro = f"A mean hides where a model fails: the test error at every {target}."
    return [Section(f"Error by {target}", intro, (*blocks, paper_tables.error_per_target(evaluation)))]


def groups(evaluation: Evaluation) -> list[Section]:
    """How the error differs between groups; nothing where there are none."""
    if evaluation.groups.empty:
        return []
    blocks = (
        figures.group_errors(evaluation),
        group_tables.best_groups(evaluation),
        group_tables.biases(evaluation),
        group_tables.all_groups(evaluation),
    )
    intro = "A mean also hides for whom a model fails: the test error of every group of faces that is known."
    return [Section("Error by group", intro, blocks)]


def training(results: Results, evaluation: Evaluation) -> list[Section]:
    """How training went, and how long it took."""
    blocks: list[Table | Chart] = []
    if any(run.lr_curves is not None for run in results.runs):
        blocks.append(figures.lr_finder(results))
    blocks += [figures.learning_curves(evaluation, policy) for policy in evaluation.best]
    if evaluation.members["seconds"].notna().any():
        blocks += [figures.running_times(evaluation), paper_tables.times(evaluation)]
    return [Section("Training", "How the learning rates were found, and how the losses fell.", tuple(blocks))]


def data(results: Results, rejects: Mapping[str, int] | None) -> list[Section]:
    """The faces of each split, and those that were left out."""
    targets = results.faces.groupby("split")["target"]
    counted = targets.agg(faces="size", lowest="min", median="median", highest="max")
    frame = counted.loc[["train", "validation", "test"]].reset_index()
    columns = (
        Column("split", "split"),
        Column("faces", "faces", ",d"),
        Column("lowest", "lowest target", "g"),
        Column("median", "median target", "g"),
        Column("highest", "highest target", "g"),
    )
    blocks = [Table("splits", "Faces by split", frame, columns)]
    if rejects is not None:
        omitted = pd.DataFrame({"reason": list(rejects), "count": list(rejects.values())})
        about = (Column("reason", "reason"), Column("count", "faces or files", ",d"))
        note = "Each is listed with its reason in data/rejects.parquet."
        blocks.append(Table("rejects", "What was left out, and why", omitted, about, note))
    return [Section("Data", "", tuple(blocks))]


def origin(provenance: Mapping[str, str] | None, params: str) -> list[Section]:
    """What the numbers were made from."""
    blocks: list[Table | Text] = []
    if provenance:
        frame = pd.DataFrame({"what": list(provenance), "value": list(provenance.values())})
        columns = (Column("what", "what"), Column("value", "value"))
        blocks.append(Table("provenance", "Made from", frame, columns))
    if params:
        blocks.append(Text("params.yaml", params))
    intro = "The same inputs and parameters give the same numbers; only running times differ."
    return [Section("Provenance", intro, tuple(blocks))] if blocks else []
