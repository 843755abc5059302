"""MLflow: an SQLite file and a folder here, or a server whose address is given."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pipeline.tracking.tracker import Scalar, Tracker

# Its own seven retries, each after twice the pause, hold a training for minutes where no server answers.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

MOST_PARAMS, MOST_METRICS, LONGEST = 100, 1000, 6000
"""MLflow's bounds for one message, and for a parameter's text."""

T = TypeVar("T")


class MLflow(Tracker):
    """One run of an MLflow experiment; runs of the same name stand beside each other.

    Parameters
    ----------
    uri
        `sqlite:///mlflow.db`, or a server's address.
    experiment
        The experiment's name; it is made where there is none.
    folder
        Where artefacts of a new experiment are kept, if the experiment is an SQLite file's.
    """

    def __init__(
        self, uri: str = "sqlite:///mlflow.db", experiment: str = "vec2age", folder: str = "mlruns"
    ) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.client = MlflowClient(tracking_uri=uri)
        self.folder = Path(folder).resolve().as_uri() if uri.startswith("sqlite:") else None
        self.name = experiment
        self.run = ""

    def start(self, run: str) -> None:
        """See `Tracker`."""
        experiment = self.client.get_experiment_by_name(self.name)
        if experiment is None:
            with contextlib.suppress(MlflowException):  # another run may make it meanwhile
                self.client.create_experiment(self.name, artifact_location=self.folder)
            experiment = self.client.get_experiment_by_name(self.name)
        if experiment is None:
            raise RuntimeError(f"the experiment {self.name!r} cannot be made")
        self.run = self.client.create_run(experiment.experiment_id, run_name=run).info.run_id

    def params(self, values: Mapping[str, Scalar]) -> None:
        """See `Tracker`."""
        params = [Param(name, str(value)[:LONGEST]) for name, value in values.items()]
        for some in parts(params, MOST_PARAMS):
            self.client.log_batch(self.run, params=some)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """See `Tracker`."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step or 0) for name, value in values.items()]
        for some in parts(metrics, MOST_METRICS):
            self.client.log_batch(self.run, metrics=some)

    def figure(self, name: str, path: Path) -> None:
        """See `Tracker`."""
        self.client.log_artifact(self.run, str(path), artifact_path="figures")

    def artefact(self, path: Path) -> None:
        """See `Tracker`."""
        self.client.log_artifact(self.run, str(path))

    def end(self, failed: bool = False) -> None:
        """See `Tracker`."""
        self.client.set_terminated(self.run, status="FAILED" if failed else "FINISHED")


def parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
