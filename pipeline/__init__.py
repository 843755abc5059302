"""vec2age: labelled face photographs in, a regression model with an honest error out."""

from typing import Any

from pipeline.core.shield import shielded
from pipeline.core.switches import report_nothing

report_nothing()


def __getattr__(name: str) -> Any:
    # torch and dlib are imported by whoever predicts, not by whoever asks for the version
    if name == "predict":
        with shielded():
            from pipeline.serving.run import predict

            return predict
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("vec2age")
        except PackageNotFoundError:  # running from a source tree that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
