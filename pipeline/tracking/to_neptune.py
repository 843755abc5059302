"""Neptune: files under .neptune/, or a server of one's own.

The hosted service closed on 5 March 2026. What remains is `offline`, whose files `neptune sync` can send to a
self-hosted server later, and `async` to such a server: its address is part of the token in NEPTUNE_API_TOKEN.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import neptune
from neptune.utils import stringify_unsupported

from pipeline.core.errors import UserError
from pipeline.tracking.tracker import Scalar, Tracker


class Neptune(Tracker):
    """One run in Neptune.

    Parameters
    ----------
    mode
        `offline` or `async`.
    project
        workspace/name on the server; None takes NEPTUNE_PROJECT.

    Raises
    ------
    UserError
        `async` without a token: the client would look for the hosted service.
    """

    def __init__(self, mode: Literal["offline", "async"] = "offline", project: str | None = None) -> None:
        if mode != "offline" and not os.environ.get("NEPTUNE_API_TOKEN"):
            raise UserError(
                "NEPTUNE_API_TOKEN is not set: put the token of your own server there, or set "
                "tracking.neptune.mode to offline"
            )
        logging.getLogger("neptune").setLevel(logging.WARNING)
        self.mode, self.project = mode, project
        self.run: Any = None

    def start(self, run: str) -> None:
        """See `Tracker`."""
        self.run = neptune.init_run(
            name=run,
            mode=self.mode,
            project=self.project,
            source_files=[],
            git_ref=False,  # the revision is among the parameters, and differences in code stay here
            capture_stdout=False,
            capture_stderr=False,
            capture_traceback=False,
            capture_hardware_metrics=False,
        )

    def params(self, values: Mapping[str, Scalar]) -> None:
        """See `Tracker`."""
        self.run["parameters"] = stringify_unsupported(
            {name.replace("/", "_").replace(".", "/"): value for name, value in values.items()}
        )

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            if step is None:
                self.run[f"metrics/{name}"] = float(value)
            else:
                self.run[f"series/{name}"].append(float(value), step=step)

    def figure(self, name: str, path: Path) -> None:
        """See `Tracker`."""
        self.run[f"figures/{name}"].upload(str(path))

    def artefact(self, path: Path) -> None:
        """See `Tracker`."""
        self.run[f"artefacts/{path.stem}"].upload(str(path))

    def end(self, failed: bool = False) -> None:
        """See `Tracker`."""
        self.run["failed"] = failed
        self.run.stop()
