"""Calibration held to MAPIE and to its promise: coverage on faces that took no part."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from mapie.conformity_scores import BaseRegressionScore
from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin

from pipeline.core.errors import UserError
from pipeline.metrics.calibration import coverage, pit_histogram
from pipeline.uncertainty.conformal import (
    Calibration,
    Groups,
    band_names,
    bands_of,
    calibrate,
    kinds_of,
)
from pipeline.uncertainty.methods import of_distributions, of_quantiles
from pipeline.uncertainty.raw import Difficulty, Predicted
from pipeline.uncertainty.shapes import Scored
from pipeline.uncertainty.stored_methods import (
    load_calibrations,
    prediction_tables,
    said_of,
    save_calibrations,
)

LEVELS = (0.5, 0.8, 0.9, 0.95)
AT = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
Array = NDArray[np.float64]


class Column(RegressorMixin, BaseEstimator):
    """What MAPIE takes for a fitted estimator: predictions made elsewhere, in one column of X."""

    def __init__(self, place: int = 0) -> None:
        self.place = place
        self.n_features_in_ = 4
        self.fitted_ = True

    def fit(self, x: Array, y: Array) -> "Column":
        return self

    def predict(self, x: Array) -> Array:
        return np.asarray(x)[:, self.place]


class Weighted(BaseRegressionScore):
    """Absolute errors, divided by what the second column of X gives."""

    def __init__(self) -> None:
        super().__init__(sym=True, consistency_check=False)

    def get_signed_conformity_scores(self, y: Array, y_pred: Array, **more: Array) -> Array:
        return (y - y_pred) / more["X"][:, 1]

    def get_estimation_distribution(self, y_pred: Array, conformity_scores: Array, **more: Array) -> Array:
        return y_pred + conformity_scores * more["X"][:, [1]]


def people(count: int, seed: int, shift: float = 0.0) -> tuple[Predicted, Array]:
    """Errors that grow with age and with the members' spread, as real ones do; never quite normal."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(2, 80, count)
    spread = rng.gamma(4, 0.3, count)
    error = (0.5 + 0.08 * mean) * spread * rng.standard_t(5, count) + shift
    return Predicted(mean, spread), mean + error


def with_quantiles(count: int, seed: int, narrow: float = 0.6) -> tuple[Predicted, Array]:
    """Quantiles that are too close together, and a little off."""
    said, target = people(count, seed)
    deviation = (0.5 + 0.08 * said.mean) * 1.2
    quantiles = said.mean[:, None] + narrow * deviation[:, None] * stats.norm.ppf(AT) + 0.5
    return of_quantiles(quantiles, AT), target


def calibrated(
    train: tuple[Predicted, Array], validation: tuple[Predicted, Array], **more: object
) -> dict[str, Calibration]:
    found = calibrate("some", train, validation, LEVELS, **more)  # type: ignore[arg-type]
    return {one.kind: one for one in found}


def test_split_conformal_intervals_are_those_of_mapie() -> None:
    (said, target), (other, _) = people(333, 1), people(50, 2)
    mine = calibrated(people(400, 3), (said, target))["split"].bounds(other)
    mapie = SplitConformalRegressor(Column(), confidence_level=list(LEVELS), prefit=True)
    mapie.conformalize(np.tile(said.mean[:, None], 4), target)
    _, theirs = mapie.predict_interval(np.tile(other.mean[:, None], 4))
    np.testing.assert_allclose(mine[0], theirs[:, 0], rtol=1e-10)
    np.testing.assert_allclose(mine[1], theirs[:, 1], rtol=1e-10)


def test_locally_weighted_intervals_are_those_of_mapie_with_the_same_weights() -> None:
    (said, target), (other, _) = people(333, 1), people(50, 2)
    found = calibrated(people(400, 3), (said, target))["local"]
    shape = found.shapes["all"]
    assert isinstance(shape, Scored)
    assert shape.difficulty is not None

    def table(some: Predicted) -> Array:
        return np.column_stack([some.mean, shape.scale(some), some.mean, some.mean])

    mapie = SplitConformalRegressor(
        Column(), confidence_level=list(LEVELS), conformity_score=Weighted(), prefit=True
    )
    mapie.conformalize(table(said), target)
    _, theirs = mapie.predict_interval(table(other))
    mine = found.bounds(other)
    np.testing.assert_allclose(mine[0], theirs[:, 0], rtol=1e-10)
    np.testing.assert_allclose(mine[1], theirs[:, 1], rtol=1e-10)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_conformalised_quantiles_are_those_of_mapie(level: float) -> None:
    (said, target), (other, _) = with_quantiles(333, 1), with_quantiles(50, 2)
    place = LEVELS.index(level)
    low, high = AT.index(round((1 - level) / 2, 3)), AT.index(round((1 + level) / 2, 3))

    def table(some: Predicted) -> Array:
        assert some.quantiles is not None
        return np.column_stack([some.quantiles[:, low], some.quantiles[:, high], some.mean, some.mean])

    mapie = ConformalizedQuantileRegressor(
        [Column(0), Column(1), Column(2)], confidence_level=level, prefit=True
    )
    mapie.conformalize(table(said), target)
    _, theirs = mapie.predict_interval(table(other), symmetric_correction=True)
    mine = calibrated(with_quantiles(400, 3), (said, target))["cqr"].bounds(other)
    np.testing.assert_allclose(mine[0][:, place], theirs[:, 0, 0], rtol=1e-10)
    np.testing.assert_allclose(mine[1][:, place], theirs[:, 1, 0], rtol=1e-10)


