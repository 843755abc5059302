"""Progress bars on standard error, shown only where a person watches."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipeline.core.files import escaped

T = TypeVar("T")


class Description(ProgressColumn):
    """What a task is called, as text: names of files in it are no markup."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        return Text(escaped(task.description))


def bar() -> Progress:
    """A progress display with count and times, silent when standard error is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        Description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items of an iterable while a bar shows how many have gone by."""
    with bar() as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)
