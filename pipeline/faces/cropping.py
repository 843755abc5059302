"""All faces of a manifest into shards of crops: in parallel, resumable, the same bytes every time.

A shard holds a fixed block of the manifest's faces and carries, in its schema's metadata, a key of
everything its rows depend on, and its block's rejects. A finished shard is thus kept by a later run
exactly if it would come out the same again.
"""

import functools
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.machine import roomy_cores
from pipeline.core.pool import TIMEOUT, Lost, ordered_map
from pipeline.core.progress import bar
from pipeline.core.rejects import Rejects
from pipeline.core.tables import open_table, remove_leftover, temporary_for, write_batches
from pipeline.faces import shards
from pipeline.faces.extract import Settings, make_worker
from pipeline.faces.images import Rejection
from pipeline.faces.quality import Thresholds

# Raise it when the same file and settings give other rows than before.
CODE_VERSION = 5
PRODUCER = "vec2age crop"
STAGE = "crop"
SHARD_KEY = b"vec2age.shard"
SHARD_FACES = 1024
MAX_SHARD_BYTES = 512_000_000
ROWS_PER_GROUP = 128

# Reasons that depend on more than a file's bytes and the settings: a later run must try these again.
PASSING = frozenset(
    {
        "missing_file",
        "dangling_symlink",
        "outside_root",
        "bad_path",
        "not_a_file",
        "unreadable",
        "too_many_bytes",
        "changed",
        "failed",
        "worker_died",
        "timeout",
    }
)

# What valid JSON that is not ours ends in, beside a ValueError.
GARBLED = (LookupError, TypeError, AttributeError, RecursionError)

log = logging.getLogger(__name__)

Task = tuple[str, str]
Row = dict[str, Any]
Outcome = Row | Rejection | Lost


@dataclass(frozen=True)
class Block:
    """One shard's worth of work: its place, its key, and its faces as (face_id, path)."""

    path: Path
    key: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Finished:
    """What a shard on disk holds: crops by detector, why the other faces are not there, what was odd."""

    detectors: Counter[str]
    rejections: dict[str, Rejection]
    warnings: dict[str, list[str]]


def crop_faces(
    manifest: pa.Table | None,
    root: Path,
    out: Path,
    *,
    rejects: Rejects,
    workers: int | None = None,
    timeout: float = TIMEOUT,
    shard_faces: int = SHARD_FACES,
    **settings: Any,
) -> dict[str, int]:
    """Find, cut out and judge every face of a manifest, and write crops to shards.

    Files are opened read-only, and one whose sha256 is no longer its face_id is left out (`changed`). No
    single file ends the run: one that crashes its process twice is left out as `worker_died`, one that
    takes too long as `timeout`. Interrupted at any moment, the next run keeps the finished shards.

    Parameters
    ----------
    manifest
        With columns face_id and path; None, for data sets without pictures, empties `out`.
    root
        The folder that paths are relative to.
    out
        The folder of the shards; those of other faces or settings are removed.
    rejects
        Takes a row for every face left out.
    workers
        Processes, each with one thread; None is one for every core. The result does not depend on it.
    timeout
        Seconds that one file may take.
    shard_faces
        Faces in a shard; fewer where crops of this size could exceed 512 MB.
    settings
        The fields of `pipeline.faces.extract.Settings`; thresholds may be a mapping.

    Returns
    -------
    dict
        `faces`, `crops`, crops by detector (`found by dlib_hog`), `shards`, `shards kept`, and crops by
        what was odd about their files (`warning: odd_metadata`), which are named in the log of level INFO.

    Raises
    ------
    UserError
        For an unknown or impossible setting, a missing root, an empty manifest, or a face_id that occurs
        twice.
    """
    chosen = _settings(settings)
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}: it must be at least 1")
    if shard_faces < 1:
        raise UserError(f"shard_faces is {shard_faces}: it must be at least 1")
    if timeout <= 0:
        raise UserError(f"timeout is {timeout:g}: it must be more than 0 seconds")
    if manifest is not None and not root.is_dir():
        raise UserError(f"the data root {root} is not a folder: set data.root to where the pictures lie")
    blocks = _plan(manifest, out, shard_faces, chosen) if manifest is not None else []
    kept = _kept(out, blocks)
    open_blocks = [block for block in blocks if block.path not in kept]
    finished = dict(kept)
    with bar() as progress:
        line = progress.add_task("cropping", total=sum(len(block.tasks) for block in blocks))
        progress.advance(line, sum(len(block.tasks) for block in blocks if block.path in kept))
        tasks = (task for block in open_blocks for task in block.tasks)
        make = functools.partial(make_worker, root.absolute(), chosen)
        with closing(ordered_map(make, tasks, workers=workers or roomy_cores(), timeout=timeout)) as outcomes:
            watched = _watched(outcomes, lambda: progress.advance(line))
            for block in open_blocks:
                finished[block.path] = _write(block, islice(watched, len(block.tasks)), chosen)
                _sweep(out, finished)  # not before there is a new one: until then the run may be refused
    _sweep(out, finished)
    return _report(blocks, finished, len(kept), chosen, rejects)


def _settings(given: dict[str, Any]) -> Settings:
    allowed = [field.name for field in fields(Settings)]
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise UserError(f"cropping has no setting {unknown[0]!r}: it takes {', '.join(allowed)}")
    given = dict(given)
    if "thresholds" in given:
        given["thresholds"] = Thresholds.of(given["thresholds"])
    if "detectors" in given:
        given["detectors"] = tuple(given["detectors"])
    return Settings(**given)


