"""A reader at work in a process of its own, with limits on memory and time.

Labels come from strangers, and a small file can ask any parser for all the memory or time there is. So a
reader runs in a forked process: what it may take grows with the files it parses, and one that takes more ends
in a sentence while this process goes on. What comes back is text and Arrow, nothing that could be executed.
The process is forked and not started anew, so that it imports nothing from the current folder.
"""

import json
import math
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import pyarrow as pa

from pipeline.core.errors import UserError, sentence_of
from pipeline.core.processes import end_with
from pipeline.core.rejects import SCHEMA, Rejects

ROOM = 512 << 20
"""Bytes of memory for any file."""
ROOM_PER_BYTE = 32
"""Further bytes of memory for each byte of the files that are parsed; Python's rows take about 20."""
WORK = 8.0
"""Seconds of processor time for any file."""
WORK_PER_BYTE = 2e-6
"""Further seconds for each byte of the files that are parsed."""
EXPANDS = {".gz": 4, ".parquet": 4, ".pq": 4}
"""How many bytes each byte of a compressed file counts for, by the file's ending."""
IDLE = 60.0
"""Seconds beyond these that a file may take while its reader waits for a disk or for other programs."""
IDLE_PER_WORK = 8
LENGTH = struct.Struct("<Q")
DO = (
    "it is damaged, or made to exhaust a machine; if it is sound, split it, or save it as CSV or Parquet "
    "with fewer columns"
)
REFUSED = 17


class Watch:
    """In the reader's process: tells the parent which file is parsed, and limits memory by its size."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.sizes: dict[str, int] = {}
        self.size = self.before = 0

    def tell(self, kind: str, **told: Any) -> None:
        """Send one message."""
        data = json.dumps({"kind": kind, **told}).encode()
        self.pipe.write(LENGTH.pack(len(data)) + data)
        self.pipe.flush()

    def parse(self, path: Path) -> None:
        """Limit memory and time anew for what has been parsed and for this file."""
        if not self.sizes:
            self.before = in_use()
        size = path.stat().st_size * EXPANDS.get(path.suffix.lower(), 1)
        self.size += size - self.sizes.get(str(path), 0)
        self.sizes[str(path)] = size
        room = ROOM + ROOM_PER_BYTE * self.size
        self.tell("file", path=os.fsencode(path).hex(), size=self.size, room=room)
        self.limit(resource.RLIMIT_DATA, self.before + room)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        self.limit(resource.RLIMIT_CPU, math.ceil(spent.ru_utime + spent.ru_stime + work_for(self.size)))

    def done(self) -> None:
        """Lift the limits: what is done with honest rows takes as long, and as much, as it takes."""
        self.tell("parsed")
        self.limit(resource.RLIMIT_DATA, resource.RLIM_INFINITY)
        self.limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)

    def limit(self, kind: int, most: int) -> None:
        """Limit memory or time, to no more than whoever started this allows."""
        hard = resource.getrlimit(kind)[1]
        unlimited = resource.RLIM_INFINITY
        least = min((bound for bound in (most, hard) if bound != unlimited), default=unlimited)
        resource.setrlimit(kind, (least, hard))


def work_for(size: int) -> float:
    """The seconds of processor time for so many bytes of files with labels."""
    return WORK + WORK_PER_BYTE * size


_watch: Watch | None = None


def parsing(path: Path) -> None:
    """Say that a file from a stranger is about to be parsed; every reader does so before it does."""
    if _watch is not None:
        _watch.parse(path)


def parsed() -> None:
    """Say that all files with labels are parsed: hashing or opening images takes as long as it takes."""
    if _watch is not None:
        _watch.done()


def in_use() -> int:
    """The bytes of memory that count against the limit."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("VmData")).split()[1])


