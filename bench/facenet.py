"""FaceNet: pictures a second by the obvious program, and by this one.

python bench/facenet.py [--faces 512] [--rounds 3] [--compile]

The obvious program opens every crop with Pillow, resizes it, stacks 32 tensors and calls
facenet-pytorch's network in fp32. Ours takes the same PNG crops out of a Parquet shard and ends with
vectors on disk: bfloat16, channels_last, batch normalisation folded away, one batch a core, decoding and
writing beside the network. Weights are random, which costs the same time. The programs take turns, so that
whatever else the machine does touches both; the figures are medians over the rounds.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from facenet_pytorch import InceptionResnetV1, fixed_image_standardization
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from pipeline.core.tables import write_table
from pipeline.encoders import Encoder, build
from pipeline.encoders.embedding import embed

BATCH = 32


def crops(faces: int) -> list[bytes]:
    """PNG crops of 224 x 224 pixels, as compressible as photographs: smooth, with a little noise."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(faces):
        coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "png")
        found.append(buffer.getvalue())
    return found


def shard(pictures: list[bytes], path: Path) -> Path:
    """The crops as the crop stage packs them."""
    kinds = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {
        "crop_id": pa.array([f"{number:064x}" for number in range(len(pictures))]),
        "image": pa.array([{"bytes": data, "path": None} for data in pictures], kinds),
        "landmarks": pa.array([[0.0] * 10] * len(pictures), pa.list_(pa.float32(), 10)),
    }
    write_table(pa.table(columns), path, "bench")
    return path


def obvious(network: InceptionResnetV1, pictures: list[bytes]) -> None:
    """facenet-pytorch in a loop."""
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            opened = [Image.open(io.BytesIO(data)) for data in pictures[start : start + BATCH]]
            resized = [picture.convert("RGB").resize((160, 160)) for picture in opened]
            pixels = torch.stack([pil_to_tensor(picture).float() for picture in resized])
            network(fixed_image_standardization(pixels)).numpy()


def ours(encoder: Encoder, path: Path) -> None:
    """The embed stage's work, from a shard to a store."""
    with tempfile.TemporaryDirectory() as store:
        embed([path], [encoder], Path(store))


def rate(work: Callable[[], None], faces: int) -> float:
    """Faces a second."""
    begin = time.perf_counter()
    work()
    return faces / (time.perf_counter() - begin)


def measure(faces: int = 512, rounds: int = 3, *, compile: bool = False) -> dict[str, float]:
    """Measure both programs and their ratio; with `compile`, also ours compiled.

    Parameters
    ----------
    faces
        Crops in every round.
    rounds
        How often each program has its turn.
    compile
        Whether to measure torch.compile too, which takes a minute to compile.
    """
    torch.manual_seed(0)
    network = InceptionResnetV1().eval()
    pictures = crops(faces)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pt"
        torch.save(network.state_dict(), weights)
        path = shard(pictures, Path(folder) / "00000.parquet")
        warm = shard(pictures[:BATCH], Path(folder) / "warm.parquet")
        programs: dict[str, Callable[[], None]] = {
            "facenet-pytorch, eager fp32": lambda: obvious(network, pictures)
        }
        obvious(network, pictures[:BATCH])
        for label, compiled in [("ours, bfloat16", False), ("ours, bfloat16 compiled", True)][: 1 + compile]:
            encoder = build("facenet", weights=str(weights), precision="bfloat16", compile=compiled)
            ours(encoder, warm)
            programs[label] = lambda encoder=encoder: ours(encoder, path)  # type: ignore[misc]
        rates: dict[str, list[float]] = {label: [] for label in programs}
        for _ in range(rounds):
            for label, work in programs.items():
                rates[label].append(rate(work, faces))
    return {label: statistics.median(values) for label, values in rates.items()}


def main() -> None:
    """Print pictures a second and how many times the obvious program that is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    rates = measure(options.faces, options.rounds, compile=options.compile)
    base = next(iter(rates.values()))
    for label, value in rates.items():
        print(f"{label:30s} {value:7.1f} images/s  {value / base:5.2f} x")


if __name__ == "__main__":
    main()
