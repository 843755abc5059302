"""What the documentation lists is what there is."""

from pathlib import Path

import pytest

from pipeline import datasets, losses

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = {f"pipeline.losses.{name}" for name in ("regression", "label_distribution", "ordinal", "combo")}
PLACES = {name: place.partition(":") for name, place in losses.REGISTRY.places.items()}


@pytest.mark.parametrize("name", [name for name, (module, _, _) in PLACES.items() if module in MODULES])
def test_every_loss_of_these_modules_is_described_with_its_class(name):
    text = (DOCS / "losses.md").read_text()
    assert f"`{name}`" in text
    assert PLACES[name][2] in text


@pytest.mark.parametrize("name", datasets.REGISTRY.names())
def test_every_reader_is_described(name):
    assert f"| `{name}` |" in (DOCS / "datasets.md").read_text()
