"""What a tracker does, and several of them as one that never fails."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.core.tables import first_line

Scalar = bool | int | float | str | None


class Tracker(ABC):
    """Records one run, from `start` to `end`."""

    @abstractmethod
    def start(self, run: str) -> None:
        """Begin a run; one of the same name is replaced, or stands beside it, as the tracker does."""

    @abstractmethod
    def params(self, values: Mapping[str, Scalar]) -> None:
        """What the run was made from, by dotted names."""

    @abstractmethod
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by names with slashes: of one step (an epoch, a member, a trial), or of the whole run."""

    @abstractmethod
    def figure(self, name: str, path: Path) -> None:
        """A picture."""

    @abstractmethod
    def artefact(self, path: Path) -> None:
        """A small file to keep."""

    @abstractmethod
    def end(self, failed: bool = False) -> None:
        """End the run."""


class Trackers(Tracker):
    """Several trackers at once. One that fails is named once and left out; the run goes on.

    Parameters
    ----------
    makers
        By name, what makes each tracker.
    warn
        Told in one sentence that a tracker failed.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]], warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.working: dict[str, Tracker] = {}
        for name, make in makers.items():
            self._guarded(name, lambda name=name, make=make: self.working.update({name: make()}))  # type: ignore[misc]

    def _guarded(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        # whatever a tracker's service, disk or version does must not cost the user a night's training
        except Exception as error:  # noqa: BLE001
            self.working.pop(name, None)
            self.warn(f"the tracker {name} records no more: {first_line(error)}")

    def _each(self, act: Callable[[Tracker], object]) -> None:
        for name, tracker in list(self.working.items()):
            self._guarded(name, lambda tracker=tracker: act(tracker))  # type: ignore[misc]

    def start(self, run: str) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.start(run))

    def params(self, values: Mapping[str, Scalar]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.params(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.metrics(values, step))

    def figure(self, name: str, path: Path) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.figure(name, path))

    def artefact(self, path: Path) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.artefact(path))

    def end(self, failed: bool = False) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.end(failed))
