import dataclasses
import io
import json
from typing import get_args

import numpy as np
import plotly.io
import pytest
from PIL import Image

from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.settings import Settings
from pipeline.report import figures
from pipeline.report.charts import (
    PALETTE,
    Axis,
    Bars,
    Chart,
    Dots,
    Intervals,
    Line,
    Mark,
    Paths,
    Strips,
)
from pipeline.report.interactive import plotly_json
from pipeline.report.png import png

NAMES = [
    "contenders",
    "distribution_fixed",
    "distribution_found",
    "improvement",
    "error_per_target_fixed",
    "error_per_target_found",
    "group_errors",
    "lr_finder",
    "learning_curves_fixed",
    "learning_curves_found",
    "running_time",
]


@pytest.fixture(scope="module")
def charts(complete) -> list[Chart]:
    runs = tuple(dataclasses.replace(run, seconds=np.full(6, 2.0)) for run in complete.runs)
    timed = dataclasses.replace(complete, runs=runs)
    return figures.all_charts(timed, evaluate(timed, Settings(resamples=50)))


def test_every_figure_is_drawn_and_says_what_it_shows(charts):
    assert [chart.name for chart in charts] == NAMES
    for chart in charts:
        assert chart.marks, chart.name
        assert len(chart.alt) > 60, chart.name
        assert chart.title, chart.name
        for axis in (chart.x, chart.y):
            assert axis.label or axis.categories, f"{chart.name} has an axis without a label"


def test_losses_below_zero_are_drawn_and_positive_ones_by_powers_of_ten(complete):
    evaluation = evaluate(complete, Settings(resamples=50))
    assert figures.learning_curves(evaluation, "fixed").y.log
    assert figures.lr_finder(complete).y.log
    lower = evaluation.curves.assign(val_loss=evaluation.curves["val_loss"] - 1e6)
    assert not figures.learning_curves(dataclasses.replace(evaluation, curves=lower), "fixed").y.log
    curves = [
        None if run.lr_curves is None else run.lr_curves.assign(loss=run.lr_curves["loss"] - 1e6)
        for run in complete.runs
    ]
    runs = tuple(
        dataclasses.replace(run, lr_curves=lr) for run, lr in zip(complete.runs, curves, strict=True)
    )
    assert not figures.lr_finder(dataclasses.replace(complete, runs=runs)).y.log


def test_axes_of_measures_name_the_unit(charts):
    for chart in charts:
        if "MAE" in chart.x.label + chart.y.label:
            assert "(years)" in chart.x.label + chart.y.label, chart.name


def test_without_finder_and_times_their_figures_are_left_out(complete):
    fixed = dataclasses.replace(complete, runs=complete.runs[:1])
    names = [chart.name for chart in figures.all_charts(fixed, evaluate(fixed, Settings(resamples=10)))]
    assert names == [
        "contenders",
        "distribution_fixed",
        "error_per_target_fixed",
        "group_errors",
        "learning_curves_fixed",
    ]


def test_the_files_are_the_same_bytes_when_written_again(charts, tmp_path):
    for folder in ("one", "two"):
        figures.write(charts, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in NAMES for kind in ("png", "json"))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_picture_has_ink_in_its_marks_colours_and_no_metadata(charts):
    for chart in charts:
        picture = Image.open(io.BytesIO(png(chart)))
        assert set(picture.info) <= {"dpi"}, f"{chart.name} carries {set(picture.info)}"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        for mark in chart.marks:
            wanted = [int(PALETTE[mark.colour][i : i + 2], 16) for i in (1, 3, 5)]
            near = (np.abs(pixels.astype(int) - wanted).max(axis=1) < 60).sum()
            assert near > 20, f"{chart.name}: {mark.name} left no ink"


def test_plotly_accepts_every_figure_and_finds_every_point(charts):
    for chart in charts:
        drawn = plotly.io.from_json(plotly_json(chart))
        points = sum(len(trace.x) for trace in drawn.data if trace.hoverinfo != "skip")
        expected = sum(
            len(mark.x) if isinstance(mark, Line | Dots) else len(mark.values) for mark in chart.marks
        )
        assert points == expected > 0, chart.name
        json.loads(plotly_json(chart), parse_constant=pytest.fail)


def test_distribution_shows_every_sound_model_on_every_split(complete):
    chart = figures.distributions(evaluate(complete, Settings(resamples=10)), "fixed")
    assert [mark.name for mark in chart.marks] == ["training", "validation", "test"]
    for mark in chart.marks:
        assert isinstance(mark, Strips)
        assert len(mark.values) == 11, "twelve models, one of them diverged"
    assert chart.x.categories == ("ADAM", "SGD")


