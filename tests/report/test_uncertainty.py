"""The frames of stated uncertainty, against plain loops over faces."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.evaluation import stated_uncertainty
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.stated_uncertainty import Uncertainty, measure
from pipeline.evaluation.table import Table
from pipeline.metrics.calibration import Judged
from pipeline.report.charts import Chart
from pipeline.report.interactive import plotly_json
from pipeline.report.page import Page, render
from pipeline.report.png import png
from pipeline.report.uncertainty_page import uncertainty_charts, uncertainty_sections
from pipeline.report.uncertainty_tables import uncertainty_tables

LEVELS = (0.5, 0.9)
FACES = 400


def normal(method: str, kind: str, deviation: float, seed: int) -> Judged:
    """Targets with an error of 4 years, stated as `deviation`."""
    rng = np.random.default_rng(seed)
    prediction = rng.uniform(5, 40, FACES)
    target = prediction + rng.normal(0, 4, FACES)
    half = deviation * stats.norm.ppf((1 + np.array(LEVELS)) / 2)
    z = (target - prediction) / deviation
    return Judged(
        method,
        kind,
        LEVELS,
        prediction,
        target,
        prediction[:, None] - half,
        prediction[:, None] + half,
        crps=np.abs(z),
        pit=stats.norm.cdf(z),
        under=stats.norm.cdf((18 - prediction) / deviation),
    )


KINDS = (("ensemble", "raw", 2.0), ("ensemble", "local", 4.0), ("quantile", "cqr", 4.0))
JUDGED = {
    split: [normal(method, kind, deviation, seed) for method, kind, deviation in KINDS]
    for seed, split in enumerate(("validation", "test"))
}
GROUPS = {
    "age": np.where(JUDGED["test"][0].target < 18, "under 18", "18 and over"),
    "camera": np.array(["few"] * 5 + ["many"] * (FACES - 5)),
    "serial": np.array([str(number) for number in range(FACES)]),
}


@pytest.fixture(scope="module")
def found() -> Uncertainty:
    return measure(JUDGED, GROUPS, Settings(resamples=100), rate=0.05, min_faces=30)


def row(frame: pd.DataFrame, **wanted: object) -> "pd.Series[float]":
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    (one,) = (frame.iloc[k] for k in range(len(frame)))
    return one


def test_coverage_width_and_scores_are_those_of_a_plain_loop(found: Uncertainty) -> None:
    for one in JUDGED["test"]:
        numbers = row(found.methods, method=one.method, kind=one.kind)
        for place, key in enumerate(("50", "90")):
            held = [
                low <= y <= high
                for low, y, high in zip(one.lower[:, place], one.target, one.upper[:, place], strict=True)
            ]
            assert numbers[f"coverage_{key}"] == pytest.approx(np.mean(held))
            assert numbers[f"low_{key}"] < numbers[f"coverage_{key}"] < numbers[f"high_{key}"]
            assert numbers[f"width_{key}"] == pytest.approx(
                np.mean(one.upper[:, place] - one.lower[:, place])
            )
        assert numbers["mae"] == pytest.approx(np.abs(one.prediction - one.target).mean())
        assert numbers["mae_low"] < numbers["mae"] < numbers["mae_high"]
        assert numbers["crps"] == pytest.approx(one.crps.mean())
    raw, local = (row(found.methods, method="ensemble", kind=kind) for kind in ("raw", "local"))
    assert raw["coverage_90"] < 0.7 < 0.87 < local["coverage_90"]
    assert local["winkler_90"] < raw["winkler_90"], "the score prefers what is true"


def test_groups_are_those_with_enough_faces_and_the_worst_is_named(found: Uncertainty) -> None:
    assert set(found.groups["grouping"]) == {"age", "camera"}, "a column of serial numbers is no group"
    assert set(found.groups["group"]) == {"under 18", "18 and over", "many"}
    some = found.groups[found.groups["grouping"] == "age"]
    assert list(dict.fromkeys(some["group"])) == ["under 18", "18 and over"], "the youngest first"
    local = row(found.methods, method="ensemble", kind="local")
    lowest = found.groups[
        (found.groups["method"] == "ensemble")
        & (found.groups["kind"] == "local")
        & (found.groups["level"] == 0.9)
    ].sort_values("coverage")
    assert local["worst_90"] == lowest["coverage"].iloc[0]
    assert local["worst_group_90"] == f"{lowest['grouping'].iloc[0]}: {lowest['group'].iloc[0]}"
    small = measure(JUDGED, {"camera": GROUPS["camera"]}, Settings(resamples=20), min_faces=1000)
    assert small.groups.empty
    assert np.isnan(small.methods["worst_90"]).all()


def test_under_the_threshold_the_cut_of_validation_faces_is_held_against_test_faces(
    found: Uncertainty,
) -> None:
    one, other = JUDGED["test"][1], JUDGED["validation"][1]
    assert one.under is not None
    assert other.under is not None
    numbers = row(found.methods, method="ensemble", kind="local")
    adults = np.sort(other.under[other.target >= 18])[::-1]
    cut = adults[int(0.05 * len(adults))]
    assert numbers["cut"] == pytest.approx(cut)
    minors = one.target < 18
    assert numbers["cut_fnr"] == pytest.approx((one.under[minors] <= cut).mean())
    assert numbers["cut_fpr"] == pytest.approx((one.under[~minors] > cut).mean())
    assert numbers["fnr_low"] <= numbers["fnr"] <= numbers["fnr_high"]
    assert numbers["under"] == minors.sum()


def test_the_pit_shows_who_is_too_sure(found: Uncertainty) -> None:
    shares = found.pit.groupby(["method", "kind"])["share"]
    assert shares.sum().to_numpy() == pytest.approx(1)
    raw = found.pit[found.pit["kind"] == "raw"]["share"].to_numpy()
    assert raw[0] + raw[-1] > 0.4
    assert found.pit[found.pit["kind"] == "local"]["share"].max() < 0.2


def test_metrics_are_plain_json_and_few(found: Uncertainty) -> None:
    tree = stated_uncertainty.metrics(found)
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert set(tree["ensemble"]["local"]) == {
        *("mae", "crps", "coverage_50", "coverage_90", "width_90", "worst_90", "brier", "roc_auc", "fnr")
    }


def test_tables_and_charts_can_be_drawn_and_the_page_holds_them(found: Uncertainty) -> None:
    sections = uncertainty_sections(found)
    assert [section.slug for section in sections] == ["calibrated-uncertainty", "under-18"]
    html = render(Page("x", sections=sections))
    for table in uncertainty_tables(found):
        assert f'id="table-{table.name}"' in html
        assert isinstance(table, Table)
        assert all(len(table.cells(column)) == len(table.frame) for column in table.columns)
    charts = uncertainty_charts(found)
    assert len({chart.name for chart in charts}) == len(charts) == 6
    for chart in charts:
        assert isinstance(chart, Chart)
        assert "<br>" in plotly_json(chart)
    assert png(charts[0]) == png(charts[0])


def test_without_a_threshold_or_without_adults_there_is_less_to_say() -> None:
    unasked = {
        split: [Judged(**{**vars(one), "under": None}) for one in some] for split, some in JUDGED.items()
    }
    silent = measure(unasked, {}, Settings(threshold=None, resamples=20))
    assert silent.roc.empty
    assert len(uncertainty_sections(silent)) == 1
    assert "brier" not in stated_uncertainty.metrics(silent)["ensemble"]["raw"]
    young = {
        split: [Judged(**{**vars(one), "target": np.full(FACES, 9.0)}) for one in some]
        for split, some in JUDGED.items()
    }
    only = measure(young, {}, Settings(resamples=20))
    assert only.methods["fnr"].isna().all()
    assert "cut" not in only.methods
    assert uncertainty_tables(only)
    assert render(Page("x", sections=uncertainty_sections(only)))
