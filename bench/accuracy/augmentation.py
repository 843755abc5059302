"""Does augmentation help: test error without it, and with the pictures of one or more augment runs.

python -m bench.accuracy.augmentation PROJECT --augmented 'all candidates=all.parquet' --augmented ...

PROJECT is a folder in which `dvc repro embed` has run; each file is an embeddings/augmented.parquet of it,
made with other limits. Validation and test faces are the same throughout.
"""

import argparse
from pathlib import Path

import numpy as np

from bench.accuracy.common import COLUMNS, Trained, print_row, read_faces, train
from pipeline.core.tables import read_table, vectors_of
from pipeline.training.mlp.recipe import Recipe


def main() -> None:
    """Print one row for each training set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--augmented", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    faces = read_faces(given.project)
    vectors = vectors_of(read_table(given.project / "embeddings/faces.parquet", ["vector"]))
    recipe = Recipe(standardise=True)
    print_row(["training set", "pictures", *COLUMNS])
    print_row(["---"] * 7)
    originals = int(faces.of("train").sum())
    first: Trained | None = None
    for case in ["none=", *given.augmented]:
        name, _, path = case.partition("=")
        more = None
        if path:
            table = read_table(Path(path), ["target", "vector"])
            more = vectors_of(table), table["target"].to_numpy().astype(np.float64)
        trained = train(faces, vectors, members=given.members, rate=given.rate, recipe=recipe, more=more)
        print_row([name, originals + (0 if more is None else len(more[1])), *trained.cells(first)])
        first = first or trained


if __name__ == "__main__":
    main()
