"""Finished work that waits beside an output, in parts of a block of files each, until all is there."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, writing
from pipeline.core.files import printable
from pipeline.core.places import alone
from pipeline.core.tables import open_table, read_table, temporary_for, write_batches
from pipeline.faces.cropping import PASSING
from pipeline.serving import prediction_files
from pipeline.serving.bundle import Bundle
from pipeline.serving.looking import FACE
from pipeline.serving.rows import SCHEMA
from pipeline.serving.stream import Block

# Raise it when the same files and model give other rows than before.
CODE_VERSION = 2
KEY = b"vec2age.part"
PACKAGES = ("dlib-bin", "numpy", "pillow", "torch")
LOCK = "lock"
PART = re.compile(r"\d{6,}\.parquet")


class Work:
    """The parts of one output: which are finished, and what is in them."""

    def __init__(self, folder: Path, bundle: Bundle, level: float | None, overlay: Path | None) -> None:
        self.folder = folder
        self.bundle = bundle
        self.shared = {
            "code": CODE_VERSION,
            "packages": {name: version(name) for name in PACKAGES},
            "model": bundle.id,
            "level": level,
            "overlay": None if overlay is None else str(overlay.absolute()),
        }
        self.number = 0
        self.kept = 0
        self.keys: dict[int, str] = {}

    def path_of(self, number: int) -> Path:
        """Where a part lies."""
        return self.folder / f"{number:06d}.parquet"

    def key_of(self, block: Block) -> str:
        """A hash of everything that a block's rows depend on."""
        files = [(one.file, one.root, one.path, one.stamp()) for one in block.sources]
        return hashlib.sha256(json.dumps([self.shared, files]).encode()).hexdigest()

    def unfinished(self, work: Iterator[Block], skip: Any) -> Iterator[Block]:
        """The blocks that an earlier run has not finished, or whose files have changed since."""
        for block in work:
            self.number = block.number + 1
            key = self.key_of(block)
            if self.is_finished(block, key):
                self.kept += 1
                skip(len(block.sources))
            else:
                # of before its files are read: what changes meanwhile is made again by the next run
                self.keys[block.number] = key
                yield block

    def is_finished(self, block: Block, key: str) -> bool:
        """Whether making a block's part again would give the same."""
        path = self.path_of(block.number)
        if not path.is_file():
            return False
        try:
            metadata = open_table(path).schema_arrow.metadata or {}
            if metadata.get(KEY, b"").decode() != key:
                return False
            status = read_table(path)["status"].to_pylist()
        except (UserError, ValueError, LookupError):  # torn, damaged or another's: made again
            return False
        # what may have passed since, such as a want of memory, is tried again
        return PASSING.isdisjoint(status)

    def keep(self, block: Block, table: pa.Table) -> None:
        """Write the part of a block that was unfinished."""
        schema = SCHEMA.with_metadata({KEY: self.keys.pop(block.number).encode()})
        path = self.path_of(block.number)
        write_batches([table], path, schema, prediction_files.PRODUCER, {"model": self.bundle.id})

    def tables(self) -> Iterator[pa.Table]:
        """All parts in order, one in memory at a time."""
        for number in range(self.number):
            yield read_table(self.path_of(number))

    def counts(self) -> dict[str, int]:
        """What there is: files, faces, pictures without by reason, rows by warning."""
        statuses: Counter[str] = Counter()
        warnings: Counter[str] = Counter()
        files = 0
        for table in self.tables():
            statuses.update(table["status"].to_pylist())
            # a file has one row that is no face or numbers its faces from 0
            files += pc.sum(pc.fill_null(pc.equal(table["face"], 0), True)).as_py() or 0
            for text in table["warnings"].to_pylist():
                warnings.update(note.partition(":")[0] for note in (text or "").split("; ") if note)
        faces = statuses.pop(FACE, 0)
        return {
            "files": files,
            "faces": faces,
            **{f"without a face: {reason}": number for reason, number in sorted(statuses.items())},
            **{f"warning: {word}": number for word, number in sorted(warnings.items())},
            "blocks kept from an earlier run": self.kept,
        }


@contextmanager
def parts_of(output: Path, asked: Path) -> Iterator[Path]:
    """The folder beside an output where finished work waits, for this process alone; gone once it is empty.

    `asked` is the output as it was named, for messages.

    Raises
    ------
    UserError
        It holds something else, or another process works there.
    """
    folder = output.with_name(f"{output.name}.parts")
    check_parts(folder)
    taken = f"another vec2age predict is writing {asked}: wait until it has ended, or name another output"
    with ExitStack() as held:
        with writing(asked):  # whether it can be is known before the work
            held.enter_context(alone(folder / LOCK, taken))
        yield folder
    with suppress(OSError):
        folder.rmdir()


def check_parts(folder: Path) -> None:
    """Refuse a place for parts that holds anything else: it would be in the way, and could be lost.

    Raises
    ------
    UserError
        With the file.
    """
    if folder.is_symlink():
        found = "is a link"
    elif folder.is_dir():
        own = (path for path in folder.iterdir() if path.name != LOCK)
        foreign = sorted(path.name for path in own if not is_part(path))
        if not foreign:
            return
        found = f"holds {printable(foreign[0])}, which predict did not write"
    elif folder.exists():
        found = "is no folder"
    else:
        return
    raise UserError(
        f"{folder}, where finished work waits, {found}: move it away, or give the output another name"
    )


def is_part(path: Path) -> bool:
    """Whether a file is a part, whole or torn."""
    if path.is_symlink() or not path.is_file() or not PART.fullmatch(temporary_for(path.name) or path.name):
        return False
    try:
        return KEY in (open_table(path).schema_arrow.metadata or {})
    except UserError:  # torn, as a power cut leaves it
        return True


def remove_parts(folder: Path) -> None:
    """Remove parts, and nothing else that has come into their folder."""
    with suppress(OSError):  # the output is written, which is what counts
        for path in [path for path in folder.iterdir() if is_part(path)]:
            path.unlink()
