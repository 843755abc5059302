"""What all stages share: parameters in, a summary and the running time out."""

import json
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.credentials import masked_tree
from pipeline.core.errors import UserError
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

    with by_itself(name, label), kept_if_refused(name, options):
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


@contextmanager
def kept_if_refused(name: str, options: Mapping[str, str]) -> Iterator[None]:
    """Say which results of an earlier run stay where a stage refuses: nobody takes them for its own."""
    before = {path: state(path) for path in results(name, options)}
    try:
        yield
    except UserError as error:
        left = [str(path) for path, earlier in before.items() if earlier and state(path) == earlier]
        if not left:
            raise
        raise UserError(f"{error}; what an earlier run wrote stays: {', '.join(left)}") from None


def results(name: str, options: Mapping[str, str]) -> list[Path]:
    """What a stage writes, by the dvc.yaml of this folder, if there is one."""
    try:
        stage = YAML(typ="safe").load(Path("dvc.yaml"))["stages"][name]
        paths = [str(path) for out in [*stage["outs"], *stage.get("metrics", [])] for path in out]
    except (OSError, YAMLError, LookupError, TypeError):
        return []
    for option, value in options.items():
        paths = [path.replace(f"${{item.{option}}}", value) for path in paths]
    return [Path(path) for path in paths]


def state(path: Path) -> set[tuple[Path, int, int]]:
    """Which files lie at a place: one that is replaced, as all of ours are, has another inode."""
    found = {file: file.stat() for file in (path, *path.rglob("*")) if file.is_file()}
    return {(file, status.st_ino, status.st_mtime_ns) for file, status in found.items()}


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
