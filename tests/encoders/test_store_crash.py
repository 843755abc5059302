"""The store among processes that are killed, or work on it at the same time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoders.segments import locked
from pipeline.encoders.store import VectorStore

SCRIPT = Path(__file__).with_name("store_processes.py")


def run(name: str, folder: Path, *numbers: int) -> str:
    command = [sys.executable, str(SCRIPT), name, str(folder), *map(str, numbers)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=SCRIPT.parents[2])
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_kills_at_random_moments_lose_only_the_batch_in_flight(tmp_path: Path) -> None:
    assert int(run("random_kills", tmp_path, 20)) >= 20


def test_a_kill_before_any_file_operation_leaves_no_mark(tmp_path: Path) -> None:
    kills = int(run("every_kill", tmp_path))
    assert kills >= 50, "a session of three batches and a compaction has more file operations than that"


@pytest.mark.parametrize("scenario", ["two_writers", "reading_while_compacting"])
def test_processes_that_share_a_store_do_not_disturb_each_other(tmp_path: Path, scenario: str) -> None:
    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("missing", [["0" * 64]]),
        ("read", [["0" * 64]]),
        ("append", [["1" * 64], np.ones((1, 2), np.float32)]),
        ("compact", []),
    ],
)
def test_nobody_looks_or_writes_while_a_writer_is_at_work(
    tmp_path: Path, method: str, arguments: list[object]
) -> None:
    store = VectorStore(tmp_path, "encoder", 2)
    store.append(["0" * 64], np.zeros((1, 2), np.float32))
    with ThreadPoolExecutor(1) as pool:
        with locked(store.directory, exclusive=True):
            waiting = pool.submit(getattr(store, method), *arguments)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
        waiting.result(timeout=30)


def test_readers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "encoder", 2)
    store.append(["0" * 64], np.zeros((1, 2), np.float32))
    with locked(store.directory, exclusive=False), ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.missing, ["0" * 64]).result(timeout=30) == []
