"""Trials per minute: a study's trials in groups, against one trial at a time, with the same values.

Three programs train the same trials, each with the same seeds, without pruning:

- one trial at a time, its models one after the other: what an objective function with a loop over seeds does;
- one trial at a time, its models as one stack: a study with `group: 1`;
- groups of trials as one stack: a study as it is.

The last two are whole studies, their database included. Their values must be equal bit for bit.

    python bench/study.py [--trials 16] [--seeds 5] [--group 16] [--epochs 10] [--hidden 512,256,128]
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from statistics import fmean

import numpy as np

from pipeline.regression.material import Material
from pipeline.regression.recipe import Recipe
from pipeline.regression.space import Candidate, Space
from pipeline.regression.storage import open_storage
from pipeline.regression.study import Plan, run_study
from pipeline.regression.trials import train_candidates


def faces(count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, 9.5 + 40 * np.abs(vectors[:, :8]).sum(1).astype(np.float64)


def study(material: Material, plan: Plan) -> tuple[float, dict[int, float], list[dict[str, float]]]:
    """Seconds, the value of each trial, and the trials' settings."""
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"sqlite:///{folder}/study.db")
        started = time.perf_counter()
        outcome = run_study(material, plan, storage)
        seconds = time.perf_counter() - started
        storage.engine.dispose()
    return (
        seconds,
        {t.user_attrs["slot"]: t.value for t in outcome.trials},
        [t.params for t in outcome.trials],
    )


def one_after_the_other(
    material: Material, plan: Plan, settings: list[dict[str, float]]
) -> tuple[float, dict]:
    started = time.perf_counter()
    found = {}
    for slot, values in enumerate(settings):
        candidate = plan.space.candidate(values)
        members = [train_candidates(material, [candidate], [seed], workers=1)[0].value for seed in plan.seeds]
        found[slot] = fmean(members)
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--faces", type=int, default=2500)
    parser.add_argument("--hidden", default="512,256,128")
    given = parser.parse_args()

    material = Material(*faces(given.faces, 128, 1), *faces(300, 128, 2))
    hidden = tuple(int(width) for width in given.hidden.split(","))
    start = Candidate(Recipe(hidden=hidden, epochs=given.epochs), 1e-4)
    plan = Plan(
        Space({"lr": {"low": 1e-4, "high": 1e-2, "log": True}}, {"adam": start}, "adam"),
        seeds=tuple(range(given.seeds)),
        trials=given.trials,
        group=given.group,
        sampler="random",
        pruning="none",
    )
    train_candidates(material, [start], [0])  # torch's first step imports a lot
    grouped, values, settings = study(material, plan)
    single, same, _ = study(material, replace(plan, group=1))
    loop, again = one_after_the_other(material, plan, settings)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, {given.trials} trials x {given.seeds} seeds x {given.epochs} epochs, {hidden}\n")
    print(f"{'program':52s} {'trials/min':>10s} {'times':>6s}")
    for name, seconds in (
        ("one trial at a time, its models one after the other", loop),
        ("one trial at a time, its models as one stack", single),
        (f"groups of {given.group} as one stack", grouped),
    ):
        print(f"{name:52s} {60 * given.trials / seconds:10.1f} {loop / seconds:6.2f}")
    equal = values == same == again
    print(f"\nthe same values, bit for bit: {'yes' if equal else 'NO'}")
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
