"""Counts the moments that a command passes, in all of its processes, and kills at one of them.

A moment is a file opened for writing, renamed, removed; a folder made or removed; a database opened; and, in
the command's own process, a garbage collection, which happens while it computes. None depends on a clock.
As sitecustomize it is imported by every process that Python starts. Where one worker is to die, only
moments of workers count, be they started or forked; the file of the moments says that one did die.
"""

import gc
import os
import signal
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "sqlite3.connect")
STARTED = "--multiprocessing-fork" in sys.orig_argv
FORKED = sys.orig_argv[-1].endswith("forks.py")
DIED = b"!"


def is_worker() -> bool:
    """Whether this process works for the command; multiprocessing's own, which only tidies up, does not."""
    return STARTED or (FORKED and os.getpid() != int(os.environ["CHAOS_MAIN"]))


def install(computing: bool) -> None:
    """Begin to count, and collections too where the process computes."""
    log = os.open(os.environ["CHAOS_TICKS"], os.O_RDWR | os.O_APPEND)
    at, who = int(os.environ["CHAOS_AT"]), os.environ["CHAOS_WHO"]

    def tick() -> None:
        if who == "worker" and not is_worker():
            return
        os.write(log, b".")
        passed = os.fstat(log).st_size
        if who == "group" and 0 < at <= passed:
            os.killpg(0, signal.SIGKILL)
        elif who == "worker" and 0 < at <= passed and DIED not in os.pread(log, passed, 0):
            os.write(log, DIED)
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event: str, arguments: tuple) -> None:
        if event in EVENTS or (event == "open" and arguments[2] and arguments[2] & WRITING):
            tick()

    def collected(phase: str, _: dict) -> None:
        if phase == "start":
            tick()

    sys.addaudithook(heard)
    if who == "worker":
        os.register_at_fork(after_in_child=tick)
    if computing:
        gc.callbacks.append(collected)


if os.environ.get("CHAOS_TICKS"):
    install(computing=STARTED and os.environ["CHAOS_WHO"] == "worker")