@pytest.mark.parametrize("kind", ["split", "local", "cqr"])
def test_conformal_intervals_hold_as_often_as_they_say_where_raw_ones_do_not(kind: str) -> None:
    make = with_quantiles if kind == "cqr" else people
    found = calibrated(make(4000, 1), make(4000, 2))
    said, target = make(40_000, 3)
    lower, upper = found[kind].bounds(said)
    raw_lower, raw_upper = found["raw"].bounds(said)
    for place, level in enumerate(LEVELS):
        held = coverage(lower[:, place], upper[:, place], target).share.point
        assert held == pytest.approx(level, abs=0.015), level
    raw = [
        coverage(raw_lower[:, place], raw_upper[:, place], target).share.point - level
        for place, level in enumerate(LEVELS)
    ]
    assert max(map(abs, raw)) > 0.05


def test_locally_weighted_intervals_are_narrower_and_fairer_than_those_of_one_width() -> None:
    found = calibrated(people(4000, 1), people(4000, 2))
    said, target = people(20_000, 3)
    old = said.mean > 60
    results = {}
    for kind in ("split", "local"):
        lower, upper = found[kind].bounds(said)
        results[kind] = (
            (upper - lower)[:, 2].mean(),
            coverage(lower[old, 2], upper[old, 2], target[old]).share.point,
        )
    assert results["local"][0] < results["split"][0]
    assert results["split"][1] < 0.82, "one width is too narrow for the old"
    assert results["local"][1] > results["split"][1] + 0.03


@pytest.mark.parametrize("kind", ["split", "local", "cqr"])
def test_conformal_distributions_have_an_even_pit_and_their_quantiles_invert_them(kind: str) -> None:
    make = with_quantiles if kind == "cqr" else people
    found = calibrated(make(4000, 1), make(4000, 2))[kind]
    said, target = make(4000, 3)
    np.testing.assert_allclose(pit_histogram(found.cdf(said, target)), 0.1, atol=0.025)
    p = np.array([0.06, 0.3, 0.5, 0.94])
    quantiles = found.quantiles(said, p)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    for place, wanted in enumerate(p):
        np.testing.assert_allclose(found.cdf(said, quantiles[:, place]), wanted, atol=2e-3)


def test_raw_quantiles_and_normals_invert_their_distribution_functions() -> None:
    for make in (people, with_quantiles):
        said, _ = make(200, 1)
        raw = calibrated(make(200, 2), make(200, 3))["raw"]
        p = np.array([0.05, 0.5, 0.9])
        for place, wanted in enumerate(p):
            np.testing.assert_allclose(raw.cdf(said, raw.quantiles(said, p)[:, place]), wanted, atol=1e-9)
        lower, upper = raw.bounds(said)
        np.testing.assert_allclose(raw.cdf(said, upper[:, 2]) - raw.cdf(said, lower[:, 2]), 0.9, atol=1e-6)


def test_beyond_every_score_a_little_probability_is_left_and_it_never_falls() -> None:
    found = calibrated(people(200, 1), people(99, 2))["local"]
    said = Predicted(np.array([40.0, 40.0]), np.ones(2))
    np.testing.assert_allclose(found.cdf(said, np.array([-1e6, 1e6])), [0.005, 0.995])
    line = Predicted(np.full(300, 40.0), np.ones(300))
    assert (np.diff(found.cdf(line, np.linspace(-60, 140, 300))) >= 0).all()


