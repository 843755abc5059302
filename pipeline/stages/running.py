"""What all stages share: parameters in, a summary and the running time out."""

import json
import platform
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

from pipeline.core.credentials import masked_tree
from pipeline.core.files import escaped
from pipeline.core.machine import available_cores
from pipeline.core.places import alone
from pipeline.core.shown import say
from pipeline.core.tables import atomic_file
from pipeline.stages import apart, locations

Summary = dict[str, str | int | float]
SHARED = ("study",)
RECORDED = ("train", "study", "evaluate", "report")


class Detailed(dict[str, str | int | float]):
    """A summary with what is too much for the screen: `details` go into the log alone."""

    def __init__(self, summary: Summary, **details: list[float] | str) -> None:
        super().__init__(summary)
        self.details = details


def run_stage(
    name: str, workers: int | None, private: Mapping[str, Any] | None = None, **options: str
) -> None:
    """Run one stage, print its summary and note its running time in logs/, outside DVC.

    `options` are those of a stage that dvc.yaml runs once for each of several items; `private` ones, such as
    an address with a password, are neither printed nor logged.
    """
    settings = apart.load()
    stage = import_module(f"pipeline.stages.{name}")
    workers = workers or available_cores()
    label = "-".join([name, *options.values()])

    def act() -> tuple[Summary, float]:
        start = time.perf_counter()
        summary: Summary = stage.run(settings, workers, **options, **(private or {}))
        return summary, time.perf_counter() - start

    with by_itself(name, label):
        if name in RECORDED and settings.tracking.trackers:
            # by name, as the stage itself: nothing that a stage writes depends on who watches it
            watched = import_module("pipeline.stages.tracked")
            summary, seconds = watched.recorded(settings, label, name, options, act)
        else:
            summary, seconds = act()
        write_log(label, seconds, workers, summary)
    print_summary(label, seconds, summary)


def by_itself(name: str, label: str) -> AbstractContextManager[None]:
    """What refuses a second run of a stage while one is at work in this folder, but for a study's."""
    if name in SHARED:
        return nullcontext()
    lock = locations.LOGS / f".{re.sub(r'[^A-Za-z0-9_.-]', '_', label)}.lock"
    return alone(lock, f"another vec2age {name} is at work in this folder: wait until it has ended")


def write_log(label: str, seconds: float, workers: int, summary: Summary) -> None:
    """Keep what differs from run to run apart from what DVC compares."""
    entry = {
        "stage": label,
        "seconds": round(seconds, 3),
        "workers": workers,
        "cores": available_cores(),
        "machine": platform.machine(),
        "summary": masked_tree(summary),
        **(summary.details if isinstance(summary, Detailed) else {}),
    }
    with atomic_file(locations.LOGS / f"{label}.json") as file:
        file.write(json.dumps(entry, indent=2).encode() + b"\n")


def print_summary(label: str, seconds: float, summary: Summary) -> None:
    """Print a stage's counts as an aligned block."""
    print_counts(f"{label}: {seconds:.1f} s", summary)


def print_counts(heading: str, summary: Mapping[str, str | int | float]) -> None:
    """Print counts under a heading."""
    width = max((len(key) for key in summary), default=0)
    say(heading)
    for key, value in summary.items():
        say(escaped(f"  {key:<{width}}  {value}"))
