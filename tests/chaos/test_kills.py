"""Every command killed at many moments: nothing torn, nothing left about, and the same bytes in the end."""

import os
import shutil

import pytest
import yaml

from pipeline.core.errors import WORKER_LOST

COMMANDS = (
    "ingest",
    "crop",
    "embed",
    "augment",
    "train",
    "finetune",
    "calibrate",
    "study",
    "report",
    "export",
    "predict",
)
WITH_WORKERS = ("crop", "augment", "finetune", "predict")
SAMPLE = ("embed",)
FULL = os.environ.get("CHAOS") == "1"


@pytest.mark.parametrize("name", COMMANDS if FULL else SAMPLE)
def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(name, history, chaos, tmp_path):
    case = chaos.case(name)
    # every other one over the results of an earlier run, which are then exchanged
    start = case.after if len(history) == 1 and round(history[0] * 100) % 2 else case.before
    folder = shutil.copytree(start, chaos.odd(tmp_path) / "project")
    with chaos.told(name):
        for share in history:
            chaos.kill(folder, case.words, max(1, round(share * case.moments)))
            chaos.check_whole(folder, case)
        ended = chaos.command(folder, case.words)
        assert ended.code == 0, ended.said
        chaos.check_same(folder, case)


@pytest.mark.skipif(not FULL, reason="runs the whole pipeline; `make chaos` does")
@pytest.mark.parametrize("first", [0.04, 0.08, 0.12, 0.16, 0.2])
def test_a_killed_repro_goes_on_and_ends_with_the_same_bytes(first, chaos, repro, tmp_path):
    folder = shutil.copytree(repro.before, tmp_path / "project")
    with chaos.told("dvc repro"):
        for share in (first, 0.22, 0.22, 0.22):  # each goes on where the one before died
            chaos.kill(folder, repro.words, round(share * repro.moments))
            chaos.check_whole(folder, repro)
        ended = chaos.command(folder, repro.words)
        assert ended.code == 0, ended.said
        chaos.check_same(folder, repro)
        assert locked(folder) == locked(repro.after)


def locked(folder):
    """What DVC noted of every stage, but for the hash of the page, which shows times."""
    noted = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    del noted["report"]["outs"]
    return noted


@pytest.mark.skipif(not FULL, reason="starts many processes; tests/core/test_pool.py starts few")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("name", WITH_WORKERS)
def test_a_worker_that_is_killed_alone_ends_nothing_or_in_a_sentence(name, share, chaos, tmp_path):
    case = chaos.case(name)
    folder, counted = (shutil.copytree(case.before, chaos.odd(tmp_path / at) / "project") for at in "ab")
    moments = chaos.command(counted, case.words, who="worker").moments
    with chaos.told(f"a worker of {name}"):
        chaos.tally.kills += 1
        ended = chaos.command(folder, case.words, at=max(1, round(share * moments)), who="worker")
        assert ended.lost_a_worker
        assert ended.code in (0, 2), ended.said
        assert ended.code == 0 or ended.said.endswith(f"vec2age: {WORKER_LOST}\n")
        chaos.check_whole(folder, case)
        ended = chaos.command(folder, case.words)
        assert ended.code == 0, ended.said
        chaos.check_same(folder, case)


def test_what_differs_or_lies_about_is_seen(chaos, tmp_path):
    case = chaos.case("ingest")
    folder = shutil.copytree(case.after, tmp_path / "project")
    chaos.check_whole(folder, case)
    chaos.check_same(folder, case)
    manifest = folder / "data/manifest.parquet"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-1])
    with pytest.raises(AssertionError, match="neither the old nor the new"):
        chaos.check_whole(folder, case)
    with pytest.raises(AssertionError):
        chaos.check_same(folder, case)
    manifest.write_bytes(whole)
    (folder / "tmp/left").touch()
    with pytest.raises(AssertionError):
        chaos.check_same(folder, case)
