"""Several candidates trained side by side, their members one on each core."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from pipeline.training.mlp.fit import EpochRecord, fit_stack
from pipeline.training.mlp.material import Material, settled
from pipeline.training.search.space import Candidate

End = Literal["complete", "pruned", "diverged"]
# Called with a candidate's number, the epoch and the value so far; True ends the candidate.
Judge = Callable[[int, int, float], bool]


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate.

    `value` is the mean over its members of the validation MAE at each member's best epoch, in the unit of
    the target; None unless it is complete. `members` are those errors, `epochs` the members' last ones.
    """

    end: End
    value: float | None
    members: tuple[float, ...]
    epochs: tuple[int, ...]


@dataclass
class Progress:
    """What the members of one candidate have reached so far."""

    size: int
    losses: list[float] = field(init=False)
    errors: list[float] = field(init=False)
    end: End = "complete"

    def __post_init__(self) -> None:
        self.losses = [math.inf] * self.size
        self.errors = [math.nan] * self.size

    def take(self, member: int, record: EpochRecord) -> None:
        """One member's epoch; its error counts where its validation loss is the best so far."""
        if not (math.isfinite(record.train_loss) and math.isfinite(record.val_loss)):
            self.end = "diverged"
        elif record.val_loss < self.losses[member]:
            self.losses[member], self.errors[member] = record.val_loss, record.val_mae

    @property
    def value(self) -> float:
        """The mean error at the members' best epochs so far."""
        return fmean(self.errors)


def train_candidates(
    material: Material,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    *,
    judge: Judge | None = None,
    workers: int | None = None,
) -> list[Verdict]:
    """Train one member for each candidate and seed.

    Candidates that share a recipe train side by side, each with its own rate and one member on each core;
    those of other recipes follow.
    A candidate that comes to its end has the numbers that it has alone: bit for bit, whatever it is grouped
    with. One of whose members diverges ends at once, as its mean error does not exist.

    Parameters
    ----------
    material
        What they learn from, and the validation faces that judge them.
    candidates, seeds
        Every candidate gets a member of each seed.
    judge
        Asked after each epoch whether a candidate is to be pruned.
    workers
        Threads; the numbers do not depend on them.

    Returns
    -------
    list of Verdict
        In the order of the candidates.
    """
    verdicts: dict[int, Verdict] = {}
    for numbers in alike(candidates):
        verdicts |= train_alike(material, candidates, numbers, seeds, judge, workers)
    return [verdicts[number] for number in range(len(candidates))]


def alike(candidates: Sequence[Candidate]) -> list[list[int]]:
    """The numbers of the candidates, those of equal recipes together."""
    groups: list[list[int]] = []
    for number, candidate in enumerate(candidates):
        for group in groups:
            if candidates[group[0]].recipe == candidate.recipe:
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def train_alike(
    material: Material,
    candidates: Sequence[Candidate],
    numbers: Sequence[int],
    seeds: Sequence[int],
    judge: Judge | None,
    workers: int | None,
) -> dict[int, Verdict]:
    """Train candidates that share a recipe, in one call of `fit_stack`."""
    progress = [Progress(len(seeds)) for _ in numbers]

    def on_epoch(records: Sequence[EpochRecord]) -> set[int]:
        for record in records:
            position, member = divmod(record.member, len(seeds))
            progress[position].take(member, record)
        for position in sorted({record.member // len(seeds) for record in records}):
            here = progress[position]
            epoch = max(r.epoch for r in records if r.member // len(seeds) == position)
            if here.end == "complete" and judge is not None and judge(numbers[position], epoch, here.value):
                here.end = "pruned"
        return {k for k in range(len(numbers) * len(seeds)) if progress[k // len(seeds)].end != "complete"}

    result = fit_stack(
        material.train_x,
        material.train_y,
        material.val_x,
        material.val_y,
        seeds=[seed for _ in numbers for seed in seeds],
        learning_rates=[candidates[number].lr for number in numbers for _ in seeds],
        recipe=settled(candidates[numbers[0]].recipe, material),
        train_weight=material.train_weight,
        workers=workers,
        on_epoch=on_epoch,
    )
    verdicts = {}
    for position, number in enumerate(numbers):
        end = progress[position].end
        scores = result.scores[position * len(seeds) : (position + 1) * len(seeds)]
        errors = tuple(score.val_mae for score in scores)
        value = fmean(errors) if end == "complete" else None
        verdicts[number] = Verdict(end, value, errors, tuple(score.epochs for score in scores))
    return verdicts
