"""Worker processes import what is installed, whatever lies where a program stands; and the guards do see."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.report.provenance import revision

SCRIPT = """
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from operator import attrgetter

import helper
import torch
from torch.utils.data import DataLoader

from pipeline.core.pool import ordered_map
from pipeline.core.processes import SPAWN, ensure_tracker

path = list(__import__("sys").path)
ensure_tracker()
assert list(ordered_map(partial(attrgetter, "real"), [1, 2, 3], workers=2, timeout=60)) == [1, 2, 3]
with ProcessPoolExecutor(1, SPAWN) as pool:
    assert pool.submit(abs, -1).result() == 1
numbers = DataLoader(torch.arange(4), batch_size=2, num_workers=1, multiprocessing_context=SPAWN)
assert [batch.tolist() for batch in numbers] == [[0, 1], [2, 3]]
assert __import__("sys").path == path
import later
"""


def test_workers_import_nothing_from_the_current_folder_nor_the_script(bare_ground, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    imported = tmp_path / "imported"
    for name in ("helper", "later"):
        (tmp_path / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write({name!r} + ' ')\n")
    done = bare_ground.run(sys.executable, str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert bare_ground.ran_code() == []
    assert imported.read_text() == "helper later ", "the script's own modules, by the script alone"


SETTINGS = """
import os
import sys
from functools import partial

from pipeline.core.pool import ordered_map

usetex = "__import__('matplotlib').rcParams['text.usetex']"
read = [usetex, "__import__('numba').config.CACHE_DIR", "__import__('os').getcwd()"]
print(list(ordered_map(partial(partial, eval), read, workers=1, timeout=600)) == [False, "", os.getcwd()])
print("matplotlib" in sys.modules, eval(usetex))
"""


def test_workers_read_no_settings_of_libraries_in_the_current_folder(bare_ground, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SETTINGS)
    bare_ground.plant_settings()
    done = bare_ground.run(sys.executable, str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    workers, own = done.stdout.splitlines()
    assert workers == "True"
    assert own == "False True", "the script's own settings are its own, and read by it alone"
    assert bare_ground.settings_read() == {"matplotlibrc"}
    assert bare_ground.ran_code() == []


PREDICT = """
import sys

import numpy as np
import pipeline
from skimage.data import astronaut

face = np.ascontiguousarray(astronaut()[10:250, 100:340])
assert pipeline.predict(face, sys.argv[1], workers=1)["status"].to_pylist() == ["face"]
if sys.argv[2:]:
    import matplotlib
"""


def test_predict_as_a_library_reads_no_settings_and_leaves_them_to_its_caller(
    bare_ground, tmp_path: Path
) -> None:
    place = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "serving/conftest.py")
    made = importlib.util.module_from_spec(place)
    place.loader.exec_module(made)
    made.make_bundle(tmp_path / "bundle")
    (tmp_path / "script.py").write_text(PREDICT)
    bare_ground.plant_settings()
    script = (sys.executable, str(tmp_path / "script.py"), str(tmp_path / "bundle"))
    for words, read in (([], set()), (["and draw"], {"matplotlibrc"})):
        done = bare_ground.run(*script, *words)
        assert done.returncode == 0, done.stderr[-3000:]
        assert bare_ground.settings_read() == read
    assert bare_ground.ran_code() == []


def test_python_that_ignores_its_environment_is_refused(bare_ground, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\nsys.path[:0] = sys.argv[1:]\n"
        "from pipeline.core.processes import check_flags\ncheck_flags()\n"
    )
    folders = bare_ground.environment["PYTHONPATH"].split(":")
    for flags, code in ((["-E"], 1), (["-E", "-P"], 0), (["-I"], 0), ([], 0)):
        done = bare_ground.run(sys.executable, *flags, str(tmp_path / "script.py"), *folders)
        assert done.returncode == code, done.stderr
    assert bare_ground.ran_code() == []


def test_what_is_planted_would_run(bare_ground) -> None:
    for name in ("wandb", *(["_pickle"] if bare_ground.compiled else [])):
        bare_ground.run(sys.executable, "-c", f"import sys; sys.modules.pop({name!r}, None); import {name}")
    ran = bare_ground.ran_code()
    bare_ground.marker.unlink()
    assert len(ran) >= 1 + bare_ground.compiled


def test_the_guard_sees_calls_from_python_and_from_c(bare_ground, tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(
        "import ctypes, socket\n"
        "for act in (lambda: socket.getaddrinfo('a.invalid', 80),\n"
        "            lambda: socket.create_connection(('192.0.2.1', 9), 0.01),\n"
        "            lambda: ctypes.CDLL(None).getaddrinfo(b'c.invalid', None, None, None)):\n"
        "    try:\n        act()\n    except OSError:\n        pass\n"
    )
    bare_ground.run(sys.executable, str(tmp_path / "calls.py"))
    seen = bare_ground.attempts()
    bare_ground.log.unlink()
    assert "Python socket.getaddrinfo a.invalid" in seen
    if bare_ground.compiled:
        assert "C getaddrinfo c.invalid" in seen
    else:
        pytest.skip("no C compiler: calls from C are not guarded here, those from Python are")


def git(*words: str) -> None:
    """A command of somebody without settings of their own."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    author = ["-c", "user.name=me", "-c", "user.email=me@host.invalid"]
    subprocess.run(["git", *author, *words], check=True, capture_output=True, env={**os.environ, **own})


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_asking_for_the_revision_runs_no_program_of_the_repository(tmp_path: Path, monkeypatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    git("init")
    Path(".gitattributes").write_text("*.txt filter=planted\n")
    Path("file.txt").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "first")
    before = revision()
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> '{ran}'\ncat\n")
    program.chmod(0o755)
    for hook in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        shutil.copy(program, Path(".git/hooks", hook))
    for name in ("filter.planted.clean", "filter.planted.smudge", "core.fsmonitor"):
        git("config", name, str(program))
    Path("file.txt").write_text("two\n")
    os.utime(".gitattributes", (0, 0))  # the index would be written again
    assert revision() == before != {}
    assert not ran.exists()
    git("describe", "--always", "--dirty")
    assert ran.read_text(), "what is planted would run"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_asking_for_the_revision_fetches_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    git("tag", "-a", "v1", "-m", "first")
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> '{ran}'\n")
    program.chmod(0o755)
    (tmp_path / "far").mkdir()
    settings = {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "far",
        "remote.far.promisor": "true",
        "remote.far.url": str(tmp_path / "far"),
        "remote.far.uploadpack": str(program),
    }
    for name, value in settings.items():
        git("config", name, value)
    for head in Path(".git/refs/heads").iterdir():  # a commit that is not here
        head.write_text("1" * 40 + "\n")
    revision()
    assert not ran.exists()
    with pytest.raises(subprocess.CalledProcessError):
        git("describe", "--tags")
    assert ran.read_text(), "what is planted would run"
