"""Which loss suits vectors: the seed stack under several losses, single models and their ensemble.

python -m bench.accuracy.losses PROJECT [--members 20] [--rate 1e-3]

PROJECT is a folder in which `dvc repro embed` has run.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from bench.accuracy.common import COLUMNS, Trained, print_row, read_faces, train
from pipeline.core.tables import read_table, vectors_of
from pipeline.training.mlp.recipe import Recipe

CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("MSE", "mse", {}),
    ("L1", "l1", {}),
    ("DLDL-v2", "dldl_v2", {}),
    ("Mean-Variance", "mean_variance", {}),
    ("Unimodal-Concentrated, lambda 1000", "unimodal_concentrated", {}),
    ("Unimodal-Concentrated, lambda 10", "unimodal_concentrated", {"unimodal_weight": 10.0}),
)


def main() -> None:
    """Print one row for each loss."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    faces = read_faces(given.project)
    vectors = vectors_of(read_table(given.project / "embeddings/faces.parquet", ["vector"]))
    print_row(["loss", *COLUMNS, "seconds"])
    print_row(["---"] * 7)
    first: Trained | None = None
    for title, loss, settings in CASES:
        begin = time.perf_counter()
        recipe = Recipe(loss=loss, loss_settings=settings, standardise=True)
        trained = train(faces, vectors, members=given.members, rate=given.rate, recipe=recipe)
        print_row([title, *trained.cells(first), f"{time.perf_counter() - begin:.0f}"])
        first = first or trained


if __name__ == "__main__":
    main()
