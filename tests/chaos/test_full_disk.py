"""A disk that becomes full: a sentence that names a file, and the same bytes once there is room again."""

import os
import shutil
import subprocess

import pytest

FULL = os.environ.get("CHAOS") == "1"
SIZE = 48 * 2**20
COMMANDS = ("embed", "train", "study", "calibrate", "report", "export", "predict")


@pytest.fixture
def disk(tmp_path):
    """A small disk of the test's own, with a folder on it whose name is not UTF-8."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program mount, so that no small disk can be made")
    if done.returncode:
        pytest.skip(f"a small disk can be made by root alone: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path, room):
    """Leave so many bytes of a disk free."""
    status = os.statvfs(path.parent)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - room))


@pytest.mark.parametrize("room", [0, 8192, 40960] if FULL else [8192])
@pytest.mark.parametrize("name", COMMANDS if FULL else ["embed"])
def test_a_full_disk_is_named_and_the_same_command_goes_on(name, room, chaos, disk):
    case = chaos.case(name)
    folder = shutil.copytree(case.before, chaos.odd(disk) / "project")
    filler = disk / "filler"
    fill(filler, room)
    ended = chaos.command(folder, case.words)
    filler.unlink()
    refused(ended)
    chaos.check_whole(folder, case)
    ended = chaos.command(folder, case.words)
    assert ended.code == 0, ended.said
    chaos.check_same(folder, case)


def refused(ended):
    """It ended in one sentence that says what the machine refused, and where."""
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said, ended.said
    last = ended.said.splitlines()[-1]
    assert "make room, and run the same command again" in last, ended.said
    assert ".tmp" not in last, last
    assert ".unfinished" not in last, last


def test_use_names_params_yaml_on_a_full_disk_and_leaves_it_as_it_was(chaos, disk):
    case = chaos.case("ingest")
    folder = shutil.copytree(case.before, chaos.odd(disk) / "project")
    before = (folder / "params.yaml").read_bytes()
    filler = disk / "filler"
    fill(filler, 0)
    words = ("use", "profiles/sample.yaml", "--set", "seed=5")
    ended = chaos.command(folder, words)
    filler.unlink()
    refused(ended)
    assert "params.yaml: " in ended.said
    assert (folder / "params.yaml").read_bytes() == before
    ended = chaos.command(folder, words)
    assert ended.code == 0, ended.said
    assert b"\nseed: 5" in (folder / "params.yaml").read_bytes()
