"""Where a study keeps its trials: an embedded SQLite file, or a database server that machines share."""

import contextlib
import functools
import inspect
import os
import platform
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import psutil
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pipeline.core.credentials import masked
from pipeline.core.errors import UserError
from pipeline.core.tables import first_line

HEARTBEAT, GRACE = 15, 60
"""Seconds between two signs of life of a trial's worker, and after how many without one it is given away."""
TRIES = 4
FAILURES = (
    *(StorageInternalError, SQLAlchemyError, RuntimeError, OSError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError),
)
"""What SQLAlchemy, its drivers and Optuna raise over a database that is damaged, locked or another's."""
LOCKED = 60
"""Seconds that a worker waits for others that write into the same SQLite file."""


@contextlib.contextmanager
def answering(address: URL) -> Iterator[None]:
    """Say in one sentence what a study's database did, whatever is damaged in it.

    Optuna believes what it reads: other numbers, texts and states than its own end in exceptions of every
    kind, from SQLAlchemy's to a KeyError. Only what is read or written there may stand in the block.

    Raises
    ------
    UserError
        With the database, never with its password, and what to do.
    """
    shown = masked(address.render_as_string(hide_password=True))  # a password may stand behind the ? as well
    try:
        yield
    except ImportError:
        raise UserError(
            f"{shown} needs a Python package for this kind of database: for PostgreSQL, "
            "pip install psycopg2-binary"
        ) from None
    except (UserError, UpdateFinishedTrialError, DuplicatedStudyError):
        raise
    except FAILURES as error:
        cause = error.__cause__ or error
        said = first_line(getattr(cause, "orig", None) or cause)[:200]
        if password := address.password:
            said = said.replace(password, "***")
        if "is full" in said:  # SQLite's own words; the database is whole
            raise UserError(f"{shown}: {said}; make room, and run the same command again") from None
        raise UserError(
            f"{shown} cannot be used as a study's storage ({type(cause).__name__}: {said}): run the same "
            "command again, no finished trial is lost; if it is damaged or another program's, move it away "
            "to begin anew, or name another with --storage"
        ) from None


def open_storage(url: str, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> "StudyStorage":
    """Open a study's database, and make its tables where there are none.

    Parameters
    ----------
    url
        `sqlite:///studies/study.db`, `postgresql://user:password@host/name`, or any other that SQLAlchemy
        knows.
    heartbeat, grace
        In seconds; see `HEARTBEAT`.

    Raises
    ------
    UserError
        Not a database's address, no driver for it, or nobody answers; passwords are not printed.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise UserError(
            "--storage is not the address of a database: write sqlite:///file.db or "
            "postgresql://user:password@host/name"
        ) from None
    with answering(address):
        sqlite = address.get_backend_name() == "sqlite"
        if sqlite:
            prepare_file(address)
        storage = connected(address, heartbeat, grace)
    if sqlite:
        take_turns(storage.engine)
    return storage


def connected(address: URL, heartbeat: int, grace: int) -> "StudyStorage":
    """Connect, and make the tables; tried again where another worker makes them at the same time."""
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if address.get_backend_name() == "sqlite":
        settings = {"connect_args": {"timeout": LOCKED}}
    elif address.drivername == "postgresql" and find_spec("psycopg2"):
        address = address.set(drivername="postgresql+psycopg2")
    for _ in range(TRIES - 1):
        with contextlib.suppress(SQLAlchemyError):
            return storage_of(address, settings, heartbeat, grace)
        time.sleep(1 / TRIES)
    return storage_of(address, settings, heartbeat, grace)


class StudyStorage(RDBStorage):
    """Optuna's storage, all of whose methods answer or end in a sentence: see `answering`."""

    def __init__(self, address: URL, url: str, **settings: Any) -> None:
        self.address = address
        super().__init__(url, **settings)


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a storage, in `answering`; what Optuna's own callers wait for passes."""

    @functools.wraps(method)
    def call(self: StudyStorage, *given: Any, **named: Any) -> Any:
        with answering(self.address):
            return method(self, *given, **named)

    return call


for _name in [name for name in vars(RDBStorage) if not name.startswith("__")]:
    if inspect.isfunction(vars(RDBStorage)[_name]):
        setattr(StudyStorage, _name, guarded(vars(RDBStorage)[_name]))


def storage_of(address: URL, settings: dict[str, Any], heartbeat: int, grace: int) -> StudyStorage:
    """Optuna's storage; that its heartbeat is an experiment is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return StudyStorage(
            address,
            address.render_as_string(hide_password=False),
            engine_kwargs=settings,
            heartbeat_interval=heartbeat,
            grace_period=grace,
        )


def prepare_file(address: URL) -> None:
    """Make the folder of an SQLite file."""
    if not address.database or address.database == ":memory:":
        raise UserError("--storage names no file: a study must outlive its process, write sqlite:///file.db")
    path = Path(address.database)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} of --storage is no file: write sqlite:///file.db, of a file or of none yet")
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} of --storage cannot be made: {error.strerror}") from None


def take_turns(engine: sqlalchemy.Engine) -> None:
    """Begin every transaction with SQLite's write lock, so that no two workers claim the same trial.

    Python's driver begins one only at its first write, when what was read before may have changed.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()


@cache
def this_machine() -> str:
    """A name that two machines do not share, nor two containers whose processes cannot see each other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {uuid.getnode()}"


def this_worker() -> str:
    """A name for this process: its machine, its number and when it began."""
    return f"{this_machine()}|{os.getpid()}|{psutil.Process().create_time()}"


def worker_is_gone(worker: str) -> bool:
    """Whether a worker of this machine has ended; of another machine's the heartbeat must tell."""
    machine, _, rest = worker.partition("|")
    if machine != this_machine():
        return False
    number, _, began = rest.partition("|")
    try:
        process = psutil.Process(int(number))
        ended = process.status() == psutil.STATUS_ZOMBIE
        return ended or abs(process.create_time() - float(began)) > 1
    except (psutil.NoSuchProcess, ValueError, OverflowError):  # a name that no worker has is nobody's
        return True
