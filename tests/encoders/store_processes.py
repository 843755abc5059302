"""Processes that share a store and die: run by test_store_crash.py, each function in a clean interpreter.

The functions fork: safe here, where no thread of the store outlives a call. The first session runs in
the parent, so that its children find the libraries warm and reach their work in milliseconds.
"""

import hashlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.encoders import store as store_module
from pipeline.encoders.store import VectorStore

DIM = 16
KEYS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(900)]
store_module.SEGMENT_ROWS = 200


def vectors(keys: Sequence[str]) -> np.ndarray:
    """The vectors of a pretended encoder: a function of the key."""
    return np.array([list(bytes.fromhex(key)[:DIM]) for key in keys], np.float32).reshape(len(keys), DIM)


def open_store(root: Path) -> VectorStore:
    return VectorStore(root, "encoder", DIM)


def append_all(root: Path, keys: Sequence[str], batch: int, done: int | None = None) -> None:
    """Append what is missing, telling through the pipe `done` of each batch that is stored."""
    store = open_store(root)
    todo = store.missing(keys)
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        store.append(part, vectors(part))
        if done is not None:
            os.write(done, "".join(part).encode())
    if done is not None:
        os.close(done)


def fill(root: Path, keys: Sequence[str], batch: int, done: int | None = None) -> None:
    """One session: append what is missing, then compact."""
    append_all(root, keys, batch, done)
    open_store(root).compact()


def check(root: Path, stored: Sequence[str]) -> None:
    """All that was stored is there and right, and nothing was damaged."""
    store = open_store(root)
    assert store.missing(stored) == [], "a vector that was stored is gone"
    absent = set(store.missing(KEYS))
    there = [key for key in KEYS if key not in absent]
    assert (store.read(there) == vectors(there)).all(), "a vector has changed"
    assert not (store.directory / "quarantine").exists(), "a kill has damaged a file"


def start(work: Callable[..., None], *arguments: object) -> int:
    """Run a function in a child; its exit status tells whether it raised."""
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


def ended_well(child: int) -> bool:
    """Wait for a child: True where it ended by itself, False where it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0, "a child failed: see its message above"
    return True


def files(root: Path) -> dict[str, bytes]:
    """Every file of a root with its bytes."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def random_kills(root: Path, least: int) -> None:
    """Kill sessions at random moments and resume them until the store is complete, `least` times or more.

    Moments are counted in batches and a random wait after the last, so that a slow machine kills no
    earlier in the work than a fast one.
    """
    chance = random.Random(0)
    batch = 20
    fill(root / "whole", KEYS, batch)
    expected = files(root / "whole")
    while_appending = while_compacting = rounds = 0
    while while_appending + while_compacting < least:
        folder = root / str(rounds)
        rounds += 1
        stored: list[str] = []
        finished = False
        while not finished:
            reading, writing = os.pipe()
            child = start(fill, folder, KEYS, batch, writing)
            os.close(writing)
            with os.fdopen(reading, "rb", buffering=0) as pipe:
                told = b""
                wanted = chance.randrange(8) * batch * 64
                appending = True
                while appending and len(told) < wanted:
                    news = pipe.read(batch * 64)
                    told, appending = told + news, bool(news)
                time.sleep(chance.uniform(0, 0.02 if appending else 0.2))
                os.kill(child, signal.SIGKILL)
                finished = ended_well(child)
                told += b"".join(iter(lambda: pipe.read(1 << 16), b""))
            stored += [told[i : i + 64].decode() for i in range(0, len(told), 64)]
            while_appending += appending and not finished
            while_compacting += not appending and not finished
            assert ended_well(start(check, folder, stored))
        assert files(folder) == expected, "the bytes depend on the interruptions"
    report(while_appending + while_compacting)


def report(kills: int) -> None:
    sys.stdout.write(f"{kills}\n")


def kill_before(event: int, work: Callable[..., None], *arguments: object) -> None:
    """Do some work, but die just before the given file operation."""
    counted = {"open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "fcntl.flock"}
    seen = 0

    def hook(name: str, _: object) -> None:
        nonlocal seen
        if name in counted:
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    work(*arguments)


def every_kill(root: Path) -> None:
    """Kill a session before each of its file operations in turn; resume; the bytes are always the same."""
    store_module.SEGMENT_ROWS = 3
    keys = KEYS[:5]
    fill(root / "whole", keys, 2)
    check(root / "whole", keys)
    expected = files(root / "whole")
    event, finished = 0, False
    while not finished:
        folder = root / str(event)
        finished = ended_well(start(kill_before, event, fill, folder, keys, 2))
        assert ended_well(start(fill, folder, keys, 2))
        assert files(folder) == expected, f"the bytes differ after a kill before file operation {event}"
        event += 1
    report(event - 1)


def two_writers(root: Path) -> None:
    """Two sessions append overlapping keys at once; together they give the bytes of one."""
    fill(root / "whole", KEYS[:600], 20)
    children = [
        start(append_all, root / "shared", KEYS[:400], 7),
        start(append_all, root / "shared", KEYS[599:199:-1], 11),
        start(append_all, root / "shared", KEYS[:600], 13),
    ]
    assert False not in [ended_well(child) for child in children]
    check(root / "shared", KEYS[:600])
    fill(root / "shared", KEYS[:600], 20)
    assert files(root / "shared") == files(root / "whole")


def reading_while_compacting(root: Path) -> None:
    """Readers find every vector at every moment while another process appends and compacts."""
    first = KEYS[:300]
    append_all(root, first, 10)

    def keep_writing() -> None:
        for end in range(320, 560, 20):
            fill(root, KEYS[:end], 5)

    def keep_reading() -> None:
        store, rounds = open_store(root), 0
        while len(store) < 540:
            assert store.missing(first) == [], "a compaction hid a vector"
            assert (store.read(first) == vectors(first)).all()
            rounds += 1
        assert rounds > 5, "the reader hardly met the writer"

    children = [start(keep_reading), start(keep_reading), start(keep_writing)]
    assert False not in [ended_well(child) for child in children]


if __name__ == "__main__":
    name, folder, *numbers = sys.argv[1:]
    globals()[name](Path(folder), *map(int, numbers))
