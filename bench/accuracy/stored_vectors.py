"""Vectors of dlib's network that somebody stored, against those made here of the same photographs.

python -m bench.accuracy.stored_vectors PHOTOGRAPHS VECTORS [--faces N]

PHOTOGRAPHS is a folder; VECTORS a Parquet table of face_id (the sha256 of a photograph's file) and vector.
Two things are compared with what is stored, for every photograph in which dlib's HOG detector finds a face:
the network in torch on chips that dlib cuts out of the photograph, and the whole way through a crop.
"""

import argparse
import hashlib
from functools import cache
from pathlib import Path

import dlib
import numpy as np
import pyarrow as pa

from bench.accuracy.common import print_row
from bench.dlib_network import in_torch
from pipeline.augmentation.similarity import cosine
from pipeline.core.package_data import LANDMARK_MODEL, dlib_model
from pipeline.core.progress import track
from pipeline.core.tables import read_table, rows_of, vectors_of
from pipeline.dlib.chips import DEFAULT_PADDING, SIZE
from pipeline.encoders import build
from pipeline.encoders.encoder import Vectors
from pipeline.faces.extract import Settings, extract
from pipeline.faces.images import ImageRejected, decode

BATCH = 64
CROPS = Settings(detectors=("dlib_hog",))


def main() -> None:
    """Print one row for each of the two ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--faces", type=int, help="the first so many photographs; all of them by default")
    given = parser.parse_args()
    table = read_table(given.vectors, ["face_id", "vector"])
    known = set(table["face_id"].to_pylist())
    network, encoder = in_torch(), build("dlib", margin=CROPS.margin)
    ways: dict[str, list[Vectors]] = {"torch on dlib's own chips": [], "through a crop": []}
    ids: list[str] = []
    files = [path for path in sorted(given.photographs.rglob("*")) if path.is_file()][: given.faces]
    starts = range(0, len(files), BATCH)
    for start in track(starts, "encoding", len(starts)):
        chips, crops, landmarks = [], [], []
        for path in files[start : start + BATCH]:
            data = path.read_bytes()
            face = hashlib.sha256(data).hexdigest()
            chip = chip_of(data) if face in known else None
            if chip is None:
                continue
            crop = extract(data, CROPS)
            ids.append(face)
            chips.append(chip)
            crops.append(crop.pixels)
            landmarks.append(crop.landmarks)
        if chips:
            ways["torch on dlib's own chips"].append(network(np.stack(chips)))
            ways["through a crop"].append(encoder.encode(np.stack(crops), np.stack(landmarks)))
    stored = vectors_of(rows_of(table, pa.chunked_array([ids], pa.string())))
    print_row(["way", "faces", "largest difference", "median cosine", "least cosine"])
    print_row(["---", *["---:"] * 4])
    for way, parts in ways.items():
        made = np.concatenate(parts)
        alike = cosine(made, stored)
        difference = np.abs(made - stored).max()
        print_row([way, len(ids), f"{difference:.1e}", f"{np.median(alike):.5f}", f"{alike.min():.5f}"])


def chip_of(data: bytes) -> np.ndarray | None:
    """The aligned chip of the largest face, by dlib alone; None where its HOG detector finds none."""
    try:
        image = decode(data, max_pixels=CROPS.max_pixels)
    except ImageRejected:
        return None
    detect, predict = tools()
    found = detect(image, 0)
    if not found:
        return None
    shape = predict(image, max(found, key=lambda box: box.area()))
    chip: np.ndarray = dlib.get_face_chip(image, shape, SIZE, DEFAULT_PADDING)
    return chip


@cache
def tools() -> tuple[dlib.fhog_object_detector, dlib.shape_predictor]:
    """dlib's detector, and its model of five landmarks."""
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(dlib_model(LANDMARK_MODEL)))


if __name__ == "__main__":
    main()