def within_limits(build: Callable[[Rejects], pa.Table], rejects: Rejects, source: Path) -> pa.Table:
    """What a reader makes, made within limits.

    Parameters
    ----------
    build
        The reader, given where to put what it leaves out.
    rejects
        Receives what the reader left out, also where it ends in an error.
    source
        What is read, for messages, until the reader says which file it parses.

    Raises
    ------
    UserError
        Of the reader; or it took more memory or time than such files may.
    """
    if sys.platform != "linux":  # elsewhere memory has no such limit
        return build(rejects)
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with(parent)
        os.close(reading)
        _work(build, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            return _listen(pipe, child, rejects, source)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _work(build: Callable[[Rejects], pa.Table], writing: int) -> NoReturn:
    """The forked process: build, send, end."""
    global _watch
    status = 1
    try:
        with os.fdopen(writing, "wb") as pipe, warnings.catch_warnings():
            _watch = watch = Watch(pipe)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_: watch.tell(
                "warning", text=str(message), module=category.__module__, name=category.__qualname__
            )
            rejects = Rejects()
            table, error, bug = None, None, None
            try:
                table = build(rejects)
            except UserError as problem:
                error = str(problem)
            except MemoryError:
                os._exit(REFUSED)
            except OSError as problem:
                error = sentence_of(problem)
            except BaseException:  # noqa: BLE001 - told with its traceback
                bug = traceback.format_exc()
            more = [[*key, count] for key, count in rejects.more.items()]
            watch.tell("end", error=error, bug=bug, more=more)
            for part in (pa.Table.from_pylist(rejects.rows, schema=SCHEMA), table):
                if part is not None:
                    with pa.ipc.new_stream(pipe, part.schema) as stream:
                        stream.write_table(part)
        sys.stderr.flush()
        status = 0
    except MemoryError:
        status = REFUSED
    finally:
        os._exit(status)


def _listen(pipe: IO[bytes], child: int, rejects: Rejects, source: Path) -> pa.Table:
    """Follow a reader at work up to what it made."""
    deadline: float | None = None
    room = work = 0.0
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            raise UserError(f"{source} could not be read in {IDLE + IDLE_PER_WORK * work:.0f} s: {DO}")
        try:
            told = json.loads(_take(pipe, LENGTH.unpack(_take(pipe, LENGTH.size))[0]))
        except EOFError:
            raise UserError(_refusal(source, room, work, child)) from None
        if told["kind"] == "file":
            source, room = Path(os.fsdecode(bytes.fromhex(told["path"]))), told["room"]
            work = work_for(told["size"])
            deadline = time.monotonic() + IDLE + IDLE_PER_WORK * work
        elif told["kind"] == "parsed":
            deadline = None
        elif told["kind"] == "warning":
            found = getattr(sys.modules.get(told["module"]), told["name"], UserWarning)
            warnings.warn(told["text"], found, stacklevel=4)
        else:
            break
    try:
        rejects.extend(_table(pipe).to_pylist())
        for stage, reason, path, count in told["more"]:
            rejects.more[stage, reason, path] += count
        if told["bug"]:
            raise RuntimeError(told["bug"])
        if told["error"] is not None:
            raise UserError(told["error"])
        return _table(pipe)
    except (pa.ArrowException, EOFError):
        raise UserError(_refusal(source, room, work, child)) from None


def _refusal(source: Path, room: float, work: float, child: int) -> str:
    """The sentence for a process that ended before it had answered."""
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if ended is not None and ended.si_status == signal.SIGXCPU:
        return f"{source} takes more than {work:.0f} s to read: {DO}"
    if not room:
        return f"{source} cannot be read: the process that read it ended; {DO}"
    return f"{source} takes more than {int(room) >> 20} MiB of memory to read, or ends its reader: {DO}"


def _take(pipe: IO[bytes], count: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < count:
        piece = pipe.read(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _table(pipe: IO[bytes]) -> pa.Table:
    """The next table, checked."""
    with pa.ipc.open_stream(_Exact(pipe)) as stream:
        table: pa.Table = stream.read_all()
    table.validate(full=True)
    return table


class _Exact:
    """A pipe that gives as many bytes as are asked for, and stays open when one table ends."""

    closed = False

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe

    def read(self, count: int) -> bytes:
        """So many bytes."""
        return _take(self.pipe, count) if count > 0 else b""

    def close(self) -> None:
        """Leave the pipe open for the next table."""
