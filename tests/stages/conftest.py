"""A small project of vectors: its settings, its inputs, a folder to run stages in."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.augmentation.augmented_tables import calibration_table
from pipeline.config.profiles import use
from pipeline.core.rejects import Rejects
from pipeline.core.tables import vector_type, write_table
from pipeline.stages import locations

PROJECT = Path(__file__).resolve().parents[2]
SMALL = (
    "train.optimizers=[adam]",
    "train.seeds=2",
    "train.recipe.hidden=[8]",
    "train.recipe.epochs=3",
    "train.recipe.batch_size=16",
    "train.adam.lr=0.01",
    "find_lr.steps=20",
    "evaluate.resamples=50",
    "evaluate.baselines=[mean]",
    "study.trials=5",
    "study.seeds=2",
    "study.group=3",
    "study.epochs=3",
    "study.pruning.every=1",
    "study.pruning.warmup=1",
    "study.space.batch_size=[16, 32]",
    "tracking.trackers=[]",
)


@pytest.fixture(scope="session")
def make_project() -> Callable[..., Path]:
    """Write params.yaml and the tables that training reads into a folder."""

    def make(folder: Path, *changes: str) -> Path:
        (folder / "none.yaml").write_text("{}\n")
        shutil.copy(PROJECT / "params.yaml", folder)
        use(folder / "none.yaml", [*SMALL, *changes], folder / "params.yaml")
        rng = np.random.default_rng(1)
        target = rng.integers(10, 26, 120).astype(float)
        vectors = rng.normal(size=(120, 6)).astype(np.float32)
        vectors[:, 0] += (target - 18) / 4
        splits = ("train", "train", "train", "validation", "test")
        faces = pa.table(
            {
                "face_id": [sha256(str(number).encode()).hexdigest() for number in range(120)],
                "target": target,
                "split": [splits[number % 5] for number in range(120)],
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector_type(6)),
            }
        )
        write_table(faces, folder / locations.FACES, "vec2age embed", {"encoders": "none"})
        none = faces.slice(0, 0).append_column("parent_id", pa.array([], pa.string()))
        write_table(none, folder / locations.AUGMENTED, "vec2age augment")
        write_table(calibration_table([], (0.6, 0.98), {}), folder / locations.CALIBRATION, "vec2age augment")
        write_table(
            pa.table({"bin": pa.array([], pa.int64())}), folder / locations.BALANCE, "vec2age augment"
        )
        write_table(Rejects().table(), folder / locations.REJECTS, "vec2age split")
        return folder

    return make
