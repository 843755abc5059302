import contextlib
import io
import os
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.files import Unusable
from pipeline.datasets.listing import digest
from pipeline.faces.images import ImageRejected, decode, decode_noted, read_file

GRADIENT = np.dstack([np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))] * 3)
GRADIENT[..., 1] //= 2


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def one_colour_png(side: int) -> bytes:
    """A complete PNG of one colour, compressed without ever holding its pixels."""
    compressor = zlib.compressobj(1)
    row = b"\0" * (side // 8 + 2)
    data = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    return png(side, side, 1, 0, data)


def rejected(data: bytes, **options: Any) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode(data, **options)
    return caught.value


RGB = Image.fromarray(GRADIENT)
TURNED = RGB.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_decodes_lossless_pictures_exactly(kind: str) -> None:
    pixels = decode(encoded(RGB, kind))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GRADIENT)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_decodes_lossy_pictures_closely(kind: str) -> None:
    pixels = decode(encoded(RGB, kind, quality=95)).astype(int)
    assert abs(pixels - GRADIENT).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_rgb(mode: str) -> None:
    pixels = decode(encoded(RGB.convert(mode), "PNG"))
    assert pixels.shape == (40, 60, 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert pixels.max() > 100


def test_a_plain_palette_becomes_rgb() -> None:
    palette = RGB.quantize(255)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(decode(encoded(palette, "GIF")), np.asarray(palette.convert("RGB")))


def test_an_opaque_alpha_channel_is_dropped() -> None:
    np.testing.assert_array_equal(decode(encoded(RGB.convert("RGBA"), "PNG")), GRADIENT)


def test_the_photograph_of_a_telephones_multi_picture_jpeg_is_taken() -> None:
    data = encoded(RGB, "MPO", save_all=True, append_images=[TURNED])
    assert decode(data).shape == (40, 60, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int) -> None:
    # How a camera that is held so would have stored the upright picture.
    stored = {
        1: GRADIENT,
        2: GRADIENT[:, ::-1],
        3: GRADIENT[::-1, ::-1],
        4: GRADIENT[::-1],
        5: GRADIENT.transpose(1, 0, 2),
        6: np.rot90(GRADIENT, 1),
        7: np.rot90(GRADIENT, 2).transpose(1, 0, 2),
        8: np.rot90(GRADIENT, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data), GRADIENT)


def test_a_meaningless_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert decode(encoded(RGB, "JPEG", exif=exif)).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_odd_metadata_cost_no_pixel(kind: str) -> None:
    plain = decode(encoded(RGB, kind))
    draw = np.random.default_rng(0)
    odd = 0
    for length in range(1, 60):
        exif = b"Exif\0\0" + (b"II*\0\x08\0\0\0" if length % 2 else b"") + draw.bytes(length)
        options = {"exif": exif, "icc_profile": draw.bytes(length), "xmp": draw.bytes(length)}
        found = decode_noted(encoded(RGB, kind, **options if kind != "PNG" else {"exif": exif}))
        np.testing.assert_array_equal(found.pixels, plain)
        odd += bool(found.warnings)
        assert all(one.startswith("odd_metadata: the orientation cannot be read") for one in found.warnings)
    assert odd > 20


def test_a_png_whose_metadata_are_damaged_is_read() -> None:
    data = encoded(RGB, "PNG")
    text = b"\0\0\0\4tEXtabcd" + b"\0\0\0\0"  # its checksum is wrong
    np.testing.assert_array_equal(decode(data[:33] + text + data[33:]), GRADIENT)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_rejects_a_truncated_jpeg(kept: float, portrait: np.ndarray) -> None:
    data = encoded(Image.fromarray(portrait), "JPEG")
    error = rejected(data[: int(len(data) * kept)])
    assert error.reason == "truncated"
    assert "truncated" in error.detail


def test_rejects_a_truncated_png() -> None:
    data = encoded(Image.effect_noise((60, 60), 50), "PNG")
    assert rejected(data[: len(data) // 2]).reason == "truncated"


def test_rejects_a_file_without_bytes() -> None:
    assert str(rejected(b"")) == "empty_file: the file has no bytes"


def test_rejects_text() -> None:
    error = rejected(b"Dear reader, this is no photograph.\n" * 50)
    assert error.reason == "not_an_image"
    assert "none of JPEG, PNG, WEBP, BMP, GIF" in error.detail


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "JPEG2000", "PDF"])
def test_rejects_formats_outside_the_list(kind: str) -> None:
    assert rejected(encoded(RGB, kind)).reason == "not_an_image"


def test_rejects_a_decompression_bomb_without_decoding_it() -> None:
    data = one_colour_png(50_000)
    assert len(data) < 2_000_000
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    error = rejected(data)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert error.reason == "too_many_pixels"
    assert error.detail == "2,500,000,000 pixels are more than max_pixels (50,000,000)"
    assert grown < 30_000  # KiB; decoded it would have 2.5 GB
    assert time.process_time() - start < 1


def test_rejects_more_than_max_pixels_without_decoding_them() -> None:
    data = one_colour_png(10_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = rejected(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    assert error.reason == "too_many_pixels"
    assert error.detail == "10,000 x 10,000 pixels are more than max_pixels (50,000,000)"
    assert rejected(encoded(RGB, "PNG"), max_pixels=2399).reason == "too_many_pixels"
    assert decode(encoded(RGB, "PNG"), max_pixels=2400).shape == (40, 60, 3)


def test_rejects_a_webp_that_claims_a_huge_canvas() -> None:
    content = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(2001)
    chunk = b"VP8L" + struct.pack("<I", len(content)) + content
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = rejected(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)
    assert error.reason == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


KINDS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "cmyk": (lambda: encoded(RGB.convert("CMYK"), "JPEG"), "cmyk", "convert the file to RGB"),
    "grey of 16 bits": (
        lambda: encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)), "PNG"),
        "sixteen_bit",
        "more than 8 bits",
    ),
    "colour of 16 bits": (
        lambda: png(8, 8, 16, 2, zlib.compress((b"\0" + bytes(48)) * 8)),
        "sixteen_bit",
        "more than 8 bits",
    ),
    "palette with a transparent index": (
        lambda: encoded(RGB.quantize(64), "PNG", transparency=0),
        "palette_alpha",
        "a palette with transparency",
    ),
    "palette with alpha": (
        lambda: encoded(RGB.quantize(64), "PNG", transparency=bytes(range(64))),
        "palette_alpha",
        "a palette with transparency",
    ),
    "animated gif": (
        lambda: encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
        "animated",
        "the GIF has several frames",
    ),
    "animated webp": (
        lambda: encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)]),
        "animated",
        "the WEBP has several frames",
    ),
    "animated png": (
        lambda: encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)]),
        "animated",
        "the PNG has several frames",
    ),
    "transparent parts": (
        lambda: encoded(Image.merge("RGBA", [*RGB.split(), RGB.getchannel(0)]), "PNG"),
        "transparent",
        "parts of the picture are transparent",
    ),
}


