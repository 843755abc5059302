"""Altered images, and images made to cost: each has a result or a reason, in bounded time and memory."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from PIL import Image
from skimage.data import astronaut

from pipeline.faces.extract import Settings, extract_all, load_models
from pipeline.faces.images import ImageRejected, decode

FUZZED, LOOKED_AT = (10_000, 300), (1000, 10)
HOG = Settings(detectors=("dlib_hog",), size=96)
Watch = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@functools.cache
def seeds() -> list[bytes]:
    face = Image.fromarray(astronaut()[10:250, 100:340]).resize((120, 120))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"exif": exif}),
        ("WEBP", {"exif": exif}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
    ]
    found = []
    for kind, options in kinds:
        buffer = io.BytesIO()
        (face.quantize(200) if kind == "GIF" else face).save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def altered(number: int) -> bytes:
    """One of the seeds with a few changes, the same for the same number."""
    draw = random.Random(number)
    data = bytearray(draw.choice(seeds()))
    for _ in range(draw.randint(1, 4)):
        at, other = draw.randrange(len(data)), draw.choice(seeds())
        near = draw.randrange(min(len(data), 200))
        change = draw.randrange(7)
        if change == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            data[near] = draw.choice((0, 1, 127, 128, 254, 255))
        elif change == 2:  # a length or size that lies
            data[near : near + 4] = struct.pack(
                draw.choice(("<I", ">I")), draw.choice((0, 2**16, 2**31, 2**32 - 1))
            )
        elif change == 3 and len(data) > 100:
            del data[max(50, at) :]
        elif change == 4:
            data[at : at + 64] = other[at : at + 64]
        elif change == 5:
            part = data[at : at + draw.randint(1, 500)]
            data[at:at] = part * draw.randint(1, 20)
        else:
            del data[at : at + draw.randint(1, 40)]
        data = data or bytearray(b"\0")
    return bytes(data)


def judged(data: bytes) -> str:
    try:
        return f"{decode(data).shape}"
    except ImageRejected as error:
        return error.reason


def looked_at(data: bytes) -> str:
    try:
        return f"{len(extract_all(data, HOG))} faces"
    except ImageRejected as error:
        return error.reason


@pytest.mark.parametrize(("function", "counts"), [(judged, FUZZED), (looked_at, LOOKED_AT)])
def test_every_altered_image_has_a_result_or_a_reason(
    function: Callable[[bytes], str],
    counts: tuple[int, int],
    watched: Watch,
    cases: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
) -> None:
    if function is looked_at:
        load_models(HOG)
    count = cases(*counts)
    found = list(watched(function, (altered(number) for number in range(count))))
    assert len(found) == count
    assert [number for number, one in enumerate(found) if one.raised or not one.within_limits()] == []
    assert len({one.result for one in found}) > 2, "images and reasons of several kinds"
    slowest, largest = max(one.seconds for one in found), max(one.rise for one in found)
    record_property(
        "figures", f"{count} images, slowest {slowest:.2f} s, largest rise {largest / 2**20:.0f} MB"
    )
    print(f"{function.__name__}: {count} images, slowest {slowest:.2f} s, rise {largest / 2**20:.0f} MB")  # noqa: T201


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width: int, height: int) -> bytes:
    pack = zlib.compressobj(1)
    rows = (b"\0" * (width // 8 + 2)) * max(1, min(height, 1000))
    data = b"".join(pack.compress(rows) for _ in range(height // 1000 + 1)) + pack.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND")


def scanned() -> bytes:
    """A progressive JPEG whose last scan comes five thousand times."""
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 3000), (90, 80, 70)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 5000 + data[-2:]


def webp_of(width: int, height: int) -> bytes:
    content = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(9)
    return (
        b"RIFF"
        + struct.pack("<I", 12 + len(content))
        + b"WEBPVP8L"
        + struct.pack("<I", len(content))
        + content
    )


MEGA = 2**20
FLOODS: dict[str, tuple[Callable[[], bytes], str]] = {
    "webp of 49 million pixels": (lambda: webp_of(7000, 7000), "too_many_pixels"),
    "png of one column": (lambda: flat_png(1, 50_000_000), "too_long_side"),
    "jpeg of 5,000 scans": (scanned, "too_many_scans"),
    "jpeg with fill bytes": (lambda: seeds()[1][:2] + b"\xff" * 64 * MEGA + seeds()[1][2:], "(120, 120, 3)"),
    "jpeg with junk": (lambda: seeds()[1][:20] + b"\0" * 64 * MEGA + seeds()[1][20:], "(120, 120, 3)"),
    "jpeg with comments": (
        lambda: seeds()[1][:2] + b"\xff\xfe\0\2" * MEGA + seeds()[1][2:],
        "too_many_parts",
    ),
    "jpeg with tables": (
        lambda: seeds()[1][:2] + (b"\xff\xdb\0\x43\0" + bytes([1] * 64)) * MEGA + seeds()[1][2:],
        "too_many_parts",
    ),
    "png with chunks": (lambda: seeds()[2][:33] + chunk(b"teSt") * MEGA + seeds()[2][33:], "too_many_parts"),
    "png with a large profile": (
        lambda: (
            seeds()[2][:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 * MEGA))) + seeds()[2][33:]
        ),
        "(120, 120, 3)",
    ),
    "gif with a long comment": (
        lambda: seeds()[6][:781] + b"!\xfe" + (b"\xff" + b"x" * 255) * 100_000 + b"\0" + seeds()[6][781:],
        "(120, 120, 3)",
    ),
    "gif with blocks": (
        lambda: seeds()[6][:781] + b"!\xfe" + b"\1x" * 2 * MEGA + b"\0" + seeds()[6][781:],
        "too_many_parts",
    ),
    "gif with padding": (lambda: seeds()[6][:781] + bytes(64 * MEGA) + seeds()[6][781:], "(120, 120, 3)"),
    "webp with chunks": (lambda: seeds()[3] + (b"abcd" + bytes(4)) * MEGA, "too_many_parts"),
    "bmp in run lengths": (
        lambda: seeds()[5][:30] + b"\1\0\0\0" + seeds()[5][34:] + b"\0\2\0\0" * 2 * MEGA,
        "too_many_parts",
    ),
}


def test_what_is_made_to_cost_time_or_memory_is_read_without_it_or_refused(watched: Watch) -> None:
    files = [make() for make, _ in FLOODS.values()]
    for (name, (_, expected)), one in zip(FLOODS.items(), watched(judged, files), strict=True):
        assert one.raised is None, name
        assert (name, one.result) == (name, expected)
        assert one.within_limits(), (name, one.seconds, one.rise)
        assert one.rise < 350 * MEGA, (name, one.rise)
        print(f"{name}: {one.seconds:.2f} s, {one.rise / MEGA:.0f} MB")  # noqa: T201
