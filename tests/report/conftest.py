"""A small, complete set of results: two policies, two optimisers, six seeds, one of them diverged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.core.tables import write_table
from pipeline.evaluation import numbers, results
from pipeline.evaluation.settings import Settings

POLICIES = ("fixed", "found")
OPTIMIZERS = ("adam", "sgd")
SEEDS = (11, 22, 33, 44, 55, 66)
EPOCHS = 8
NOISE = {("fixed", "adam"): 2.0, ("fixed", "sgd"): 4.0, ("found", "adam"): 2.5, ("found", "sgd"): 1.6}


def face_table(count: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "face_id": [f"{number:064x}" for number in rng.permutation(count)],
            "target": rng.integers(1, 31, count).astype(float),
            "split": np.repeat(["train", "validation", "test"], [count // 2, count // 4, count // 4]),
            "gender": rng.choice(["female", "male"], count),
        }
    )


def write_faces(faces: pd.DataFrame, path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * len(faces), np.float32)), 4)
    table = pa.Table.from_pandas(faces, preserve_index=False).append_column("vector", vectors)
    write_table(table, path, "test")


def write_run(
    folder: Path, faces: pd.DataFrame, noise: float, finder: bool, diverged: int | None = None
) -> None:
    rng = np.random.default_rng(int(noise * 10))
    target = faces["target"].to_numpy()
    scores, history, predictions, curves = [], [], [], []
    for member, seed in enumerate(SEEDS):
        prediction = target + rng.normal(0, noise * (1 + 0.05 * rng.normal()), len(faces))
        broken = member == diverged
        errors = {
            name: np.abs(prediction - target)[faces["split"] == split].mean()
            for name, split in (("mae", "train"), ("val_mae", "validation"), ("test_mae", "test"))
        }
        if broken:
            errors = dict.fromkeys(errors, float("nan"))
        else:
            predictions.append(
                pd.DataFrame({"member": member, "face_id": faces["face_id"], "prediction": prediction})
            )
        lr = 10 ** rng.uniform(-3, -2) if finder else 1e-4
        epochs = 2 if broken else EPOCHS - member % 3
        scores.append(
            {
                "member": member,
                "seed": seed,
                "lr": lr,
                "epochs": epochs,
                "best_epoch": epochs - 1,
                "diverged": broken,
            }
            | errors
        )
        for epoch in range(1, epochs + 1):
            loss = noise**2 + 90 * np.exp(-epoch)
            history.append(
                {
                    "member": member,
                    "epoch": epoch,
                    "lr": lr,
                    "train_loss": loss * 0.8,
                    "val_loss": float("nan") if broken else loss * (1 + 0.05 * rng.random()),
                    "val_mae": noise,
                }
            )
        rates = np.logspace(-8, 0, 40)
        curves.append(
            pd.DataFrame({"member": member, "lr": rates, "loss": 50 / (1 + 400 * rates) + 90 * rates**2})
        )
    tables = {
        "scores": pd.DataFrame(scores),
        "history": pd.DataFrame(history),
        "predictions": pd.concat(predictions),
    }
    if finder:
        tables["lr_curves"] = pd.concat(curves)
    for name, frame in tables.items():
        write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{name}.parquet", "test")


def write_baselines(folder: Path, faces: pd.DataFrame, noise: dict[str, float]) -> None:
    judged = faces[faces["split"] != "train"]
    rng = np.random.default_rng(9)
    predictions = [
        pd.DataFrame(
            {
                "baseline": name,
                "face_id": judged["face_id"],
                "prediction": judged["target"] + rng.normal(0, spread, len(judged)),
            }
        )
        for name, spread in noise.items()
    ]
    settings = pd.DataFrame(
        {
            "baseline": list(noise),
            "title": [f"{name} regression" for name in noise],
            "settings": "{}",
            "train_rows": 120,
            "note": "",
        }
    )
    frame = pd.concat(predictions)
    write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "predictions.parquet", "test")
    write_table(pa.Table.from_pandas(settings, preserve_index=False), folder / "settings.parquet", "test")


def build(folder: Path) -> Path:
    faces = face_table()
    write_faces(faces, folder / "faces.parquet")
    for (policy, optimizer), noise in NOISE.items():
        diverged = 2 if (policy, optimizer) == ("fixed", "sgd") else None
        write_run(folder / "models" / policy / optimizer, faces, noise, policy == "found", diverged)
    write_baselines(folder / "baselines", faces, {"ridge": 3.0, "svr": 2.2})
    return folder


def read(folder: Path) -> results.Results:
    return results.read(
        folder / "faces.parquet", folder / "models", POLICIES, OPTIMIZERS, folder / "baselines"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything a report reads; each test may change its own."""
    return build(tmp_path)


@pytest.fixture
def reader() -> Callable[[Path], results.Results]:
    return read


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> results.Results:
    """The same, read once for all tests that only look."""
    return read(build(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="session")
def evaluated(complete: results.Results) -> numbers.Evaluation:
    return numbers.evaluate(complete, Settings(resamples=500))
