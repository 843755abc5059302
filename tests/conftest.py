"""What tests of several parts share."""

import io
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
# Killing by the clock would miss a process that is done before a busy machine looks.
DIES = """
import fnmatch, os, signal, sys

pattern, finished = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

def die(event, arguments):
    global finished
    if event == "os.rename" and fnmatch.fnmatch(os.fspath(arguments[1]), pattern):
        if finished == 0:
            os.killpg(0, signal.SIGKILL)
        finished -= 1

sys.addaudithook(die)
"""


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell hands SIGINT down as ignored to what it runs in the background; some tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def killed() -> Callable[..., None]:
    """Run code until `finished` files of a pattern have their names, and kill it as the next gets its own."""

    def run(code: str, words: Sequence[str], pattern: str, finished: int) -> None:
        done = subprocess.run(
            [sys.executable, "-c", DIES + code, pattern, str(finished), *words],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, f"it ended before it could be killed: {done.stderr}"

    return run


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own; skips where none is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    if not folders and on_path is None:
        pytest.skip("PostgreSQL is not installed: neither /usr/lib/postgresql/*/bin nor initdb on the path")
    pytest.importorskip(
        "psycopg2", reason="psycopg2, through which Python talks to PostgreSQL, is not installed"
    )
    programs = folders[-1] if folders else Path(str(on_path)).parent
    user = server_user()
    folder = Path(tempfile.mkdtemp(prefix="vec2age-postgresql-"))
    as_user = {}
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}

    def call(program: str, *words: str) -> None:
        done = subprocess.run(
            [programs / program, *words], capture_output=True, text=True, check=False, **as_user
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = str(folder / "data")
    call("initdb", "-D", data, "-U", "vec2age", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    call("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://vec2age@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def server_user() -> pwd.struct_passwd | None:
    """Under which account the server runs: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """A public-domain photograph: 240 x 240, one face of 88 pixels, eyes about 3 degrees off level."""
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[10:250, 100:340])


@pytest.fixture(scope="session")
def portrait_png(portrait: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(portrait).save(buffer, "PNG")
    return buffer.getvalue()