def test_lr_finder_draws_the_median_curve_and_the_rates_taken(complete):
    chart = figures.lr_finder(complete)
    lines = [mark for mark in chart.marks if isinstance(mark, Line)]
    dots = [mark for mark in chart.marks if isinstance(mark, Dots)]
    assert [line.name for line in lines] == ["ADAM", "SGD"]
    for run, line, dot in zip(complete.runs[2:], lines, dots, strict=True):
        assert sorted(dot.x) == sorted(run.scores["lr"].unique())
        assert run.lr_curves is not None
        step = run.lr_curves[np.isclose(run.lr_curves["lr"], line.x[5])]
        assert line.y[5] == pytest.approx(step["loss"].median())


def test_numbers_that_are_not_finite_become_gaps():
    chart = Chart("c", "", "", Axis("x"), Axis("y"), (Line("a", [1, 2, 3], [1.0, np.nan, np.inf], 0),))
    assert json.loads(plotly_json(chart))["data"][0]["y"] == [1.0, None, None]
    assert png(chart)


def test_every_kind_of_mark_is_drawn_by_both():
    names = ("p", "q")
    marks = [
        Line("line", [1, 2], [1, 2], 0, low=[0, 1], high=[2, 3], labels=["one", "two"]),
        Dots("dots", [1, 2], [2, 1], 1),
        Strips("strips", ["p", "p", "q"], [1, 2, 3], 2),
        Bars("bars", names, [1, 2], 3),
        Intervals("intervals", names, [1, 2], [0, 1], [2, 3], 4),
        Paths("paths", names, [[0.1, 0.9], [0.6, 0.2]], 5, labels=["one", "two"]),
    ]
    assert {type(mark) for mark in marks} == set(get_args(Mark)), "no kind is left out"
    empty = len(png(Chart("c", "", "", Axis("x"), Axis("y"), ())))
    for mark in marks:
        upright = isinstance(mark, Strips | Bars | Paths)
        x = Axis("x", categories=names if upright else ())
        y = Axis("y", categories=names if isinstance(mark, Intervals) else ())
        chart = Chart("c", "", "", x, y, (mark,), reference=1.0)
        assert len(png(chart)) != empty
        data = json.loads(plotly_json(chart))
        assert len(data["data"]) == (2 if isinstance(mark, Line | Paths) else 1), "a line brings its band"
        assert data["layout"]["shapes"][0]["x0"] == 1.0


@pytest.mark.parametrize("ground", ["#ffffff", "#12161c"])
def test_colours_stand_out_on_the_pages_grounds(ground):
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for colour in PALETTE:
        light, dark = sorted([luminance(colour), luminance(ground)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, f"{colour} on {ground} (WCAG 2.2, 1.4.11)"


def test_a_logarithmic_axis_is_marked_between_powers_of_ten_where_they_are_few():
    def axis(values: list[float]) -> dict:
        chart = Chart("c", "", "", Axis("x"), Axis("y", log=True), (Line("a", [1, 2, 3], values, 0),))
        return json.loads(plotly_json(chart))["layout"]["yaxis"]

    assert axis([15, 80, np.nan])["ticktext"] == ["10", "20", "50", "100", "200", "500"]
    assert "tickvals" not in axis([1e-8, 1, 10])
    assert "tickvals" not in axis([np.nan, 0, -1])


@pytest.mark.parametrize("name", ["$x^{$", "$$", "a$b", "\\$", "$\\frac$", "<b>x</b>", "%{x}", "[red]"])
def test_a_name_is_drawn_as_it_is_and_never_parsed(name):
    from pipeline.report.charts import Axis, Chart, Intervals
    from pipeline.report.interactive import plotly_json
    from pipeline.report.png import png

    mark = Intervals(name, [name], [1.0], [0.5], [1.5], 0, [name])
    other = Intervals("other", [name], [1.0], [0.5], [1.5], 1, [name])
    chart = Chart("n", name, name, Axis(name), Axis("", categories=(name,)), (mark, other))
    assert png(chart).startswith(b"\x89PNG")
    drawn = json.loads(plotly_json(chart))
    shown = name.replace("<", "&lt;")
    assert drawn["layout"]["yaxis"]["categoryarray"] == [shown] == drawn["data"][0]["y"]
    assert drawn["data"][0]["name"] == shown == drawn["layout"]["xaxis"]["title"]["text"]
