"""What a report measures and how it calls it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.metrics.distributions import RESAMPLES
from pipeline.metrics.groups import AGES

OVER = "over subjects where the data set knows them, over faces where not"
"""What intervals of errors and shares are over, for notes: not those over seeds."""


@dataclass(frozen=True)
class Settings:
    """The words and bounds of a report.

    `threshold` asks 'under 18?' (None: not asked); `within` is the bound of CS@; `bin_width` that of
    the error per target; all in `unit`. `seed` and `resamples` are the bootstrap's. `groups` are the columns
    by which errors are compared (None: every text column of few values), `group_edges` the borders of bins
    that make the target one more of them.
    """

    target: str = "age"
    unit: str = "years"
    threshold: float | None = 18
    within: float = 5
    bin_width: float = 1
    seed: int = 0
    resamples: int = RESAMPLES
    groups: Sequence[str] | None = None
    group_edges: Sequence[float] = AGES

    @property
    def metrics(self) -> dict[str, str]:
        """The test metrics' short names, and what the reader calls them."""
        named = {
            "mae": f"MAE ({self.unit})",
            "rmse": f"RMSE ({self.unit})",
            "pearson": "Pearson r",
            "cs": f"CS@{self.within:g}",
        }
        if self.threshold is not None:
            named["precision"] = f"precision under {self.threshold:g}"
            named["recall"] = f"recall under {self.threshold:g}"
        return named


POLICIES = {"fixed": "fixed learning rate", "found": "learning rate from the finder"}


def policy_title(policy: str) -> str:
    """A policy in words."""
    return POLICIES.get(policy, policy)
