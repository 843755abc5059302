"""A pool of processes that outlives what the work does to them.

Decoders and detectors are C code fed with files that nobody has vetted: a process may crash, hang or be
killed for want of memory. Here that costs the one item it had in hand. The standard library's pools give
up as a whole when a process dies, and cannot end one that hangs.
"""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from pipeline.core import processes
from pipeline.core.errors import WORKER_LOST, UserError

T = TypeVar("T")
R = TypeVar("R")

# A process that dies with an item in hand may be the victim of its neighbours' memory; twice is no chance.
ATTEMPTS = 2
TIMEOUT = 60.0
"""Seconds that an image may take where nobody says otherwise."""
AHEAD_PER_WORKER = 32
WAITING_BYTES = 128 * 2**20
"""Of results that wait for an older one. Above, no new work is begun; what is in hand comes on top."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DLIB_NUM_THREADS")

# In a worker process, the pipe to the one that gives it work.
_giver: Connection | None = None


@dataclass(frozen=True)
class Lost:
    """What stands for the result of an item that has none: `worker_died` or `timeout`, and a sentence."""

    reason: str
    detail: str


@dataclass
class _Worker(Generic[T]):
    """A process with the item it has in hand."""

    process: BaseProcess
    connection: Connection
    index: int
    item: T
    started: bool = False
    deadline: float = float("inf")


def ordered_map(
    make: Callable[[], Callable[[T], R]], items: Iterable[T], *, workers: int, timeout: float
) -> Generator[R | Lost, None, None]:
    """Apply a function to items in separate processes; results come in the items' order.

    Items are taken from the iterable as they are needed, at most 32 per worker ahead of the oldest
    unfinished one and none while 128 MB of results wait for it, so that memory stays bounded. A process that
    dies is replaced, and its item tried once more in a fresh one. When the generator is closed, all its
    processes end.

    Parameters
    ----------
    make
        Called once in every process, makes the function. It, the items and the results must pickle.
    items
        The work.
    workers
        How many processes, each with one thread.
    timeout
        Seconds an item may take; its process is killed then.

    Yields
    ------
    object
        For each item the function's result, or `Lost`. An exception of the function is raised here.

    Raises
    ------
    UserError
        When a process is killed before it is ready for work.
    RuntimeError
        When it ends otherwise by then.
    """
    pool = _Pool(make, timeout)
    supply = enumerate(items)
    following = 0
    try:
        while True:
            while following in pool.done:
                pool.waiting -= pool.sizes.pop(following, 0)
                yield pool.done.pop(following)
                following += 1
            while len(pool.busy) < workers:
                if pool.again:
                    pool.give(*pool.again.popleft())
                    continue
                near = pool.newest < following + AHEAD_PER_WORKER * workers
                within_reach = near and pool.waiting < WAITING_BYTES
                task = next(supply, None) if within_reach else None
                if task is None:
                    break
                pool.give(*task)
            if not pool.busy:
                return
            pool.collect()
    finally:
        pool.close()


@dataclass
class _Pool(Generic[T, R]):
    """The processes of one `ordered_map`, their work and what has come of it."""

    make: Callable[[], Callable[[T], R]]
    timeout: float
    idle: list[_Worker[T]] = field(default_factory=list)
    busy: list[_Worker[T]] = field(default_factory=list)
    again: deque[tuple[int, T]] = field(default_factory=deque)
    done: dict[int, R | Lost] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    sizes: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    newest: int = -1

    def give(self, index: int, item: T) -> None:
        """Hand an item to an idle process, or to a new one."""
        self.newest = max(self.newest, index)
        while self.idle:
            worker = self.idle.pop()
            worker.index, worker.item = index, item
            worker.deadline = time.monotonic() + self.timeout
            try:
                worker.connection.send(item)
            except OSError:  # it died while it had nothing in hand: no item is to blame
                _end(worker)
                continue
            self.busy.append(worker)
            return
        with _without_interruption():
            worker = _start(self.make, index, item)
            self.busy.append(worker)
        with contextlib.suppress(OSError):  # it is dead already: reading from it will say so
            worker.connection.send(item)

    def collect(self) -> None:
        """Wait for the next messages, deaths or deadlines and act on them."""
        nearest = min(worker.deadline for worker in self.busy)
        patience = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
        ready = wait([worker.connection for worker in self.busy], patience)
        for worker in [worker for worker in self.busy if worker.connection in ready]:
            try:
                message = worker.connection.recv_bytes()
            except (EOFError, OSError):
                self.bury(worker)
                continue
            kind, content = reduction.ForkingPickler.loads(message)  # as recv does, which tells no size
            if kind == "raised":
                raise content
            if kind == "ready":
                worker.started = True
                worker.deadline = time.monotonic() + self.timeout
            elif kind == "loading":
                worker.deadline = float("inf")
            else:
                self.done[worker.index] = content
                self.sizes[worker.index] = len(message)
                self.waiting += len(message)
                self.busy.remove(worker)
                self.idle.append(worker)
        # Results may have waited in the pipe while this process was busy elsewhere: only silence is late.
        now = time.monotonic()
        for worker in [one for one in self.busy if one.deadline <= now and not one.connection.poll()]:
            self.busy.remove(worker)
            _end(worker)
            detail = f"it took longer than the time limit of {self.timeout:g} s"
            self.done[worker.index] = Lost("timeout", detail)

    def bury(self, worker: _Worker[T]) -> None:
        """Take leave of a process that died, and decide what becomes of its item."""
        self.busy.remove(worker)
        cause = _cause_of_death(worker)
        killed = worker.process.exitcode == -signal.SIGKILL
        _end(worker)
        if not worker.started:
            if killed:
                raise UserError(WORKER_LOST)
            raise RuntimeError(f"a worker process ended before it was ready ({cause})")
        self.deaths[worker.index] += 1
        if self.deaths[worker.index] < ATTEMPTS:
            self.again.append((worker.index, worker.item))
        else:
            detail = f"the process working on it ended {ATTEMPTS} times ({cause})"
            self.done[worker.index] = Lost("worker_died", detail)

    def close(self) -> None:
        """End all processes at once."""
        for worker in self.idle + self.busy:
            _end(worker)


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    """Put Ctrl-C off until the end of the block; a process begun in it gets none, not even at first."""
    processes.ensure_tracker()  # multiprocessing starts it when needed, and lets Ctrl-C through then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make: Callable[[], Callable[[T], R]], index: int, item: T) -> _Worker[T]:
    here, there = processes.SPAWN.Pipe()
    process = processes.SPAWN.Process(target=_serve, args=(there, make), daemon=True)
    process.start()
    there.close()  # so that the other end's closing is noticed here
    return _Worker(process, here, index, item)


def _end(worker: _Worker[T]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _cause_of_death(worker: _Worker[T]) -> str:
    worker.process.join(1)
    code = worker.process.exitcode
    if code is None:
        return "it closed its pipe"
    if code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Stop the clock on the item that this process works on, if it is a pool's: something must be loaded.

    Loading what a process needs once, such as a large library, may take longer than an item. The item's time
    begins anew afterwards.

    Examples
    --------
    >>> with untimed():
    ...     import json
    """
    if _giver is not None:
        _giver.send(("loading", None))
    yield
    if _giver is not None:
        _giver.send(("ready", None))


def _serve(connection: Connection, make: Callable[[], Callable[[T], R]]) -> None:
    """Work on one item after the other until the other end of the pipe closes."""
    global _giver
    if (parent := multiprocessing.parent_process()) is not None:
        processes.end_with(parent.pid or 0)  # what hangs does not see the pipe close
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends us
    for variable in THREAD_VARIABLES:  # dlib and torch read them when they are first imported, which is later
        os.environ[variable] = "1"
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            function = make()
            _giver = connection
            connection.send(("ready", None))
            while True:
                item = connection.recv()
                connection.send(("done", function(item)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            connection.send(("raised", error))
