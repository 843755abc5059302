"""The rendered sample: faces of known age that nobody has to download, drawn the same every time.

Numbers measured on it say nothing about people. It exists so that every stage can run, and be tested,
with no data and no weights: subjects aged 1 to 18, several pictures of each, and one picture in twenty
that is dark, blurred, small, partly covered, or shows nobody, or two.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.processes import SPAWN
from pipeline.core.progress import track
from pipeline.core.rejects import Rejects
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import atomic_file
from pipeline.datasets.manifest import Record, build_manifest
from pipeline.synthetic.scene import SIZE, draw
from pipeline.synthetic.traits import AGES, CONDITIONS, GENDERS, SKIN_TONES, FaceSpecification

# A part of every file name: raise it when the same settings begin to give other pictures, so that folders
# rendered before are rendered anew.
DRAWING_VERSION = 1
LABELS = "labels.csv"
COLUMNS = ("path", "target", "subject", "gender", "skin_tone", "condition")
OWN_NAME = re.compile(r"sample_v\d+_seed\d+_n\d+_age\d\d_\d{4,}\.jpg", re.ASCII)
HARD = CONDITIONS[1:]
HARD_EVERY = 20
SUBJECTS_PER_INDEX = 3
FEW = 24


def specifications(seed: int, per_age: int = 40, ages: range = AGES) -> list[FaceSpecification]:
    """Describe the sample's pictures.

    Parameters
    ----------
    seed
        Decides every picture; 0 or more.
    per_age
        Pictures of each age. A picture is the same whatever their number: only its name tells it.
    ages
        Years, within 1 to 18.

    Returns
    -------
    list of FaceSpecification
        `per_age` for each age, one age after the other. A subject appears at every third age; every
        combination of gender and skin tone is met equally often.

    Raises
    ------
    UserError
        A setting is out of range.

    Examples
    --------
    >>> faces = specifications(seed=42, per_age=2)
    >>> len(faces), faces[0].name, faces[0].subject
    (36, 'sample_v1_seed42_n2_age01_0000.jpg', 's0000b')
    >>> [face.age for face in faces if face.subject == "s0000b"]
    [1, 4, 7, 10, 13, 16]
    """
    if seed < 0:
        raise UserError(f"the sample's seed is {seed}: it must be 0 or more")
    if per_age < 1:
        raise UserError(f"the sample's per_age is {per_age}: it must be 1 or more")
    if not ages or min(ages) < AGES[0] or max(ages) > AGES[-1]:
        raise UserError(f"the sample's ages are {ages}: they must lie within {AGES[0]} to {AGES[-1]}")
    prefix = f"sample_v{DRAWING_VERSION}_seed{seed}_n{per_age}"
    return [specification(seed, prefix, age, index) for age in ages for index in range(per_age)]


def specification(seed: int, prefix: str, age: int, index: int) -> FaceSpecification:
    """The `index`-th picture of an age."""
    share = age % SUBJECTS_PER_INDEX
    subject = f"s{index:04d}{'abc'[share]}"
    return FaceSpecification(
        name=f"{prefix}_age{age:02d}_{index:04d}.jpg",
        age=age,
        subject=subject,
        gender=GENDERS[index % 2],
        # Shifted by two from one share to the next, so that all six tones are met at every age.
        skin_tone=SKIN_TONES[(index // 2 + 2 * share) % len(SKIN_TONES)],
        condition=condition_of(seed, index * len(AGES) + age - AGES[0]),
        subject_seed=derive_seed(seed, "sample", "subject", subject),
        picture_seed=derive_seed(seed, "sample", "picture", age, index),
    )


def condition_of(seed: int, number: int) -> str:
    """What is difficult about a picture: one in each run of twenty, each kind once in every six runs."""
    run, place = divmod(number, HARD_EVERY)
    if place != derive_seed(seed, "sample", "hard", run) % HARD_EVERY:
        return CONDITIONS[0]
    turn, which = divmod(run, len(HARD))
    kinds = np.random.default_rng(derive_seed(seed, "sample", "kinds", turn)).permutation(len(HARD))
    return HARD[kinds[which]]


def records(faces: Iterable[FaceSpecification]) -> Iterator[Record]:
    """What a reader says about pictures of the sample."""
    for face in faces:
        groups = {"gender": face.gender, "skin_tone": face.skin_tone, "condition": face.condition}
        yield Record(face.name, face.age, face.subject, groups)


def read_sample(
    root: Path, *, rejects: Rejects, seed: int = 42, per_age: int = 40, workers: int | None = None
) -> pa.Table:
    """Read the rendered sample, rendering what is missing.

    Returns
    -------
    pyarrow.Table
        The manifest with subjects and the groups gender, skin_tone and condition (`normal`, `dark`,
        `blurred`, `small`, `covered`, `no_face`, `two_faces`).

    Raises
    ------
    UserError
        A setting is out of range, or `root` holds other files or cannot be written.
    """
    render(root, seed, per_age, workers)
    return build_manifest(records(specifications(seed, per_age)), root, "sample", rejects, workers)


def render(root: Path, seed: int, per_age: int = 40, workers: int | None = None) -> None:
    """Write the sample's pictures, and labels.csv beside them, where they are missing.

    Pictures of other settings, recognised by their names, are removed first. A file appears under its
    name only when it is whole, so that an interrupted call is simply repeated.

    Parameters
    ----------
    root
        A folder that does not exist, is empty, or holds a rendered sample; hidden files are left alone.
    seed, per_age
        See `specifications`.
    workers
        Processes; by default one for each processor. The bytes do not depend on their number.

    Raises
    ------
    UserError
        A setting is out of range, or `root` holds other files or cannot be written.
    """
    faces = specifications(seed, per_age)
    labels = labels_of(faces)
    try:
        root.mkdir(parents=True, exist_ok=True)
        present = own_files(root)
        stale = present - {face.name for face in faces} - {LABELS}
        if stale:
            # Before the pictures it describes: labels.csv stands for a finished folder.
            (root / LABELS).unlink(missing_ok=True)
        for name in stale:
            (root / name).unlink(missing_ok=True)
        missing = [face for face in faces if face.name not in present or not is_whole(root / face.name)]
        for _ in track(drawn(root, missing, workers), "drawing the sample", len(missing)):
            pass
        path = root / LABELS
        if not path.exists() or path.read_bytes() != labels:
            with atomic_file(path) as file:
                file.write(labels)
    except OSError as error:
        raise UserError(
            f"{root} cannot hold the rendered sample ({error.strerror or error}): "
            "set data.root to a folder that can be written"
        ) from error


def drawn(root: Path, faces: list[FaceSpecification], workers: int | None) -> Iterable[None]:
    """Draw pictures into files, in other processes where there are many; yields once for each."""
    write = partial(write_picture, root)
    count = min(workers or os.cpu_count() or 1, len(faces) // FEW)
    if count <= 1:
        yield from map(write, faces)
        return
    # Spawned, because a fork of a process whose libraries have threads may hang.
    with ProcessPoolExecutor(count, SPAWN) as pool:
        yield from pool.map(write, faces, chunksize=8)


def write_picture(root: Path, face: FaceSpecification) -> None:
    """Draw one picture into its file, which appears whole."""
    # syncing can take as long as the drawing, and what a power cut tears is drawn again
    with atomic_file(root / face.name, durable=False) as file:
        file.write(encoded(draw(face)))


def encoded(picture: Image.Image) -> bytes:
    """A picture as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def is_whole(path: Path) -> bool:
    """Whether a file is a JPEG of the sample's size that ends where a JPEG ends."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.size == (SIZE, SIZE) and data.endswith(b"\xff\xd9")
    except (OSError, Image.DecompressionBombError):
        return False


def labels_of(faces: Iterable[FaceSpecification]) -> bytes:
    """The labels as the CSV file that lies beside the pictures."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for face in faces:
        writer.writerow([face.name, face.age, face.subject, face.gender, face.skin_tone, face.condition])
    return text.getvalue().encode()


def own_files(root: Path) -> set[str]:
    """The names of a folder's files, all of which must be the sample's own; hidden ones are passed over."""
    names = set()
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        own = entry.is_file(follow_symlinks=False) and (
            is_own_table(Path(entry)) if entry.name == LABELS else OWN_NAME.fullmatch(entry.name)
        )
        if not own:
            raise UserError(
                f"{root} holds {entry.name!r}, which is not of the rendered sample: "
                "set data.root to an empty folder"
            )
        names.add(entry.name)
    return names


def is_own_table(path: Path) -> bool:
    """Whether a labels.csv was written here: its columns, and nothing but own names below them."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    except (UnicodeDecodeError, csv.Error):
        return False
    return rows[:1] == [list(COLUMNS)] and all(row and OWN_NAME.fullmatch(row[0]) for row in rows[1:])
