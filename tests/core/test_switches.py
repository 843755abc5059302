"""What libraries report unasked, nothing; and where they write what they keep, where nothing stays."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.cli import terminal
from pipeline.core import switches

NAMES = ("MPLCONFIGDIR", "NUMBA_CACHE_DIR")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of the system's that could be written to, and an empty folder for temporary files."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name in ("temporary", "system"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "system"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "system"))
    monkeypatch.setattr(switches, "_temporary", [])
    return tmp_path


def test_what_the_caller_has_chosen_stays_and_all_else_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in switches.OFF:
        monkeypatch.setenv(name, "")  # so that it is put back; an empty one is no choice
    monkeypatch.delenv("DO_NOT_TRACK")
    chosen = {"MLFLOW_DISABLE_TELEMETRY": "false", "DVC_NO_ANALYTICS": "yes"}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    switches.report_nothing()
    assert {name: os.environ[name] for name in switches.OFF} == switches.OFF | chosen


def test_nothing_is_made_where_both_places_are_given(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "elsewhere")
    switches.stay_out_of_home()
    assert list((place / "temporary").iterdir()) == []


def test_the_system_is_left_alone(place: Path) -> None:
    switches.stay_out_of_home()
    for name in NAMES:
        assert os.environ[name].startswith(str(place / "temporary")), name
    switches.leave_nothing()
    assert list((place / "temporary").iterdir()) == []
    assert not set(NAMES) & os.environ.keys()


def test_a_virtual_environment_keeps_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    switches.stay_out_of_home()
    assert os.environ["MPLCONFIGDIR"].startswith(str(place / "system"))
    assert list((place / "temporary").iterdir()) == []


def test_nothing_stays_of_a_program_that_begins_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    monkeypatch.setattr(os, "execv", lambda *words: begun.append(sorted({*NAMES} & os.environ.keys())))
    switches.stay_out_of_home()
    terminal.speak_utf8()
    assert begun == [[]]
    assert list((place / "temporary").iterdir()) == []
