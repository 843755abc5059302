"""How fast the seed stack trains, next to the obvious program and to what the processor can do at most.

    python bench/seed_stack.py [--faces 18000] [--width 512] [--seeds 20] [--epochs 3] [--vectors FILE]

Prints, for one machine and one run: the fp32 matrix-product peak; one Lightning Trainer with a DataLoader
per seed; the stack with one member per core, with all members in one batched product, and in bfloat16; its
peak memory; and what bfloat16 does to the test error. Every program is timed over a whole run of as many
epochs, setting up included, after a short run that is not timed. The programs take turns, and figures are
medians over the rounds. Run it on a machine that does nothing else.
"""

import argparse
import logging
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.layers import MLP, Layout
from pipeline.training.mlp.recipe import Recipe

BATCH = 64
WARM_UP = 1000  # faces of the run that is not timed


def make_faces(count: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = nn.functional.normalize(torch.randn(count, width, generator=generator))
    truth = nn.functional.normalize(torch.randn(8, width, generator=torch.Generator().manual_seed(0)))
    y = 9.5 + 60 * (x @ truth.T).relu().sum(1) + torch.randn(count, generator=generator)
    return x, y.clamp(1, 18)


def flops_per_sample(layout: Layout) -> int:
    """Products forward, for the gradients of weights, and for those of inputs except the first layer's."""
    products = [before * after for before, after in pairwise(layout.widths)]
    return 2 * (3 * sum(products) - products[0])


def gemm_peak(seconds: float = 2.0) -> float:
    """Best rate of large fp32 products, flop/s."""
    a, b, out = (torch.randn(2048, 2048) for _ in range(3))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return best


def lightning_rate(x: Tensor, y: Tensor, epochs: int) -> float:
    """Member-samples per second of the obvious program, by one seed: a Trainer and a DataLoader for each."""
    import pytorch_lightning as pl

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = MLP(x.shape[1])

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return nn.functional.mse_loss(self.mlp(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-4)

    def fit(rows: int, epochs: int) -> None:
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=epochs,
        )
        trainer.fit(Model(), DataLoader(TensorDataset(x[:rows], y[:rows]), batch_size=BATCH, shuffle=True))

    fit(WARM_UP, 1)
    started = time.perf_counter()
    fit(len(x), epochs)
    return epochs * len(x) / (time.perf_counter() - started)


def stack_rate(
    x: Tensor, y: Tensor, seeds: int, epochs: int, stack_size: int | None = None, **recipe: Any
) -> float:
    """Member-samples per second of the stack."""

    def fit(rows: int, epochs: int) -> None:
        fit_stack(
            x[:rows],
            y[:rows],
            x[:BATCH],
            y[:BATCH],
            seeds=range(seeds),
            learning_rates=1e-4,
            recipe=Recipe(epochs=epochs, batch_size=BATCH, **recipe),
            stack_size=stack_size,
        )

    fit(WARM_UP, 1)
    started = time.perf_counter()
    fit(len(x), epochs)
    return seeds * epochs * len(x) / (time.perf_counter() - started)


def peak_memory(faces: int, width: int, seeds: int) -> float:
    """MiB above what is resident with torch loaded and the caller's data in memory."""
    tiny = make_faces(256, width, 3)
    stack_rate(*tiny, seeds=2, epochs=3, hidden=(8,))
    x, y = make_faces(faces, width, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stack_rate(x, y, seeds=seeds, epochs=3)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def read_vectors(path: Path) -> tuple[Tensor, Tensor]:
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["vector", "target"])
    x = torch.from_numpy(np.stack(table["vector"].to_numpy()).astype(np.float32))
    y = torch.from_numpy(table["target"].to_numpy().astype(np.float32))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return x[order], y[order]


def test_errors(x: Tensor, y: Tensor, precision: Literal["float32", "bfloat16"]) -> tuple[float, float]:
    """Mean and standard deviation over five seeds of the test MAE, on a 60/20/20 split."""
    a, b = int(0.6 * len(y)), int(0.8 * len(y))
    result = fit_stack(
        x[:a],
        y[:a],
        x[a:b],
        y[a:b],
        seeds=range(5),
        learning_rates=1e-3,
        recipe=Recipe(epochs=20, precision=precision),
    )
    errors = (result.members.predict(x[b:]) - y[b:]).abs().mean(1)
    return float(errors.mean()), float(errors.std())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=18_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3, help="of every run that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="how often each program has its turn")
    parser.add_argument("--vectors", type=Path, help="Parquet with vector and target, for the bfloat16 error")
    given = parser.parse_args()

    x, y = make_faces(given.faces, given.width, 1)
    layout = Layout((given.width, 512, 256, 128, 1))
    flops = flops_per_sample(layout)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        memory = child.submit(peak_memory, given.faces, given.width, given.seeds).result()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    programs: dict[str, Callable[[], float]] = {
        "fp32 product peak": gemm_peak,
        "Lightning Trainer and DataLoader per seed": lambda: lightning_rate(x, y, given.epochs),
        "stack, one member per core": lambda: stack_rate(x, y, given.seeds, given.epochs),
        "stack, all members in one batched product": lambda: stack_rate(
            x, y, given.seeds, given.epochs, given.seeds
        ),
        "stack, one member per core, bfloat16": lambda: stack_rate(
            x, y, given.seeds, given.epochs, precision="bfloat16"
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(given.rounds):
        for name, program in programs.items():
            rates[name].append(program())
    peaks = rates.pop("fp32 product peak")
    obvious = rates["Lightning Trainer and DataLoader per seed"]
    print(f"{torch.get_num_threads()} cores, fp32 product peak {median(peaks) / 1e9:.0f} GFLOP/s")
    print(f"{layout.parameters:,} parameters, {flops / 1e6:.2f} MFLOP per member-sample ('of peak');")
    print("the last column counts 6 x parameters, as is usual, though nobody needs the input's gradient\n")
    print(f"{'program':44s} {'samples/s':>10s} {'times':>6s} {'of peak':>8s} {'6 x parameters':>15s}")
    for name, found in rates.items():
        times = median(rate / base for rate, base in zip(found, obvious, strict=True))
        share = median(rate / peak for rate, peak in zip(found, peaks, strict=True))
        usual = 6 * layout.parameters * share
        print(f"{name:44s} {median(found):10,.0f} {times:6.2f} {flops * share:8.0%} {usual:15.0%}")

    state = 4 * layout.parameters * given.seeds * 4 / 2**20
    data = x.numel() * 4 / 2**20
    print(f"\npeak memory above the caller's data: {memory:.0f} MiB")
    print(f"weights + gradients + optimiser state + one copy of the data: {state + data:.0f} MiB")

    measured = read_vectors(given.vectors) if given.vectors else (x, y)
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for precision in precisions:
        mean, spread = test_errors(*measured, precision)
        print(f"test MAE, {precision:9s} {mean:.3f} +- {spread:.3f} over 5 seeds")


if __name__ == "__main__":
    main()
