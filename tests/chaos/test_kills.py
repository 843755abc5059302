"""Every command killed at many moments: nothing torn, nothing left about, and the same bytes in the end."""

import os
import shutil

import pytest

COMMANDS = ("crop", "embed", "augment", "train", "finetune", "calibrate", "study", "report", "predict")
SAMPLE = ("crop", "embed", "train")
FULL = os.environ.get("CHAOS") == "1"


@pytest.mark.parametrize("name", COMMANDS if FULL else SAMPLE)
def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(name, history, chaos, tmp_path):
    case = chaos.case(name)
    # every other one over the results of an earlier run, which are then exchanged
    start = case.after if len(history) == 1 and round(history[0] * 100) % 2 else case.before
    folder = shutil.copytree(start, chaos.odd(tmp_path) / "project")
    shutil.rmtree(folder / "tmp")
    for share in history:
        chaos.kill(folder, case.words, max(1, round(share * case.moments)))
        chaos.check_whole(folder, case)
    ended = chaos.command(folder, case.words)
    assert ended.code == 0, ended.said
    chaos.check_same(folder, case)