def test_tails_of_quantiles_never_end_so_that_faces_keep_their_order() -> None:
    found = calibrated(with_quantiles(300, 1), with_quantiles(300, 2))
    far = of_quantiles(np.array([[30.0], [60.0], [90.0]]) + 3 * stats.norm.ppf(AT), AT)
    for kind in ("raw", "cqr"):
        young = found[kind].cdf(far, 18.0)
        assert young[0] > young[1] > young[2] > 0
        old = found[kind].cdf(far, 40.0)
        assert old[0] > 0.9
        p = np.array([0.001, 0.01, 0.5, 0.99, 0.999])
        for place, wanted in enumerate(p):
            back = found[kind].cdf(far, found[kind].quantiles(far, p)[:, place])
            np.testing.assert_allclose(back, wanted, rtol=1e-9)
    same = of_quantiles(np.full((1, len(AT)), 20.0), AT)
    assert found["raw"].cdf(same, 19.0)[0] < 1e-6, "quantiles that coincide"


def test_each_group_is_covered_by_itself_when_it_is_calibrated_by_itself() -> None:
    def two(count: int, seed: int) -> tuple[Predicted, Array, NDArray[np.str_]]:
        said, _ = people(count, seed)
        group = np.where(np.arange(count) % 4 == 0, "hard", "easy")
        noise = np.random.default_rng(seed).normal(size=count) * np.where(group == "hard", 9, 2)
        return said, said.mean + noise, group

    (train, y, _), (said, target, group), (new, truth, where) = two(2000, 1), two(4000, 2), two(20_000, 3)
    pooled = calibrated((train, y), (said, target))["split"]
    mondrian = calibrated((train, y), (said, target), groups=group)["split"]
    assert dict(mondrian.faces) == {"all": 4000, "easy": 3000, "hard": 1000}

    def held(found: Calibration, groups: NDArray[np.str_] | None, name: str) -> float:
        lower, upper = found.bounds(new, groups)
        here = where == name
        return coverage(lower[here, 2], upper[here, 2], truth[here]).share.point

    assert held(pooled, where, "hard") < 0.75
    for name in ("easy", "hard"):
        assert held(mondrian, where, name) == pytest.approx(0.9, abs=0.02)
        assert held(mondrian, None, name) >= 0.88, "who does not know the group gets the widest interval"
    stranger = mondrian.bounds(new, np.full(len(new), "unheard of"))
    np.testing.assert_array_equal(stranger[0], mondrian.bounds(new, np.full(len(new), "all"))[0])


def test_groups_that_are_too_small_share_the_calibration_of_all() -> None:
    said, target = people(100, 1)
    group = np.array(["few"] * 19 + ["many"] * 81)
    small = calibrated((said, target), (said, target), groups=group, min_faces=20)
    assert set(small["split"].shapes) == {"all", "many"}
    assert set(small["raw"].shapes) == {"all"}
    exactly = calibrated((said, target), (said, target), groups=group, min_faces=1)
    assert set(exactly["split"].shapes) == {"all", "few", "many"}, "19 faces allow 95 %"
    called = np.array(["all"] * 50 + ["many"] * 50)
    shared = calibrated((said, target), (said, target), groups=called)["split"]
    assert dict(shared.faces) == {"all": 100, "many": 50}, "whatever a group is called, all are all"


def test_too_few_validation_faces_are_refused_with_how_many_it_takes() -> None:
    said, target = people(18, 1)
    with pytest.raises(
        UserError, match="18 validation faces are too few to calibrate intervals of 95%: it takes 19"
    ):
        calibrated((said, target), (said, target))


def test_groups_by_prediction_by_column_and_by_an_unknown_column() -> None:
    said = Predicted(np.array([5.0, 18.0, 40.0]), np.zeros(3))
    faces = pa.table({"face_id": ["a", "b", "c"], "gender": ["f", None, "m"], "subject": ["s", "s", None]})
    assert Groups().of(said, faces) is None
    named = Groups("prediction", (13, 18)).of(said, faces)
    assert named is not None
    assert named.tolist() == ["under 13", "18 and over", "18 and over"]
    by_gender = Groups("gender").of(said, faces)
    assert by_gender is not None
    assert by_gender.tolist() == ["f", "unknown", "m"]
    for name in ("shoe_size", "subject"):
        with pytest.raises(UserError, match=f"no group column '{name}': change calibrate.groups"):
            Groups(name).of(said, faces)
    assert band_names([]) == ["all"]
    assert bands_of(np.array([1.0, 2.0]), []).tolist() == ["all", "all"]


