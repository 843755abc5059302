"""docs/cnn.md lists what there is."""

from pathlib import Path

import pytest

from pipeline import config
from pipeline.augmentation.transforms import REGISTRY
from pipeline.report.networks.tables import COMBINATIONS
from pipeline.training.networks.recipe import OPTIMIZERS, SCHEDULES
from pipeline.training.networks.run_tables import HISTORY, PREDICTIONS, SCORES

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


def test_the_profile_of_the_uc_paper_has_every_row_of_its_tables_3_to_6() -> None:
    wanted = config.plain(config.read_yaml(PROJECT / "profiles/uc-morph.yaml"))["finetune"]
    runs = [wanted["variants"].get(name, {"loss": name}) for name in wanted["losses"]]
    assert {*COMBINATIONS, "dldl_v2"} == {run["loss"] for run in runs}
    ours = [run.get("settings", {}) for run in runs if run["loss"] == "unimodal_concentrated"]
    assert sorted(one.get("unimodal_weight", 1000.0) for one in ours) == [0.1, 10, 100, 1000, 2000, 10000]
    lost_there = [run["settings"] for run in runs if run["loss"] == "concentrated"]
    lost_there += [one for one in ours if one.get("unimodal_weight") == 0.1]
    assert [one["min_variance"] for one in lost_there] == [0.0, 0.0], "the paper's formula has no floor"
