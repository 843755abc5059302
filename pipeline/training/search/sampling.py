"""Optuna's samplers, each trial with a seed of its own."""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.core.seeds import derive_seed

SLOT = "slot"
"""The user attribute of a trial that says which of the study's slots it fills."""


class BySlot(BaseSampler):
    """A sampler whose draws for a slot depend on the slot and on the trials before, and on nothing else.

    Optuna seeds a sampler once: a study that goes on after an interruption, or that several workers share,
    would be dealt the same numbers again.

    Parameters
    ----------
    seed
        From which every slot's derives.
    name
        `random`, or `tpe`; a grid's values are given, so that nothing is drawn.
    """

    def __init__(self, seed: int, name: str) -> None:
        self.seed = seed
        self.make: Callable[[int], BaseSampler] = RandomSampler if name == "random" else tpe
        self.number: int | None = None
        self.inner: BaseSampler = self.make(seed)

    def of(self, trial: FrozenTrial) -> BaseSampler:
        """The sampler of one trial."""
        if trial.number != self.number:
            slot = trial.user_attrs.get(SLOT, f"trial {trial.number}")
            self.number, self.inner = trial.number, self.make(derive_seed(self.seed, "slot", slot))
        return self.inner

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler of the trial."""
        return self.of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler of the trial."""
        return self.of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler of the trial."""
        return self.of(trial).sample_independent(study, trial, param_name, param_distribution)


def tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator; trials in hand count as bad, so that a group does not crowd."""
    return TPESampler(seed=seed, constant_liar=True)
