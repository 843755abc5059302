"""A project in a folder full of planted files, and a guard that writes down every attempt at a connection."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TINY = (
    "data.settings.per_age=4",
    "split.per_target=2",
    "train.optimizers=[adam]",
    "train.policies=[fixed]",
    "train.seeds=2",
    "train.recipe.hidden=[8]",
    "train.recipe.epochs=2",
    "find_lr.steps=20",
    "augment.target_per_age=0",
    "augment.calibration_faces=2",
    "calibrate.views=1",
    "calibrate.levels=[0.5, 0.8]",
    "export.level=0.8",
    "calibrate.swag.members=0",
    "calibrate.quantile.seeds=0",
    "evaluate.resamples=20",
    "evaluate.baselines=[mean]",
    "finetune.losses=[mse]",
    "finetune.recipe.epochs=1",
    "classify.losses=[cross_entropy]",
    "classify.epochs=1",
    "study.trials=2",
    "study.seeds=1",
    "study.epochs=2",
    "tracking.trackers=[dvclive, mlflow, neptune]",
    "classify.images.name=fer2013",
    "classify.images.root=.",
    "classify.batch_size=16",
)
# imported where they are installed, as libraries ask for them
OPTIONAL = ("wandb", "comet_ml", "tensorflow", "tensorboard", "tensorboardX", "cupy", "bottleneck", "numexpr")
PLANT = """
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
static void __attribute__((constructor)) planted(void) {
    int file = open(MARKER, O_WRONLY | O_CREAT | O_APPEND, 0600);
    write(file, "compiled\\n", 9);
    close(file);
}
"""
GUARD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *what, const char *more) {
    char line[500];
    int length = snprintf(line, sizeof line, "C %s %s\n", what, more ? more : "");
    int file = open(getenv("GUARD_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(file, line, length) < 0) abort();
    close(file);
}
static int local(const struct sockaddr *to) {
    return !to || to->sa_family == AF_UNIX || to->sa_family == AF_NETLINK;
}
int connect(int fd, const struct sockaddr *to, socklen_t size) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (local(to)) return real(fd, to, size);
    note("connect", 0); errno = ENETUNREACH; return -1;
}
typedef ssize_t Send(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t len) {
    Send *real = dlsym(RTLD_NEXT, "sendto");
    if (local(to)) return real(fd, data, size, flags, to, len);
    note("sendto", 0); errno = ENETUNREACH; return -1;
}
int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found) {
    note("getaddrinfo", name); return EAI_FAIL;
}
struct hostent *gethostbyname(const char *name) { note("gethostbyname", name); return 0; }
"""
AUDIT = """
import os, sys

def note(event, arguments):
    if event == "open" and arguments[0] in ("matplotlibrc", ".numba_config.yaml"):
        with open(os.environ["GUARD_LOG"] + ".settings", "a") as file:
            file.write(f"{arguments[0]}\\n")
    if event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], (str, bytes)):
        told = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        told = arguments[0]
    else:
        return
    with open(os.environ["GUARD_LOG"], "a") as file:
        file.write(f"Python {event} {told}\\n")

sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Ground:
    """Where commands run: `folder` with planted files, `home`, and what was written down of their doings."""

    folder: Path
    home: Path
    marker: Path
    log: Path
    environment: dict[str, str]
    compiled: bool

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command in the folder, under the guard, with some more of an environment."""
        return subprocess.run(
            words, cwd=self.folder, env=self.environment | more, capture_output=True, text=True, check=False
        )

    def plant_settings(self) -> None:
        """What Matplotlib and Numba would read: a backend and TeX, and a folder whose pickles are loaded."""
        (self.folder / "matplotlibrc").write_text("backend: module://wandb\ntext.usetex: True\n")
        (self.folder / ".numba_config.yaml").write_text("cache_dir: numba_cache\n")

    def settings_read(self) -> set[str]:
        """Which of them Python has opened since this was last asked."""
        read = self.log.with_suffix(".settings")
        found = set(read.read_text().split()) if read.exists() else set()
        read.unlink(missing_ok=True)
        return found

    def ran_code(self) -> list[str]:
        """Which planted modules ran."""
        return self.marker.read_text().splitlines() if self.marker.exists() else []

    def in_home(self) -> list[str]:
        """What lies in the home folder."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    def attempts(self) -> list[str]:
        """Who looked for an address or connected."""
        return self.log.read_text().splitlines() if self.log.exists() else []


def plant(folder: Path, marker: Path, compiler: str | None) -> None:
    """A module of every name that Python, a library or a worker may look for, and settings of libraries."""
    code = "with open({!r}, 'a') as file: file.write({!r} + '\\n')\nraise ImportError('planted')\n"
    names = {*sys.stdlib_module_names, *packages_distributions(), *OPTIONAL, "sitecustomize", "usercustomize"}
    for name in filter(str.isidentifier, names - {"pipeline"}):
        (folder / f"{name}.py").write_text(code.format(str(marker), name))
    for name in ("json", "torch", "numpy", "PIL"):
        (folder / f"{name}.py").unlink()
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code.format(str(marker), f"{name}/"))
    if compiler:
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        source = marker.with_suffix(".c")
        source.write_text(PLANT.replace("MARKER", f'"{marker}"'))
        build(compiler, source, folder / f"_pickle{suffix}")
        for name in ("_struct", "_socket", "_ctypes", "math", "select", "_posixsubprocess", "dlib"):
            shutil.copy(folder / f"_pickle{suffix}", folder / f"{name}{suffix}")
        (folder / "dlib.py").unlink(missing_ok=True)


def build(compiler: str, source: Path, target: Path) -> None:
    done = subprocess.run(
        [*shlex.split(compiler), "-shared", "-fPIC", "-w", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def compiler() -> str | None:
    """A C compiler; without one only Python's own calls are guarded, and no compiled module is planted."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory, compiler: str | None) -> Ground:
    """A small project on planted ground."""
    made = make_ground(tmp_path_factory.mktemp("ground"), compiler)
    done = made.run("vec2age", "use", "tiny.yaml", *(word for change in TINY for word in ("--set", change)))
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def bare_ground(tmp_path_factory: pytest.TempPathFactory, compiler: str | None) -> Ground:
    """Planted ground on which no command has run."""
    return make_ground(tmp_path_factory.mktemp("bare"), compiler)


