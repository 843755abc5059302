import errno
import os
import re
import subprocess
import sys
import warnings
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import app as cli
from pipeline.cli.where import print_results
from pipeline.core.errors import WORKER_LOST, UserError
from pipeline.datasets import LeftOutWarning

PROJECT = Path(__file__).resolve().parents[2]


def vec2age(*words: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from pipeline.__main__ import main; main()", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_command_and_is_quick_because_nothing_heavy_is_imported() -> None:
    done = vec2age("--help")
    assert done.returncode == 0
    for name in (
        "ingest",
        "crop",
        "split",
        "embed",
        "calibrate",
        "export",
        "predict",
        "use",
        "doctor",
        "where",
    ):
        assert name in done.stdout
    code = "import pipeline.__main__, sys; sys.exit(bool({'torch', 'dlib', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


@pytest.mark.parametrize(
    "command",
    ["ingest", "crop", "split", "embed", "calibrate", "export", "predict", "use", "doctor", "where", "folds"],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = vec2age(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"vec2age {command}" in done.stdout


def test_a_users_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = vec2age("ingest", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ("vec2age: params.yaml does not exist: run vec2age from the project's top folder\n")
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("predict", ""),
        ("predict", "a.png", ""),
        ("predict", "a.png", "--overlay", ""),
        ("predict", "a.png", "--output", ""),
        ("predict", "a.png", "--model", ""),
        ("export", ""),
    ],
)
def test_an_empty_path_is_not_taken_for_the_folder_one_is_in(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("not meant")
    done = vec2age(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "vec2age: a path is empty: name a file or a folder (`.` is the folder that you are in)\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["private.txt"]


def test_an_unknown_command_or_a_bad_option_exits_with_2() -> None:
    assert vec2age("imgest").returncode == 2
    assert vec2age("ingest", "--workers", "0").returncode == 2


def test_doctor_names_each_gap_with_a_remedy() -> None:
    done = vec2age("doctor")
    assert done.returncode == 0
    for subject in ("Python", "torch", "dlib", "mtcnn", "facenet", "efficientnet_lite0", "disk"):
        assert subject in done.stdout
    lines = done.stdout.splitlines()
    named = lines.index(
        next(line for line in lines if re.fullmatch(r"\d+ gaps?\.|Nothing is missing\.", line))
    )
    gaps = [line for line in lines[:named] if line.startswith("gap")]
    assert len(lines[named + 1 :]) == len(gaps), "what to do about each stands on one line, to be copied"
    for gap, remedy in zip(gaps, lines[named + 1 :], strict=True):
        subject, _, rest = remedy.partition(": ")
        assert gap.split()[1].startswith(subject.split()[0])
        assert len(rest.split()) > 3


def test_where_is_of_a_project_and_names_a_damaged_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml does not exist: run vec2age from the project's top"):
        print_results()
    Path("params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    print_results()
    assert "not yet: dvc repro" in capsys.readouterr().out
    Path("data").mkdir()
    Path("data/manifest.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"data/manifest\.parquet is not a readable Parquet file"):
        print_results()


def let_doctor_raise(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command line call a command in which this is raised."""

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.cli.doctor.print_diagnosis", raising)
    monkeypatch.setattr(sys, "argv", ["vec2age", "doctor"])


def code_after(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code of a command in which this is raised."""
    let_doctor_raise(error, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert code_after(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == "vec2age: interrupted; run the same command again to go on\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "a"),
            "a: No space left; make room, and run the same command again",
        ),
        (
            OSError(errno.EROFS, "Read-only", "t", None, "a"),
            "a: Read-only; name a place that can be written to",
        ),
        (OSError(errno.EACCES, "Denied", "a"), "a: Denied; see to its permissions, or name another place"),
        (OSError(errno.ENOSPC, "No space left"), "No space left; make room, and run the same command again"),
        (OSError("odd\nmore"), "odd; see to it, or name another place, and run the same command again"),
        (TimeoutError(), "TimeoutError; see to it, or name another place, and run the same command again"),
    ],
)
def test_what_the_machine_refuses_is_one_sentence_and_exit_code_2(
    error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert code_after(error, monkeypatch) == 2
    assert capsys.readouterr().err == f"vec2age: {sentence}\n"


def test_a_killed_worker_is_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert code_after(BrokenProcessPool("terminated abruptly"), monkeypatch) == 2
    assert capsys.readouterr().err == f"vec2age: {WORKER_LOST}\n"


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError])
def test_a_bug_keeps_its_traceback(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    let_doctor_raise(kind("a bug"), monkeypatch)
    with pytest.raises(kind, match="a bug"):
        cli.main()


def test_warnings_of_ours_are_sentences_without_a_line_of_code(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def warning(*_: object, **__: object) -> None:
        warnings.warn("two faces are alike", LeftOutWarning, stacklevel=1)
        warnings.warn("an option is old", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr("pipeline.cli.doctor.print_diagnosis", warning)
    monkeypatch.setattr(sys, "argv", ["vec2age", "doctor"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            cli.main()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "warning: two faces are alike"
    assert "DeprecationWarning: an option is old" in said[1]
