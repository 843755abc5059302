"""What of an image file its pixels need: walked quickly and without a library, before a decoder sees a byte.

Decoders read metadata one by one and keep them: a million empty blocks cost a minute, a comment of 100 MB
its square in time. Here metadata are passed over, all but the orientation, and what is left is counted.
Trouble in them thus cannot touch the pixels.

Sources: ISO/IEC 10918-1 (JPEG), W3C PNG (third edition), RFC 9649 (WebP), GIF89a, Adobe's XMP part 3.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

MAX_PARTS = {"JPEG": 20_000, "PNG": 200_000, "GIF": 1_000_000, "WEBP": 20_000}
"""Segments, chunks or blocks that one file may have. No camera's file comes near."""
MAX_RLE_BYTES = 4 * 2**20
"""Of a BMP in run lengths, which Pillow decodes in Python."""
MAX_TEXT = 2**20

PNG_START, GIF_STARTS = b"\x89PNG\r\n\x1a\n", (b"GIF87a", b"GIF89a")
PNG_KEPT = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
WEBP_KEPT = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
EXIF_START, XMP_START, RAW_EXIF = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Raw profile type exif\0"
MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
# in a scan, FF 00 is a byte of it, and FF D0 to FF D7 only restart it
SCAN_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
START_OF_SCAN, END_OF_IMAGE, COMMENT = 0xDA, 0xD9, 0xFE
APPLICATION, JFIF, ADOBE = range(0xE0, 0xF0), 0xE0, 0xEE
GIF_BLOCK = re.compile(rb"[!,;]")
WEBP_NO_METADATA = 0xFF ^ (0x20 | 0x08 | 0x04)  # ICC, EXIF, XMP in the flags of VP8X


class TooManyPartsError(ValueError):
    """The file has more parts than any image needs."""


class Contents(NamedTuple):
    """A file without metadata, and what they say of its orientation."""

    data: bytes
    scans: int = 1
    exif: bytes | None = None
    xmp: bytes | None = None


class _Parts:
    """Counts the parts of a file."""

    def __init__(self, kind: str) -> None:
        self.kind, self.count = kind, 0

    def one_more(self) -> None:
        self.count += 1
        if self.count > MAX_PARTS[self.kind]:
            raise TooManyPartsError(
                f"the {self.kind} has more than {MAX_PARTS[self.kind]:,} segments or blocks: save it anew"
            )


def contents(data: bytes) -> Contents:
    r"""What a decoder needs of a file; a file of no kind that is known here comes back as it is.

    Raises
    ------
    TooManyPartsError
        With the limit.

    Examples
    --------
    >>> contents(b"GIF89a" + bytes(7) + b"!\xfe\x05hello\0" + b";").data[13:]
    b';'
    """
    for starts, walk in WALKS:
        if data.startswith(starts):
            return walk(data)
    return Contents(data)


def _jpeg(data: bytes) -> Contents:
    kept, parts = [b"\xff\xd8"], _Parts("JPEG")
    exif: list[bytes] = []
    xmp: bytes | None = None
    at = 2
    while (found := MARKER.search(data, at)) is not None:
        parts.one_more()
        code, at = data[found.end() - 1], found.end()
        if code in ALONE:
            continue
        if code in (START_OF_SCAN, END_OF_IMAGE):
            end, scans = _scans(data, found.end() - 2, parts)
            kept.append(data[found.end() - 2 : end])
            return Contents(b"".join(kept), scans, b"".join(exif) or None, xmp)
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        if (code not in APPLICATION and code != COMMENT) or code in (JFIF, ADOBE):
            kept.append(b"\xff" + data[at - 1 : end])
        elif data.startswith(EXIF_START, at + 2):
            exif.append(data[at + 2 + len(EXIF_START) : end])
        elif data.startswith(XMP_START, at + 2):
            xmp = data[at + 2 + len(XMP_START) : end]
        at = end
    return Contents(b"".join(kept), 0, b"".join(exif) or None, xmp)


def _scans(data: bytes, at: int, parts: _Parts) -> tuple[int, int]:
    """Where a JPEG ends, and how many scans it has from a place on."""
    scans = 0
    while (found := SCAN_MARKER.search(data, at)) is not None:
        parts.one_more()
        code, at = data[found.end() - 1], found.end()
        if code == END_OF_IMAGE:
            return at, scans
        scans += code == START_OF_SCAN
        if code not in ALONE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return len(data), scans


