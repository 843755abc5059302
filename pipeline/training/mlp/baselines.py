"""What scikit-learn makes of the same vectors: the numbers a network has to beat.

All are fitted on training faces only. Where a baseline has something to choose (the neighbours of kNN,
the trees of boosting) it chooses on validation faces, as the networks do when they stop early.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from threadpoolctl import threadpool_limits

from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.seeds import derive_seed

FloatArray = NDArray[np.float64]

RIDGE_ALPHAS = np.logspace(-2, 5, 15)
NEIGHBOURS = (5, 10, 20, 40)
SVR_C = 10.0
SVR_EPSILON = 0.1
BOOSTING = {
    "learning_rate": 0.1,
    "max_iter": 300,
    "max_leaf_nodes": 15,
    "max_bins": 63,
    "l2_regularization": 1.0,
}
PATIENCE = 10
SMALL = 1_000_000  # numbers in the training vectors, below which threads only wait for each other

PREDICTIONS = pa.schema([("baseline", pa.string()), ("face_id", pa.string()), ("prediction", pa.float64())])
SETTINGS = pa.schema(
    [
        ("baseline", pa.string()),
        ("title", pa.string()),
        ("settings", pa.string()),
        ("train_rows", pa.int64()),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Data:
    """Training and validation faces, and the vectors to predict for."""

    train: FloatArray
    train_target: FloatArray
    validation: FloatArray
    validation_target: FloatArray
    judged: FloatArray


@dataclass(frozen=True)
class Fitted:
    """A fitted baseline: predictions (judged,), what it settled on, and how many faces it learnt from."""

    prediction: FloatArray
    settings: Mapping[str, Any]
    train_rows: int
    note: str = ""


@dataclass(frozen=True)
class BaselineTables:
    """`predictions` (baseline, face_id, prediction) and `settings`, one row a baseline."""

    predictions: pa.Table
    settings: pa.Table


def constant(data: Data, seed: int, svr_rows: int, strategy: str) -> Fitted:
    """One number for everybody."""
    model = DummyRegressor(strategy=strategy).fit(data.train, data.train_target)
    value = float(np.ravel(model.constant_)[0])
    return Fitted(model.predict(data.judged), {"value": round(value, 4)}, len(data.train))


def mean(data: Data, seed: int, svr_rows: int) -> Fitted:
    """The training mean, for everybody."""
    return constant(data, seed, svr_rows, "mean")


def median(data: Data, seed: int, svr_rows: int) -> Fitted:
    """The training median, for everybody: the constant with the lowest training MAE."""
    return constant(data, seed, svr_rows, "median")


def ridge(data: Data, seed: int, svr_rows: int) -> Fitted:
    """Linear regression on standardised vectors, its penalty chosen by leave-one-out on training faces."""
    model = make_pipeline(StandardScaler(), RidgeCV(RIDGE_ALPHAS))
    model.fit(data.train, data.train_target)
    return Fitted(model.predict(data.judged), {"alpha": float(f"{model[-1].alpha_:.6g}")}, len(data.train))


def knn(data: Data, seed: int, svr_rows: int) -> Fitted:
    """The distance-weighted mean of the nearest training faces.

    Not standardised: the vectors' own distance is what face encoders are trained for.
    """
    usable = [k for k in NEIGHBOURS if k <= len(data.train)] or [len(data.train)]
    models = [
        KNeighborsRegressor(k, weights="distance", algorithm="brute").fit(data.train, data.train_target)
        for k in usable
    ]
    errors = [np.abs(model.predict(data.validation) - data.validation_target).mean() for model in models]
    best = int(np.argmin(errors))
    return Fitted(models[best].predict(data.judged), {"neighbours": usable[best]}, len(data.train))


def svr(data: Data, seed: int, svr_rows: int) -> Fitted:
    """Support vector regression with an RBF kernel on standardised vectors."""
    rows = np.arange(len(data.train))
    note = ""
    if len(rows) > svr_rows:
        # Its time grows with the square of the rows.
        rows = np.sort(np.random.default_rng(seed).choice(rows, svr_rows, replace=False))
        note = f"learnt from {svr_rows} of {len(data.train)} training faces, to bound its time"
    model = make_pipeline(StandardScaler(), SVR(C=SVR_C, epsilon=SVR_EPSILON, cache_size=500))
    model.fit(data.train[rows], data.train_target[rows])
    return Fitted(model.predict(data.judged), {"C": SVR_C, "epsilon": SVR_EPSILON}, len(rows), note)


def boosting(data: Data, seed: int, svr_rows: int) -> Fitted:
    """Histogram gradient boosting, stopped early on validation faces."""
    model = HistGradientBoostingRegressor(
        **BOOSTING, early_stopping=True, n_iter_no_change=PATIENCE, random_state=seed
    )
    with threadpool_limits(1 if data.train.size < SMALL else None, user_api="openmp"):
        model.fit(data.train, data.train_target, X_val=data.validation, y_val=data.validation_target)
    settings = {**BOOSTING, "trees": int(model.n_iter_)}
    return Fitted(model.predict(data.judged), settings, len(data.train))


BASELINES: dict[str, tuple[str, Callable[[Data, int, int], Fitted]]] = {
    "mean": ("training mean", mean),
    "median": ("training median", median),
    "ridge": ("ridge regression", ridge),
    "knn": ("k-nearest neighbours", knn),
    "svr": ("SVR (RBF)", svr),
    "boosting": ("gradient boosting", boosting),
}


def fit_baselines(
    face_ids: Sequence[str],
    vectors: ArrayLike,
    target: ArrayLike,
    split: Sequence[str],
    *,
    names: Sequence[str] = tuple(BASELINES),
    seed: int = 0,
    svr_rows: int = 10_000,
) -> BaselineTables:
    """Fit baselines on training faces and predict validation and test faces.

    Parameters
    ----------
    face_ids, vectors, target, split
        Aligned: N ids, (N, D), (N,) and N of train, validation, test.
    names
        Which baselines; by default all.
    seed
        Of everything random in them.
    svr_rows
        At most so many training faces, drawn at random, for the SVR; its row in the settings says so.

    Returns
    -------
    BaselineTables
        The same bits for the same input, whatever the number of cores.

    Raises
    ------
    UserError
        An unknown name, a split without faces, or a vector or target that is not finite.
    """
    for name in names:
        if name not in BASELINES:
            raise UserError(f"unknown baseline {name!r}: choose from {', '.join(BASELINES)}")
    x = np.asarray(vectors, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    parts = np.asarray(split, dtype=str)
    ids = np.asarray(face_ids, dtype=str)
    check(ids, x, y, parts, svr_rows)
    judged = parts != "train"
    train, validation = parts == "train", parts == "validation"
    data = Data(x[train], y[train], x[validation], y[validation], x[judged])
    fitted = {}
    # BLAS sums in another order on other numbers of threads, which would show in the last bits.
    with threadpool_limits(1, user_api="blas"):
        for name in track(names, "baselines", len(names)):
            fitted[name] = BASELINES[name][1](data, derive_seed(seed, "baseline", name), svr_rows)
    return tables(fitted, ids[judged])


def check(ids: NDArray[Any], x: FloatArray, y: FloatArray, parts: NDArray[Any], svr_rows: int) -> None:
    """Refuse what does not fit together, in one sentence."""
    if x.ndim != 2 or not len(ids) == len(x) == len(y) == len(parts):
        raise ValueError(
            f"{len(ids)} ids, vectors {x.shape}, targets {y.shape} and {len(parts)} splits are not aligned"
        )
    if svr_rows < 1:
        raise UserError(f"svr_rows is {svr_rows}: the SVR needs at least one training face")
    for part in ("train", "validation", "test"):
        if not (parts == part).any():
            raise UserError(f"there is no {part} face for the baselines: change the split's sizes")
    bad = ~np.isfinite(x).all(axis=1) | ~np.isfinite(y)
    if bad.any():
        raise UserError(f"face {ids[bad][0]} has a vector or target that is not finite: embed it again")


def tables(fitted: Mapping[str, Fitted], ids: NDArray[Any]) -> BaselineTables:
    """The fitted baselines as the two tables that are kept."""
    names = list(fitted)
    predictions = {
        "baseline": np.repeat(names, len(ids)),
        "face_id": np.tile(ids, len(names)),
        "prediction": np.concatenate([fitted[name].prediction for name in names]),
    }
    settings = [
        {
            "baseline": name,
            "title": BASELINES[name][0],
            "settings": json.dumps(dict(fitted[name].settings)),
            "train_rows": fitted[name].train_rows,
            "note": fitted[name].note,
        }
        for name in names
    ]
    return BaselineTables(
        pa.table(predictions, schema=PREDICTIONS), pa.Table.from_pylist(settings, schema=SETTINGS)
    )
