"""What the kills share: a small project, commands killed at chosen moments, and what must come of it.

`make chaos` (CHAOS=1) kills each command twenty times; a plain test run kills one of them once.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("CHAOS") == "1"
KILLS = 20
PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
EMPTY = "an empty folder"
STORES = ("embeddings/cache/", "studies/study.db")
UNLIKE = ("logs", "dvclive", "studies/study.db", ".dvc", "tmp")
"""Times, and databases whose bytes depend on when something was written: no two runs share them."""

SMALL = (
    "data.settings.per_age=2",
    "crop.detectors=[dlib_hog]",
    "crop.size=96",
    "split.method=random",
    "augment.target_per_age=3",
    "augment.calibration_faces=2",
    "augment.max_tries=2",
    "augment.pictures=data/augmented",
    "find_lr.steps=13",
    "train.optimizers=[adam]",
    "train.seeds=2",
    "train.recipe.hidden=[8]",
    "train.recipe.epochs=3",
    "train.recipe.batch_size=16",
    "calibrate.levels=[0.5]",
    "calibrate.views=1",
    "calibrate.min_faces=2",
    "calibrate.swag.members=1",
    "calibrate.swag.epochs=2",
    "calibrate.swag.samples=3",
    "calibrate.quantile.seeds=1",
    "export.level=0.5",
    "evaluate.resamples=20",
    "evaluate.baselines=[mean]",
    "study.trials=4",
    "study.seeds=2",
    "study.group=2",
    "study.epochs=3",
    "study.pruning.every=1",
    "study.pruning.warmup=1",
    "finetune.losses=[mse]",
    "finetune.recipe.epochs=3",
    "finetune.pictures.size=32",
)
ORDER = {
    "ingest": ("ingest",),
    "crop": ("crop",),
    "split": ("split",),
    "embed": ("embed",),
    "augment": ("augment",),
    "find_lr": ("find_lr", "--optimizer", "adam"),
    "train": ("train", "--optimizer", "adam", "--policy", "fixed"),
    "train found": ("train", "--optimizer", "adam", "--policy", "found"),
    "finetune": ("finetune", "--loss", "mse", "--backbone", "resnet10t"),
    "calibrate": ("calibrate",),
    "study": ("study",),
    "evaluate": ("evaluate",),
    "report": ("report",),
    "export": ("export", "bundle"),
    "predict": ("predict", "data/sample", "--output", "ages.csv", "--overlay", "drawn"),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), the moments it passed, what it said."""

    code: int
    moments: int
    said: str
    lost_a_worker: bool


