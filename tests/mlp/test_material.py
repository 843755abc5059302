"""Tables of faces as what a training takes: weights that balance groups."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.core.tables import vector_type
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.rates import initial_rates
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import train_run


def faces(genders: list[str | None], splits: list[str] | None = None) -> pa.Table:
    count = len(genders)
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(rng.normal(size=2 * count).astype(np.float32)), type=vector_type(2)
    )
    return pa.table(
        {
            "face_id": [f"{k:064x}" for k in range(count)],
            "target": [10.0 + 10 * (k % 4) for k in range(count)],
            "split": splits or ["train"] * (count - 2) + ["validation", "test"],
            "gender": pa.array(genders, pa.string()),
            "vector": vectors,
        }
    )


def children(table: pa.Table, parents: list[int]) -> pa.Table:
    taken = table.take(pa.array(parents, pa.int64())).select(["face_id", "target", "split", "vector"])
    return taken.append_column("parent_id", taken["face_id"])


def test_groups_weigh_the_same_in_all_and_an_augmented_vector_has_its_parents_group():
    table = faces(["f", "m", "m", "m", None, "f", "f"])
    material = material_of(table, children(table, [1, 1, 4]), "gender")
    f, m = 7 / 2 / 1 - 0.5, 0.6  # six known vectors: one of f, five of m
    assert material.train_weight.tolist() == pytest.approx([f, m, m, m, 1, m, m, 1])
    assert material_of(table, children(table, [])).train_weight is None


def test_targets_are_balanced_in_bins():
    table = faces([None] * 8)
    weights = material_of(table, children(table, []), "target", [25.0]).train_weight
    targets = np.array([10.0, 20, 30, 40, 10, 20])
    assert weights[targets < 25].sum() == pytest.approx(weights[targets >= 25].sum())


def test_a_column_that_is_no_group_is_refused_with_those_that_are():
    table = faces(["f", "m", "f", "m"]).append_column("subject", pa.array(["s", "s", "t", None]))
    for name in ("ethnicity", "split", "subject"):
        with pytest.raises(UserError, match=f"train.balance.column is '{name}': .* by gender, target"):
            material_of(table, children(table, []), name)


def test_weights_reach_the_range_test_and_the_training():
    table = faces(["f", "m", "m", "m"] * 10)
    recipe = Recipe(hidden=(4,), epochs=2, batch_size=8)
    made = {}
    for balance in (None, "gender"):
        material = material_of(table, children(table, []), balance)
        rates = initial_rates(material, recipe, seeds=[1], fixed_rate=0.01, workers=1, steps=20)
        trained = train_run(material, table, recipe, rates.fixed, workers=1)
        made[balance] = (
            rates.found["losses"].to_pylist(),
            trained.tables["history"]["train_loss"].to_pylist(),
        )
    assert made[None][0] != made["gender"][0]
    assert made[None][1] != made["gender"][1]
