"""A small study, and a process that works on it: what tests interrupt and share."""

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.training.mlp.material import Material
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.search import search as study_module
from pipeline.training.search.search import Outcome, Plan, run_study
from pipeline.training.search.space import Candidate, Space
from pipeline.training.search.storage import open_storage

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


def work_until_killed(url: str, wanted: Plan, finished: int, epoch: int) -> None:
    """Work, and be killed as by `kill -9` after so many finished trials, in such an epoch of the next ones.

    In epoch 0 it is between two of a group's trials, or before the next group is asked for.
    """
    train: Callable[..., Any] = study_module.train_candidates
    tell: Callable[..., Any] = study_module.tell
    told = 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def trained(*given: Any, judge: Callable[[int, int, float], bool], **more: Any) -> Any:
        def judged(number: int, at: int, value: float) -> bool:
            if told >= finished and at >= epoch:
                kill()
            return judge(number, at, value)

        return train(*given, judge=judged, **more)

    def telling(*given: Any) -> None:
        nonlocal told
        tell(*given)
        told += 1
        if told == finished and epoch == 0:
            kill()

    study_module.train_candidates, study_module.tell = trained, telling
    work(url, wanted)
