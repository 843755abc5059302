"""What the command line tells on its own account: warnings, bugs, mistyped commands; no password is told."""

import contextlib
import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from pipeline.credentials import masked


class Group(TyperGroup):
    """Commands whose usage errors repeat what was typed, but for passwords in it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `TyperGroup`."""
        return self._told(super().parse_args, ctx, args)  # type: ignore[no-any-return]

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup`."""
        return self._told(super().invoke, ctx)

    def _told(self, act: Any, *words: Any) -> Any:
        try:
            return act(*words)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = masked(message)  # type: ignore[attr-defined]
            raise


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of ours as a sentence, and any other as Python does."""
    if category.__module__.partition(".")[0] == __package__:
        typer.echo(masked(f"warning: {message}"), err=True)
    else:
        told = warnings.formatwarning(message, category, filename, lineno, line)
        typer.echo(masked(told), err=True, nl=False)


def hide_in_logs() -> None:
    """Let what libraries log hide passwords, until the program ends."""
    logging.setLogRecordFactory(_record)


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    made = logging.LogRecord(*args, **kwargs)
    with contextlib.suppress(TypeError, ValueError, KeyError):  # words that do not fit; logging says so later
        message = made.getMessage()
        if masked(message) != message:
            made.msg, made.args = masked(message), ()
    return made


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, as `sys.excepthook`; passwords in it are hidden."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))
