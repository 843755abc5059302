"""Photographs in, stored vectors out: pictures a second by the stages, and by a plain program of dlib.

    python bench/chain.py [--pictures DIR] [--copies 1] [--plain 150] [--precision fp32]

Ours are the commands `vec2age ingest`, `crop`, `split` and `embed`, one after the other in a fresh folder,
each with its start, so that more pictures come closer to the steady state; `--copies` shifts and re-encodes
every picture that many times. The plain program opens a picture, asks dlib's HOG for the face, its
five-landmark model for the points and its network for the vector, in as many processes as there are cores,
on `--plain` of the pictures; it writes nothing, and lets go of faces that HOG does not see. Without pictures
the rendered sample is drawn. CPU milliseconds are of all processes, for one picture.
"""

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlib
import numpy as np
from PIL import Image

from pipeline.backbones.weights import dlib_model
from pipeline.synthetic.rendered import render

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("ingest", "crop", "split", "embed")
SUFFIXES = (".jpg", ".jpeg", ".png")


def copies(source: Path, count: int, folder: Path) -> list[Path]:
    """Every picture so many times, each shifted by other pixels and encoded again."""
    made = []
    for number in range(count):
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                with Image.open(path) as picture:
                    shifted = np.roll(np.asarray(picture.convert("RGB")), (number, -number), (0, 1))
                made.append(folder / f"{number}-{path.stem}.jpg")
                Image.fromarray(shifted).save(made[-1], quality=92)
    return made


@functools.cache
def parts() -> tuple[Any, Any, Any]:
    """Detector, landmark model and network, loaded once a process."""
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(dlib_model("shape_predictor_5_face_landmarks.dat"))),
        dlib.face_recognition_model_v1(str(dlib_model("dlib_face_recognition_resnet_model_v1.dat"))),
    )


def plain(paths: list[str]) -> int:
    """dlib's parts, one picture after the other; how many faces were found."""
    find, points, describe = parts()
    found = 0
    for path in paths:
        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("RGB"))
        boxes = find(picture, 0)
        if boxes:
            describe.compute_face_descriptor(picture, points(picture, boxes[0]))
            found += 1
    return found


def spent() -> float:
    """Processor seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def stages(pictures: list[Path], precision: str, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Run the commands in a fresh folder; give each one's seconds and processor seconds."""
    table = folder / "labels.csv"
    rows = [f"{path.name},{20 + number % 60}" for number, path in enumerate(pictures)]
    table.write_text("\n".join(["path,target", *rows]) + "\n")
    (folder / "params.yaml").write_bytes((PROJECT / "profiles/sample.yaml").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}

    def call(*words: str) -> None:
        command = [sys.executable, "-c", "from pipeline.__main__ import main; main()", *words]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    settings = {
        "data.name": "csv",
        "data.root": str(folder),
        "data.settings": json.dumps({"table": table.name}),
        "split.method": "stratified",
        "encoder.precision": precision,
    }
    (folder / "chain.yaml").write_text("{}\n")
    call(
        "use",
        "chain.yaml",
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    )
    for stage in STAGES:
        begin, cpu = time.perf_counter(), spent()
        call(stage)
        yield stage, time.perf_counter() - begin, spent() - cpu


def main() -> None:
    """Print the stages' seconds, pictures a second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--plain", type=int, default=150)
    parser.add_argument("--precision", choices=("fp32", "bfloat16", "auto"), default="fp32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = given.pictures
        if source is None:
            source = folder / "drawn"
            render(source, seed=1, per_age=12)
        paths = copies(source, given.copies, folder)
        cores = len(os.sched_getaffinity(0))
        some = [str(path) for path in paths[:: max(1, len(paths) // given.plain)]]
        with multiprocessing.get_context("spawn").Pool(cores) as pool:
            pool.map(plain, [some[:1]] * cores)  # libraries and models are loaded
            begin = time.perf_counter()
            pool.map(plain, [some[part::cores] for part in range(cores)])
            theirs = len(some) / (time.perf_counter() - begin)
        total = 0.0
        for stage, seconds, cpu in stages(paths, given.precision, folder):
            total += seconds
            print(f"{stage:8s} {seconds:7.1f} s {1000 * cpu / len(paths):7.2f} CPU ms a picture", flush=True)
        ours = len(paths) / total
        print(
            f"{len(paths)} pictures: {ours:.0f} a second ({given.precision}); "
            f"dlib's parts {theirs:.1f}: {ours / theirs:.1f} x"
        )


if __name__ == "__main__":
    main()
