"""Where every stage reads and writes; the file formats are described in docs/files.md."""

from pathlib import Path

MANIFEST = Path("data/manifest.parquet")
READY_VECTORS = Path("data/vectors")
CROPS = Path("data/crops")
INGEST_REJECTS = Path("data/rejects/ingest.parquet")
CROP_REJECTS = Path("data/rejects/crop.parquet")
REJECTS = Path("data/rejects.parquet")
SPLITS = Path("data/splits.parquet")
STORE = Path("embeddings/cache")
FACES = Path("embeddings/faces.parquet")
AUGMENTED = Path("embeddings/augmented.parquet")
LEAKS = Path("embeddings/leaks.parquet")
MODELS = Path("models")
RATES = MODELS / "find_lr"
BASELINES = Path("reports/baselines")
TABLES = Path("reports/tables")
METRICS = Path("reports/metrics.json")
FIGURES = Path("reports/figures")
PAGE = Path("reports/index.html")
LOGS = Path("logs")
