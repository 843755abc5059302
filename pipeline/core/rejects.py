"""What was left out, and why: the table that keeps every omission visible."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("face_id", pa.string()),
        pa.field("path", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


MOST_ALIKE = 10_000
"""Rows of one reason about one path, or about none; further ones are counted in one row."""


@dataclass
class Rejects:
    """Collects rejected faces and files; one row each, in the order they were met.

    A table can hold millions of bad rows: beyond `MOST_ALIKE` of one reason about one path, or about none,
    they are counted and not listed.

    Examples
    --------
    >>> rejects = Rejects()
    >>> rejects.add(stage="ingest", reason="bad_name", detail="no age in the name", path="x.jpg")
    >>> rejects.counts()
    {'bad_name': 1}
    """

    rows: list[dict[str, str | None]] = field(default_factory=list)
    more: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    """How many are counted and not listed, by stage, reason and path."""
    _alike: Counter[tuple[str, str, str | None]] = field(default_factory=Counter, repr=False)

    def add(
        self, *, stage: str, reason: str, detail: str, face_id: str | None = None, path: str | None = None
    ) -> None:
        """Record one rejection: `reason` is a short word to count by, `detail` a sentence to read."""
        alike = (stage, reason, path)
        self._alike[alike] += 1
        if self._alike[alike] > MOST_ALIKE:
            self.more[alike] += 1
            return
        self.rows.append(
            {"face_id": face_id, "path": path, "stage": stage, "reason": reason, "detail": detail}
        )

    def extend(self, rows: Iterable[dict[str, str | None]]) -> None:
        """Take over rows that another collector, perhaps in another process, has gathered."""
        self.rows.extend(rows)

    def counts(self) -> dict[str, int]:
        """How many rows carry each reason, by reason."""
        found = Counter(str(row["reason"]) for row in self.rows)
        for (_, reason, _), count in self.more.items():
            found[reason] += count
        return dict(sorted(found.items()))

    def table(self) -> pa.Table:
        """The rows as the table that data/rejects.parquet holds, in an order of their own content."""
        counted = [
            {
                "face_id": None,
                "path": path,
                "stage": stage,
                "reason": reason,
                "detail": f"and {count:,} more with this reason",
            }
            for (stage, reason, path), count in self.more.items()
        ]
        ordered = sorted(
            [*self.rows, *counted], key=lambda row: tuple(str(row[name] or "") for name in SCHEMA.names)
        )
        return pa.Table.from_pylist(ordered, schema=SCHEMA)

    def summary(self) -> dict[str, int]:
        """The counts as a stage prints them: `rejected: reason` and how many."""
        return {f"rejected: {reason}": count for reason, count in self.counts().items()}


def combine(*tables: pa.Table) -> pa.Table:
    """Several stages' rejects as one table."""
    rejects = Rejects()
    for table in tables:
        rejects.extend(table.to_pylist())
    return rejects.table()
