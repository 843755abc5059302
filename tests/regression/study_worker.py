"""A small study, and a process that works on it: what tests interrupt and share."""

import numpy as np

from pipeline.regression.material import Material
from pipeline.regression.recipe import Recipe
from pipeline.regression.space import Candidate, Space
from pipeline.regression.storage import open_storage
from pipeline.regression.study import Outcome, Plan, run_study

RATES = {"low": 1e-4, "high": 3e-2, "log": True}


def faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    return vectors, 12 + 3 * vectors[:, 0].astype(np.float64)


def material() -> Material:
    return Material(*faces(160, 1), *faces(60, 2))


def plan(epochs: int = 6, dimensions: dict | None = None, **changes) -> Plan:
    starts = {
        name: Candidate(Recipe(name, hidden=(8,), epochs=epochs, batch_size=32, swa_lr=None), 1e-3)
        for name in ("adam", "sgd", "swa")
    }
    space = Space(dimensions or {"lr": RATES}, starts, "adam")
    return Plan(**{"space": space, "seeds": (1, 2), "trials": 8, "group": 4, "pruning": "none", **changes})


def work(url: str, wanted: Plan, grace: int = 2) -> Outcome:
    return run_study(material(), wanted, open_storage(url, heartbeat=1, grace=grace), workers=1)
