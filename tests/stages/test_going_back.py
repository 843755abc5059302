"""An earlier run comes back out of Git and DVC, and is reported, though its running times are gone."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.profiles import use
from pipeline.stages import locations

PROJECT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
TRAINED = locations.run_folder("adam", "fixed")


@pytest.mark.skipif(os.environ.get("CHAOS") != "1", reason="two minutes: make chaos runs it")
def test_an_earlier_run_is_brought_back_and_reported(
    tmp_path: Path, make_project: Callable[..., Path]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    make_project(work, "train.policies=[fixed]", "train.recipe.epochs=2")
    chosen = {name: dict(STAGES[name]) for name in ("find_lr", "train", "evaluate")}
    for stage in chosen.values():  # no code of a project's own
        stage["deps"] = [dep for dep in stage["deps"] if not dep.startswith("pipeline/")]
    with (work / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": chosen}, file)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }

    def call(*words: str) -> str:
        done = subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def results() -> dict[str, bytes]:
        found = [*(work / "models").rglob("*"), *(work / "reports").rglob("*")]
        return {str(path.relative_to(work)): path.read_bytes() for path in found if path.is_file()}

    def commit(name: str) -> None:
        call("dvc", "repro", "-q")
        call("git", "add", "dvc.lock", "dvc.yaml", "params.yaml")
        call("git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "-m", name)

    call("git", "init", "-q")
    call("dvc", "init", "-q")
    commit("first")
    first, log = results(), (work / locations.LOGS / "train-fixed-adam.json").read_bytes()
    use(work / "none.yaml", ["train.recipe.epochs=3"], work / "params.yaml")
    commit("second")
    second = results()
    assert second[f"{TRAINED}/scores.parquet"] != first[f"{TRAINED}/scores.parquet"]
    assert (work / locations.LOGS / "train-fixed-adam.json").read_bytes() != log
    call("git", "checkout", "-q", "HEAD~1", "--", "dvc.lock", "params.yaml")
    call("dvc", "checkout", "-q")
    assert results() == first
    call("vec2age", "report")
    assert (work / locations.PAGE).is_file()
    assert {name: data for name, data in results().items() if name in first} == first
