"""One policy against another: over the same seeds of the same optimisers, seeds drawn whole."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.seeds import derive_seed
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import Settings
from pipeline.metrics.distributions import estimate

POOLED = ["policy", "members", "iqm", "iqm_low", "iqm_high", "left_out"]


def pooled_rows(results: Results, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Evaluation.pooled`; none where no seed of any optimiser ended well under every policy.

    Optimisers share their seeds, and a seed that is hard for one is hard for another: seeds are resampled,
    each with the errors of all optimisers. Resampled apart, the intervals would be too narrow.
    """
    sound, left_out = comparable(results)
    for policy in results.policies if len(sound) else ():
        seed = derive_seed(settings.seed, "pooled", policy)
        strata = list(sound.xs(policy, axis=1, level="policy").to_numpy(dtype=np.float64).T)
        iqm, low, high = estimate(*strata, paired=True, seed=seed, resamples=settings.resamples)
        members = sum(stratum.size for stratum in strata)
        row = {"policy": policy, "members": members, "iqm": iqm, "iqm_low": low, "iqm_high": high}
        yield row | {"left_out": left_out}


POLICIES = ["first", "second", "models", "difference", "low", "high"]


def policy_rows(results: Results, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Evaluation.policies`; none where `pooled_rows` has none.

    Policies share their seeds, and a seed that is hard under one is hard under the other: the intervals of
    `pooled_rows` hold that common part, the differences do not. Seeds are resampled as there.
    """
    sound, _ = comparable(results)
    for first, second in combinations(results.policies, 2) if len(sound) else ():
        errors = (sound.xs(name, axis=1, level="policy") for name in (first, second))
        one, other = (frame.to_numpy(dtype=np.float64).T for frame in errors)
        strata = list(one - other)
        seed = derive_seed(settings.seed, "policies", first, second)
        found = estimate(*strata, paired=True, seed=seed, resamples=settings.resamples)
        names, bounds = (first, second), (found.point, found.low, found.high)
        if found.point > 0:
            names, bounds = (second, first), (-found.point, -found.high, -found.low)
        models = sum(stratum.size for stratum in strata)
        yield dict(zip(POLICIES, (*names, models, *bounds), strict=True))


def comparable(results: Results) -> tuple[pd.DataFrame, str]:
    """The test errors (seeds, optimisers x policies) of seeds that ended well in all of these columns.

    A policy must not win because its worst optimiser diverged, and so is missing from its mean; and seeds can
    be resampled together only where all optimisers have them. Of all sets of optimisers it is the one that
    keeps the most models, so that one that often diverges does not cost the others their seeds. The second
    value says in words which optimisers and how many seeds are left out.
    """
    tables = {}
    for optimizer in results.optimizers:
        runs = [run for run in results.runs if run.optimizer == optimizer]
        errors = {run.policy: run.scores.set_index("seed")["test_mae"] for run in runs}
        tables[optimizer] = pd.DataFrame(errors).reindex(columns=results.policies)
    scores = pd.concat(tables, axis=1, names=["optimizer", "policy"])
    sound = pd.DataFrame({optimizer: scores.loc[:, [optimizer]].notna().all(axis=1) for optimizer in tables})
    # The larger sets first: the first of equals is taken.
    sets = [list(some) for count in range(len(tables), 0, -1) for some in combinations(tables, count)]
    kept = max(sets, key=lambda some: len(some) * int(sound[some].all(axis=1).sum()))
    together = sound[kept].all(axis=1)
    lost = (~sound).sum()
    left_out = [
        f"{name.upper()} altogether ({lost[name]} of {len(sound)} seeds)"
        for name in tables
        if name not in kept
    ]
    if not together.all():
        causes = ", ".join(name.upper() for name in kept if lost[name])
        left_out.append(f"{int((~together).sum())} of {len(together)} seeds ({causes})")
    return scores.loc[together, kept], ", ".join(left_out)
