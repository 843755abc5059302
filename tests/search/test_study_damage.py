"""A study's database that is damaged, another's or out of range: one sentence that names it."""

import contextlib
import importlib.util
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.training.search.storage import this_worker, worker_is_gone

spec = importlib.util.spec_from_file_location("study_worker", Path(__file__).with_name("study_worker.py"))
assert spec is not None
assert spec.loader is not None
study_worker = sys.modules.setdefault("study_worker", importlib.util.module_from_spec(spec))
spec.loader.exec_module(study_worker)
WANTED = study_worker.plan(trials=4, group=2, epochs=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.db"
    study_worker.work(f"sqlite:///{path}", WANTED)
    return path


def run(path: Path) -> int:
    """How many trials the study has at its end."""
    longer = study_worker.plan(trials=6, group=2, epochs=2)
    return len(study_worker.work(f"sqlite:///{path}", longer).trials)


def edited(*statements: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma foreign_keys = off")
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return edit


DAMAGE: dict[str, Callable[[Path], object]] = {
    "another program's": lambda path: (path.unlink(), edited("create table t (a)")(path)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:30_000]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "text": lambda path: path.write_text("no database " * 100),
    "table missing": edited("drop table trial_params"),
    "column missing": edited("alter table trial_values drop column value"),
    "schema version": edited("update version_info set schema_version = 99"),
    "alembic version": edited("update alembic_version set version_num = 'v99'"),
    "two directions": edited("update study_directions set direction = 'NOT_SET'"),
    "unknown direction": edited("update study_directions set direction = 'SIDEWAYS'"),
    "unknown state": edited("update trials set state = 'LOST'"),
    "state without value": edited("delete from trial_values"),
    "text for a value": edited("update trial_values set value = 'text'"),
    "infinite value": edited("update trial_values set value = 9e999, value_type = 'INF_POS'"),
    "unknown kind of value": edited("update trial_values set value_type = 'ODD'"),
    "parameter out of range": edited("update trial_params set param_value = 1e300"),
    "text for a parameter": edited("update trial_params set param_value = 'text'"),
    "no distribution": edited("update trial_params set distribution_json = '{'"),
    "another distribution": edited("""update trial_params set distribution_json = '{"name": "Odd"}'"""),
    "no JSON": edited("update trial_user_attributes set value_json = '{' where key = 'end'"),
    "slot as text": edited("""update trial_user_attributes set value_json = '"a"' where key = 'slot'"""),
    "end of another kind": edited("update trial_user_attributes set value_json = '5' where key = 'end'"),
    "epochs as text": edited("""update trial_user_attributes set value_json = '"x"' where key = 'epochs'"""),
    "members NaN": edited("update trial_user_attributes set value_json = '[NaN]' where key = 'members'"),
    "time before all time": edited("update trials set datetime_start = '0000-00-00 00:00:00'"),
    "time far away": edited("update trials set datetime_complete = '99999-01-01 00:00:00'"),
    "time before 1970": edited("update trials set datetime_start = '1901-01-01 00:00:00'"),
    "time after 2262": edited("update trials set datetime_complete = '2400-01-01 00:00:00'"),
    "time as a number": edited("update trials set datetime_start = 1e300"),
    "heartbeat out of range": edited(
        "insert or replace into trial_heartbeats (trial_id, heartbeat) values (1, '10000-13-40 99:99:99')",
        "update trials set state = 'RUNNING' where trial_id = 1",
    ),
    "numbers twice": edited("update trials set number = 0"),
    "no number": edited("update trials set number = null"),
}
MENDED = {"another program's", "alembic version", "schema version"}
"""What a study makes its own tables beside, or does not look at."""
HARMLESS = {
    "numbers twice",
    "slot as text",
    "heartbeat out of range",
    "state without value",
    "time after 2262",
    "time before 1970",
    "two directions",
}
"""What may be mended or worked around, as long as a study comes to its end."""


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_database_is_named_with_what_to_do(finished: Path, tmp_path: Path, damage: str) -> None:
    path = Path(shutil.copy(finished, tmp_path / "study.db"))
    DAMAGE[damage](path)
    try:
        assert run(path) == 6
        assert damage in HARMLESS | MENDED
    except UserError as error:
        sentence = str(error)
        assert "storage" in sentence
        assert "\n" not in sentence
        assert "move it away" in sentence or "is no file" in sentence


def test_flipped_bits_end_in_a_sentence_or_in_a_study(finished: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    sound = finished.read_bytes()
    for number in range(12):
        path, data = tmp_path / f"{number}.db", bytearray(sound)
        for _ in range(40):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            assert run(path) == 6, number


def test_a_name_of_a_worker_that_is_garbled_is_nobodys() -> None:
    machine = this_worker().partition("|")[0]
    for name in (
        f"{machine}",
        f"{machine}|x|y",
        f"{machine}|{10**400}|1",
        f"{machine}|1|",
        f"{machine}|-5|1",
    ):
        assert worker_is_gone(name)
    assert not worker_is_gone("elsewhere")
