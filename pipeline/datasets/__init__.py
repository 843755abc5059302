"""Labelled faces: what they are, where they come from, how they are split.

A reader turns one source format into the manifest, a table with a row for each face:

- `face_id`: sha256 of the picture file's bytes, hex; of a ready-made vector, its own key or the sha256
  of its float32 bytes;
- `path`: where the picture lies, relative to the root, with forward slashes; of a ready-made vector,
  its name in the source, where it has one;
- `target`: the number to predict;
- `subject`: who it is, null where unknown;
- `dataset`: which reader it came from;
- one text column for each group (gender, ethnicity, ...), null where unknown;
- one column of numbers for each further target: the head-pose sets have `yaw`, `pitch` and `roll`;
- `vector`: only from sources that hold vectors instead of pictures.
"""

import inspect
import os
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.registry import Registry
from pipeline.core.rejects import Rejects
from pipeline.datasets.formats.limited import within_limits

REGISTRY: Registry[pa.Table] = Registry(
    "data set",
    {
        "sample": "pipeline.synthetic.rendered:read_sample",
        "csv": "pipeline.datasets.readers.tabular:read_csv",
        "utkface": "pipeline.datasets.readers.utkface:read_utkface",
        "fgnet": "pipeline.datasets.readers.fgnet:read_fgnet",
        "benchmark_json": "pipeline.datasets.readers.benchmark_json:read_benchmark_json",
        "vec2uage_json": "pipeline.datasets.readers.vec2uage:read_vec2uage_json",
        "selfie_fv": "pipeline.datasets.readers.selfie_fv:read_selfie_fv",
        "vectors": "pipeline.datasets.embedding_sets:read_vectors",
        "morph2": "pipeline.datasets.readers.morph2:read_morph2",
        "appa_real": "pipeline.datasets.readers.appa_real:read_appa_real",
        "agedb": "pipeline.datasets.readers.agedb:read_agedb",
        "afad": "pipeline.datasets.readers.afad:read_afad",
        "imdb_wiki": "pipeline.datasets.readers.imdb_wiki:read_imdb_wiki",
        "scut_fbp": "pipeline.datasets.readers.scut_fbp:read_scut_fbp",
        "scut_fbp5500": "pipeline.datasets.readers.scut_fbp5500:read_scut_fbp5500",
        "hotornot": "pipeline.datasets.readers.hotornot:read_hotornot",
        "aflw2000": "pipeline.datasets.readers.pose_angles:read_aflw2000",
        "300w_lp": "pipeline.datasets.readers.pose_angles:read_300w_lp",
        "biwi": "pipeline.datasets.readers.biwi:read_biwi",
        "several": "pipeline.datasets.readers.several:read_several",
        "fer2013": "pipeline.datasets.readers.expressions:read_fer2013",
        "raf_db": "pipeline.datasets.readers.expressions:read_raf_db",
        "ck_plus": "pipeline.datasets.readers.expressions:read_ck_plus",
    },
    given=("root", "rejects", "workers"),
)

# Data sets whose pictures are rendered by their reader; all others lie where they are.
RENDERED = frozenset({"sample"})


class LeftOutWarning(UserWarning):
    """Faces were left out and nobody asked to be told which."""


def read(
    name: str,
    root: str | os.PathLike[str],
    *,
    rejects: Rejects | None = None,
    workers: int | None = None,
    **settings: Any,
) -> pa.Table:
    """Read a data set's labelled faces into the manifest.

    Parameters
    ----------
    name
        The reader: a name of `REGISTRY`; see docs/datasets.md.
    root
        The folder (for vector sets also the file) to read; opened read-only and never changed.
    rejects
        Collects every face, file or row left out, with the reason. Without it, their number is given in
        a `LeftOutWarning`.
    workers
        Threads that hash files; by default one for each processor. The result does not depend on it.
    settings
        The reader's own.

    Returns
    -------
    pyarrow.Table
        The manifest, sorted by face_id.

    Raises
    ------
    UserError
        The reader, a setting or the root is not usable, or there is not a single face.
    """
    collector = Rejects() if rejects is None else rejects
    takes_workers = "workers" in inspect.signature(REGISTRY.factory(name)).parameters
    if takes_workers and workers is not None:
        settings["workers"] = workers
    place = existing(root, name)

    def build(own: Rejects) -> pa.Table:
        return REGISTRY.build(name, root=place, rejects=own, **settings)

    # a set of several reads each part within limits of its own
    direct = name in RENDERED or name == "several"
    table = build(collector) if direct else within_limits(build, collector, place)
    if rejects is None and collector.rows:
        counted = ", ".join(f"{reason}: {count}" for reason, count in collector.counts().items())
        warnings.warn(f"{root}: left out {counted}", LeftOutWarning, stacklevel=2)
    return table


def prepare(name: str, root: str | os.PathLike[str], *, workers: int | None = None, **settings: Any) -> None:
    """Make sure that the pictures of a data set can be opened: render what the sample lacks.

    Every other source is left untouched.
    """
    REGISTRY.factory(name)
    if name in RENDERED:
        read(name, root, rejects=Rejects(), workers=workers, **settings)


def existing(root: str | os.PathLike[str], name: str) -> Path:
    """The root as a path, which must exist unless the pictures are yet to be made."""
    path = Path(root)
    if name not in RENDERED and not path.exists():
        raise UserError(f"{path} does not exist: set data.root to the folder of the {name} data set")
    return path
