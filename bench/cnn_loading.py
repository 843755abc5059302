"""Is training bound by loading: the share of a step that waits for data, and images a second by backbone.

python bench/cnn_loading.py [--faces 512] [--size 96] [--steps 12] [--backbones resnet18 dlib]

Noise stands for faces, in a mapped file as the stage finetune makes it, with flip, colour jitter and affine
augmentation. Two loading processes work beside the training, on the same cores; `waiting` is the time from
asking for a batch to having it, as a share of the whole step, and `loss of speed` is what the loading takes
away from a training on one batch that is always there. The first two steps are not timed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.augmentation.transforms import Augmentation
from pipeline.backbones import starts
from pipeline.core.machine import available_cores
from pipeline.training.networks.criterion import Criterion, build_criterion
from pipeline.training.networks.fit import lightning_precision
from pipeline.training.networks.heads import DistributionHead
from pipeline.training.networks.loading import Batch, EpochOrder, FaceData, Faces, loader
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.pixels import Pixels
from pipeline.training.networks.recipe import Recipe
from pipeline.training.networks.schedules import build_optimizer

OPERATIONS = [("flip", {}), ("colour", {}), ("affine", {})]
BATCH, UNTIMED, LABELS = 32, 2, 81


class Timed(NamedTuple):
    """Medians of a step's seconds and of those in it that waited for data."""

    step: float
    waiting: float


def made_up(folder: Path, faces: int, size: int) -> Faces:
    """Noise in a mapped file, with ages."""
    path = folder / f"{size}.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (faces, size, size, 3), dtype=np.uint8))
    targets = torch.from_numpy(rng.integers(0, LABELS, (faces, 1))).float()
    return Faces(Pixels(path), targets, torch.ones(faces))


def steps(network: FaceNetwork, criterion: Criterion, batches: Iterable[Batch], half: bool) -> Timed:
    """Train on batches, timing each step and what it waited."""
    optimizer = build_optimizer(network.groups(1e-4, 1.0, 0.01), Recipe())
    whole, waits = [], []
    started = time.perf_counter()
    for batch in batches:
        arrived = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = criterion(network(batch.pixels), batch.targets, batch.weights)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ended = time.perf_counter()
        waits.append(arrived - started)
        whole.append(ended - started)
        started = ended
    return Timed(statistics.median(whole[UNTIMED:]), statistics.median(waits[UNTIMED:]))


def measure(name: str, faces: Faces, size: int, count: int, processes: int) -> list[object]:
    """One backbone: with loading, and on a batch that is always there."""
    trunk = starts.build(name)
    targets = torch.tensor([[0.0], [LABELS - 1.0]])
    criterion, _ = build_criterion("dldl_v2", {}, targets, targets)
    network = FaceNetwork(trunk, DistributionHead(trunk.width, LABELS))
    network.train().to(memory_format=torch.channels_last)
    half = lightning_precision("auto", network) == "bf16-mixed"
    data = FaceData(faces, size, Augmentation(OPERATIONS, size))
    ready = next(iter(loader(FaceData(faces, size), EpochOrder(len(faces), 1), BATCH, 0)))
    bare = steps(network, criterion, [ready] * count, half)
    order = EpochOrder(min(len(faces), BATCH * count), 1, BATCH)
    loaded = steps(network, criterion, loader(data, order, BATCH, processes), half)
    return [
        f"{name}, {size} px",
        "bfloat16" if half else "float32",
        f"{BATCH / loaded.step:.0f}",
        f"{BATCH / bare.step:.0f}",
        f"{loaded.waiting / loaded.step:.1%}",
        f"{1 - bare.step / loaded.step:.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "efficientnet_lite0", "dlib"])
    parser.add_argument("--native", action="store_true", help="and dlib at 150, FaceNet at 160 pixels")
    given = parser.parse_args()
    print(f"{available_cores()} cores, {torch.get_num_threads()} threads, batch {BATCH}")
    print("| network | precision | images/s | without loading | waiting | loss of speed |")
    print("|---|---|---:|---:|---:|---:|")
    cases = [(name, given.size) for name in given.backbones]
    cases += [("dlib", 150), ("facenet", 160)] if given.native else []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in cases:
            faces = made_up(Path(folder), given.faces, size)
            cells = measure(name, faces, size, given.steps, given.processes)
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
