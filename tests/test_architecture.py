"""dvc.yaml, params.yaml, the stages and the command line name the same things."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline import datasets, encoders
from pipeline.cli.app import STAGES
from pipeline.config import Params
from pipeline.config.fields import Section

PROJECT = Path(__file__).resolve().parents[1]
# A change of these changes no output: the words of refusals, progress bars, where a name's code lies, the
# outputs' places (dvc.yaml names them itself), the number of cores, how processes start, what is printed and
# logged outside DVC; and so does no change of what is imported by these alone.
NOT_IN_A_RESULT = {
    "pipeline.core.credentials",
    "pipeline.core.errors",
    "pipeline.core.machine",
    "pipeline.core.processes",
    "pipeline.core.places",
    "pipeline.core.progress",
    "pipeline.core.registry",
    "pipeline.core.shield",
    "pipeline.stages.locations",
    "pipeline.stages.running",
}
DVC: dict[str, Any] = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]


def test_stage_module_command_and_dvc_yaml_match_one_to_one() -> None:
    assert list(DVC) == list(STAGES)
    for name in DVC:
        assert (PROJECT / f"pipeline/stages/{name}.py").is_file()


@pytest.mark.parametrize("name", DVC)
def test_a_stage_depends_on_its_module_and_its_own_parameters(name: str) -> None:
    stage = DVC[name]
    assert f"pipeline/stages/{name}.py" in stage["deps"]
    sections = {str(key).split(".")[0] for key in stage["params"]}
    assert sections <= set(Params.model_fields)
    assert name in sections or name not in Params.model_fields


@pytest.mark.parametrize(
    ("name", "matrix"), [("finetune", {"losses", "backbones"}), ("classify", {"losses"})]
)
def test_one_more_loss_trains_no_other_again(name: str, matrix: set[str]) -> None:
    section = Params.model_fields[name].annotation
    listed = {str(key).removeprefix(f"{name}.") for key in DVC[name]["params"]}
    assert section is not None
    assert set(section.model_fields) - listed == matrix


@pytest.mark.parametrize("name", DVC)
def test_a_stage_depends_on_all_library_code_that_it_imports(name: str) -> None:
    import grimp

    graph = grimp.build_graph("pipeline")
    # What params.yaml says is a dependency itself, key by key; the models only accept or refuse it.
    for module in [m for m in graph.modules if m.split(".")[:2] == ["pipeline", "config"]]:
        graph.remove_module(module)
    for module in NOT_IN_A_RESULT:
        graph.remove_module(module)
    used = graph.find_upstream_modules(f"pipeline.stages.{name}")
    for package, registry in ((datasets, datasets.REGISTRY), (encoders, encoders.REGISTRY)):
        if package.__name__ in used:  # what it builds by name, imports do not show
            places = {place.partition(":")[0] for place in registry.places.values()}
            used = used.union(places, *map(graph.find_upstream_modules, places))
    listed = tuple(str(dep).removesuffix(".py").replace("/", ".") for dep in DVC[name]["deps"])
    for module in used - {"pipeline"}:
        parents = {module[:i] for i, char in enumerate(module + ".") if char == "."}
        package_only = any(other.startswith(module + ".") for other in listed)
        assert parents & set(listed) or package_only, f"{name} imports {module}, which dvc.yaml does not list"


def test_stages_import_no_stages() -> None:
    import grimp

    graph = grimp.build_graph("pipeline", cache_dir=None)
    stages = {f"pipeline.stages.{name}" for name in DVC}
    for stage in stages:
        assert not stages & graph.find_upstream_modules(stage), stage


def test_no_two_modules_share_a_file_name_but_for_those_that_answer_each_other() -> None:
    # end-to-end networks and models on embeddings have these until they are one experiment
    twins = {"figures", "fit", "material", "recipe", "results", "runs", "schedules", "summary", "tables"}
    names = [path.stem for path in (PROJECT / "pipeline").rglob("*.py") if not path.stem.startswith("__")]
    assert {name for name in names if names.count(name) > 1} <= twins


def models(section: type[BaseModel] = Section) -> list[type[BaseModel]]:
    """Every model of a part of params.yaml."""
    return [section, *(model for kind in section.__subclasses__() for model in models(kind))]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_model_of_params_yaml_holds_fields_and_checks_alone(model: type[BaseModel]) -> None:
    # no stage depends on the models, so that what they built would change without running anything again
    found = model.__pydantic_decorators__
    checks = {**found.validators, **found.field_validators, **found.model_validators}
    built = {
        name
        for name, value in vars(model).items()
        if not name.startswith(("_", "model_")) and name not in checks
        if callable(value) or isinstance(value, property | cached_property | classmethod | staticmethod)
    }
    assert not built, f"{model.__name__} builds {built}: move it into a module of pipeline.stages"


def test_dvc_leaves_all_results_to_the_stages_that_replace_them() -> None:
    for name, stage in DVC.items():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            assert isinstance(out, dict), (name, out)
            assert all(options["persist"] for options in out.values()), (name, out)
