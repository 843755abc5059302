"""What libraries would tell others, or write into the home folder, without being asked: switched off.

Imported with the package, before any library is: each reads its switch when it is imported itself.
"""

import os
import sys

OFF = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "true",  # DVCLive would tell an account that happens to be configured
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "do-not-track",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables that stop what is reported to a library's makers. Nobody asks for that by using this package."""


def report_nothing() -> None:
    """Set the switches of `OFF`, for this process and those that it starts, where the caller has set none.

    Somebody who sets one to report something has asked for it. An empty one asks for nothing.
    """
    os.environ.update({name: value for name, value in OFF.items() if not os.environ.get(name)})


_temporary: list[str] = []


def stay_out_of_home() -> None:
    """Keep Matplotlib's list of fonts and what Numba compiles in the virtual environment.

    Where there is none that can be written to, in a folder that goes when the program ends. For programs of
    ours alone: the settings of somebody's own script may well lie in the home folder.
    """
    if {"MPLCONFIGDIR", "NUMBA_CACHE_DIR"} <= os.environ.keys():
        return
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        place = os.path.join(sys.prefix, "share", "vec2age")
    else:
        import atexit
        import tempfile

        place = tempfile.mkdtemp(prefix="vec2age-")
        _temporary.append(place)
        atexit.register(leave_nothing)
        os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(place, "numba"))
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(place, "matplotlib"))


def leave_nothing() -> None:
    """Remove the folder that `stay_out_of_home` made, when the program ends or begins again."""
    import shutil

    for place in _temporary:
        shutil.rmtree(place, ignore_errors=True)
        for name in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
            if os.environ.get(name, "").startswith(place):
                del os.environ[name]
    _temporary.clear()
