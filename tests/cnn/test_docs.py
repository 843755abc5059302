"""docs/cnn.md lists what there is."""

from pathlib import Path

import pytest

from pipeline.cnn.augmentation import REGISTRY
from pipeline.cnn.recipe import OPTIMIZERS, SCHEDULES
from pipeline.cnn.runs import HISTORY, PREDICTIONS, SCORES

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs/cnn.md").read_text()


@pytest.mark.parametrize("name", [*REGISTRY.names(), *OPTIMIZERS, *SCHEDULES])
def test_every_choice_is_named(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("schema", [SCORES, HISTORY, PREDICTIONS], ids=["scores", "history", "predictions"])
def test_every_column_is_named(schema: object) -> None:
    for name in schema.names:  # type: ignore[attr-defined]
        assert f"`{name}`" in TEXT, name


def test_every_profile_of_whole_networks_is_named() -> None:
    for path in (PROJECT / "profiles").glob("*.yaml"):
        if path.stem != "sample" and "\nfinetune:" in path.read_text():
            assert f"`{path.stem}`" in TEXT
