"""The tables of stated uncertainty."""

from pipeline.evaluation.method_names import percent
from pipeline.evaluation.settings import OVER
from pipeline.evaluation.stated_uncertainty import Uncertainty, middle_level
from pipeline.evaluation.table import Column, Table


def uncertainty_tables(found: Uncertainty) -> list[Table]:
    """Every table, in the report's order."""
    tables = [methods(found), groups(found), pit(found)]
    if found.settings.threshold is not None:
        tables += [under(found), reliability(found)]
    return tables


def methods(found: Uncertainty) -> Table:
    """Every method in every kind: error, distribution, intervals, the group covered worst."""
    unit, level = found.settings.unit, percent(middle_level(found))
    columns = [
        Column("title", "method"),
        Column("mae", "MAE", ".3f", best="lowest"),
        Column("crps", "CRPS", ".3f", best="lowest"),
    ]
    for one in found.levels:
        columns.append(
            Column(f"coverage_{percent(one)}", f"{percent(one)} %", ".3f", "share of faces covered")
        )
    for one in found.levels:
        columns.append(Column(f"width_{percent(one)}", f"{percent(one)} %", ".2f", f"mean width ({unit})"))
    columns += [
        Column(f"winkler_{level}", f"Winkler, {level} %", ".2f", best="lowest"),
        Column(f"worst_{level}", "covered", ".3f", f"worst group at {level} %", "highest"),
        Column(f"worst_group_{level}", "group", "", f"worst group at {level} %"),
    ]
    rows = frozenset(found.methods.index[found.methods["kind"] != "raw"].tolist())
    return Table(
        "uncertainty",
        "Intervals and distributions on test faces",
        found.methods,
        tuple(columns),
        "Shaded: calibrated on validation faces. Raw is a normal distribution with the training error and "
        "the members' disagreement, or a network's own quantiles. CRPS and Winkler's score are errors of the "
        f"whole distribution and of the interval, in {unit}; lower is better. Validation faces have also "
        "chosen each model's best epoch, so that promises could be a little too good: the coverage here, on "
        "faces that took part in nothing, decides.",
        rows,
    )


def groups(found: Uncertainty) -> Table:
    """Coverage by band and group."""
    columns = (
        Column("title", "method"),
        Column("level", "level", "g"),
        Column("grouping", "by"),
        Column("group", "group"),
        Column("faces", "faces", ",d"),
        Column("coverage", "covered", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
        Column("width", f"mean width ({found.settings.unit})", ".2f"),
    )
    note = f"from, to: 95% intervals (Wilson), {OVER}. Groups of too few test faces are left out."
    return Table("uncertainty_groups", "Coverage by group", found.groups, columns, note, long=True)


def pit(found: Uncertainty) -> Table:
    """The PIT histograms' numbers."""
    columns = (
        Column("title", "method"),
        Column("from", "from", ".1f"),
        Column("to", "to", ".1f"),
        Column("share", "share of faces", ".3f"),
    )
    return Table("uncertainty_pit", "PIT histograms", found.pit, columns, long=True)


def under(found: Uncertainty) -> Table:
    """Answers to 'under 18?'."""
    threshold, rate = found.settings.threshold, percent(found.rate)
    at, cut = f"false negatives at {rate} % false positives", "with the cut chosen on validation"
    columns = (
        Column("title", "method"),
        Column("brier", "Brier score", ".4f", best="lowest"),
        Column("roc_auc", "ROC area", ".4f", best="highest"),
        Column("average_precision", "average precision", ".4f", best="highest"),
        Column("fnr", "rate", ".3f", at, "lowest"),
        Column("fnr_low", "from", ".3f", at),
        Column("fnr_high", "to", ".3f", at),
        Column("cut", "cut", ".3f", cut),
        Column("cut_fnr", "false negatives", ".3f", cut),
        Column("cut_fnr_low", "from", ".3f", cut),
        Column("cut_fnr_high", "to", ".3f", cut),
        Column("cut_fpr", "false positives", ".3f", cut),
        Column("cut_fpr_low", "from", ".3f", cut),
        Column("cut_fpr_high", "to", ".3f", cut),
    )
    known = tuple(column for column in columns if column.key in found.methods)
    return Table(
        "uncertainty_under",
        f"'Under {threshold:g}?' on test faces",
        found.methods,
        known,
        f"A false negative is a face under {threshold:g} that is not called so. The first rate takes its "
        "cut from the test faces themselves, as a ROC curve does, with a bootstrap; the second is what "
        f"somebody gets who chose the cut on validation faces, with Wilson's intervals. Both are {OVER}.",
    )


def reliability(found: Uncertainty) -> Table:
    """The reliability diagram's numbers."""
    columns = (
        Column("title", "method"),
        Column("stated", "probability stated", ".3f"),
        Column("observed", "share observed", ".3f"),
        Column("low", "from", ".3f"),
        Column("high", "to", ".3f"),
        Column("faces", "faces", ",d"),
    )
    title = f"Stated and observed share under {found.settings.threshold:g}"
    return Table("uncertainty_reliability", title, found.reliability, columns, long=True)
