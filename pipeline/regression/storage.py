"""Where a study keeps its trials: an embedded SQLite file, or a database server that machines share."""

import contextlib
import os
import platform
import time
import uuid
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import psutil
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pipeline.credentials import masked
from pipeline.errors import UserError
from pipeline.tables import first_line

HEARTBEAT, GRACE = 15, 60
"""Seconds between two signs of life of a trial's worker, and after how many without one it is given away."""
TRIES = 4
LOCKED = 60
"""Seconds that a worker waits for others that write into the same SQLite file."""


def open_storage(url: str, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> RDBStorage:
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
    shown = masked(address.render_as_string(hide_password=True))  # a password may stand behind the ? as well
    sqlite = address.get_backend_name() == "sqlite"
    if sqlite:
        prepare_file(address)
    try:
        storage = connected(address, heartbeat, grace)
    except ImportError:
        raise UserError(
            f"{shown} needs a Python package for this kind of database: for PostgreSQL, "
            "pip install psycopg2-binary"
        ) from None
    except (SQLAlchemyError, RuntimeError) as error:
        cause = getattr(error, "orig", None) or error
        raise UserError(f"{shown} cannot be used as a study's storage: {first_line(cause)}") from None
    if sqlite:
        take_turns(storage.engine)
    return storage


def connected(address: URL, heartbeat: int, grace: int) -> RDBStorage:
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


def storage_of(address: URL, settings: dict[str, Any], heartbeat: int, grace: int) -> RDBStorage:
    """Optuna's storage; that its heartbeat is an experiment is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs=settings,
            heartbeat_interval=heartbeat,
            grace_period=grace,
        )


def prepare_file(address: URL) -> None:
    """Make the folder of an SQLite file."""
    if not address.database or address.database == ":memory:":
        raise UserError("--storage names no file: a study must outlive its process, write sqlite:///file.db")
    folder = Path(address.database).parent
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
    machine, number, began = worker.split("|")
    if machine != this_machine():
        return False
    try:
        process = psutil.Process(int(number))
        ended = process.status() == psutil.STATUS_ZOMBIE
        return ended or abs(process.create_time() - float(began)) > 1
    except psutil.NoSuchProcess:
        return True
