import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def vec2age(*words: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", *words],
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
    code = "import pipeline.cli, sys; sys.exit(bool({'torch', 'dlib', 'pandas'} & set(sys.modules)))"
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


def test_an_unknown_command_or_a_bad_option_exits_with_2() -> None:
    assert vec2age("imgest").returncode == 2
    assert vec2age("ingest", "--workers", "0").returncode == 2


def test_doctor_names_each_gap_with_a_remedy() -> None:
    done = vec2age("doctor")
    assert done.returncode == 0
    for subject in ("Python", "torch", "dlib", "mtcnn", "facenet", "efficientnet_lite0", "disk"):
        assert subject in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("gap")]
    assert all(len(line.split()) > 3 for line in lines)
