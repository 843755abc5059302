"""Every member's seed and initial learning rate, under both policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.core.progress import bar
from pipeline.core.seeds import derive_seed
from pipeline.training.mlp.lr_finder import SKIP_BEGIN, SKIP_END, RangeTest, find_lr
from pipeline.training.mlp.material import Material, settled
from pipeline.training.mlp.recipe import Recipe

# `origin` says where `lr` comes from; `lrs` and `losses` are the range test's curve, if there was one.
RATES = pa.schema(
    [
        ("member", pa.int64()),
        ("seed", pa.int64()),
        ("lr", pa.float64()),
        ("origin", pa.string()),
        ("lrs", pa.list_(pa.float64())),
        ("losses", pa.list_(pa.float64())),
    ]
)
FIXED, FOUND, NOT_FOUND = "fixed", "found", "fixed, as the finder has no suggestion"
CURVES = pa.schema([("member", pa.int64()), ("lr", pa.float64()), ("loss", pa.float64())])


def member_seeds(root: int, seeds: int | Sequence[int]) -> list[int]:
    """The seeds of all members, drawn from the root seed where only their number is given.

    Examples
    --------
    >>> member_seeds(7, 2) == member_seeds(7, 3)[:2]
    True
    >>> member_seeds(7, [5, 6])
    [5, 6]
    """
    if isinstance(seeds, int):
        return [derive_seed(root, "member", number) for number in range(seeds)]
    return list(seeds)


def steepest(test: RangeTest, per: Literal["step", "rate"]) -> float | None:
    """The rate at which a range test's smoothed loss falls most steeply.

    Parameters
    ----------
    test
        Its first 10 points and its last are left out.
    per
        `step`: by step of the test, that is by the logarithm of the rate, as in Smith's plots and in
        Lightning when Vec2UAge was written. `rate`: by the rate itself, as in Lightning from 2.6; the
        smallest rates lie so close together that noise among them is then the steepest fall.

    Returns
    -------
    float or None
        None where fewer than two finite points are left, or the loss falls nowhere.

    Examples
    --------
    >>> losses = [9.0] * 14 + [8.9, 8.8] + [6.0, 4.0] + [3.9] * 4
    >>> test = RangeTest(seed=1, rates=[10.0 ** (k - 20) for k in range(22)], losses=losses)
    >>> steepest(test, "step"), steepest(test, "rate")
    (0.0001, 1e-06)
    """
    if per == "rate":
        return test.suggestion
    losses = np.asarray(test.losses)[SKIP_BEGIN:-SKIP_END]
    finite = np.flatnonzero(np.isfinite(losses))
    if not (np.diff(losses[finite]) < 0).any():
        return None
    slopes = np.gradient(losses[finite])
    return test.rates[SKIP_BEGIN + int(finite[slopes.argmin()])]


@dataclass(frozen=True)
class InitialRates:
    """Every member's learning rate under the two policies, as tables of schema `RATES`."""

    fixed: pa.Table
    found: pa.Table

    def counts(self) -> dict[str, str | int | float]:
        """What to tell: how many rates were found, and their range."""
        origins = self.found["origin"].to_pylist()
        rates = self.found["lr"].to_pylist()
        return {
            "models": len(rates),
            "without a suggestion, at the fixed rate": origins.count(NOT_FOUND),
            "lowest rate": float(f"{min(rates):.3g}"),
            "highest rate": float(f"{max(rates):.3g}"),
        }


def initial_rates(
    material: Material,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    fixed_rate: float,
    workers: int | None = None,
    slope: Literal["step", "rate"] = "step",
    **finder: Any,
) -> InitialRates:
    """Find a rate for every member; one whose range test suggests none takes the fixed rate.

    Parameters
    ----------
    material, recipe, seeds, workers
        As for the training.
    fixed_rate
        The rate of policy `fixed`.
    slope
        What the steepest fall is measured by; see `steepest`.
    finder
        min_lr, max_lr, steps and stop_factor of `find_lr`.
    """
    with bar() as progress:
        shown = progress.add_task(f"range tests, {recipe.optimizer}", total=len(seeds))
        tests = find_lr(
            material.train_x,
            material.train_y,
            seeds=seeds,
            recipe=settled(recipe, material),
            train_weight=material.train_weight,
            workers=workers,
            on_tested=lambda count: progress.advance(shown, count),
            **finder,
        )
    fixed, found = [], []
    for member, test in enumerate(tests):
        row = {"member": member, "seed": test.seed, "lr": fixed_rate, "origin": FIXED}
        fixed.append({**row, "lrs": [], "losses": []})
        suggested = steepest(test, slope)
        chosen = {"origin": NOT_FOUND} if suggested is None else {"origin": FOUND, "lr": suggested}
        found.append({**row, **chosen, "lrs": test.rates, "losses": test.losses})
    return InitialRates(pa.Table.from_pylist(fixed, schema=RATES), pa.Table.from_pylist(found, schema=RATES))


def curve_table(rates: pa.Table) -> pa.Table:
    """The range tests' curves, one row a step."""
    rows = [
        {"member": row["member"], "lr": lr, "loss": loss}
        for row in rates.to_pylist()
        for lr, loss in zip(row["lrs"], row["losses"], strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CURVES)
