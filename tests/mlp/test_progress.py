"""What the bars of training and of the finder count."""

from types import TracebackType

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.tables import vector_type
from pipeline.training.mlp import rates as rates_module
from pipeline.training.mlp import runs as runs_module
from pipeline.training.mlp.material import Material
from pipeline.training.mlp.recipe import Recipe

SEEDS = [1, 2, 3]


class Bar:
    """Stands in for rich's progress, and remembers."""

    def __init__(self) -> None:
        self.total, self.done = 0.0, [0.0]

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def add_task(self, description: str, total: float) -> int:
        self.total = total
        return 0

    def update(self, task: int, completed: float) -> None:
        self.done.append(completed)

    def advance(self, task: int, count: float = 1) -> None:
        self.done.append(self.done[-1] + count)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Bar:
    made = Bar()
    for module in (runs_module, rates_module):
        monkeypatch.setattr(module, "bar", lambda: made)
    return made


def faces(count: int) -> pa.Table:
    x = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    return pa.table(
        {
            "face_id": [f"{number:064x}" for number in range(count)],
            "target": x[:, 0].astype(np.float64),
            "split": [("train", "train", "validation", "test")[number % 4] for number in range(count)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), type=vector_type(4)),
        }
    )


def given() -> tuple[Material, pa.Table, Recipe]:
    table = faces(80)
    x = np.array(table["vector"].to_pylist(), np.float32)
    y, splits = table["target"].to_numpy(), np.array(table["split"].to_pylist())
    parts = [part for split in ("train", "validation") for part in (x[splits == split], y[splits == split])]
    return Material(*parts), table, Recipe(hidden=(4,), epochs=5, stop_patience=1, batch_size=16)


def found_rates(material: Material, recipe: Recipe) -> pa.Table:
    made = rates_module.initial_rates(material, recipe, seeds=SEEDS, fixed_rate=0.05, workers=1, steps=20)
    return made.fixed


def test_the_bar_of_training_counts_epochs_of_all_models_and_ends_full(
    shown: Bar,
) -> None:
    material, table, recipe = given()
    wanted = found_rates(material, recipe)
    shown.done = [0.0]
    runs_module.train_run(material, table, recipe, wanted, workers=1)
    assert shown.total == len(SEEDS) * recipe.epochs
    assert shown.done == sorted(shown.done)
    assert shown.done[1] == len(SEEDS), "one epoch of each after the first"
    assert shown.done[-1] == shown.total


def test_the_bar_of_the_finder_counts_models(shown: Bar) -> None:
    material, _, recipe = given()
    found_rates(material, recipe)
    assert shown.total == len(SEEDS)
    assert shown.done == [0, 1, 2, 3]
