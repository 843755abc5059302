"""The page's sections on stated uncertainty, and their charts."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.method_names import BEST_KINDS, KINDS, METHODS, percent
from pipeline.evaluation.stated_uncertainty import Uncertainty, middle_level
from pipeline.report.charts import PALETTE, Axis, Chart, Intervals, Line
from pipeline.report.page import Section
from pipeline.report.uncertainty_tables import groups, methods, pit, reliability, under

Row = Mapping[Any, Any]


def no_uncertainty_sections(why: str | None) -> list[Section]:
    """The reason in place of numbers, if there is one."""
    return [] if why is None else [Section("Calibrated uncertainty", f"Not measured: {why}.", ())]


def uncertainty_sections(found: Uncertainty) -> list[Section]:
    """What `build_page` takes as `more`."""
    sections = [
        Section(
            "Calibrated uncertainty",
            "How sure a prediction is, and how far that can be believed: intervals as they come from a "
            "method, and after calibration on validation faces, both held against test faces.",
            (
                coverage_chart(found),
                methods(found),
                group_chart(found),
                groups(found),
                pit_chart(found),
                pit(found),
            ),
        )
    ]
    if found.settings.threshold is not None:
        threshold = f"{found.settings.threshold:g}"
        sections.append(
            Section(
                f"Under {threshold}",
                f"The probability of being under {threshold}, in place of a yes or no: how well it ranks "
                "faces, and whether a stated probability is true.",
                (
                    roc_chart(found),
                    precision_recall_chart(found),
                    reliability_chart(found),
                    under(found),
                    reliability(found),
                ),
            )
        )
    return sections


def uncertainty_charts(found: Uncertainty) -> list[Chart]:
    """The sections' charts, for files of their own."""
    return [
        block
        for section in uncertainty_sections(found)
        for block in section.blocks
        if isinstance(block, Chart)
    ]


def colour_of(method: str) -> int:
    """A method's colour, the same in every chart; there are fewer colours than methods."""
    return list(METHODS).index(method) % len(PALETTE) if method in METHODS else 0


def coverage_chart(found: Uncertainty) -> Chart:
    """The level that was promised, and the share of faces covered."""
    levels = list(found.levels)
    marks = [Line("as promised", levels, levels, 5)]
    for row in found.methods.to_dict("records"):
        raw = row["kind"] == "raw"
        if not raw and row["kind"] not in BEST_KINDS:
            continue
        held = [float(row[f"coverage_{percent(level)}"]) for level in levels]
        labels = [
            f"{row['title']}<br>{percent(level)} % promised, {100 * share:.1f} % covered"
            for level, share in zip(levels, held, strict=True)
        ]
        name = METHODS.get(row["method"], row["method"])
        marks.append(Line(name, levels, held, colour_of(row["method"]), faint=raw, labels=labels))
    return Chart(
        "coverage",
        "Promised and actual coverage",
        "Line plot of the share of test faces within their interval against the level promised, for every "
        "method raw and calibrated.",
        Axis("level promised"),
        Axis("share of test faces covered"),
        tuple(marks),
        "Thin: raw. On the line 'as promised' intervals hold as often as they say.",
    )


def group_chart(found: Uncertainty) -> Chart:
    """Coverage of every group at one level by the ensemble's intervals."""
    level, unit = middle_level(found), found.settings.unit
    rows = found.groups[(found.groups["level"] == level) & (found.groups["method"] == "ensemble")]
    rows = rows.assign(category=rows["grouping"].str.cat(rows["group"], sep=": "))
    marks = []
    for kind, colour in (("raw", 5), ("local", colour_of("ensemble"))):
        some = rows[rows["kind"] == kind]
        labels = [
            f"{row['title']}<br>{row['category']}: {100 * row['coverage']:.1f} % of {row['faces']} faces, "
            f"{row['width']:.1f} {unit} wide"
            for row in some.to_dict("records")
        ]
        values, low, high = (some[column].tolist() for column in ("coverage", "low", "high"))
        marks.append(Intervals(KINDS[kind], some["category"].tolist(), values, low, high, colour, labels))
    return Chart(
        "coverage_by_group",
        f"The ensemble's coverage by group at {percent(level)} %",
        f"Points with 95% intervals: the share of test faces covered by the ensemble's intervals of "
        f"{percent(level)} %, by {found.settings.target} and group.",
        Axis("share of test faces covered"),
        Axis("", categories=tuple(rows["category"].unique())),
        tuple(marks),
        "A promise that holds over all faces may fail in a group; the line marks what was promised.",
        reference=level,
    )


