"""Which way is up: the orientation that a camera noted, read without reading anything else of its metadata.

A library that reads all of a block of EXIF fails where any of it is odd, and copies whatever any of its
65,535 entries points at.

Source: CIPA DC-008 (Exif 3.0), section 4.6; TIFF 6.0, section 2; XMP specification, part 2.
"""

import re
import struct

ORIENTATION_TAG = 0x0112
EXIF_START = b"Exif\0\0"
FORMATS = {3: ("H", 2), 4: ("I", 4)}  # SHORT, LONG
UPRIGHT = 1
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")


class UnreadableOrientationError(ValueError):
    """The metadata say something of the orientation, or could, that cannot be understood."""


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    r"""The orientation that EXIF or else XMP names, 1 (upright) to 8; 1 where none does.

    Raises
    ------
    UnreadableOrientationError
        With why, as part of a sentence.

    Examples
    --------
    >>> orientation(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", None)
    6
    >>> orientation(None, b'<x tiff:Orientation="8"/>')
    8
    """
    found = of_exif(exif) if exif else None
    if found is None and xmp and (said := XMP_ORIENTATION.search(xmp)):
        found = int(said[1])
    if not found:  # 0 is what some cameras write for unknown
        return UPRIGHT
    if found > 8:
        raise UnreadableOrientationError(f"it is {found}, not 1 to 8")
    return found


def of_exif(block: bytes) -> int | None:
    """The orientation in a block of EXIF, whatever it is; None where it has none."""
    while block.startswith(EXIF_START):
        block = block[len(EXIF_START) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise UnreadableOrientationError("the EXIF does not begin as EXIF does")
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        found = None
        for number in range(count):
            place = start + 2 + 12 * number
            tag, kind, values = struct.unpack_from(f"{order}HHI", block, place)
            if tag != ORIENTATION_TAG:
                continue
            if kind not in FORMATS or values != 1:
                raise UnreadableOrientationError(f"its type is {kind} and it has {values:,} values")
            (found,) = struct.unpack_from(order + FORMATS[kind][0], block, place + 8)
            break
    except struct.error:
        raise UnreadableOrientationError("the EXIF is cut off") from None
    return found
