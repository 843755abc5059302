"""Results of an earlier run outlive a run that refuses, under DVC too."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.profiles import use
from pipeline.core.tables import read_table
from pipeline.stages import locations

PROJECT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]


def test_a_mistyped_root_under_dvc_costs_nothing_and_dvc_can_bring_everything_back(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path / "home"),
    }
    work = tmp_path / "work"
    work.mkdir()

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=600
        )

    (work / "pipeline").symlink_to(PROJECT / "pipeline")
    shutil.copy(PROJECT / "params.yaml", work)
    stage = STAGES["ingest"]
    with (work / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": {"ingest": {**stage, "deps": ["pipeline/stages/ingest.py"]}}}, file)
    (work / "vectors.json").write_text(json.dumps({"1_12_0": [1.0] * 512, "2_13_0": [2.0] * 512}))
    (work / "broken.json").write_text(json.dumps({"1_old": [1.0, 2.0]}))
    (work / "none.yaml").write_text("{}\n")

    def set_root(root: str) -> None:
        assignments = ["data.name=vec2uage_json", f"data.root={root}"]
        use(work / "none.yaml", assignments, work / "params.yaml")

    set_root("vectors.json")
    assert call("dvc", "init", "--no-scm", "-q").returncode == 0
    done = call("dvc", "repro", "-q")
    assert done.returncode == 0, done.stderr
    outs = [work / next(iter(out)) for out in stage["outs"]]
    before = [path.read_bytes() for path in outs]
    for root in ("vectors.jso", "broken.json"):
        set_root(root)
        refused = call("dvc", "repro", "-q")
        assert refused.returncode != 0
        assert "what an earlier run wrote stays: data/manifest.parquet" in refused.stdout + refused.stderr
        assert [path.read_bytes() for path in outs] == before
        assert call("dvc", "checkout", "-q").returncode == 0
    assert read_table(work / locations.REFUSED).num_rows == 1
    for path in outs:
        path.unlink()
    back = call("dvc", "checkout", "-q")
    assert back.returncode == 0, back.stderr
    assert [path.read_bytes() for path in outs] == before
