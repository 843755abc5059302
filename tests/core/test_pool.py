import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from pipeline.core import pool
from pipeline.core.errors import UserError
from pipeline.core.pool import AHEAD_PER_WORKER, Lost, ordered_map

# Worker processes import their function by name, so it lives in a module of its own.
WORK = """
import functools, os, signal, time
from pipeline.core.pool import untimed

def run(folder, item):
    action, number = item
    (folder / "seen").mkdir(exist_ok=True)
    (folder / "seen" / f"{number}-{os.getpid()}").touch()
    if action == "sleep":
        time.sleep(60)
    if action == "hang":
        signal.pause()
    if action == "slow":
        time.sleep(0.1)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "crash":
        os.abort()
    if action == "exit":
        os._exit(3)
    if action == "kill once" and len(list((folder / "seen").glob(f"{number}-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise ValueError("item " + str(number))
    if action == "threads":
        return os.environ["OMP_NUM_THREADS"], os.environ["DLIB_NUM_THREADS"]
    if action == "load":
        with untimed():
            time.sleep(1)
    if action == "load, then sleep":
        with untimed():
            time.sleep(1)
        time.sleep(60)
    if action == "large":
        return bytes(3_000_000)
    return number * 10

def make(folder):
    return functools.partial(run, folder)

def die(folder):
    os._exit(7)

def be_killed(folder):
    os.kill(os.getpid(), signal.SIGKILL)

def fail(folder):
    raise KeyError("no model")
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "pool_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.reload(importlib.import_module("pool_work"))


@pytest.fixture
def make(work: ModuleType, tmp_path: Path) -> Callable[..., object]:
    from functools import partial

    return partial(work.make, tmp_path)


def children() -> list[psutil.Process]:
    """The living worker processes of this one."""
    living = psutil.Process().children(recursive=True)
    return [one for one in living if "spawn_main" in " ".join(one.cmdline())]


def test_results_come_in_order_whatever_the_workers_do(make: Callable[..., object]) -> None:
    items = [("slow" if number % 5 == 0 else "", number) for number in range(40)]
    found = list(ordered_map(make, items, workers=3, timeout=30))
    assert found == [number * 10 for number in range(40)]
    assert children() == []


def test_nothing_to_do_starts_no_process(make: Callable[..., object]) -> None:
    assert list(ordered_map(make, [], workers=3, timeout=30)) == []


def test_items_are_taken_only_as_they_are_needed(make: Callable[..., object]) -> None:
    taken = []

    def items() -> Iterator[tuple[str, int]]:
        for number in range(1000):
            taken.append(number)
            yield "slow" if number == 0 else "", number

    results = ordered_map(make, items(), workers=2, timeout=30)
    assert next(results) == 0
    assert len(taken) <= 2 * AHEAD_PER_WORKER + 1
    results.close()
    assert children() == []


@pytest.mark.parametrize(
    ("action", "cause"),
    [("kill", "SIGKILL, perhaps for want of memory"), ("crash", "SIGABRT"), ("exit", "exit code 3")],
)
def test_an_item_that_kills_its_process_twice_is_lost_and_no_other(
    action: str, cause: str, make: Callable[..., object], tmp_path: Path
) -> None:
    items = [(action if number == 3 else "", number) for number in range(8)]
    found = list(ordered_map(make, items, workers=2, timeout=30))
    assert found[3] == Lost("worker_died", f"the process working on it ended 2 times ({cause})")
    assert [*found[:3], *found[4:]] == [0, 10, 20, 40, 50, 60, 70]
    assert len(list((tmp_path / "seen").glob("3-*"))) == 2, "tried in two processes"


def test_an_item_whose_process_is_killed_once_is_tried_again(make: Callable[..., object]) -> None:
    items = [("kill once" if number == 1 else "", number) for number in range(4)]
    assert list(ordered_map(make, items, workers=1, timeout=30)) == [0, 10, 20, 30]


def test_an_item_that_takes_too_long_is_lost_and_no_other(make: Callable[..., object]) -> None:
    items = [("sleep" if number == 1 else "", number) for number in range(4)]
    start = time.monotonic()
    found = list(ordered_map(make, items, workers=2, timeout=0.5))
    assert found == [0, Lost("timeout", "it took longer than the time limit of 0.5 s"), 20, 30]
    assert time.monotonic() - start < 20
    assert children() == []


def test_what_an_item_must_load_is_not_counted_against_it(make: Callable[..., object]) -> None:
    items = [("load" if number == 1 else "", number) for number in range(4)]
    assert list(ordered_map(make, items, workers=1, timeout=0.5)) == [0, 10, 20, 30]


def test_the_clock_runs_again_after_loading(make: Callable[..., object]) -> None:
    items = [("load, then sleep" if number == 1 else "", number) for number in range(3)]
    found = list(ordered_map(make, items, workers=1, timeout=0.5))
    assert found == [0, Lost("timeout", "it took longer than the time limit of 0.5 s"), 20]


def test_a_result_that_waited_for_a_busy_consumer_is_not_late(make: Callable[..., object]) -> None:
    results = ordered_map(make, [("", 0), ("large", 1), ("", 2)], workers=1, timeout=0.5)
    first = next(results)
    time.sleep(0.8)
    assert [first, *(len(one) if isinstance(one, bytes) else one for one in results)] == [0, 3_000_000, 20]


def test_an_exception_is_raised_with_the_workers_traceback(make: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="item 2") as caught:
        list(ordered_map(make, [("", 1), ("raise", 2), ("", 3)], workers=2, timeout=30))
    assert "pool_work.py" in caught.value.__notes__[0]
    assert children() == []


def test_a_worker_that_cannot_start_ends_the_run_at_once(work: ModuleType, tmp_path: Path) -> None:
    from functools import partial

    with pytest.raises(RuntimeError, match=r"ended before it was ready \(exit code 7\)"):
        list(ordered_map(partial(work.die, tmp_path), [("", 1)], workers=1, timeout=30))
    with pytest.raises(UserError, match="was killed, as systems do that are short of memory"):
        list(ordered_map(partial(work.be_killed, tmp_path), [("", 1)], workers=1, timeout=30))
    with pytest.raises(KeyError, match="no model"):
        list(ordered_map(partial(work.fail, tmp_path), [("", 1)], workers=1, timeout=30))


def test_workers_have_one_thread_each(make: Callable[..., object]) -> None:
    assert list(ordered_map(make, [("threads", 0)], workers=1, timeout=30)) == [("1", "1")]


def test_control_c_ends_the_workers_too(make: Callable[..., object]) -> None:
    def interrupt() -> None:
        while not children():
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(make, [("sleep", number) for number in range(3)], workers=2, timeout=60))
    thread.join()
    assert children() == []


def test_control_c_does_not_reach_a_worker_that_is_still_importing(
    make: Callable[..., object], tmp_path: Path
) -> None:
    at_import = f"if os.getpid() != {os.getpid()}:\n    os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "pool_work.py").write_text(WORK + at_import)
    found = list(ordered_map(make, [("", number) for number in range(4)], workers=2, timeout=30))
    assert found == [0, 10, 20, 30]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "the parent hears it again"


ORPHAN = """
import sys
from functools import partial
from pathlib import Path
import pool_work
from pipeline.core.pool import ordered_map

list(ordered_map(partial(pool_work.make, Path(sys.argv[1])), [("hang", 0)], workers=1, timeout=1e6))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process end with its parent")
def test_a_worker_that_hangs_ends_with_a_parent_that_is_killed(
    make: Callable[..., object], tmp_path: Path
) -> None:
    places = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(pool.__file__).parents[2])])}
    program = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], env=os.environ | places)
    while not (begun := list((tmp_path / "seen").glob("0-*"))):
        time.sleep(0.02)
    worker = psutil.Process(int(begun[0].name.partition("-")[2]))
    program.kill()
    program.wait()
    try:
        worker.wait(600)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def test_results_that_wait_are_bounded_by_their_bytes(
    make: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAITING_BYTES", 1)  # any result that waits is too much
    taken: list[int] = []

    def items() -> Iterator[tuple[str, int]]:
        for number in range(20):
            taken.append(number)
            yield ("slow" if not number else "", number)

    found = []
    for result in ordered_map(make, items(), workers=2, timeout=60):
        if not found:
            assert len(taken) <= 3, "the first, and one for the other process that then waits"
        found.append(result)
    assert found == [10 * number for number in range(20)]
