"""A study of settings as a section of the page: what was tried, what mattered, and what it gained."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.settings import Settings
from pipeline.evaluation.study_results import SPLITS, STUDY, StudyResults, read, shown, titles, with_rivals
from pipeline.evaluation.table import Column, Table
from pipeline.metrics.distributions import describe, probability_of_improvement
from pipeline.report.charts import Chart
from pipeline.report.page import Section
from pipeline.report.study_charts import comparison, history, importance, parallel, slice_of

__all__ = ["StudyResults", "charts", "read", "section", "with_rivals"]


def section(found: StudyResults, settings: Settings) -> Section:
    """The section of the page."""
    blocks: list[Table | Chart] = [comparison(found, settings), comparison_table(found, settings)]
    blocks += charts(found, settings)[1:]
    blocks.append(trial_table(found, settings))
    ends = found.trials["end"].value_counts()
    intro = (
        f"Optuna tried {len(found.trials)} settings ({ends.get('pruned', 0)} pruned, "
        f"{ends.get('diverged', 0)} diverged), each judged by the mean validation error of several models; "
        "test faces took no part. The best settings were then trained again from the seeds that the fixed "
        "and the found rate were given."
    )
    return Section("Study of settings", intro, tuple(blocks))


def charts(found: StudyResults, settings: Settings) -> list[Chart]:
    """Every figure of the section; the comparison first."""
    drawn = [comparison(found, settings), history(found, settings)]
    drawn += [slice_of(found, name, settings) for name in found.scales]
    if len(found.importance) > 1:
        drawn.append(importance(found))
    return [*drawn, parallel(found, settings)]


def comparison_table(found: StudyResults, settings: Settings) -> Table:
    """Each policy's errors, and how probably the study is better at the same seed."""
    rows = found.comparison
    by_policy = {policy: rows[rows["policy"] == policy].sort_values("member") for policy in titles(found)}
    ours = by_policy[STUDY]
    made = []
    for policy, title in titles(found).items():
        own = by_policy[policy]
        row: dict[str, Any] = {"policy": title, "lr": float(own["lr"].median())}
        for measure, (split, _) in SPLITS.items():
            described = describe(own[measure].to_numpy(dtype=np.float64), resamples=2)
            row |= {
                f"{split}_mean": described.mean,
                f"{split}_std": described.std,
                f"{split}_min": described.min,
            }
        row["diverged"] = int(own["diverged"].sum())
        better = None
        if policy != STUDY:
            better = probability_of_improvement(
                ours["test_mae"].to_numpy(dtype=np.float64),
                own["test_mae"].to_numpy(dtype=np.float64),
                seed=settings.seed,
                resamples=settings.resamples,
            )
        row["better"] = np.nan if better is None else better.point
        row["interval"] = "–" if better is None else f"{better.low:.2f} to {better.high:.2f}"
        made.append(row)
    listed = [Column("policy", "settings"), Column("lr", "learning rate (median)", ".3g")]
    for split, _ in SPLITS.values():
        listed += [
            Column(f"{split}_mean", "mean", ".3f", split, "lowest"),
            Column(f"{split}_std", "std", ".3f", split),
            Column(f"{split}_min", "min", ".3f", split),
        ]
    listed += [
        Column("diverged", "diverged", "d"),
        Column("better", "study better on test, same seed", ".2f"),
        Column("interval", "95% interval"),
    ]
    return Table(
        "study_comparison",
        "The study's settings against the fixed and the found rate",
        pd.DataFrame(made),
        tuple(listed),
        f"MAE in {settings.unit}, over {len(ours)} seeds that the study did not use; the last columns say "
        "how probably the study's model has the lower test error when both start from the same seed.",
    )


def trial_table(found: StudyResults, settings: Settings) -> Table:
    """Every trial, best first."""
    frame = pd.concat([found.complete, found.trials[found.trials["value"].isna()]])
    listed = [Column("trial", "trial", "d"), Column("end", "end"), Column("epochs", "epochs", "d")]
    listed += [Column(name, name, shown) for name in found.scales]
    listed.append(Column("value", f"mean validation MAE ({settings.unit})", ".4f", best="lowest"))
    return Table("study_trials", "All trials", frame.reset_index(drop=True), tuple(listed), long=True)
