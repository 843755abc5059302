"""How fast `vec2age predict` is next to its parts, and how its memory grows with the number of files.

python bench/predict.py [--pictures DIR] [--model DIR] [--files 200] [--memory 300 1200] [--bad 0.01]
    [--workers N]

Without pictures it draws some (the rendered sample), without a model it packs one of random weights on
dlib's vectors: the speed is that of a trained one. Prints the speed of finding and cutting alone, of encoding
alone and of judging alone, each with all cores; of the whole command, its start included; and the peak
memory of its largest process for each number of files, `--bad` of which are no pictures. Files beyond those
there are become hard links. `CPU s` are processor seconds for a thousand faces, which other programs on
the machine hardly change. Every measurement runs in a process of its own.
"""

import argparse
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.machine import available_cores
from pipeline.core.pool import ordered_map
from pipeline.core.tables import read_table
from pipeline.encoders import View
from pipeline.faces.extract import Settings
from pipeline.serving import bundle, packing
from pipeline.serving.inputs import walk
from pipeline.serving.looking import Seen, look, make_looker
from pipeline.serving.rebuilt_encoders import EncoderSettings
from pipeline.serving.reference import Reference
from pipeline.serving.rows import FACE, judge
from pipeline.synthetic.rendered import render
from pipeline.training.mlp.layers import Layout
from pipeline.training.mlp.members import Members
from pipeline.uncertainty.conformal import LOCAL, calibrate
from pipeline.uncertainty.methods import Method

PROJECT = Path(__file__).resolve().parents[1]
MEMBERS = 20
WIDTH = 128


def random_model(folder: Path) -> None:
    """A bundle of twenty random networks of the usual size, calibrated on noise."""
    layout = Layout((WIDTH, 512, 256, 128, 1))
    seeds = tuple(range(MEMBERS))
    method = Method("ensemble", Members(layout, layout.initial(seeds), seeds))
    rng = np.random.default_rng(1)
    vectors = rng.normal(0, 0.1, (5000, WIDTH)).astype(np.float32)
    said = method(vectors[:1000])
    target = said.mean + rng.normal(0, 5, len(said))
    calibrations = calibrate("ensemble", (said, target), (said, target), (0.5, 0.9))
    encoder = EncoderSettings(("dlib",), (View(),), 0.25)
    settings = Settings()
    packing.write(
        folder,
        members=method.members,
        distribution=False,
        calibration=next(one for one in calibrations if one.kind == LOCAL),
        reference=Reference(vectors, 9.0, 0.0, 120.0, {}),
        described={
            "version": "0",
            "revision": "none",
            "method": "ensemble",
            "kind": LOCAL,
            "level": 0.9,
            "threshold": 18,
            "probabilities": [0.5],
            "groups": {"by": None, "bands": []},
            "target": {"name": "age", "unit": "years"},
            "encoder": {**encoder.described(), "fingerprints": [one.fingerprint for one in encoder.build()]},
            "crop": {**vars(settings), "thresholds": vars(settings.thresholds)},
        },
        texts={},
    )


