"""What the documentation lists is what there is."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from pipeline import datasets, losses
from pipeline.config.yaml import text as yaml_text
from pipeline.core import pool, rejects
from pipeline.datasets.formats import limited
from pipeline.faces import images

DOCS = Path(__file__).resolve().parents[1] / "docs"
POLICIES = ("fixed.parquet", "found.parquet")
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


def outs() -> list[str]:
    """What dvc.yaml says the stages write, with the matrix's items in words."""
    found = []
    for stage in yaml.safe_load((DOCS.parent / "dvc.yaml").read_text())["stages"].values():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            name = out if isinstance(out, str) else next(iter(out))
            found.append(re.sub(r"\$\{item\.(\w+)\}", r"{\1}", name))
    return found


@pytest.mark.parametrize("out", outs())
def test_every_file_that_a_stage_writes_is_described(out):
    names = re.findall(r"`([^`\s]+/[^`\s]*)`", (DOCS / "files.md").read_text())
    described = {name.replace("{policy}.parquet", policy) for name in names for policy in POLICIES}
    assert any(name == out or name.startswith(f"{out}/") or fnmatch(out, name) for name in described), out


def test_limits_are_described_as_they_are():
    text = (DOCS / "security.md").read_text()
    words = {
        f"{images.MAX_BYTES >> 20} MiB | `too_many_bytes`",
        f"{images.MAX_PIXELS // 10**6} million",
        f"{limited.ROOM >> 20} MiB and {limited.ROOM_PER_BYTE} bytes for each",
        f"{limited.WORK:g} s of CPU time and {limited.WORK_PER_BYTE * 1e6:g} s a megabyte",
        f"counts {limited.EXPANDS['.gz']} times",
        f"{yaml_text.LARGEST >> 10} KiB, {yaml_text.MOST:,} values",
        f"{yaml_text.DEEPEST} levels",
        f"{rejects.MOST_ALIKE:,} rows",
        f"`predict --timeout` ({pool.TIMEOUT:g}), and again for its copy with `--overlay`",
        f"{pool.TIMEOUT:g} in `crop` and `classify`",
    }
    assert {word for word in words if word not in text} == set()
