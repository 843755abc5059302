"""What the attacks share: how many cases, and a process that is watched while it works on each.

`make fuzz` runs every case (FUZZ=1); a plain test run takes a fixed sample of them, the same each time.
"""

import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("FUZZ") == "1"
LONGEST = 10.0
"""Seconds of CPU time that one file may take; `make fuzz` alone holds it: no test depends on the machine."""
LARGEST = 700 * 2**20
"""Bytes that one file may cost, above what the process had before."""
PATIENCE = 300.0
"""Seconds after which a case counts as hanging, on any machine."""


@dataclass(frozen=True)
class Watched:
    """What one case came to: a result, or the exception that was raised, or how the process ended."""

    result: Any = None
    raised: BaseException | None = None
    died: str | None = None
    seconds: float = 0.0
    rise: int = 0
    worked: float = 0.0
    """Seconds of CPU time, those of its own processes as well."""
    reserved: int = 0
    """Bytes that the process had asked for before, and not used."""

    def within_limits(self) -> bool:
        """Whether it cost no more than a file may."""
        return self.died is None and self.rise <= LARGEST and (not FULL or self.worked <= LONGEST)


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in text.splitlines() if line.startswith(field)).split()[1])


def _children() -> int:
    """The largest peak of a process that this one started and that has ended."""
    return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _worked() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _work(function: Callable[[Any], Any], items: Sequence[Any], pipe: Any) -> None:
    for item in items:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before, children = _status("VmRSS"), _children()
        reserved = max(0, _status("VmData") - before)
        start, worked = time.perf_counter(), _worked()
        result, raised = None, None
        try:
            result = function(item)
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            raised = error
        seconds, peaks = time.perf_counter() - start, [_status("VmHWM")]
        if _children() > children:  # a process of its own took more than any before
            peaks.append(_children())
        rise, worked = max(peaks) - before, _worked() - worked
        try:
            pipe.send(Watched(result, raised, None, seconds, rise, worked, reserved))
        except Exception:  # noqa: BLE001 - what cannot be pickled is told as text
            pipe.send(Watched(None, AssertionError(f"{result!r} {raised!r}"), None, seconds, rise, worked))
    pipe.close()


def watch(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Watched]:
    """Call a function with each item in a process of its own; one that dies or hangs costs its item alone."""
    left = list(items)
    context = multiprocessing.get_context("fork")  # tests are no modules that a fresh process could import
    while left:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(function, left, there))
        process.start()
        there.close()
        try:
            while left:
                if not here.poll(PATIENCE):
                    yield Watched(died=f"no answer after {PATIENCE:g} s", seconds=PATIENCE)
                    left = left[1:]
                    break
                try:
                    outcome = here.recv()
                except EOFError:
                    process.join(5)
                    yield Watched(died=f"exit code {process.exitcode}")
                    left = left[1:]
                    break
                yield outcome
                left = left[1:]
        finally:
            with contextlib.suppress(AttributeError):
                process.kill()
            process.join()
            here.close()


@pytest.fixture(scope="session")
def watched() -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Watched]]:
    """`watched(function, items)`: what came of each item, in order."""
    return watch


@pytest.fixture(scope="session")
def cases() -> Callable[[int, int], int]:
    """`cases(full, sample)`: how many to make, under `make fuzz` and in a plain test run."""
    return lambda full, sample: full if FULL else sample