def lay_out(pictures: Path, folder: Path, count: int, bad: float) -> None:
    """So many files in folders of a thousand, hard-linked in turn; every so many of them are no picture."""
    files = [path for path in sorted(pictures.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    step = round(1 / bad) if bad else count + 1
    for number in range(count):
        place = folder / f"{number // 1000:04d}" / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if number % step == step - 1:
            place.write_bytes(files[number % len(files)].read_bytes()[:500])
            continue
        try:
            os.link(files[number % len(files)], place)
        except OSError:  # on another file system
            shutil.copy(files[number % len(files)], place)


class Clock:
    """Time and processor time, of this process and those it has waited for."""

    def __init__(self) -> None:
        self.start, self.cpu = time.perf_counter(), self.spent()

    @staticmethod
    def spent() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def rates(self, faces: int) -> dict[str, float]:
        """Faces per second, and processor seconds for a thousand of them."""
        seconds = time.perf_counter() - self.start
        return {"faces/s": faces / seconds, "CPU s": 1000 * (self.spent() - self.cpu) / max(1, faces)}


def find(pictures: Path, model: bundle.Bundle, workers: int) -> dict[str, float]:
    """Finding and cutting alone; the clock starts when every process is ready."""
    make = functools.partial(make_looker, model.crop)
    sources = list(walk([pictures]))
    warm = sources[: 2 * workers]
    with closing(ordered_map(make, iter([*warm, *sources]), workers=workers, timeout=60)) as outcomes:
        for _ in warm:
            next(outcomes)
        clock = Clock()
        faces = sum(len(one.faces) for one in outcomes if isinstance(one, Seen))
        found = clock.rates(faces)
    found["CPU s"] = clock.rates(faces)["CPU s"]  # the processes have ended and are counted
    return found


def encode_alone(pictures: Path, model: bundle.Bundle) -> dict[str, float]:
    """Encoding and judging alone, of the faces of up to 256 pictures."""
    faces = [
        face
        for source, _ in zip(walk([pictures]), range(256), strict=False)
        for face in look(source, model.crop).faces
    ]
    model.encode(faces[:16])
    clock = Clock()
    vectors = model.encode(faces)
    encoding = clock.rates(len(faces))
    many = np.tile(vectors, (1024 // len(vectors) + 1, 1))[:1024]
    judge(model, many)
    clock = Clock()
    judge(model, many)
    judging = clock.rates(len(many))
    return {
        **{f"encoding {key}": value for key, value in encoding.items()},
        **{f"judging {key}": value for key, value in judging.items()},
    }


def whole(pictures: Path, model: Path, workers: int) -> dict[str, float]:
    """The command from start to end, and the memory that its largest process held at most."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.parquet"
        command = ["predict", str(pictures), "--model", str(model), "--output", str(output)]
        program = [sys.executable, "-c", "from pipeline.__main__ import main; main()"]
        clock = Clock()
        subprocess.run(
            [*program, *command, "--workers", str(workers)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        table = read_table(output, ["file", "status"]).to_pandas()
        files, faces = table["file"].nunique(), int((table["status"] == FACE).sum())
        found = clock.rates(faces)
    return {
        "files": files,
        "faces": faces,
        **found,
        "MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def task(name: str, pictures: Path, folder: Path, workers: int) -> dict[str, float]:
    """One measurement, in the process that this is called in."""
    if name == "whole":
        return whole(pictures, folder, workers)
    model = bundle.load(folder)
    return find(pictures, model, workers) if name == "find" else encode_alone(pictures, model)


def in_a_process(name: str, pictures: Path, model: Path, workers: int) -> dict[str, float]:
    """A measurement in a fresh process."""
    command = [sys.executable, __file__, "--workers", str(workers), "--task", name, str(pictures), str(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:8}" + "".join(f"  {key} {value:,.1f}" for key, value in found.items()), flush=True)
    return found


def compare(pictures: Path, model: Path, wanted: Any, folder: Path) -> None:
    """Speed against the parts, then memory."""
    lay_out(pictures, folder / "speed", wanted.files, 0)
    parts = in_a_process("find", folder / "speed", model, wanted.workers)
    parts |= in_a_process("encode", folder / "speed", model, wanted.workers)
    found = in_a_process("whole", folder / "speed", model, wanted.workers)
    each = {
        "finding": parts["faces/s"],
        "encoding": parts["encoding faces/s"],
        "judging": parts["judging faces/s"],
    }
    slowest = min(each, key=lambda name: each[name])
    alone, shared = each[slowest], 1 / sum(1 / speed for speed in each.values())
    cpu = parts["CPU s"] + parts["encoding CPU s"] + parts["judging CPU s"]
    for share, of_what in (
        (
            found["faces/s"] / alone,
            f"its slowest part with all cores to itself ({slowest}, {alone:.1f} faces/s)",
        ),
        (found["faces/s"] / shared, f"its parts when they take turns on these cores ({shared:.1f} faces/s)"),
        (cpu / found["CPU s"], f"its parts in work for a processor second ({cpu:.1f} s a thousand faces)"),
    ):
        print(f"the whole command, its start included, makes {share:.2f} of {of_what}", flush=True)
    peaks = []
    for count in wanted.memory:
        lay_out(pictures, folder / f"memory {count}", count, wanted.bad)
        peaks.append(in_a_process("whole", folder / f"memory {count}", model, wanted.workers)["MiB"])
        shutil.rmtree(folder / f"memory {count}")
    if len(peaks) > 1:
        first, last = wanted.memory[0], wanted.memory[-1]
        print(f"peak memory for {last:,} files is {peaks[-1] / peaks[0]:.2f} of that for {first:,}")


def main() -> None:
    """Run every measurement in a fresh process and print one line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--memory", type=int, nargs="*", default=[300, 1200])
    parser.add_argument("--bad", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--task", nargs=3, metavar=("NAME", "PICTURES", "MODEL"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.task:
        name, pictures, model = wanted.task
        print(json.dumps(task(name, Path(pictures), Path(model), wanted.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        if wanted.pictures is None:
            (here / "drawn").mkdir()
            render(here / "drawn", seed=42, per_age=4)
        if wanted.model is None:
            random_model(here / "model")
        compare(wanted.pictures or here / "drawn", wanted.model or here / "model", wanted, here)


if __name__ == "__main__":
    main()