@pytest.mark.parametrize(("make", "reason", "detail"), KINDS.values(), ids=list(KINDS))
def test_rejects_pictures_of_another_kind_each_with_its_reason(
    make: Callable[[], bytes], reason: str, detail: str
) -> None:
    error = rejected(make())
    assert error.reason == reason
    assert detail in error.detail


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.integers(0, 200),
)
def test_damaged_bytes_end_in_a_picture_or_a_rejection(
    kind: str, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(encoded(RGB, kind))
    for position, value in edits:
        data[position % len(data)] = value
    with contextlib.suppress(ImageRejected):  # anything else is a crash
        pixels = decode(bytes(data[: len(data) - cut]), max_pixels=1_000_000)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


def refused(path: str, root: Path, **options: Any) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        read_file(path, root, **options)
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a.bin").write_bytes(b"12345")
    return root


def test_reads_a_file_below_the_root_and_through_links_that_stay_there(root: Path) -> None:
    (root / "link").symlink_to("sub/a.bin")
    assert read_file("sub/a.bin", root) == b"12345"
    assert read_file("link", root) == b"12345"


def test_refuses_paths_that_leave_the_root(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "secret.txt")
    (root / "folder").symlink_to(root.parent)
    for path in ("../secret.txt", "sub/../../secret.txt", str(root.parent / "secret.txt"), "link"):
        assert refused(path, root).reason == "outside_root", path
    assert refused("folder/secret.txt", root).detail == "a symlink leads out of the root"


def test_refuses_missing_files_and_dangling_links(root: Path) -> None:
    (root / "link").symlink_to("nowhere")
    for path in ("nothing.jpg", "sub/a.bin/more"):
        assert refused(path, root).reason == "missing_file", path
    assert refused("link", root).reason == "dangling_symlink"


def test_a_file_is_refused_in_the_same_words_as_when_it_was_ingested(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("nowhere")
    for path in ("nothing.jpg", "link", "../secret.txt", "pipe", "sub", "", "x" * 5000):
        with pytest.raises(Unusable) as caught:
            digest(os.path.realpath(root), path, {})
        error = refused(path, root)
        assert (error.reason, error.detail) == (caught.value.reason, str(caught.value))


def test_refuses_a_loop_of_links_and_impossible_names(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert refused("a", root).reason == "dangling_symlink"
    assert refused("a\0b", root).reason == "bad_path"
    assert refused("x" * 5000, root).reason == "unreadable"


def test_refuses_pipes_devices_and_folders_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe")
    start = time.perf_counter()
    assert refused("pipe", root).reason == "not_a_file"
    assert time.perf_counter() - start < 10, "nobody writes into it: a reader would wait for ever"
    assert refused("sub", root).reason == "not_a_file"
    assert refused("null", Path("/dev")).reason == "not_a_file"


def test_refuses_an_unreadable_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:  # file permissions do not bind root, who may be running this
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    error = refused("sub/a.bin", root)
    assert (error.reason, error.detail) == ("unreadable", "cannot be read (Permission denied)")


def test_refuses_a_file_with_too_many_bytes(root: Path) -> None:
    error = refused("sub/a.bin", root, max_bytes=4)
    assert (error.reason, error.detail) == ("too_many_bytes", "the file has 5 bytes, more than 4")
    assert read_file("sub/a.bin", root, max_bytes=5) == b"12345"
