"""Every command on planted ground: no planted code runs, nobody is called, the home folder stays empty."""

import os
from dataclasses import dataclass

import pytest

WHOLE = pytest.mark.skipif(
    os.environ.get("FUZZ") != "1", reason="26 commands take ten minutes: make fuzz runs them"
)

COMMANDS = (
    "vec2age --help",
    "vec2age doctor",
    "vec2age use tiny.yaml",
    "dvc repro ingest",
    "vec2age crop",
    "vec2age split",
    "vec2age embed",
    "vec2age augment",
    "vec2age find_lr --optimizer adam",
    "vec2age train --optimizer adam --policy fixed",
    "vec2age use tiny.yaml --set tracking.trackers=[]",
    "vec2age calibrate",
    "vec2age finetune --loss mse --backbone resnet10t",
    "vec2age classify --loss cross_entropy",
    "vec2age evaluate",
    "vec2age report",
    "vec2age study",
    "vec2age where",
    "vec2age export bundle",
    "vec2age predict data/sample --output ages.csv --overlay overlay",
    "vec2age explain vectors --method umap --faces 20",
    "vec2age explain faces --faces 1 --loss mse --backbone resnet10t",
    "vec2age explain features --loss cross_entropy --pictures 20",
    "vec2age explain classes --loss cross_entropy --pictures 2",
    "vec2age explain landscape --loss cross_entropy --pictures 8 --steps 3",
    "vec2age folds models other",
)
DRAWING = ("vec2age report", "vec2age explain vectors --method umap --faces 20")
"""Before these, settings are planted that the libraries they draw and lay out with would read."""


@dataclass(frozen=True)
class Doings:
    """What one command did."""

    code: int
    errors: str
    planted: list[str]
    attempts: list[str]
    home: list[str]


@pytest.fixture(scope="module")
def doings(ground) -> dict[str, Doings]:
    """All commands, one after the other."""
    found = {}
    for command in COMMANDS:
        if command in DRAWING:
            ground.plant_settings()
        if "folds" in command:  # another fold's models: the same, learnt with other seeds
            for words in (
                "cp -r models first",
                "vec2age use tiny.yaml --set seed=8",
                "vec2age find_lr --optimizer adam",
                "vec2age train --optimizer adam --policy fixed",
                "mv models other",
                "mv first models",
            ):
                assert ground.run(*words.split()).returncode == 0, words
        seen, called, kept = ground.ran_code(), ground.attempts(), ground.in_home()
        done = ground.run(*command.split())
        found[command] = Doings(
            done.returncode,
            done.stderr[-2000:],
            ground.ran_code()[len(seen) :],
            ground.attempts()[len(called) :],
            [name for name in ground.in_home() if name not in kept],
        )
        for name in ("matplotlibrc", ".numba_config.yaml"):
            (ground.folder / name).unlink(missing_ok=True)
    return found


@WHOLE
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_minds_its_own_ground(doings: dict[str, Doings], command: str) -> None:
    done = doings[command]
    assert done.code == 0, done.errors
    assert done.planted == []
    assert done.attempts == []
    assert done.home == []


@WHOLE
@pytest.mark.timeout(3600)
def test_settings_of_libraries_in_the_folder_are_not_read(doings, ground) -> None:
    assert doings["vec2age report"].code == 0, "with TeX, which is rarely installed, nothing is drawn"
    assert not (ground.folder / "numba_cache").exists()