def test_difficulty_is_learnt_from_spread_and_prediction_and_has_a_floor() -> None:
    rng = np.random.default_rng(1)
    spread = rng.uniform(0, 3, 5000)
    said = Predicted(rng.uniform(0, 80, 5000), spread)
    by_spread = Difficulty.learn(said, said.mean + 2 * spread * rng.choice([-1, 1], 5000))
    probe = Predicted(np.array([40.0, 40.0]), np.array([0.5, 2.0]))
    np.testing.assert_allclose(by_spread(probe), [1.0, 4.0], atol=0.3)
    assert (by_spread.weights >= 0).all()
    perfect = Difficulty.learn(said, said.mean)
    assert (perfect(probe) > 0).all(), "a model that never erred in training still has a scale"


def test_crossing_is_impossible_even_where_margins_are_far_below_zero() -> None:
    said, target = with_quantiles(400, 1, narrow=20.0)
    lower, upper = calibrated((said, target), (said, target))["cqr"].bounds(said)
    assert (lower <= upper).all()


def test_calibrations_come_back_from_their_file_bit_for_bit(tmp_path: Path) -> None:
    (said, target), (other, _) = people(300, 1), people(50, 2)
    group = np.where(said.mean > 40, "old", "young")
    found = calibrate("ensemble", people(300, 3), (said, target), LEVELS, groups=group)
    found += calibrate("quantile", with_quantiles(300, 4), with_quantiles(300, 5), LEVELS)
    save_calibrations(found, tmp_path / "a.safetensors")
    again = load_calibrations(tmp_path / "a.safetensors")
    save_calibrations(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert [(one.method, one.kind, one.faces) for one in again] == [
        (one.method, one.kind, one.faces) for one in found
    ]
    asked = {"ensemble": other, "quantile": with_quantiles(50, 6)[0]}
    for before, after in zip(found, again, strict=True):
        one = asked[before.method]
        np.testing.assert_array_equal(before.bounds(one), after.bounds(one))
        np.testing.assert_array_equal(before.cdf(one, 18), after.cdf(one, 18))


def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_calibrations(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="is damaged"):
        load_calibrations(path)


def test_what_methods_say_comes_back_from_its_tables_in_any_order() -> None:
    said, quantiles = people(20, 1)[0], with_quantiles(20, 2)[0]
    ids = pa.array([f"{number:02d}" for number in range(20)])
    tables = prediction_tables({"ensemble": said, "quantile": quantiles}, ids)
    back = said_of(tables["predictions"], tables["quantiles"], pa.chunked_array([ids[::-1]]))
    np.testing.assert_array_equal(back["ensemble"].mean, said.mean[::-1])
    np.testing.assert_array_equal(back["ensemble"].spread, said.spread[::-1])
    assert back["ensemble"].quantiles is None
    assert quantiles.quantiles is not None
    np.testing.assert_allclose(back["quantile"].quantiles, quantiles.quantiles[::-1], rtol=1e-6)
    assert back["quantile"].probabilities == AT


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"probabilities": ["a"]}', '{"probabilities": 1}', "[" * 100_000]
)
def test_quantiles_that_do_not_say_which_they_are_are_named(text: str) -> None:
    quantiles = with_quantiles(5, 2)[0]
    ids = pa.array([str(number) for number in range(5)])
    tables = prediction_tables({"quantile": quantiles}, ids)
    table = tables["quantiles"]
    at = table.schema.get_field_index("quantiles")
    field = table.schema.field(at)
    spoilt = field.with_metadata(dict.fromkeys(field.metadata, text.encode()))
    table = table.cast(table.schema.set(at, spoilt))
    with pytest.raises(
        UserError, match="the quantiles of 'quantile' do not say which they are: run calibrate again"
    ):
        said_of(tables["predictions"], table, pa.chunked_array([ids]))


def test_a_label_distribution_is_its_expectation_deviation_and_quantiles() -> None:
    labels = np.arange(60.0)
    p = stats.norm.pdf(labels[None, None], [[[20.0], [33.3]], [[24.0], [33.3]]], 3.0)
    p /= p.sum(axis=-1, keepdims=True)
    said = of_distributions(p, labels, AT)
    np.testing.assert_allclose(said.mean, [22.0, 33.3], atol=1e-6)
    np.testing.assert_allclose(said.spread, [np.sqrt(9 + 4), 3.0], atol=1e-3)
    assert said.quantiles is not None
    np.testing.assert_allclose(said.quantiles[1], 33.3 + 3 * stats.norm.ppf(AT), atol=0.1)
    mixture = np.concatenate([stats.norm.ppf(np.linspace(0.0005, 0.9995, 1000), m, 3) for m in (20, 24)])
    np.testing.assert_allclose(said.quantiles[0], np.quantile(mixture, AT), atol=0.15)
    assert kinds_of(said) == ("raw", "split", "cqr")
