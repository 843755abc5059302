import json

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from pipeline.core.errors import UserError
from pipeline.training.mlp import baselines
from pipeline.training.mlp.baselines import BASELINES, BaselineTables, fit_baselines

WIDTH = 6


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, WIDTH)) * [1, 1, 5, 5, 0.1, 0.1]
    target = 20 + 3 * vectors[:, 0] - vectors[:, 2] + 4 * np.sin(2 * vectors[:, 1]) + rng.normal(0, 0.3, 400)
    return {
        "face_ids": np.array([f"{number:04d}" for number in rng.permutation(400)]),
        "vectors": vectors.astype(np.float32),
        "target": target,
        "split": np.repeat(["train", "validation", "test"], [240, 80, 80]),
    }


@pytest.fixture(scope="module")
def fitted(data) -> BaselineTables:
    return fit_baselines(**data, seed=3)


def predictions(tables: BaselineTables, name: str) -> dict[str, float]:
    rows = [row for row in tables.predictions.to_pylist() if row["baseline"] == name]
    return {row["face_id"]: row["prediction"] for row in rows}


def test_predicts_every_validation_and_test_face_once_and_no_training_face(data, fitted):
    judged = set(data["face_ids"][data["split"] != "train"])
    for name in BASELINES:
        found = [row["face_id"] for row in fitted.predictions.to_pylist() if row["baseline"] == name]
        assert len(found) == len(judged), name
        assert set(found) == judged, name


def test_the_constants_are_the_training_mean_and_median(data, fitted):
    train = data["target"][data["split"] == "train"]
    np.testing.assert_allclose(list(predictions(fitted, "mean").values()), train.mean())
    np.testing.assert_allclose(list(predictions(fitted, "median").values()), np.median(train))


def test_ridge_equals_the_normal_equations(data, fitted):
    train = data["split"] == "train"
    x, y = data["vectors"].astype(np.float64), data["target"]
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    alpha = json.loads(fitted.settings.to_pylist()[2]["settings"])["alpha"]
    weights = np.linalg.solve(
        x[train].T @ x[train] + alpha * np.eye(WIDTH), x[train].T @ (y[train] - y[train].mean())
    )
    expected = x @ weights + y[train].mean()
    found = predictions(fitted, "ridge")
    for face, value in zip(data["face_ids"][~train], expected[~train], strict=True):
        assert found[face] == pytest.approx(value, rel=1e-6)


def test_knn_equals_a_plain_loop_with_the_neighbours_that_are_best_on_validation(data, fitted):
    train, validation = data["split"] == "train", data["split"] == "validation"
    x, y = data["vectors"].astype(np.float64), data["target"]

    def predict(vector, count):
        far = np.sqrt(((x[train] - vector) ** 2).sum(axis=1))
        near = np.argsort(far)[:count]
        return np.average(y[train][near], weights=1 / far[near])

    errors = {
        count: np.mean(
            [abs(predict(v, count) - t) for v, t in zip(x[validation], y[validation], strict=True)]
        )
        for count in baselines.NEIGHBOURS
    }
    best = min(errors, key=errors.get)
    assert json.loads(fitted.settings.to_pylist()[3]["settings"]) == {"neighbours": best}
    found = predictions(fitted, "knn")
    for face, vector in zip(data["face_ids"][~train], x[~train], strict=True):
        assert found[face] == pytest.approx(predict(vector, best), rel=1e-6)


def test_everything_but_the_constants_learns(data, fitted):
    test = data["split"] == "test"
    errors = {}
    for name in BASELINES:
        found = predictions(fitted, name)
        predicted = np.array([found[face] for face in data["face_ids"][test]])
        errors[name] = np.abs(predicted - data["target"][test]).mean()
    assert errors["svr"] < errors["ridge"] < 0.5 * errors["median"], errors
    assert errors["boosting"] < 0.6 * errors["median"], errors


@pytest.mark.parametrize("name", ["ridge", "svr"])
def test_the_scale_of_a_vector_does_not_matter_where_vectors_are_standardised(data, fitted, name):
    scaled = fit_baselines(**{**data, "vectors": data["vectors"] * 1024}, names=[name], seed=3)
    assert predictions(scaled, name) == pytest.approx(predictions(fitted, name), rel=1e-6)


def test_targets_of_judged_faces_reach_no_fit_but_through_validation(data, fitted):
    changed = data["target"].copy()
    changed[data["split"] == "test"] = 1e6
    assert fit_baselines(**{**data, "target": changed}, seed=3).predictions.equals(fitted.predictions)


def test_boosting_stops_where_validation_faces_say_so(data, fitted):
    def trees(tables: BaselineTables) -> int:
        return json.loads(tables.settings.to_pylist()[-1]["settings"])["trees"]

    misleading = data["target"].copy()
    misleading[data["split"] == "validation"] = misleading[data["split"] == "validation"][::-1]
    stopped = fit_baselines(**{**data, "target": misleading}, names=["boosting"], seed=3)
    assert trees(stopped) < trees(fitted) / 2


def test_the_same_input_gives_the_same_bits_whatever_the_number_of_threads(data, monkeypatch):
    monkeypatch.setattr(baselines, "SMALL", 0)
    monkeypatch.setitem(baselines.BOOSTING, "max_iter", 10)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fit_baselines(**data, seed=3).predictions)
    assert found[0].equals(found[1])


def test_svr_learns_from_so_many_faces_at_most_and_says_so(data, fitted):
    capped = fit_baselines(**data, names=["svr"], seed=3, svr_rows=100)
    (row,) = capped.settings.to_pylist()
    assert row["train_rows"] == 100
    assert row["note"] == "learnt from 100 of 240 training faces, to bound its time"
    assert predictions(capped, "svr") != predictions(fitted, "svr")
    assert fitted.settings.to_pylist()[4]["note"] == ""
    assert capped.predictions.equals(fit_baselines(**data, names=["svr"], seed=3, svr_rows=100).predictions)


def test_fewer_faces_than_neighbours_are_enough():
    few = fit_baselines(
        ["a", "b", "c", "d"],
        np.eye(4),
        [1.0, 2.0, 3.0, 4.0],
        ["train", "train", "validation", "test"],
        names=["knn"],
    )
    assert len(few.predictions) == 2


def test_settings_tell_what_was_used(fitted):
    assert fitted.settings["baseline"].to_pylist() == list(BASELINES)
    assert set(fitted.settings["train_rows"].to_pylist()) == {240}
    for text in fitted.settings["settings"].to_pylist():
        assert json.loads(text), "every baseline has a setting worth telling"


def test_takes_the_columns_of_an_arrow_table(data, fitted):
    as_lists = {**data, "face_ids": pa.array(data["face_ids"]).to_pylist(), "split": data["split"].tolist()}
    assert fit_baselines(**as_lists, names=["mean"]).settings.num_rows == 1


def test_refuses_what_it_cannot_learn_from(data):
    with pytest.raises(UserError, match="unknown baseline 'forest': choose from mean, median"):
        fit_baselines(**data, names=["forest"])
    with pytest.raises(UserError, match="no validation face"):
        fit_baselines(**{**data, "split": np.repeat(["train", "test"], 200)})
    broken = data["vectors"].copy()
    broken[7, 2] = np.nan
    with pytest.raises(UserError, match=f"face {data['face_ids'][7]} has a vector"):
        fit_baselines(**{**data, "vectors": broken})
    with pytest.raises(UserError, match="svr_rows is 0"):
        fit_baselines(**data, svr_rows=0)
    with pytest.raises(ValueError, match="not aligned"):
        fit_baselines(**{**data, "target": data["target"][1:]})
