"""vec2age: labelled face photographs in, a regression model with an honest error out."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("vec2age")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # torch and dlib are imported by whoever predicts, not by whoever asks for the version
    if name == "predict":
        return import_module("pipeline.serving.run").predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
