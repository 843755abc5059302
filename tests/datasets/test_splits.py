"""Splits: balanced, disjoint, the same for any order of rows."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.split_faces import SmallClassWarning
from pipeline.datasets.splits import assert_disjoint, split

METHODS = ("paper", "random", "stratified", "folds")


def manifest(
    targets: list[float], subjects: list[str | None] | None = None, **columns: list[str]
) -> pa.Table:
    return pa.table(
        {
            "face_id": [f"{n:064x}" for n in range(len(targets))],
            "target": pa.array(targets, pa.float64()),
            "subject": pa.array(subjects or [None] * len(targets), pa.string()),
            **columns,
        }
    )


def even(ages: int = 6, each: int = 30) -> pa.Table:
    return manifest([float(n % ages + 1) for n in range(ages * each)])


def families(subjects: int = 120, ages: int = 5, seed: int = 0) -> pa.Table:
    """Subjects with one to four pictures at neighbouring ages."""
    rng = np.random.default_rng(seed)
    targets, owners = [], []
    for subject in range(subjects):
        first = rng.integers(1, ages + 1)
        for _ in range(rng.integers(1, 5)):
            targets.append(float(min(ages, first + rng.integers(0, 2))))
            owners.append(f"s{subject}")
    return manifest(targets, owners)


def ages_of(table: pa.Table, splits: pa.Table) -> dict[str, Counter[float]]:
    target = dict(zip(table["face_id"].to_pylist(), table["target"].to_pylist(), strict=True))
    counts: dict[str, Counter[float]] = {name: Counter() for name in ("train", "validation", "test")}
    for row in splits.to_pylist():
        counts[row["split"]][target[row["face_id"]]] += 1
    return counts


def quiet(*args: Any, **settings: Any) -> pa.Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallClassWarning)
        return split(*args, **settings)


# All methods


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("table", [even(), families()], ids=["faces", "subjects"])
def test_the_order_of_rows_changes_nothing_and_the_seed_does(method: str, table: pa.Table) -> None:
    first = quiet(table, method, seed=3, per_target=8)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    assert quiet(shuffled, method, seed=3, per_target=8).equals(first)
    assert not quiet(table, method, seed=4, per_target=8).equals(first)
    assert first["face_id"].to_pylist() == sorted(first["face_id"].to_pylist())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_face_and_no_subject_is_in_two_splits(data: st.DataObject) -> None:
    count = data.draw(st.integers(30, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ages = rng.integers(0, data.draw(st.integers(1, 5)), count).astype(float).tolist()
    owners = [f"s{n}" if n < 25 else None for n in rng.integers(0, 40, count)]
    table = manifest(ages, owners)
    method = data.draw(st.sampled_from(METHODS))
    rejects = Rejects()
    per_target = data.draw(st.integers(2, 20))
    try:
        result = quiet(table, method, seed=1, rejects=rejects, per_target=per_target)
    except UserError as error:
        # A pool cannot always be had of random subjects; then that, and nothing else, must be said.
        message = str(error)
    else:
        message = ""
    if message:
        assert method == "paper", message
        assert "no age has enough" in message, message
        return
    ids = result["face_id"].to_pylist()
    assert len(ids) == len(set(ids))
    assert len(ids) + len(rejects.rows) == count
    owner = dict(zip(table["face_id"].to_pylist(), owners, strict=True))
    sides: dict[str, set[str]] = {}
    for face_id, side in zip(ids, result["split"].to_pylist(), strict=True):
        if owner[face_id] is not None:
            sides.setdefault(str(owner[face_id]), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    if method == "paper":
        counts = ages_of(table, result)
        # Halves are alike in every age, and every age has the same number (an odd pool: one more or less).
        assert set(counts["validation"]) == set(counts["test"])
        totals = {age: counts["validation"][age] + counts["test"][age] for age in counts["test"]}
        assert len(set(totals.values())) == 1
        assert all(abs(counts["validation"][age] - counts["test"][age]) <= 1 for age in totals)
        assert all(counts["train"][age] > 0 for age in totals)


def test_subject_of_the_same_name_as_a_face_is_somebody_else() -> None:
    table = even()
    ids = table["face_id"].to_pylist()
    named = table.set_column(2, "subject", pa.array([ids[1]] + [None] * (len(ids) - 1), pa.string()))
    assert quiet(named, "random", seed=0).num_rows == len(ids)


@pytest.mark.parametrize("method", METHODS)
def test_refuses_a_split_that_would_be_empty(method: str) -> None:
    with pytest.raises(UserError):
        quiet(manifest([1.0, 1.0]), method, seed=0)


def test_names_an_unknown_method_and_impossible_settings() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("k-fold", {}, "unknown split 'k-fold': choose one of paper"),
        ("random", {"validation": 0.5, "test": 0.5}, "validation 0.5 and test 0.5 must be above 0"),
        ("stratified", {"test": 0.0}, "must be above 0"),
        ("paper", {"per_target": 1}, "per_target is 1"),
        ("folds", {"folds": 2}, "there must be at least 3 folds"),
        ("folds", {"folds": 5, "fold": 5}, "fold 5 of 5"),
        ("folds", {"folds": 500}, "500 folds need as many subjects: there are 180"),
        ("folds", {"folder": "fold"}, "the manifest has no column 'fold'"),
        ("paper", {"bin_width": -1.0}, "bin_width is -1"),
    ]
    for method, wrong, message in cases:
        with pytest.raises(UserError, match=message):
            split(even(), method, seed=0, **wrong)


def test_refuses_a_manifest_that_names_a_face_twice() -> None:
    table = even()
    with pytest.raises(UserError, match="names a face twice"):
        split(pa.concat_tables([table, table.slice(0, 1)]), "random", seed=0)


def test_targets_that_are_not_whole_ask_for_bins() -> None:
    rng = np.random.default_rng(0)
    table = manifest(rng.uniform(1, 5, 400).round(2).tolist())
    with pytest.raises(UserError, match=r"not a whole number: set split.bin_width"):
        split(table, "paper", seed=0, per_target=10)
    assert split(table, "random", seed=0).num_rows == 400
    result = split(table, "paper", seed=0, per_target=10, bin_width=0.5)
    counts = ages_of(table, result)
    for name in ("validation", "test"):
        bins = Counter(int(target // 0.5) for target in counts[name].elements())
        assert set(bins.values()) == {5}
        assert len(bins) == 8


def test_a_value_on_the_edge_of_a_bin_belongs_to_the_upper_one() -> None:
    table = manifest([round(n / 10, 1) for n in range(10)] * 9)
    counts = ages_of(table, split(table, "paper", seed=0, per_target=2, bin_width=0.1))
    assert counts["validation"] == Counter({round(n / 10, 1): 1 for n in range(10)})


# paper


def test_paper_takes_a_balanced_pool_halves_it_and_trains_on_the_rest() -> None:
    table = manifest([float(age) for age in range(1, 19) for _ in range(40 + 3 * age)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = ages_of(table, split(table, "paper", seed=7, per_target=30))
    for age in range(1, 19):
        assert counts["validation"][age] == counts["test"][age] == 15
        assert counts["train"][age] == 10 + 3 * age


def test_paper_takes_all_it_was_asked_for_where_each_age_has_just_more() -> None:
    counts = ages_of(even(3, 11), split(even(3, 11), "paper", seed=0, per_target=10))
    assert counts["validation"] == counts["test"] == {1: 5, 2: 5, 3: 5}
    assert counts["train"] == {1: 1, 2: 1, 3: 1}


def test_paper_shrinks_the_pool_for_a_scarce_age_and_warns_with_numbers() -> None:
    table = manifest([1.0] * 100 + [2.0] * 13 + [3.0] * 50)
    message = r"the pool has 6 faces of each target instead of 40: there are too few of 2 \(13\)"
    with pytest.warns(SmallClassWarning, match=message):
        counts = ages_of(table, split(table, "paper", seed=0, per_target=40))
    assert counts["validation"] == counts["test"] == {1: 3, 2: 3, 3: 3}
    assert counts["train"] == {1: 94, 2: 7, 3: 44}


def test_paper_leaves_ages_with_one_or_two_faces_to_training() -> None:
    table = manifest([1.0] * 50 + [2.0] * 50 + [99.0] * 2 + [116.0])
    with pytest.warns(SmallClassWarning, match=r"in training only: 99 \(2\), 116 \(1\)"):
        counts = ages_of(table, split(table, "paper", seed=0, per_target=20))
    assert counts["validation"] == counts["test"] == {1: 10, 2: 10}
    assert counts["train"] == {1: 30, 2: 30, 99: 2, 116: 1}


def test_paper_holds_out_what_a_pool_subject_has_too_many_of() -> None:
    # Everybody has three pictures of one age: a pool of four of each age takes two of one person a half.
    table = manifest(
        [float(age) for age in (1, 2, 3) for _ in range(30)],
        [f"{age}-{n // 3}" for age in (1, 2, 3) for n in range(30)],
    )
    rejects = Rejects()
    result = split(table, "paper", seed=0, per_target=4, rejects=rejects)
    counts = ages_of(table, result)
    assert counts["validation"] == counts["test"] == {1: 2, 2: 2, 3: 2}
    assert counts["train"] == {1: 24, 2: 24, 3: 24}
    assert rejects.counts() == {"subject_held_out": 6}
    assert {row["stage"] for row in rejects.rows} == {"split"}
    held = {row["face_id"] for row in rejects.rows}
    assert held.isdisjoint(result["face_id"].to_pylist())


def test_paper_prefers_subjects_whose_faces_are_all_needed() -> None:
    # Singles are enough for the pool, so that nobody of the large families need be held out.
    targets = [float(n % 3) for n in range(90)] + [float(n % 3) for n in range(90)]
    owners = [f"single{n}" for n in range(90)] + [f"family{n // 30}" for n in range(90)]
    rejects = Rejects()
    split(manifest(targets, owners), "paper", seed=0, per_target=10, rejects=rejects)
    assert not rejects.rows


def test_paper_with_few_subjects_gives_a_smaller_pool_and_keeps_some_for_training() -> None:
    # Five people with three pictures at each age: two fill a half of six, and one must be left to train on.
    table = manifest(
        [float(age) for _ in range(15) for age in range(4)],
        [f"s{n % 5}" for n in range(15) for _ in range(4)],
    )
    with pytest.warns(SmallClassWarning, match="12 faces of each target instead of 14: .* too few subjects"):
        counts = ages_of(table, split(table, "paper", seed=0, per_target=14))
    assert counts["validation"] == counts["test"] == {0: 6, 1: 6, 2: 6, 3: 6}
    assert counts["train"] == {0: 3, 1: 3, 2: 3, 3: 3}


def test_paper_says_when_no_pool_can_be_had() -> None:
    with pytest.raises(UserError, match=r"no age has enough faces or subjects for a pool: 1 \(2\), 2 \(2\)"):
        split(manifest([1.0, 1.0, 2.0, 2.0]), "paper", seed=0)
    with pytest.raises(UserError, match="no age has enough faces or subjects"):
        split(manifest([1.0] * 50, ["a"] * 25 + ["b"] * 25), "paper", seed=0, per_target=4)


# random and stratified


def test_random_gives_the_fractions() -> None:
    table = manifest([float(n) for n in range(1000)])
    counts = Counter(split(table, "random", seed=0, validation=0.1, test=0.25)["split"].to_pylist())
    assert counts == {"train": 650, "validation": 100, "test": 250}


def test_random_gives_about_the_fractions_of_faces_with_subjects() -> None:
    table = families(400)
    counts = Counter(split(table, "random", seed=0)["split"].to_pylist())
    for name in ("validation", "test"):
        assert counts[name] == pytest.approx(0.2 * table.num_rows, abs=4)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_stratified_gives_each_age_its_fractions(sizes: list[int], seed: int) -> None:
    sizes = [*sizes, 40]
    table = manifest([float(age) for age, size in enumerate(sizes) for _ in range(size)])
    counts = ages_of(table, quiet(table, "stratified", seed=seed, validation=0.2, test=0.1))
    for age, size in enumerate(sizes):
        for name, fraction in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
            assert abs(counts[name][age] - fraction * size) < 2, (age, size, name)


def test_stratified_warns_of_ages_too_small_to_be_in_every_split() -> None:
    table = manifest([1.0] * 50 + [2.0] * 2)
    with pytest.warns(SmallClassWarning, match=r"too few faces to be in every split: 2 \(2\)"):
        split(table, "stratified", seed=0)


def test_stratified_keeps_subjects_together_and_ages_near_their_fractions() -> None:
    table = families(300)
    counts = ages_of(table, split(table, "stratified", seed=0))
    total = Counter(table["target"].to_pylist())
    for age, number in total.items():
        assert counts["test"][age] == pytest.approx(0.2 * number, abs=3)
        assert counts["validation"][age] == pytest.approx(0.2 * number, abs=3)


# folds


@pytest.mark.parametrize("table", [even(4, 25), families()], ids=["faces", "subjects"])
def test_every_face_is_tested_and_validated_in_exactly_one_fold(table: pa.Table) -> None:
    sides = [quiet(table, "folds", seed=0, folds=4, fold=fold)["split"].to_pylist() for fold in range(4)]
    for rows in zip(*sides, strict=True):
        assert Counter(rows) == {"train": 2, "validation": 1, "test": 1}


def test_folds_are_stratified() -> None:
    counts = ages_of(even(4, 25), split(even(4, 25), "folds", seed=0))
    assert counts["test"] == {1: 5, 2: 5, 3: 5, 4: 5}


def test_folds_of_ages_that_are_all_rare_keep_subjects_apart() -> None:
    table = manifest([float(n) for n in range(30)], [f"s{n // 2}" for n in range(30)])
    with pytest.warns(
        SmallClassWarning, match=r"too few faces to be in each of 5 folds: 0 \(1\).* and 20 more"
    ):
        result = split(table, "folds", seed=0)
    assert Counter(result["split"].to_pylist()) == {"train": 18, "validation": 6, "test": 6}


def test_the_benchmarks_ten_folders_give_its_five_divisions() -> None:
    table = manifest([20.0] * 40, None, folder=[str(n % 10) for n in range(40)])
    for fold, validates, tests in (
        (0, "67", "89"),
        (1, "89", "01"),
        (2, "01", "23"),
        (3, "12", "34"),
        (4, "23", "45"),
    ):
        result = split(table, "folds", seed=0, folder="folder", fold=fold)
        for folder, side in zip(table["folder"].to_pylist(), result["split"].to_pylist(), strict=True):
            assert side == ("validation" if folder in validates else "test" if folder in tests else "train")
    with pytest.raises(UserError, match="fold 5: column 'folder' gives 5 division"):
        split(table, "folds", seed=0, folder="folder", fold=5)


def test_three_folders_are_training_validation_and_test() -> None:
    table = manifest([20.5] * 30, None, folder=[str(n % 3) for n in range(30)])
    result = split(table, "folds", seed=0, folder="folder")
    assert result["split"].to_pylist()[:3] == ["train", "validation", "test"]


def test_one_folder_a_subject_leaves_one_out() -> None:
    table = manifest(
        [20.0] * 48, [f"s{n % 12}" for n in range(48)], folder=[str(n % 12 + 1) for n in range(48)]
    )
    result = split(table, "folds", seed=0, folder="folder", fold=11)
    sides = dict(zip(table["folder"].to_pylist(), result["split"].to_pylist(), strict=True))
    assert (sides["12"], sides["1"], sides["11"]) == ("test", "validation", "train")


def test_a_published_division_that_leaks_or_has_gaps_is_refused() -> None:
    leaking = manifest([20.0] * 30, [f"s{n // 2}" for n in range(30)], folder=[str(n % 3) for n in range(30)])
    with pytest.raises(UserError, match="subject 's0' is in both train and validation"):
        split(leaking, "folds", seed=0, folder="folder")
    gaps = manifest([20.0] * 3, None, folder=["0", None, "2"])  # type: ignore[list-item]
    with pytest.raises(UserError, match="has no 'folder': the division is incomplete"):
        split(gaps, "folds", seed=0, folder="folder")


# assert_disjoint


def test_assert_disjoint_names_the_face_or_the_subject() -> None:
    table = manifest([1.0, 2.0], ["anna", "anna"])
    ids = table["face_id"].to_pylist()
    with pytest.raises(UserError, match=f"face {ids[0]} is in the splits twice"):
        assert_disjoint(pa.table({"face_id": [ids[0], ids[0]], "split": ["train", "test"]}), table)
    with pytest.raises(UserError, match="subject 'anna' is in both train and test"):
        assert_disjoint(pa.table({"face_id": ids, "split": ["train", "test"]}), table)
    assert_disjoint(pa.table({"face_id": ids, "split": ["train", "train"]}), table)


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("train", "test")])
def test_parts_that_are_named_are_no_folds(names):
    table = manifest([20.0] * 30, None, part=[names[n % len(names)] for n in range(30)])
    with pytest.raises(UserError, match=r"names its parts \(test, train.*set split.method to published"):
        split(table, "folds", seed=0, folder="part")
    division = dict(zip(table["face_id"].to_pylist(), table["part"].to_pylist(), strict=True))
    sides = split(table, "published", seed=0, folder="part").to_pylist()
    assert all(row["split"] == division[row["face_id"]] for row in sides if row["split"] != "validation")
    assert {row["split"] for row in sides} == {"train", "validation", "test"}
