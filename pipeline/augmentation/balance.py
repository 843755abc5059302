"""How many augmented pictures each training face owes, so that every age has the same number of faces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.bins import bin_of
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed


@dataclass(frozen=True)
class Plan:
    """What is to be drawn.

    Parameters
    ----------
    bins
        (N,) the bin of every face: its age, or its target's interval of `bin_width`.
    slots
        (N,) how many augmented pictures of every face are wanted.
    """

    bins: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]


def plan(
    face_ids: Sequence[str],
    targets: npt.NDArray[np.float64],
    target_per_age: int,
    *,
    seed: int,
    bin_width: float | None = None,
) -> Plan:
    """Spread the pictures that every age lacks evenly over its faces, originals first.

    Source: Anda et al., Vec2UAge, section 3.3.3 (5,000 training faces of every age). An age with more
    originals than that keeps them all: nothing real is thrown away for the sake of balance.

    Parameters
    ----------
    face_ids
        The N training faces.
    targets
        (N,) their targets.
    target_per_age
        How many training faces, originals included, every age is to have.
    seed
        Decides which faces of an age owe one picture more than the others.
    bin_width
        For targets that are not whole ages: the width of the bins to balance; None takes whole numbers.

    Raises
    ------
    UserError
        When targets are not whole numbers and no bin width is given.

    Examples
    --------
    >>> plan(["a", "b", "c"], np.array([1.0, 1.0, 2.0]), 4, seed=0).slots.tolist()
    [1, 1, 3]
    """
    if bin_width is None and not np.array_equal(targets, np.round(targets)):
        odd = float(targets[targets != np.round(targets)][0])
        raise UserError(f"target {odd:g} is not a whole number: set split.bin_width to balance by intervals")
    bins = bin_of(targets, bin_width).astype(np.int64)
    slots = np.zeros(len(targets), dtype=np.int64)
    for one in np.unique(bins):
        members = np.flatnonzero(bins == one)
        lacking = max(0, target_per_age - len(members))
        slots[members] = lacking // len(members)
        # By hash rather than by position, so that the choice outlives a change of the table's order.
        order = sorted(
            map(int, members), key=lambda row: derive_seed(seed, "augment", "order", face_ids[row])
        )
        slots[order[: lacking % len(members)]] += 1
    return Plan(bins, slots)


def chosen(face_ids: Sequence[str], count: int, seed: int) -> list[str]:
    """So many of the faces, by hash: the same ones in whatever order they come.

    Examples
    --------
    >>> chosen(["a", "b", "c"], 2, seed=1) == chosen(["c", "b", "a"], 2, seed=1)
    True
    """
    return sorted(face_ids, key=lambda face: derive_seed(seed, "augment", "calibrate", face))[:count]
