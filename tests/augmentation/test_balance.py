import numpy as np
import pyarrow as pa
import pytest

from pipeline.augmentation.augmented_tables import balance_table
from pipeline.augmentation.augmenting import Tally
from pipeline.augmentation.balance import plan
from pipeline.core.errors import UserError
from pipeline.datasets.split_faces import describe


def test_every_age_reaches_the_target_and_originals_come_first() -> None:
    targets = np.array([1.0] * 7 + [2.0] * 3 + [3.0] * 12)
    made = plan([f"{i:03d}" for i in range(22)], targets, 10, seed=1)
    totals = {age: int((1 + made.slots)[targets == age].sum()) for age in (1, 2, 3)}
    assert totals == {1: 10, 2: 10, 3: 12}
    for age in (1, 2):
        assert np.ptp(made.slots[targets == age]) <= 1


def test_does_not_depend_on_the_order_of_the_faces() -> None:
    ids = [f"{i:03d}" for i in range(20)]
    targets = np.repeat([1.0, 2.0], 10)
    forward = dict(zip(ids, plan(ids, targets, 14, seed=3).slots, strict=True))
    backward = dict(zip(ids[::-1], plan(ids[::-1], targets[::-1], 14, seed=3).slots, strict=True))
    assert forward == backward
    assert forward != dict(zip(ids, plan(ids, targets, 14, seed=4).slots, strict=True))


def test_scores_are_balanced_by_bins() -> None:
    scores = np.array([1.2, 1.4, 1.6, 3.3])
    made = plan(list("abcd"), scores, 4, seed=0, bin_width=0.5)
    assert made.bins.tolist() == [2, 2, 3, 6]
    assert made.slots.tolist() == [1, 1, 3, 3]
    with pytest.raises(UserError, match=r"target 1.2 is not a whole number: set split.bin_width"):
        plan(list("abcd"), scores, 4, seed=0)


def test_the_bins_that_are_balanced_are_those_that_were_split() -> None:
    scores = np.round(np.arange(0, 10, 0.1), 1)
    ids = [f"{i:03d}" for i in range(len(scores))]
    faces = describe(pa.table({"face_id": ids, "subject": ids, "target": scores}), 0.1)
    bins = plan(ids, scores, 1, seed=0, bin_width=0.1).bins
    assert bins.tolist() == list(range(100)), "0.3 / 0.1 is a little less than 3"
    assert faces.bins.tolist() == bins.tolist()


def test_a_bin_that_is_not_filled_is_called_by_its_limits() -> None:
    table = balance_table(np.array([2, 2, 3]), ["a", "b", "c"], np.array([0, 1, 2]), Tally(), bin_width=0.5)
    assert table["limits"].to_pylist() == ["[1, 1.5)", "[1.5, 2)"]
    whole = balance_table(np.array([18]), ["a"], np.array([0]), Tally())
    assert whole["limits"].to_pylist() == ["18"]
