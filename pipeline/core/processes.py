"""How this package starts processes: fresh ones, which import what is installed, not the calling script."""

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.shield import lock, shield, shielded, trusted


class _Start(Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        check_flags()
        with shielded(), lock:
            path, main = sys.path, sys.modules["__main__"]
            sys.path = trusted(path)
            # workers run our code alone: the script may lie anywhere, and needs no guard around its calls
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                sys.path, sys.modules["__main__"] = path, main


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:
        return _Start(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (), self.__dict__


def _received() -> _Process:
    """In the new process, which is ours alone, what it is to do: before that is loaded, the shield is up."""
    shield()
    return _Process.__new__(_Process)


class Spawn(SpawnContext):
    """multiprocessing's `spawn`, whose processes neither import from the current folder nor run the script.

    Examples
    --------
    >>> from concurrent.futures import ProcessPoolExecutor
    >>> with ProcessPoolExecutor(1, SPAWN) as pool:
    ...     pool.submit(abs, -1).result()
    1
    """

    Process = _Process


SPAWN = Spawn()


_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Let this process, on Linux, be killed when its parent ends: nobody would wait for what it does.

    For a new process, which the thread started that waits for it: it is with that thread that it ends.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def loading() -> BaseContext | None:
    """The context of torch's loaders: a fork, which imports nothing, where that is usual; else `SPAWN`."""
    return None if multiprocessing.get_start_method() == "fork" else SPAWN


def ensure_tracker() -> None:
    """Start multiprocessing's own process, which it would start when first needed."""
    check_flags()
    with shielded():
        resource_tracker.ensure_running()


def check_flags() -> None:
    """Refuse `python -E`, which passes itself on and lets no variable say that the path be safe."""
    if sys.flags.ignore_environment and not sys.flags.safe_path:
        raise UserError(
            "Python was started with -E, so that its worker processes would import modules from the current "
            "folder: start it with -I or -P as well, or without -E"
        )