def _png(data: bytes) -> Contents:
    kept, parts = [PNG_START], _Parts("PNG")
    exif = xmp = None
    at = len(PNG_START)
    while at < len(data):
        parts.one_more()
        kind, inside = data[at + 4 : at + 8], at + 8
        end = inside + int.from_bytes(data[at : at + 4], "big") + 4
        critical = kind[:1].isupper()
        if end > len(data) or not kind.isalpha():
            # what pixels need is the decoder's to judge; where metadata are cut off, nothing is missing
            kept.append(data[at:] if critical or not kind.isalpha() else b"")
            break
        if critical or kind in PNG_KEPT:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = data[inside : end - 4]
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", inside):
            xmp = _text(data[inside : end - 4])
        elif kind in (b"tEXt", b"zTXt") and data.startswith(RAW_EXIF, inside) and exif is None:
            exif = _raw_exif(data[inside + len(RAW_EXIF) : end - 4], packed=kind == b"zTXt")
        if kind == b"IEND":
            break
        at = end
    return Contents(b"".join(kept), 1, exif, xmp)


def _text(chunk: bytes) -> bytes | None:
    """The text of an iTXt chunk."""
    _, _, rest = chunk.partition(b"\0")
    fields = rest[2:].split(b"\0", 2)
    return (_unpacked(fields[-1]) if rest[:1] == b"\1" else fields[-1]) if len(fields) > 2 else None


def _raw_exif(value: bytes, *, packed: bool) -> bytes:
    """EXIF as ImageMagick writes it: hexadecimal, after a name and a length."""
    text = _unpacked(value[1:]) if packed else value[:MAX_TEXT]
    with contextlib.suppress(ValueError):
        return bytes.fromhex(b"".join((text or b"").split(b"\n")[3:]).decode("ascii", "replace"))
    return b""


def _unpacked(value: bytes) -> bytes | None:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(value, MAX_TEXT)
    return None


def _webp(data: bytes) -> Contents:
    kept, parts = [], _Parts("WEBP")
    exif = xmp = None
    at, frames = 12, 0
    while data.startswith(b"WEBP", 8) and at + 8 <= len(data):
        parts.one_more()
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        inside, end = at + 8, at + 8 + size + size % 2
        if kind == b"VP8X" and size:
            kept.append(data[at:inside] + bytes([data[inside] & WEBP_NO_METADATA]) + data[inside + 1 : end])
        elif kind in WEBP_KEPT:
            frames += kind == b"ANMF"
            kept.append(data[at:end])
        elif kind == b"EXIF":
            exif = data[inside : inside + size]
        elif kind == b"XMP ":
            xmp = data[inside : inside + size]
        at = end
    if not kept:
        return Contents(data[:12])
    body = b"".join(kept)
    return Contents(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body, 1, exif, xmp)


def _gif(data: bytes) -> Contents:
    parts = _Parts("GIF")
    at = 13 + _colours(data, 10)
    start, control = data[:at], b""
    images: list[bytes] = []
    while len(images) < 2 and (found := GIF_BLOCK.search(data, at)) is not None:  # two are an animation
        begin = at = found.start()
        if data[at : at + 1] == b";":
            break
        if data[at : at + 1] == b",":
            at = _after_blocks(data, at + 11 + _colours(data, at + 9), parts)
            images.append(control + data[begin:at])
            control = b""
            continue
        at = _after_blocks(data, at + 2, parts)
        if data[begin + 1 : begin + 2] == b"\xf9":
            control = data[begin : begin + 3 + data[begin + 2]] + b"\0" if begin + 2 < len(data) else b""
    whole = b";" if at < len(data) else b""
    return Contents(b"".join([start, *images, whole]))


def _colours(data: bytes, at: int) -> int:
    """Bytes of the palette that flags announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int, parts: _Parts) -> int:
    """The place after some data in blocks, each with its length before it, an empty one at the end."""
    while at < len(data):
        parts.one_more()
        length = data[at]
        at += 1 + length
        if not length:
            break
    return min(at, len(data))


def _bmp(data: bytes) -> Contents:
    compression = int.from_bytes(data[30:34], "little")
    if int.from_bytes(data[14:18], "little") >= 40 and compression in (1, 2) and len(data) > MAX_RLE_BYTES:
        raise TooManyPartsError(
            f"the BMP in run lengths has {len(data):,} bytes, more than {MAX_RLE_BYTES:,}: save it as PNG"
        )
    return Contents(data)


WALKS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], Contents]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (PNG_START, _png),
    (b"RIFF", _webp),
    (GIF_STARTS, _gif),
    (b"BM", _bmp),
)
