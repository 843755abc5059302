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
LEAKS = Path("embeddings/leaks.parquet")
LOGS = Path("logs")