def pit_chart(found: Uncertainty) -> Chart:
    """PIT histograms of every method, raw and calibrated."""
    return by_method(
        found.pit.assign(x=(found.pit["from"] + found.pit["to"]) / 2),
        "pit",
        "Where observed values fall in the predicted distribution (PIT)",
        "Line plot of the share of test faces in each tenth of their predicted distribution, by method.",
        ("x", "predicted probability of a lower value"),
        ("share", "share of test faces"),
        "Even, at one tenth, where distributions are true; high at both ends where they are too narrow. "
        "Thin: raw.",
        Line("even", [0.0, 1.0], [0.1, 0.1], 5),
        lambda row: f"{100 * row['share']:.1f} % from {row['from']:.1f} to {row['to']:.1f}",
    )


def roc_chart(found: Uncertainty) -> Chart:
    """The ROC curves."""
    return by_method(
        found.roc,
        "under_roc",
        f"ROC curve of 'under {found.settings.threshold:g}'",
        "Line plot of the true-positive rate against the false-positive rate, for every method.",
        ("x", "false-positive rate"),
        ("y", "true-positive rate"),
        "Calibration keeps the order of faces nearly as it is; thin: raw.",
        Line("chance", [0.0, 1.0], [0.0, 1.0], 5),
        lambda row: f"{100 * row['y']:.1f} % found at {100 * row['x']:.1f} % false alarms",
    )


def precision_recall_chart(found: Uncertainty) -> Chart:
    """The precision-recall curves."""
    return by_method(
        found.precision_recall,
        "under_precision_recall",
        f"Precision and recall of 'under {found.settings.threshold:g}'",
        "Line plot of precision against recall on test faces, for every method, raw and calibrated.",
        ("x", "recall"),
        ("y", "precision"),
        "Thin: raw.",
        None,
        lambda row: f"precision {row['y']:.3f} at recall {row['x']:.3f}",
    )


def reliability_chart(found: Uncertainty) -> Chart:
    """The reliability diagram."""
    return by_method(
        found.reliability,
        "under_reliability",
        f"Stated and observed share under {found.settings.threshold:g}",
        "Line plot of the observed share of faces under the threshold against the probability stated.",
        ("stated", "probability stated"),
        ("observed", "share observed"),
        "On the line 'true' a probability is what it says. Thin: raw.",
        Line("true", [0.0, 1.0], [0.0, 1.0], 5),
        lambda row: f"{row['stated']:.2f} stated, {row['observed']:.2f} observed ({row['faces']:.0f} faces)",
    )


def by_method(
    rows: pd.DataFrame,
    file: str,
    title: str,
    alt: str,
    x: tuple[str, str],
    y: tuple[str, str],
    caption: str,
    ideal: Line | None,
    label: Callable[[Row], str],
) -> Chart:
    """One line for each method, calibrated, and a thin one as it was raw."""
    marks = [] if ideal is None else [ideal]
    for (method, kind), some in rows.groupby(["method", "kind"], sort=False):
        name = str(method)
        if kind != "raw" and kind not in BEST_KINDS:
            continue
        labels = [f"{row['title']}<br>{label(row)}" for row in some.to_dict("records")]
        marks.append(
            Line(
                METHODS.get(name, name),
                some[x[0]].tolist(),
                some[y[0]].tolist(),
                colour_of(name),
                faint=kind == "raw",
                labels=labels,
            )
        )
    return Chart(file, title, alt, Axis(x[1]), Axis(y[1], from_zero=True), tuple(marks), caption)