class Runner:
    """Runs commands, each forked from one process that has imported everything, which saves most time."""

    def __init__(self, folder: Path) -> None:
        self.hooks = folder / "hooks"
        self.hooks.mkdir()
        shutil.copy(HERE / "moments.py", self.hooks / "sitecustomize.py")  # so that workers count, too
        # a short name, whatever it stands for: loaders need one
        self.scratch = Path(tempfile.mkdtemp()) / "now"
        self.ticks = folder / "ticks"
        self.said = folder / "said"
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{self.hooks}{os.pathsep}{PROJECT}",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "VEC2AGE_WORKERS": "2",
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
            "DVC_NO_ANALYTICS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, HERE / "forks.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**self.environment, "CHAOS_TICKS": ""},
        )

    def __call__(self, folder: Path, words: Sequence[str], at: int = 0, who: str = "group") -> Ended:
        """Run a command in a folder, and kill it, or one worker of it, at a moment; 0 is never."""
        self.ticks.write_bytes(b"")
        scratch = folder / "tmp"
        scratch.mkdir(exist_ok=True)
        self.scratch.unlink(missing_ok=True)
        self.scratch.symlink_to(scratch)
        chaos = {"CHAOS_TICKS": str(self.ticks), "CHAOS_AT": str(at), "CHAOS_WHO": who}
        asked = {
            "folder": str(folder),
            "words": list(words),
            "said": str(self.said),
            "environment": chaos | {"TMPDIR": str(self.scratch)},
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        ticks = self.ticks.read_bytes()
        said = self.said.read_text(encoding="utf-8", errors="replace")
        return Ended(code, len(ticks), said, lost_a_worker=b"!" in ticks)

    def close(self) -> None:
        """End the process that forks."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.scratch.parent)


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.close()


def odd(folder: Path) -> Path:
    """A folder whose name is not UTF-8, so that every command meets one here."""
    made = Path(os.fsdecode(os.fsencode(folder) + b"/f\xfcr alle"))
    made.mkdir(parents=True)
    return made


def content(folder: Path, unlike: Sequence[str] = ()) -> dict[str, str]:
    """The hash of every file that two runs share, by its path; empty folders are there as well."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(name == one or name.startswith((f"{one}/", f"{one}-")) for one in (*UNLIKE, *unlike)):
            continue
        if path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not any(path.iterdir()):
            found[name] = EMPTY
    return found


def passing(name: str) -> bool:
    """Whether a file is there for the time being: what is not finished, and stores that only grow."""
    parts = name.split("/")
    return any(part.startswith(".") or part.endswith(".parts") for part in parts) or name.startswith(STORES)


def scraps(folder: Path) -> list[str]:
    """What lies about in a folder, hidden or for the time being, where a command is done."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    ours = [name for name in names if not name.startswith((".dvc/", "tmp/"))]
    return [name for name in ours if name.endswith((".tmp", "-journal", ".unfinished", ".parts"))] + sorted(
        name for name in names if name.startswith("tmp/")
    )


@dataclass(frozen=True)
class Case:
    """A command, the project before and after it, how many moments it passes, and what no two runs share."""

    words: Sequence[str]
    before: Path
    after: Path
    moments: int
    unlike: tuple[str, ...] = ()


@pytest.fixture(scope="session")
def case(command: Runner, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """`case(name)`: the project around a command of `ORDER`, made as far as it is asked for."""
    root = odd(tmp_path_factory.mktemp("project"))
    made: dict[str, Case] = {}
    start = root / "start"
    new_project(start, command)

    def get(name: str) -> Case:
        folder = start if not made else list(made.values())[-1].after
        for stage in list(ORDER)[len(made) :]:
            if name in made:
                break
            after = root / stage.replace(" ", "_")
            shutil.copytree(folder, after)
            ended = command(after, ORDER[stage])
            assert ended.code == 0, f"{stage}: {ended.said}"
            made[stage] = Case(ORDER[stage], folder, after, ended.moments)
            folder = after
        return made[name]

    return get


@pytest.fixture(scope="session")
def repro(command: Runner, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """`dvc repro` of a whole project with code of its own, as after a clone."""
    root = tmp_path_factory.mktemp("repro")
    before, after = root / "before", root / "after"
    new_project(before, command)
    shutil.copy(PROJECT / "dvc.yaml", before)
    shutil.copytree(PROJECT / "pipeline", before / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for folder, words in ((before, ("dvc", "init", "--no-scm", "--quiet")), (after, ("dvc", "repro"))):
        if folder is after:
            shutil.copytree(before, after)
        ended = command(folder, words)
        assert ended.code == 0, ended.said
    # the page shows times
    return Case(words, before, after, ended.moments, ("reports/index.html", "reports/figures", "dvc.lock"))


def new_project(folder: Path, command: Runner, *changes: str) -> None:
    """params.yaml with small settings, in a folder of its own."""
    folder.mkdir()
    shutil.copy(PROJECT / "params.yaml", folder)
    shutil.copytree(PROJECT / "profiles", folder / "profiles")
    assignments = [word for text in (*SMALL, *changes) for word in ("--set", text)]
    ended = command(folder, ("use", "profiles/sample.yaml", *assignments))
    assert ended.code == 0, ended.said


@pytest.fixture(scope="session")
def chaos(command: Runner, case: Callable[[str], Case]) -> "Chaos":
    return Chaos(command, case)


@dataclass
class Tally:
    """What became of the histories of a command."""

    histories: int = 0
    kills: int = 0
    equal: int = 0
    seconds: float = 0.0


TALLIES: defaultdict[str, Tally] = defaultdict(Tally)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each command."""
    for name, one in TALLIES.items():
        ended = f"{one.equal} of {one.histories} histories ended with the same bytes"
        terminalreporter.write_line(f"{name}: {one.kills} kills, {ended}, {one.seconds:.0f} s")


class Chaos:
    """Kills, and what must come of them."""

    def __init__(self, command: Runner, case: Callable[[str], Case]) -> None:
        self.command, self.case, self.odd = command, case, odd
        self.tally = Tally()

    @contextmanager
    def told(self, name: str) -> Iterator[None]:
        """Count one history of a command."""
        self.tally = TALLIES[name]
        self.tally.histories += 1
        start = time.perf_counter()
        try:
            yield
            self.tally.equal += 1
        finally:
            self.tally.seconds += time.perf_counter() - start

    def kill(self, folder: Path, words: Sequence[str], moment: int) -> None:
        """Run a command, dead at a moment, or earlier where it has less to do and ends before."""
        self.tally.kills += 1
        while (ended := self.command(folder, words, at=moment)).code != -signal.SIGKILL:
            assert ended.code == 0, ended.said
            assert moment > 1
            moment //= 2

    def check_whole(self, folder: Path, case: Case) -> None:
        """Every file is what it was before the command, or what it is after it: none is torn."""
        before, after = content(case.before, case.unlike), content(case.after, case.unlike)
        for name, found in content(folder, case.unlike).items():
            if found != EMPTY and not passing(name):
                assert found in (before.get(name), after.get(name)), f"{name} is neither the old nor the new"

    def check_same(self, folder: Path, case: Case) -> None:
        """All is as after an undisturbed run, and nothing else is left."""
        assert content(folder, case.unlike) == content(case.after, case.unlike)
        assert not scraps(folder)


def pytest_generate_tests(metafunc: Any) -> None:
    """Twenty moments in a full run: eleven histories of one kill, and three of three kills in a row."""
    if "history" in metafunc.fixturenames:
        metafunc.parametrize("history", histories() if FULL else [[0.6]], ids=lambda one: f"{one}")


def histories(kills: int = KILLS, triples: int = 3) -> list[list[float]]:
    """Moments as shares of a run, evenly over it, in histories of one kill and of three."""
    shares = [round((number + 0.5) / kills, 3) for number in range(kills)]
    rows = [shares[1 + 2 * number :: 7][:3] for number in range(triples)]
    taken = {share for row in rows for share in row}
    return [[share] for share in shares if share not in taken] + rows
