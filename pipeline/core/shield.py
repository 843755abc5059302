"""Where modules come from: of what is installed, never of the folder that somebody happens to stand in.

Python puts the current folder (`-c`, `-m`, an empty entry of PYTHONPATH) or a script's own first on its path,
and multiprocessing starts processes by `python -c`. In a folder of other people's files, their `pickle.py`
would run. Libraries read settings there as well. This module is imported before any other, so that it imports
little.
"""

import contextlib
import os
import site
import sys
import threading
from collections.abc import Iterator, Sequence

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SETTINGS = {"matplotlib": "matplotlibrc", "numba": ".numba_config.yaml"}
"""Settings that a library reads in the current folder: a backend to import, a folder of pickles to load."""

lock = threading.RLock()
"""Held by whoever changes the path."""
_inside = 0
_outside: tuple[list[str], dict[str, str | None]] = ([], {})


def trusted(path: Sequence[str]) -> list[str]:
    """A module path without relative entries, the current folder and the folder of the script that runs.

    Where this package can be found in none of the others, its folder stays, behind all of them.
    """
    shunned = _implicit() - _installed()
    kept = [entry for entry in path if os.path.isabs(entry) and os.path.realpath(entry) not in shunned]
    dropped = {os.path.realpath(entry) for entry in path} - {os.path.realpath(entry) for entry in kept}
    return [*kept, PACKAGE] if os.path.realpath(PACKAGE) in dropped and not _found_without_path() else kept


def _implicit() -> set[str]:
    """Folders that Python itself may have put on the path."""
    folders = _of_script()
    with contextlib.suppress(OSError):  # it may have been removed
        folders.add(os.path.realpath(os.getcwd()))
    return folders


def _of_script() -> set[str]:
    """The folder of the script that runs, if one does."""
    main = sys.modules.get("__main__")
    script = getattr(main, "__file__", None)
    if not script or getattr(main, "__spec__", None) is not None:  # it was started as a module
        return set()
    return {os.path.realpath(os.path.dirname(script))}


def _installed() -> set[str]:
    """Folders of the installation, even for somebody who stands in one."""
    folders = [os.path.dirname(os.__file__), *site.getsitepackages(), site.USER_SITE or ""]
    return {os.path.realpath(folder) for folder in folders if folder}


def _found_without_path() -> bool:
    """Whether an editable installation names this package itself."""
    finders = [one for one in sys.meta_path if getattr(one, "__name__", "") != "PathFinder"]
    return any(one.find_spec("pipeline", None) is not None for one in finders)


def environment() -> dict[str, str]:
    """What makes a Python that is started do likewise from its first import on."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(e for e in trusted(given) if e != PACKAGE)}


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """In the block, imports find what is installed first, and processes that are started nothing else.

    What lies beside somebody's script is found last: what calls us may import it meanwhile.
    The path and the environment are the process's, so that blocks of several threads are one.
    """
    global _inside, _outside
    with lock:
        _inside += 1
        if _inside == 1:
            own, first = environment(), trusted(sys.path)
            _outside = sys.path, {name: os.environ.get(name) for name in own}
            beside = [one for one in sys.path if one and os.path.realpath(one) in _of_script()]
            sys.path = [*first, *(one for one in beside if one not in first)]
            os.environ.update(own)
    try:
        yield
    finally:
        with lock:
            _inside -= 1
            if _inside == 0:
                sys.path = _outside[0]
                for name, value in _outside[1].items():
                    os.environ.pop(name)
                    if value is not None:
                        os.environ[name] = value


def shield() -> None:
    """For the rest of a process of ours, nothing is found in the current folder: no module, no settings.

    Somebody's script that predicts keeps what Matplotlib and Numba read there: prediction imports neither.
    """
    os.environ.update(environment())
    sys.path[:] = trusted(sys.path)
    planted = [library for library, name in SETTINGS.items() if os.path.lexists(name)]
    if planted:
        _import_elsewhere(planted)


def _import_elsewhere(libraries: Sequence[str]) -> None:
    """Import libraries in a folder without settings of theirs, and let them read none here later."""
    with contextlib.chdir("/"):
        for library in libraries:
            __import__(library)
    if "numba" in libraries:
        from numba.core import config

        config._config_fname = os.devnull  # it looks again at every compilation
