"""Where every stage reads and writes; the file formats are described in docs/files.md."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.tables import read_table

MANIFEST = Path("data/manifest.parquet")
READY_VECTORS = Path("data/vectors.parquet")
CROPS = Path("data/crops")
INGEST_REJECTS = Path("data/rejects/ingest.parquet")
CROP_REJECTS = Path("data/rejects/crop.parquet")
REJECTS = Path("data/rejects.parquet")
SPLITS = Path("data/splits.parquet")
STORE = Path("embeddings/cache")
FACES = Path("embeddings/faces.parquet")
AUGMENTED = Path("embeddings/augmented.parquet")
CALIBRATION = Path("embeddings/calibration.parquet")
BALANCE = Path("embeddings/balance.parquet")
LEAKS = Path("embeddings/leaks.parquet")
MODELS = Path("models")
CALIBRATED = Path("models/calibrated")
UNCALIBRATED = CALIBRATED / "uncalibrated.txt"
NETWORKS = Path("models/cnn")
PIXELS = Path("data/pixels")
BASELINES = Path("reports/baselines")
TABLES = Path("reports/tables")
METRICS = Path("reports/metrics.json")
FIGURES = Path("reports/figures")
PAGE = Path("reports/index.html")
LOGS = Path("logs")
REFUSED = LOGS / "ingest-rejects.parquet"
STUDIES = Path("studies")
STUDY_STORAGE = "sqlite:///studies/study.db"
STUDY_TRIALS = Path("studies/trials.parquet")
STUDY_REACHED = Path("studies/reached.parquet")
STUDY_IMPORTANCE = Path("studies/importance.parquet")
STUDY_COMPARISON = Path("studies/comparison.parquet")
STUDY_BEST = Path("studies/best.yaml")
CLASSIFIERS = Path("models/classifiers")
EXPLAINED = Path("reports/explain")
# What is written is replaced or removed in these: nobody else's files belong there.
TAKEN = (CROPS, REJECTS.with_suffix(""), PIXELS, FACES.parent, MODELS, METRICS.parent, STUDIES, LOGS)

PARTS = ("train", "validation", "test")
NEEDED = {
    MANIFEST: ("face_id", "path", "target"),
    READY_VECTORS: ("face_id",),
    SPLITS: ("face_id", "split"),
    REJECTS: ("face_id", "path", "stage", "reason", "detail"),
    FACES: ("face_id", "target", "split", "vector"),
    AUGMENTED: ("face_id", "target", "parent_id", "vector"),
    CALIBRATION: ("operation", "count", "mean"),
    BALANCE: ("bin",),
    STUDY_TRIALS: ("trial", "end", "value"),
}
"""Columns without which a table is another's, put into this one's place."""


def read(path: Path) -> pa.Table:
    """One of the tables above, whole.

    Raises
    ------
    UserError
        It is missing or damaged, or is not this table.
    """
    table = read_table(path)
    lacking = [name for name in NEEDED[path] if name not in table.column_names]
    if lacking and table.num_columns:  # augment writes no column where it has measured nothing
        raise UserError(
            f"{path} has no column {lacking[0]!r}, it is another table: run the stage that writes it again "
            "(dvc repro)"
        )
    if "split" in NEEDED[path] and table.num_columns:
        known = pc.fill_null(pc.is_in(table["split"].cast(pa.string()), value_set=pa.array(PARTS)), False)
        if (row := pc.index(known, False).as_py()) >= 0:
            raise UserError(
                f"{path}, row {row}: split {table['split'][row].as_py()!r} is none of {', '.join(PARTS)}: "
                "run the stage that writes it again (dvc repro)"
            )
    return table


def rates(optimizer: str, policy: str) -> Path:
    """The seeds and learning rates of one optimiser's models under one policy."""
    return MODELS / "find_lr" / optimizer / f"{policy}.parquet"


def network_folder(loss: str, backbone: str) -> Path:
    """The whole networks of one loss and backbone."""
    return NETWORKS / loss / backbone


def checkpoint_folder(loss: str, backbone: str) -> Path:
    """What an interrupted run of such networks goes on from."""
    return LOGS / "checkpoints" / loss / backbone


def run_folder(optimizer: str, policy: str) -> Path:
    """The models of one optimiser under one policy."""
    return MODELS / policy / optimizer


def classifier_checkpoints(loss: str) -> Path:
    """What an interrupted run of such classifiers goes on from."""
    return LOGS / "checkpoints" / "classify" / loss


def classifier_folder(loss: str) -> Path:
    """The classifiers trained with one loss."""
    return CLASSIFIERS / loss


def ready_vectors() -> pa.Table | None:
    """Embeddings that a data set brought with it (face_id, vector); None where it holds images."""
    table = read(READY_VECTORS)
    return table if table.num_rows else None
