"""What the command line tells on its own account: warnings, bugs, mistyped commands; no password is told."""

import codecs
import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

from typer.core import TyperGroup

from pipeline.core.credentials import masked
from pipeline.core.files import escaped
from pipeline.core.shown import say
from pipeline.core.switches import leave_nothing


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
    if category.__module__.partition(".")[0] == "pipeline":
        say(escaped(f"warning: {message}"), err=True)
    else:
        say(warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n"), err=True)


def option_shown(word: str) -> str:
    """A word of the command line; if it is an option, its name as it can be shown, for it may be refused.

    A file whose name begins with a dash is one, where a shell puts names in place of `*`.
    """
    name, equals, value = word.partition("=")
    return escaped(name) + equals + value if name.startswith("-") else word


def shown(error: UnicodeError) -> tuple[str, int]:
    r"""What is written for characters that a terminal or pipe cannot take: `\x..` for a byte of a file name.

    Examples
    --------
    >>> import codecs
    >>> codecs.register_error("shown", shown)
    >>> "Zoë…\udcff".encode("ascii", "shown")
    b'Zo\\u00eb\\u2026\\xff'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    bytes_too = [
        f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else f"\\u{ord(char):04x}"
        for char in text
    ]
    return "".join(bytes_too), error.end


def speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode, where the locale has file names in another encoding.

    Libraries take every path for UTF-8, and so are params.yaml and labels written. What is printed stays in
    the encoding of the locale.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"
    leave_nothing()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def speak_as_the_locale() -> None:
    """Let no character end a command that the terminal or pipe cannot take: see `shown`."""
    codecs.register_error("shown", shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="shown")


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
