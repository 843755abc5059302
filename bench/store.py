"""Time and peak memory of reading vectors into one float32 array.

python bench/store.py [--rows 200000] [--dim 512]

Writes a store of random unit vectors (the worst case for compression) to a temporary folder, then reads
it in a process of its own. Memory is the growth of the process's peak over what
it held with its libraries loaded and its keys at hand, as a multiple of the array's size.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.core.tables import ROW_GROUP_ROWS
from pipeline.encoders.store import VectorStore

FINGERPRINT = "bench"


def keys_of(rows: int) -> list[str]:
    """Keys in an order that is not the store's."""
    numbers = np.random.default_rng(1).integers(0, 256, (rows, 32), dtype=np.uint8)
    return [number.tobytes().hex() for number in numbers]


def write(root: Path, rows: int, dim: int) -> dict[str, float]:
    """Fill a store batch by batch, and compact it."""
    store, keys, rng = VectorStore(root, FINGERPRINT, dim), keys_of(rows), np.random.default_rng(0)
    batches = []
    for start in range(0, rows, ROW_GROUP_ROWS):
        batch = rng.standard_normal((len(keys[start : start + ROW_GROUP_ROWS]), dim), dtype=np.float32)
        batches.append(batch / np.linalg.norm(batch, axis=1, keepdims=True))
    begin = time.perf_counter()
    for index, batch in enumerate(batches):
        store.append(keys[index * ROW_GROUP_ROWS : (index + 1) * ROW_GROUP_ROWS], batch)
    filled = time.perf_counter()
    store.compact()
    compacted = time.perf_counter()
    return {"append s": filled - begin, "compact s": compacted - filled}


def peak() -> int:
    """The most memory this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(work: Callable[[], np.ndarray], size: int) -> dict[str, float]:
    """Seconds, and growth of the peak as a multiple of the array."""
    before, begin = peak(), time.perf_counter()
    array = work()
    seconds = time.perf_counter() - begin
    if array.nbytes != size or not array.flags.c_contiguous:
        raise RuntimeError(f"read {array.nbytes} bytes instead of {size}")
    return {"s": seconds, "memory / array": (peak() - before) / size}


def task(name: str, root: Path, rows: int, dim: int) -> dict[str, float]:
    """One measurement, in the process that this is called in."""
    size = rows * dim * 4
    if name == "write":
        return write(root, rows, dim)
    store, keys = VectorStore(root, FINGERPRINT, dim), keys_of(rows)
    if name == "read store":
        return measured(lambda: store.read(keys), size)
    first = time.perf_counter()
    store.missing(keys)
    again = time.perf_counter()
    store.missing(keys)
    return {"missing, first s": again - first, "missing, again s": time.perf_counter() - again}


def main() -> None:
    """Run every measurement in a fresh process and print one line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--task", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(task(options.task[0], Path(options.task[1]), options.rows, options.dim)))
        return
    size = ["--rows", str(options.rows), "--dim", str(options.dim)]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("write", "missing", "read store", "read store"):
            command = [sys.executable, __file__, *size, "--task", name, folder]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{name:12s}" + "".join(f"  {key} {value:.3f}" for key, value in result.items()), flush=True
            )


if __name__ == "__main__":
    main()
