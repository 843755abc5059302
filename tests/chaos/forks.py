"""Imports everything once; then forks a process that runs a command, for each line of JSON on standard input.

Commands of vec2age run in the fork itself, others (`dvc`) are started by it; they are killed with all that
they started.
"""

import ctypes
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True
STAGES = ("ingest", "crop", "split", "embed", "augment", "find_lr", "train", "finetune", "calibrate", "study")
OTHERS = ("evaluate", "report", "tracked")
BECOMES_PARENT_OF_ORPHANS = 36


def imported() -> None:
    """Import what the commands need; nothing is computed, so that there are no threads yet."""
    importlib.import_module("pipeline.__main__")
    for name in (*STAGES, *OTHERS):
        importlib.import_module(f"pipeline.stages.{name}")
    importlib.import_module("pipeline.cli.export")
    importlib.import_module("pipeline.serving.run")


def run(asked: dict) -> None:
    """Be the command."""
    os.setsid()
    os.environ.update(asked["environment"], CHAOS_MAIN=str(os.getpid()))
    os.chdir(asked["folder"])
    with open(asked["said"], "wb") as said, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    words = asked["words"]
    if words[0] == "dvc":
        os.execvp("dvc", words)
    importlib.import_module("tempfile").tempdir = None  # it may have been looked up for another folder
    importlib.import_module("sitecustomize").install(computing=True)
    sys.argv = ["vec2age", *words]
    importlib.import_module("pipeline.__main__").main()


def main() -> None:
    """Serve."""
    ctypes.CDLL(None).prctl(BECOMES_PARENT_OF_ORPHANS, 1, 0, 0, 0)
    imported()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                run(json.loads(line))
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(bool(error.code))
            except BaseException:  # noqa: BLE001 - told to the test
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        try:
            while True:  # what its group leaves behind is over, too, before the next begins
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
