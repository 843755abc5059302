"""DVCLive: files under dvclive/, which `dvc metrics`, `dvc plots` and `dvc exp` show.

All runs of the project share one folder, so that dvc.yaml names it once: the metrics of run
`train-fixed-adam` are nested under that name in dvclive/metrics.json, their series lie in
dvclive/plots/metrics/train-fixed-adam/. DVC tracks none of it: running times, which no two runs share, are
among it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from dvclive.live import Live
from dvclive.serialize import dump_yaml

from pipeline.core.errors import UserError
from pipeline.core.tables import atomic_file
from pipeline.tracking.tracker import Scalar, Tracker

FOLDER = "dvclive"


class DVCLive(Tracker):
    """One run in the project's dvclive folder; a former run of the same name is replaced.

    Parameters
    ----------
    folder
        Where to write.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = Path(folder)
        self.run = ""
        self.live: Live | None = None

    def start(self, run: str) -> None:
        """See `Tracker`."""
        self.run = run
        for kind in ("metrics", "images"):
            shutil.rmtree(self.folder / "plots" / kind / run, ignore_errors=True)
        shutil.rmtree(self.place, ignore_errors=True)
        self._forget(run)
        self.place.mkdir(parents=True, exist_ok=True)
        self.live = Live(str(self.folder), resume=True, save_dvc_exp=False, dvcyaml=None)

    @property
    def place(self) -> Path:
        """Where the run's parameters and files are kept."""
        return self.folder / "runs" / self.run

    @property
    def open(self) -> Live:
        """The run in progress."""
        if self.live is None:
            raise RuntimeError("no run was started")
        return self.live

    def params(self, values: Mapping[str, Scalar]) -> None:
        """See `Tracker`; every run has a file of its own, in DVCLive's form."""
        dump_yaml(dict(values), self.place / "params.yaml")

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """See `Tracker`; numbers of the whole run enter metrics.json, those of a step their series."""
        live = self.open
        if step is not None:
            live.step = step
        # a series of every step goes into its file alone: its last value is no result of the run
        summary = live.summary
        for name, value in values.items():
            live.log_metric(f"{self.run}/{name}", value, plot=step is not None)
            if step is not None:
                live.summary = summary

    def figure(self, name: str, path: Path) -> None:
        """See `Tracker`."""
        target = self.folder / "plots" / "images" / self.run / f"{name}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

    def artefact(self, path: Path) -> None:
        """See `Tracker`; DVCLive itself would put the file into DVC's cache."""
        shutil.copyfile(path, self.place / path.name)

    def end(self, failed: bool = False) -> None:
        """See `Tracker`."""
        self.metrics({"failed": int(failed)})
        self.open.end()
        self._forget("step")  # the last step of whichever series came last
        self.live = None

    def _forget(self, name: str) -> None:
        summary = self.folder / "metrics.json"
        if not summary.exists():
            return
        try:
            runs = dict(json.loads(summary.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{summary} is torn ({error}): remove it, the next runs write it again"
            ) from error
        runs.pop(name, None)
        with atomic_file(summary) as file:
            file.write(json.dumps(runs, indent=2).encode())
