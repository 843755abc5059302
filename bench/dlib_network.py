"""dlib's face network: vectors a second by dlib itself, and by torch.

python bench/dlib_network.py [--chips 320] [--rounds 5] [--processes 2]

dlib computes on one core, so it gets a process for each; torch gets as many threads. Both are handed the
same aligned chips. The programs take turns, so that whatever else the machine does touches all of them;
the figures are medians over the rounds, after one that is not counted (torch.compile takes half a minute).
dlib, being slower, gets a tenth of the chips.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import dlib
import numpy as np
import torch

from pipeline.backbones.views import Images
from pipeline.core.package_data import dlib_model
from pipeline.dlib.resnet_parameters import FILE_NAME, SIZE
from pipeline.encoders.dlib_torch import build_dlib
from pipeline.encoders.encoder import Vectors
from pipeline.encoders.torch_encoder import TorchEncoder


@cache
def model() -> dlib.face_recognition_model_v1:
    """dlib's network, read once in every process."""
    return dlib.face_recognition_model_v1(str(dlib_model(FILE_NAME)))


def by_dlib(chips: Images) -> Vectors:
    """dlib's own descriptors."""
    return np.array([model().compute_face_descriptor(chip) for chip in chips], dtype=np.float32)


def in_torch(**settings: object) -> Callable[[Images], Vectors]:
    """The encoder, handed chips in place of crops."""
    encoder = build_dlib(**settings)  # type: ignore[arg-type]
    assert isinstance(encoder, TorchEncoder)
    return replace(encoder, prepare=lambda images, _: images).encode


def measure(chips: int = 320, rounds: int = 5, processes: int = 2) -> tuple[dict[str, float], float]:
    """Measure vectors a second, and the largest difference between dlib's vectors and torch's in fp32.

    Parameters
    ----------
    chips
        In every round.
    rounds
        How often each program has its turn.
    processes
        For dlib; and threads for torch.
    """
    torch.set_num_threads(processes)
    pictures = np.random.default_rng(0).integers(0, 256, (chips, SIZE, SIZE, 3), dtype=np.uint8)
    few = pictures[: max(chips // 10 // processes, 1) * processes]
    in_fp32 = in_torch()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        programs: dict[str, tuple[Callable[[Images], object], Images]] = {
            f"dlib, {processes} processes": (
                lambda images: pool.map(by_dlib, np.array_split(images, processes), chunksize=1),
                few,
            ),
            "torch, fp32": (in_fp32, pictures),
            "torch, fp32 compiled": (in_torch(compile=True), pictures),
            "torch, bfloat16": (in_torch(precision="bfloat16"), pictures),
            "torch, bfloat16 compiled": (in_torch(precision="bfloat16", compile=True), pictures),
        }
        rates: dict[str, list[float]] = {label: [] for label in programs}
        for turn in range(rounds + 1):
            for label, (program, images) in programs.items():
                begin = time.perf_counter()
                program(images)
                if turn:
                    rates[label].append(len(images) / (time.perf_counter() - begin))
    difference = float(np.abs(in_fp32(few) - by_dlib(few)).max())
    return {label: statistics.median(values) for label, values in rates.items()}, difference


def main() -> None:
    """Print vectors a second and how many times dlib's own rate that is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chips", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    rates, difference = measure(options.chips, options.rounds, options.processes)
    base = next(iter(rates.values()))
    for label, value in rates.items():
        print(f"{label:26s} {value:7.1f} vectors/s  {value / base:5.1f} x")
    print(f"largest difference between dlib's numbers and torch's in fp32: {difference:.1e}")


if __name__ == "__main__":
    main()
