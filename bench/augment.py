"""Augmenting, encoding and filtering together, next to the encoder alone on the same pictures.

python bench/augment.py [--faces 64] [--slots 8] [--rounds 3] [--workers 2]

Every face gets pictures from all eight operations, drawn in worker processes while this one encodes what
came before and compares it with the original. The encoder alone is handed all those pictures at once, ready
drawn. The limits let every picture pass, so that both encode the same number.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1

from pipeline.augmentation.augmenting import Face, Tally, augment_faces
from pipeline.augmentation.examples import portrait
from pipeline.augmentation.operations import FACTORIES, Attempts, Operation, draw
from pipeline.backbones.views import Images
from pipeline.dlib.chips import predict_landmarks
from pipeline.encoders import build
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.stored import StoredEncoders

CHAINS = [(Operation(name),) for name in FACTORIES]


# Of the portrait: an encoder that aligns faces is handed them, by the stage too.
POINTS = predict_landmarks(portrait(), 0.25)


def crops(count: int) -> list[Images]:
    """Different pictures of one portrait: shifted by a few pixels, darker or lighter."""
    rng = np.random.default_rng(0)
    own = portrait().astype(np.int16)
    return [
        np.clip(np.roll(own, rng.integers(-9, 10, 2), (0, 1)) + rng.integers(-20, 21), 0, 255).astype(
            np.uint8
        )
        for _ in range(count)
    ]


def faces(
    images: list[Images], encoder: Encoder, slots: int, turn: int
) -> Iterator[Face[tuple[Operation, ...]]]:
    """The crops as faces that owe pictures, other ones in every round."""
    for number, (image, vector) in enumerate(zip(images, encoder.encode(np.stack(images)), strict=True)):
        face_id = f"{turn} {number}"
        yield Face(face_id, image, POINTS, vector, slots, Attempts(turn, face_id, CHAINS, 1, in_turn=True))


def main() -> None:
    """Print pictures a second, and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pt"  # which cost the same time as trained ones
        torch.save(InceptionResnetV1().state_dict(), weights)
        encoders = {
            "dlib, fp32": build("dlib"),
            "facenet, bfloat16": build("facenet", weights=str(weights), precision="bfloat16"),
        }
        with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
            for name, encoder in encoders.items():
                store = Path(folder) / encoder.name
                measure(name, encoder, pool, store, given.faces, given.slots, given.rounds)


def measure(
    name: str, encoder: Encoder, pool: ProcessPoolExecutor, store: Path, count: int, slots: int, rounds: int
) -> None:
    """Print one encoder's row; the first round warms up and is not counted."""
    originals = crops(count)
    whole, alone = [], []
    for turn in range(rounds + 1):
        wanted = list(faces(originals, encoder, slots, turn))
        # a store of its own: operations with fixed factors give the same pictures in every round
        vectors = StoredEncoders([encoder], store / str(turn))
        limits = {"min_similarity": -1.01, "max_similarity": 1.01}
        begin = time.perf_counter()
        drawn = augment_faces(
            wanted, draw, vectors, pool, **limits, max_tries=1, tally=Tally(), keep_images=True
        )
        kept = [one for face in drawn for one in face]
        whole.append(vectors.encoded / (time.perf_counter() - begin))
        pictures = np.stack([one.image for one in kept])
        begin = time.perf_counter()
        encoder.encode(pictures, np.tile(POINTS, (len(pictures), 1, 1)))
        alone.append(len(pictures) / (time.perf_counter() - begin))
    ratio = statistics.median(a / b for a, b in zip(whole[1:], alone[1:], strict=True))
    print(
        f"{name:18s} encoder alone {statistics.median(alone[1:]):6.1f} pictures/s, "
        f"augment, encode and filter {statistics.median(whole[1:]):6.1f} pictures/s: {ratio:.2f} x",
        flush=True,
    )


if __name__ == "__main__":
    main()
