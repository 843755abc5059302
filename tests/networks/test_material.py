"""Targets, weights and splits out of the tables of the stages before."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.core.tables import read_table
from pipeline.stages import locations
from pipeline.training.networks.material import Goal, labelled


def read(goal: Goal, rejects: Rejects | None = None, **columns: Any) -> Any:
    manifest = read_table(locations.MANIFEST)
    for name, values in columns.items():
        column = pa.array(values)
        place = manifest.column_names.index(name) if name in manifest.column_names else None
        manifest = (
            manifest.append_column(name, column)
            if place is None
            else manifest.set_column(place, name, column)
        )
    return labelled(manifest, read_table(locations.SPLITS), goal, rejects or Rejects())


def test_faces_keep_their_own_targets_and_splits(project: Any) -> None:
    found = read(Goal())
    assert found.face_ids == project.ids
    assert found.split.tolist() == [project.split_of(number) for number in project.numbers]
    assert found.targets[:, 0].tolist() == [10.0 + number % 40 for number in project.numbers]
    assert set(found.weights.tolist()) == {1.0}
    assert found.ids()["test"] == [
        face for face, split in zip(found.face_ids, found.split, strict=True) if split == "test"
    ]


def test_a_pose_out_of_range_is_left_out_and_counted(project: Any) -> None:
    labels = tuple(np.linspace(-99, 99, 200).tolist())
    rejects = Rejects()
    found = read(Goal(("yaw", "pitch", "roll"), labels=labels), rejects)
    assert found.targets.shape == (39, 3)
    assert project.face_id(3) not in found.face_ids
    assert rejects.counts() == {"out_of_range": 1}
    row = rejects.rows[0]
    assert (row["stage"], row["face_id"]) == ("finetune", project.face_id(3))
    assert row["detail"] == "yaw -17, pitch 3, roll 120: outside the labels"


def test_targets_that_stand_as_text_are_read_and_unknown_ones_rejected(project: Any) -> None:
    rejects = Rejects()
    found = read(Goal(("score",)), rejects, score=[None, *("1.5" for _ in range(39))])
    assert found.targets.tolist() == [[1.5]] * 39
    assert rejects.counts() == {"no_target": 1}


def test_a_weight_column_weighs_training_faces(project: Any) -> None:
    found = read(Goal(weight="trust"))
    given = np.array([1.0 + number % 2 for number in project.numbers])
    train = found.rows("train")
    expected = np.ones(len(given))
    expected[train] = given[train] / given[train].mean()
    assert found.weights.numpy() == pytest.approx(expected)


def test_balanced_groups_weigh_the_same_in_training(project: Any) -> None:
    found = read(Goal(balance="gender"))
    train = found.rows("train")
    female = np.array([number % 4 == 0 for number in project.numbers])[train]
    weights = found.weights.numpy()[train]
    assert weights[female].sum() == pytest.approx(weights[~female].sum())
    by_age = read(Goal(balance="target"))
    ages = by_age.targets.numpy()[train, 0]
    young = ages < 20
    assert by_age.weights.numpy()[train][young].sum() == pytest.approx(
        by_age.weights.numpy()[train][(ages >= 20) & (ages < 40)].sum()
    )


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_faces_that_are_left_out_have_no_part_in_the_balance(project: Any, unknown: float | None) -> None:
    ages = [10.0 + number % 40 for number in project.numbers]
    gone = next(k for k, number in enumerate(project.numbers) if project.split_of(number) == "train")
    found = read(Goal(balance="target"), target=[unknown if k == gone else a for k, a in enumerate(ages)])
    train = found.rows("train")
    weights, kept = found.weights.numpy()[train], found.targets.numpy()[train, 0]
    assert len(train) == 23
    for group in (kept < 20, (kept >= 20) & (kept < 40), kept >= 40):
        assert weights[group].sum() == pytest.approx(23 / 3)


def test_mistakes_are_named(project: Any) -> None:
    with pytest.raises(UserError, match="the manifest has no column 'age', but face_id, path, target"):
        read(Goal(("age",)))
    with pytest.raises(UserError, match="column 'gender' of the manifest is not of numbers"):
        read(Goal(("gender",)))
    with pytest.raises(UserError, match="no group column 'race'"):
        read(Goal(balance="race"))
    with pytest.raises(UserError, match=r"has the weight -1 in 'trust': it must be above 0"):
        read(Goal(weight="trust"), trust=[-1.0] * 40)
    with pytest.raises(UserError, match="there is no train face with a usable target"):
        read(Goal(labels=(500.0, 501.0)))