def _plan(manifest: pa.Table, out: Path, shard_faces: int, settings: Settings) -> list[Block]:
    """The manifest cut into blocks in face_id order."""
    faces = sorted(zip(manifest["face_id"].to_pylist(), manifest["path"].to_pylist(), strict=True))
    if not faces:
        raise UserError("the manifest holds no faces: there is nothing to crop")
    for (face_id, path), (following, other) in pairwise(faces):
        if face_id == following:
            raise UserError(f"the manifest names face {face_id[:12]}... twice: {path} and {other}")
    length = max(1, min(shard_faces, MAX_SHARD_BYTES // largest_row(settings.size)))
    parts = [tuple(faces[start : start + length]) for start in range(0, len(faces), length)]
    return [
        Block(shards.path_of(out, number), _key(settings, part), part) for number, part in enumerate(parts)
    ]


def largest_row(size: int) -> int:
    """Bytes that no row exceeds: noise as a JPEG of quality 100 takes 1.38 times its pixels' bytes."""
    return round(1.5 * 3 * size**2) + 4096


def _key(settings: Settings, tasks: Iterable[Task]) -> str:
    """A hash of everything that a shard's rows depend on."""
    text = json.dumps(
        {
            "code": CODE_VERSION,
            "packages": {name: version(name) for name in ("dlib-bin", "pillow", "numpy", "torch")},
            "settings": asdict(settings),
            "faces": [face_id for face_id, _ in tasks],
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(out: Path, blocks: list[Block]) -> dict[Path, Finished]:
    """The blocks that an earlier run finished."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{out} is a file: crops need a folder of that name") from None
    there = {block.path: _finished(block) for block in blocks if block.path.exists()}
    return {path: finished for path, finished in there.items() if finished is not None}


def _sweep(out: Path, finished: Mapping[Path, Finished]) -> None:
    """Remove what an earlier run left unfinished or made of other faces or settings."""
    for path in out.iterdir():
        if shards.NAME.fullmatch(path.name):
            if path not in finished:
                path.unlink()
        elif shards.NAME.fullmatch(temporary_for(path.name) or ""):
            remove_leftover(path)


def _finished(block: Block) -> Finished | None:
    """What a shard on disk holds, if making it again would give the same; None if it must be made again."""
    found: Counter[str] = Counter()
    seen: list[str] = []
    try:
        file = open_table(block.path)
        described = json.loads((file.schema_arrow.metadata or {}).get(SHARD_KEY, b"{}"))
        if described.get("key") != block.key:
            return None
        rejections = {face: Rejection(*why) for face, why in described["rejects"].items()}
        odd = {face: [str(one) for one in said] for face, said in described["warnings"].items()}
        for batch in file.iter_batches(ROWS_PER_GROUP):  # all columns: damage shows when pages are read
            seen += batch.column("face_id").to_pylist()
            found.update(batch.column("detector").to_pylist())
    except (UserError, OSError, pa.ArrowException, ValueError, *GARBLED) as error:
        log.warning("%s is damaged and made again: %s", block.path, error)
        return None
    if sorted([*seen, *rejections]) != [face_id for face_id, _ in block.tasks]:
        log.warning("%s does not hold the faces it names and is made again", block.path)
        return None
    if any(rejection.reason in PASSING for rejection in rejections.values()):
        return None
    return Finished(found, rejections, odd)


def _write(block: Block, outcomes: Iterable[Outcome], settings: Settings) -> Finished:
    """Write a block's shard, once all its outcomes are there."""
    rows: list[Row] = []
    rejections: dict[str, Rejection] = {}
    odd: dict[str, list[str]] = {}
    for (face_id, _), outcome in zip(block.tasks, outcomes, strict=True):
        if isinstance(outcome, dict):
            if said := outcome.pop("warnings"):
                odd[face_id] = said
            rows.append(outcome)
        else:
            rejections[face_id] = Rejection(outcome.reason, outcome.detail)
    described = json.dumps({"key": block.key, "rejects": rejections, "warnings": odd}, sort_keys=True)
    schema = shards.SCHEMA.with_metadata({**shards.SCHEMA.metadata, SHARD_KEY: described.encode()})
    write_batches(_groups(rows), block.path, schema, PRODUCER, asdict(settings))
    return Finished(Counter(row["detector"] for row in rows), rejections, odd)


def _groups(rows: list[Row]) -> Iterator[pa.Table]:
    """Small row groups: a reader that streams holds one of them in memory at a time."""
    for start in range(0, len(rows), ROWS_PER_GROUP):
        yield pa.Table.from_pylist(rows[start : start + ROWS_PER_GROUP], schema=shards.SCHEMA)


def _report(
    blocks: list[Block], finished: dict[Path, Finished], kept: int, settings: Settings, rejects: Rejects
) -> dict[str, int]:
    """Hand over the rejects, in face_id order, and count."""
    detectors: Counter[str] = Counter()
    odd: Counter[str] = Counter()
    for block in blocks:
        done = finished[block.path]
        detectors += done.detectors
        odd.update(f"warning: {one.partition(':')[0]}" for said in done.warnings.values() for one in said)
        for face_id, path in block.tasks:
            for one in done.warnings.get(face_id, ()):
                log.info("%s: %s", path, one)
            if face_id in done.rejections:
                why = done.rejections[face_id]
                rejects.add(stage=STAGE, reason=why.reason, detail=why.detail, face_id=face_id, path=path)
    return {
        "faces": sum(len(block.tasks) for block in blocks),
        "crops": detectors.total(),
        **{f"found by {name}": detectors[name] for name in settings.detectors},
        "shards": len(blocks),
        "shards kept": kept,
        **dict(sorted(odd.items())),
    }


def _watched(outcomes: Iterable[Outcome], step: Callable[[], None]) -> Iterator[Outcome]:
    for outcome in outcomes:
        step()
        yield outcome
