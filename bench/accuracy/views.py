"""Which encoders and views help: test error of the MLP on joined vectors, and seconds to encode them.

python -m bench.accuracy.views PROJECT [--members 10] [--rate 1e-3]

PROJECT is a folder in which `dvc repro embed` has run on photographs; its crops are encoded into a store in
a temporary folder, so that the seconds are those of encoding everything once.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from bench.accuracy.common import COLUMNS, Trained, print_row, read_faces, train
from pipeline.core.tables import read_folder, rows_of
from pipeline.encoders import View, build
from pipeline.encoders.embedding import embed, vectors_of
from pipeline.encoders.encoder import Encoder
from pipeline.faces import shards
from pipeline.training.mlp.recipe import Recipe

PLAIN = (View(),)
PAIR = (View(), View(mirror=True))
SIX = tuple(
    View(mirror=mirror, padding=padding) for padding in (0.10, 0.25, 0.45) for mirror in (False, True)
)
CASES = (
    ("one view", PLAIN, "concatenate"),
    ("mirrored pair, concatenated", PAIR, "concatenate"),
    ("six views, averaged", SIX, "average"),
    ("six views, concatenated", SIX, "concatenate"),
)


def main() -> None:
    """Print one row for each case, with and without efficientnet_lite0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    faces = read_faces(given.project)
    crops = shards.paths(given.project / "data/crops")
    table = read_folder(given.project / "data/crops", ["face_id", "crop_id"])
    assert table is not None
    keys = rows_of(table, pa.chunked_array([faces.ids]))["crop_id"].to_pylist()
    seconds: dict[str, float] = {}
    recipe = Recipe(standardise=True)
    print_row(["encoders", "views", "width", *COLUMNS, "seconds to encode"])
    print_row(["---"] * 9)
    first: Trained | None = None
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)

        def encoded(name: str, view: View) -> Encoder:
            encoder = build(name, view=view)
            if encoder.fingerprint not in seconds:
                begin = time.perf_counter()
                embed(crops, [encoder], store)
                seconds[encoder.fingerprint] = time.perf_counter() - begin
            return encoder

        for names in (("dlib",), ("dlib", "efficientnet_lite0")):
            for title, views, how in CASES:
                encoders = [encoded(name, view) for name in names for view in views]
                vectors = vectors_of(keys, encoders, store, how)
                trained = train(faces, vectors, members=given.members, rate=given.rate, recipe=recipe)
                cost = sum(seconds[encoder.fingerprint] for encoder in encoders)
                print_row([" + ".join(names), title, vectors.shape[1], *trained.cells(first), f"{cost:.0f}"])
                first = first or trained


if __name__ == "__main__":
    main()
