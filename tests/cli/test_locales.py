"""Commands where the locale or the pipe is not UTF-8, and names are not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config import load
from pipeline.core.tables import write_table
from pipeline.stages import locations

PROJECT = Path(__file__).resolve().parents[2]
UTF8, LATIN1 = os.fsencode("für alle"), b"f\xfcr alle"


def installed() -> list[str]:
    """Locales of other encodings than UTF-8, where this machine has any beside C."""
    found = subprocess.run(["locale", "-a"], capture_output=True, check=False).stdout.decode("latin1").split()
    return [name for name in found if "." in name and not name.lower().endswith(("utf8", "utf-8"))]


PLACES = {
    "ASCII locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII pipe": {"PYTHONIOENCODING": "ascii"},
    "Latin-1 pipe": {"PYTHONIOENCODING": "iso-8859-1"},
    **{f"locale {name}": {"LC_ALL": name, "PYTHONUTF8": "0"} for name in installed()[:2]},
}


@pytest.fixture(params=PLACES)
def vec2age(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Run a command in one of the places; returns what it printed, as it came through."""

    def run(folder: Path, words: Sequence[str | bytes], code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from pipeline.__main__ import main; main()", *words],
            cwd=os.fsencode(folder),
            env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "100", **PLACES[request.param]},
            capture_output=True,
            check=False,
        )
        said = (done.stdout + done.stderr).decode("latin1")
        assert "Traceback" not in said, said
        assert done.returncode == code, said
        return said

    return run


def test_settings_tables_and_sentences_hold_in_any_locale_and_any_folder(
    vec2age: Callable[..., str], tmp_path: Path
) -> None:
    folder = Path(os.fsdecode(b"/".join((os.fsencode(tmp_path), UTF8, LATIN1))))
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "params.yaml", folder)
    write_table(pa.table({"face_id": ["a"], "note": ["für"]}), folder / locations.MANIFEST, "test")
    for name in (UTF8, LATIN1):
        profile = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".yaml"))
        profile.write_text("report: {target: Größe}\n", encoding="utf-8")
    vec2age(folder, ["use", LATIN1 + b".yaml", "--set", "report.unit=Füße".encode()])
    settings = load(folder / "params.yaml")
    assert (settings.report.target, settings.report.unit) == ("Größe", "Füße")
    shown = vec2age(folder, ["where"])
    assert "data/manifest.parquet" in shown
    assert "nothing changed" in vec2age(folder, ["use", UTF8 + b".yaml"])
    assert "does not exist" in vec2age(folder, ["use", b"no " + LATIN1], code=2)


# whatever Latin-1 cannot show, ASCII cannot, and the doctor imports everything
@pytest.mark.parametrize("vec2age", [name for name in PLACES if name != "Latin-1 pipe"], indirect=True)
def test_doctor_and_help_can_be_printed(vec2age: Callable[..., str], tmp_path: Path) -> None:
    assert "gap" in vec2age(tmp_path, ["doctor"])
    assert "Utilities" in vec2age(tmp_path, ["--help"])
