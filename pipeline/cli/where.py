"""Which results exist, where they are and how large: what `vec2age where` prints."""

from rich.console import Console
from rich.table import Table

from pipeline import config
from pipeline.core.shown import plain
from pipeline.core.tables import open_table
from pipeline.stages import locations
from pipeline.stages.outputs import uncalibrated

RESULTS = (
    ("faces and their targets", locations.MANIFEST, ""),
    ("crops, packed", locations.CROPS, "*.parquet"),
    ("what was left out, and why", locations.REJECTS, ""),
    ("training, validation, test", locations.SPLITS, ""),
    ("vectors", locations.FACES, ""),
    ("near-duplicates across splits", locations.LEAKS, ""),
    ("models, one row each", locations.MODELS, "*/*/scores.parquet"),
    ("trials of the study", locations.STUDY_TRIALS, ""),
    ("how sure they are, calibrated", locations.CALIBRATED / "calibration.parquet", ""),
    ("whole networks, one row each", locations.NETWORKS, "*/*/scores.parquet"),
    ("all numbers", locations.METRICS, ""),
    ("the page to read", locations.PAGE, ""),
)


def print_results() -> None:
    """Print one aligned line for each result; `rows` where it is a table.

    Raises
    ------
    UserError
        This is no project, or a table is damaged.
    """
    config.load()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("result", "where", "rows", "size"):
        table.add_column(column, justify="right" if column in ("rows", "size") else "left")
    why = uncalibrated()
    for what, path, pattern in RESULTS:
        parts = sorted(path.glob(pattern)) if pattern else [path] if path.is_file() else []
        counts = [open_table(part).metadata.num_rows for part in parts if part.suffix == ".parquet"]
        rows = f"{sum(counts):,}" if counts else ""
        if parts:
            size = f"{sum(part.stat().st_size for part in parts) / 2**20:,.1f} MiB"
        else:
            size = "none: see below" if why and path.parent == locations.CALIBRATED else "not yet: dvc repro"
        table.add_row(what, plain(str(path)), rows, size)
    console = Console()
    console.print(table)
    if why:
        console.print(plain(f"\nNothing was calibrated: {why}"))