def make_ground(top: Path, compiler: str | None) -> Ground:
    """A folder of planted files, a guard around it, and an empty home folder."""
    folder, home, guard = top / "project", top / "home", top / "guard"
    for one in (folder, home, guard / "bin"):
        one.mkdir(parents=True)
    marker, log = top / "marker", top / "connections"
    (guard / "sitecustomize.py").write_text(AUDIT)
    launcher = guard / "bin/vec2age"
    launcher.write_text(f"#!{sys.executable}\nfrom pipeline.__main__ import main\n\nmain()\n")
    launcher.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "TMPDIR")}
    environment = {
        **kept,
        "HOME": str(home),
        "PATH": f"{guard / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{guard}:{PROJECT}",
        "GUARD_LOG": str(log),
        "OMP_NUM_THREADS": "1",
        "VEC2AGE_WORKERS": "2",
    }
    if compiler:
        (guard / "guard.c").write_text(GUARD)
        build(compiler, guard / "guard.c", guard / "guard.so")
        environment["LD_PRELOAD"] = str(guard / "guard.so")
    plant(folder, marker, compiler)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, folder)
    (folder / ".dvc").mkdir()
    settings = (PROJECT / ".dvc/config").read_text()
    (folder / ".dvc/config").write_text(f"{settings}    no_scm = true\n")
    noise = [" ".join(str((7 * row + pixel * pixel) % 256) for pixel in range(48 * 48)) for row in range(126)]
    parts = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{row % 7},{pixels},{parts[row // 7 % 3]}" for row, pixels in enumerate(noise)]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows, ""]))
    (folder / "pipeline").symlink_to(PROJECT / "pipeline")  # what dvc.yaml's stages depend on
    (folder / "tiny.yaml").write_text("{}\n")
    return Ground(folder, home, marker, log, environment, compiler is not None)
