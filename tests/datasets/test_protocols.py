"""Protocols: repeated random splits, cross-validation, published divisions, trained here and tested there."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets.split_faces import SmallClassWarning
from pipeline.datasets.splits import every_fold, split


def manifest(count: int = 300, subjects: int | None = None, seed: int = 0, **columns: list[Any]) -> pa.Table:
    rng = np.random.default_rng(seed)
    owners = [None] * count if subjects is None else [f"s{k}" for k in rng.integers(0, subjects, count)]
    return pa.table(
        {
            "face_id": [f"{n:064x}" for n in rng.permutation(count)],
            "target": rng.integers(1, 7, count).astype(float),
            "subject": pa.array(owners, pa.string()),
            "dataset": [("here", "there", "elsewhere")[k % 3] for k in range(count)],
            **columns,
        }
    )


def made(table: pa.Table, method: str, **settings: Any) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallClassWarning)
        splits = split(table, method, seed=5, **settings)
    assert splits["face_id"].to_pylist() == sorted(table["face_id"].to_pylist())
    return dict(zip(splits["face_id"].to_pylist(), splits["split"].to_pylist(), strict=True))


def shares(sides: dict[str, str]) -> dict[str, float]:
    return {name: count / len(sides) for name, count in Counter(sides.values()).items()}


PROTOCOLS: list[tuple[str, dict[str, Any]]] = [
    ("repeated", {"fold": 1}),
    ("cross_validation", {"fold": 1}),
    ("published", {"folder": "part"}),
    ("across", {"folder": "part", "test_on": ["test"]}),
]


@pytest.mark.parametrize(("method", "settings"), PROTOCOLS)
@pytest.mark.parametrize("subjects", [None, 60])
def test_no_subject_is_on_two_sides_and_the_order_of_rows_changes_nothing(method, settings, subjects):
    table = manifest(subjects=subjects)
    owner = table["subject"].to_pylist()
    # published parts keep subjects apart
    parts = [("train", "train", "train", "test")[hash_of(who or str(k)) % 4] for k, who in enumerate(owner)]
    table = table.append_column("part", pa.array(parts))
    sides = made(table, method, **settings)
    by_subject: dict[str, set[str]] = {}
    for face_id, who in zip(table["face_id"].to_pylist(), owner, strict=True):
        by_subject.setdefault(who or face_id, set()).add(sides[face_id])
    assert all(len(found) == 1 for found in by_subject.values())
    assert set(sides.values()) == {"train", "validation", "test"}
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    assert made(shuffled, method, **settings) == sides


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def test_repeated_draws_eighty_to_twenty_anew_for_every_fold():
    table = manifest(1000)
    folds = every_fold(table, "repeated", seed=5, validation=0.1, test=0.2)
    assert len(folds) == 5
    tested = [
        set(fold.filter(pa.compute.equal(fold["split"], "test"))["face_id"].to_pylist()) for fold in folds
    ]
    assert all(len(faces) == 200 for faces in tested)
    assert all(shares(sides_of(fold))["validation"] == pytest.approx(0.1, abs=0.01) for fold in folds)
    # independent draws share a fifth of their test faces
    for first, second in ((0, 1), (2, 4)):
        assert len(tested[first] & tested[second]) / 200 == pytest.approx(0.2, abs=0.1)


def sides_of(splits: pa.Table) -> dict[str, str]:
    return dict(zip(splits["face_id"].to_pylist(), splits["split"].to_pylist(), strict=True))


@pytest.mark.parametrize("subjects", [None, 80])
def test_cross_validation_tests_every_face_once_and_trains_on_the_rest(subjects):
    table = manifest(500, subjects)
    folds = [sides_of(fold) for fold in every_fold(table, "cross_validation", seed=5, validation=0.125)]
    for face_id in table["face_id"].to_pylist():
        assert Counter(fold[face_id] for fold in folds)["test"] == 1
    for fold in folds:
        assert shares(fold)["test"] == pytest.approx(0.2, abs=0.03)
        assert shares(fold)["validation"] == pytest.approx(0.125 * 0.8, abs=0.03)


def test_cross_validation_is_stratified_by_target():
    table = manifest(600)
    sides = made(table, "cross_validation", folds=6, fold=2)
    target = dict(zip(table["face_id"].to_pylist(), table["target"].to_pylist(), strict=True))
    total = Counter(target.values())
    tested = Counter(target[face_id] for face_id, side in sides.items() if side == "test")
    assert all(abs(tested[age] - total[age] / 6) <= 1 for age in total)


def test_cross_validation_takes_published_folds_from_a_column():
    folds = [str(k % 5 + 1) for k in range(300)]
    table = manifest(300, fold=folds)
    for number in range(5):
        sides = made(table, "cross_validation", folder="fold", fold=number, bin_width=None)
        for face_id, fold in zip(table["face_id"].to_pylist(), folds, strict=True):
            assert (sides[face_id] == "test") == (fold == str(number + 1))


def test_targets_need_no_bins_where_folds_are_not_made_here():
    table = manifest(90, part=["train", "train", "test"] * 30)
    table = table.set_column(1, "target", pa.array(np.linspace(1, 5, 90)))
    assert made(table, "published", folder="part")
    assert made(table, "across", test_on=["there"])
    with pytest.raises(UserError, match=r"set split.bin_width"):
        made(table, "cross_validation")


def test_a_published_division_is_taken_as_it_is_and_gets_a_validation_part_where_it_has_none():
    parts = ["train", "valid", "test"] * 100
    table = manifest(300, part=parts)
    sides = made(table, "published", folder="part")
    told = {"train": "train", "valid": "validation", "test": "test"}
    for face_id, part in zip(table["face_id"].to_pylist(), parts, strict=True):
        assert sides[face_id] == told[part]
    sixty = manifest(300, part=(["train"] * 3 + ["test"] * 2) * 60)
    sides = made(sixty, "published", folder="part", validation=0.1)
    assert shares(sides) == pytest.approx({"train": 0.54, "validation": 0.06, "test": 0.4}, abs=0.005)


def test_trained_here_and_tested_there():
    table = manifest(300)
    sides = made(table, "across", test_on=["there"], validation=0.25)
    for face_id, dataset in zip(table["face_id"].to_pylist(), table["dataset"].to_pylist(), strict=True):
        assert (sides[face_id] == "test") == (dataset == "there")
    assert shares(sides) == pytest.approx({"train": 0.5, "validation": 1 / 6, "test": 1 / 3}, abs=0.01)
    two = made(table, "across", test_on=["there", "elsewhere"])
    assert shares(two)["test"] == pytest.approx(2 / 3)


def test_a_subject_in_both_data_sets_is_refused():
    table = manifest(300, subjects=40)
    with pytest.raises(UserError, match="is in both"):
        made(table, "across", test_on=["there"])


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("repeated", {"fold": 5}, "fold 5 of 5"),
        ("repeated", {"validation": 0.5, "test": 0.5}, "must be above 0 and together below 1"),
        ("cross_validation", {"folds": 1}, "at least 2 folds"),
        ("cross_validation", {"folder": "nothing"}, "no column 'nothing' to split by"),
        ("cross_validation", {"folder": "part", "fold": 3}, "column 'part' gives 3 fold"),
        ("cross_validation", {"folder": "target"}, "column 'target' holds numbers"),
        ("published", {}, r"split.folder must name the column"),
        (
            "published",
            {"folder": "dataset"},
            "column 'dataset' holds 'elsewhere': a published division knows train",
        ),
        (
            "across",
            {},
            r"split.test_on must list values of the column 'dataset': it has elsewhere, here, there",
        ),
        ("across", {"test_on": ["nowhere"]}, r"names 'nowhere': the column 'dataset' has elsewhere"),
        ("across", {"test_on": ["here", "there", "elsewhere"]}, "leaves none for train"),
        ("published", {"folder": "part", "validation": 1.0}, "validation 1 must be above 0 and below 1"),
    ],
)
def test_settings_that_make_no_split_are_refused(method, settings, message):
    table = manifest(30, part=["train", "test", "test"] * 10)
    if method == "cross_validation":
        table = manifest(30, part=["a", "b", "c"] * 10)
    with pytest.raises(UserError, match=message):
        made(table, method, **settings)
