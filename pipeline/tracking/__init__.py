"""Who records what was run: DVCLive, MLflow and Neptune behind one small interface.

Nothing is sent anywhere unless an address that was given says so, and no tracker is imported before it is
asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.registry import Registry
from pipeline.tracking.tracker import Scalar, Tracker, Trackers

__all__ = ["REGISTRY", "Scalar", "Tracker", "Trackers", "build"]

REGISTRY: Registry[Tracker] = Registry(
    "tracker",
    {
        "dvclive": "pipeline.tracking.to_dvclive:DVCLive",
        "mlflow": "pipeline.tracking.to_mlflow:MLflow",
        "neptune": "pipeline.tracking.to_neptune:Neptune",
    },
)


def build(settings: Mapping[str, Mapping[str, Any]], warn: Callable[[str], None]) -> Trackers:
    """Several trackers as one, none of which can stop a run.

    Parameters
    ----------
    settings
        By a name of `REGISTRY`, that tracker's own settings.
    warn
        Told in one sentence when a tracker fails, once for each.

    Examples
    --------
    >>> trackers = build({"dvcliv": {}}, warn=print)
    the tracker dvcliv records no more: unknown tracker 'dvcliv': choose one of dvclive, mlflow, neptune
    >>> trackers.start("train")
    """

    def maker(name: str, own: Mapping[str, Any]) -> Callable[[], Tracker]:
        return lambda: REGISTRY.build(name, **own)

    return Trackers({name: maker(name, own) for name, own in settings.items()}, warn)
