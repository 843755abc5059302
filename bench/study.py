"""Trials per minute: a study's trials in groups, against one trial at a time, with the same values.

Four programs train the same trials with the same seeds, without pruning:

- plain PyTorch: one trial at a time, a loop over seeds with DataLoader, Adam, scheduler and early stop, as an
  ordinary objective function has it, on all cores by torch's own threads;
- the same, each model trained by `fit_stack`;
- one trial at a time, its models side by side, one on each core: a study with `group: 1`;
- groups of trials side by side: a study as it is.

The last two are whole studies, their database included. The values of the last three must be equal bit for
bit, those of plain PyTorch to four digits (it rounds elsewhere).

    python bench/study.py [--trials 16] [--seeds 5] [--group 16] [--epochs 10] [--hidden 512,256,128]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.core.machine import available_cores
from pipeline.training.mlp.material import Material
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.search.search import Plan, run_study
from pipeline.training.search.space import Candidate, Space
from pipeline.training.search.storage import open_storage
from pipeline.training.search.trials import train_candidates

Values = dict[int, float]


def faces(count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, 9.5 + 40 * np.abs(vectors[:, :8]).sum(1).astype(np.float64)


def study(material: Material, plan: Plan) -> tuple[float, Values, list[dict[str, float]]]:
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


def by_plain_torch(material: Material, candidate: Candidate, seed: int) -> float:
    """The validation MAE at the best epoch of one model."""
    recipe = candidate.recipe
    arrays = (material.train_x, material.train_y, material.val_x, material.val_y)
    x, y, val_x, val_y = (torch.as_tensor(array, dtype=torch.float32) for array in arrays)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise((x.shape[1], *recipe.hidden)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(recipe.hidden[-1], 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=candidate.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, patience=recipe.lr_patience, factor=recipe.lr_factor
    )
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(x, y), recipe.batch_size, shuffle=True, generator=generator)
    best, error, waited = math.inf, math.nan, 0
    for _ in range(recipe.epochs):
        for some_x, some_y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(some_x)[:, 0], some_y).backward()
            optimizer.step()
        with torch.no_grad():
            off = model(val_x)[:, 0] - val_y
        loss = float(off.square().mean())
        scheduler.step(loss)
        waited += 1
        if loss < best:
            best, error, waited = loss, float(off.abs().mean()), 0
        if waited >= recipe.stop_patience:
            break
    return error


def by_fit_stack(material: Material, candidate: Candidate, seed: int) -> float:
    value = train_candidates(material, [candidate], [seed])[0].value
    assert value is not None
    return value


def one_after_the_other(
    train: Callable[[Material, Candidate, int], float],
    material: Material,
    plan: Plan,
    settings: list[dict[str, float]],
) -> tuple[float, Values]:
    started = time.perf_counter()
    found = {}
    for slot, values in enumerate(settings):
        candidate = plan.space.candidate(values)
        found[slot] = fmean(train(material, candidate, seed) for seed in plan.seeds)
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
    loop, again = one_after_the_other(by_fit_stack, material, plan, settings)
    plain, near = one_after_the_other(by_plain_torch, material, plan, settings)
    cores = available_cores()
    print(f"{cores} cores, {given.trials} trials x {given.seeds} seeds x {given.epochs} epochs, {hidden}\n")
    print(f"{'program':48s} {'trials/min':>10s} {'/ plain PyTorch':>16s} {'/ one at a time here':>21s}")
    for name, seconds in (
        ("one trial at a time, plain PyTorch", plain),
        ("one trial at a time, fit_stack model by model", loop),
        ("one trial at a time, its models side by side", single),
        (f"groups of {given.group} side by side", grouped),
    ):
        rate = 60 * given.trials / seconds
        print(f"{name:48s} {rate:10.1f} {plain / seconds:15.2f}x {single / seconds:20.2f}x")
    equal = values == same == again
    apart = max(abs(near[slot] / value - 1) for slot, value in values.items())
    print(f"\nthe same values, bit for bit: {'yes' if equal else 'NO'}; plain PyTorch's within {apart:.1e}")
    if not equal or apart > 1e-3:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
